//! Imports of what files should not be: broken, wrong, or read twice.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use salespulse::import::totals::Counts;
use salespulse::import::{End, Files, Import, Mapping, Report};
use tokio_util::sync::CancellationToken;

use crate::support::{TestApp, TestTenant};

const MAPPING: &str = r#"
name = "shop"
[[feeds]]
name = "orders"
fact = "order"
file = { path = "orders.csv" }
id = "{id}"
time = "{time}"
currency = "{currency}"
amount = "{amount}"
"#;
const HEADER: &str = "id,time,currency,amount\n";

async fn run(tenant: &TestTenant<'_>, folder: &Path, mapping: &str) -> Report {
    let mapping = Mapping::parse(mapping, "shop.toml").expect("a good mapping");
    let import = Import::new(mapping, Files::in_folder(folder));
    import.run(&tenant.test.app, tenant.id(), &CancellationToken::new()).await
}

/// Imports one file that holds `content`; gives its report and its refused rows.
async fn import(content: &[u8], mapping: &str) -> (Report, Vec<String>) {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), content).expect("written");
    let report = run(&acme, folder.path(), mapping).await;
    acme.verified().await;
    let rejected = std::fs::read_to_string(folder.path().join("orders.csv.rejected.csv")).unwrap_or_default();
    let rows = report.totals().rows;
    let settled = rows.accepted + rows.repeated + rows.repeated_in_run + rows.superseded + rows.refused + rows.skipped;
    assert_eq!(rows.read, settled);
    (report, rejected.lines().map(str::to_owned).collect())
}

/// Imports several files; gives the report and, by file and line, the reasons of refused rows.
async fn import_files(files: &[(&str, &str)], mapping: &str) -> (Report, BTreeMap<String, BTreeMap<u64, String>>) {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (file, content) in files {
        std::fs::write(folder.path().join(file), content).expect("written");
    }
    let report = run(&acme, folder.path(), mapping).await;
    acme.verified().await;
    let mut reasons: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for (file, _) in files {
        let path = folder.path().join(format!("{file}.rejected.csv"));
        assert_eq!(path.exists(), report.rejected_files.contains(&path));
        let Ok(mut rows) = csv::Reader::from_path(path) else { continue };
        for row in rows.records() {
            let row = row.expect("a row");
            let line = row[0].parse().expect("a number");
            let twice = reasons.entry((*file).to_owned()).or_default().insert(line, row[3].to_owned());
            assert_eq!(twice, None, "line {line} of {file} is refused twice");
        }
    }
    (report, reasons)
}

/// By line, why rows below a header are refused.
fn reasons_of(rows: &[(&str, &str)]) -> BTreeMap<u64, String> {
    let refused = (2..).zip(rows).filter(|(_, (_, why))| !why.is_empty());
    refused.map(|(line, (_, why))| (line, (*why).to_owned())).collect()
}

fn grouped(how: &str) -> String {
    MAPPING.replace("id = \"{id}\"", &format!("id = \"{{id}}\"\ngroup = \"{how}\""))
}

#[tokio::test]
async fn a_row_that_does_not_tell_its_order_refuses_each_that_it_may_be_of() {
    let rows = [
        ("a,2026-06-01,GBP,1", "line 3: has 3 columns and not 4"),
        ("a,2026-06-01,GBP", "has 3 columns and not 4"),
        ("b,2026-06-01,GBP,1", "line 6: may belong here, but has 5 columns and not 4"),
        ("b,2026-06-01,GBP,2", "line 6: may belong here, but has 5 columns and not 4"),
        ("x,y,2026-06-01,GBP,1", "has 5 columns and not 4"),
        ("c,2026-06-01,GBP,1", "line 6: may belong here, but has 5 columns and not 4"),
        ("d,2026-06-01,GBP,1", ""),
        ("e,2026-06-01,GBP,1", "line 10: may belong here, but `id` is empty"),
        (",2026-06-01,GBP,1", "`id` is empty"),
        ("f,2026-06-01,GBP,1", "line 10: may belong here, but `id` is empty"),
        ("g,2026-06-01,GBP", "has 3 columns and not 4"),
        ("g,2026-06-01,GBP,1", "line 12: has 3 columns and not 4"),
        ("h,2026-06-01,GBP,1", "line 15: may belong here, but has 2 columns and not 4"),
        ("x,y", "has 2 columns and not 4"),
        ("h,2026-06-01,GBP,1", "line 15: may belong here, but has 2 columns and not 4"),
        ("i,2026-06-01,GBP,1", ""),
    ];
    let content: String = rows.iter().map(|(row, _)| format!("{row}\n")).collect();
    let expected = reasons_of(&rows);
    for how in ["adjacent", "anywhere"] {
        let (report, reasons) = import_files(&[("orders.csv", &format!("{HEADER}{content}"))], &grouped(how)).await;
        let totals = report.totals();
        assert_eq!((totals.rows.read, totals.rows.accepted, totals.rows.refused), (16, 2, 14), "{how}");
        assert_eq!(reasons["orders.csv"], expected, "{how}");
    }
}

#[tokio::test]
async fn an_order_whose_rows_are_scattered_is_told_where_they_should_be_adjacent() {
    let content: &[(&str, &str)] = &[
        ("a,2026-06-01,GBP,1", ""),
        ("b,2026-06-01,GBP,1", ""),
        // The same as the first row, and yet not the same row.
        ("a,2026-06-01,GBP,1", "its id was in line 2, with rows of others in between"),
        ("a,2026-06-01,GBP,2", "line 4: its id was in line 2, with rows of others in between"),
        ("c,2026-06-01,GBP,x", "`amount`: \"x\" is not a number"),
        ("d,2026-06-01,GBP,1", ""),
        ("c,2026-06-01,GBP,1", "its id was in line 6, with rows of others in between"),
        ("b,2026-06-01,GBP,1", "its id was in line 3, with rows of others in between"),
        ("\"e\"x,2026-06-01,GBP,1", "a quote within a quoted field is not doubled"),
        ("d,2026-06-01,GBP,1", "its id was in line 7, with rows of others in between"),
        ("ex,2026-06-01,GBP,1", "its id was in line 10, with rows of others in between"),
    ];
    let rows: String = content.iter().map(|(row, _)| format!("{row}\n")).collect();
    let (report, reasons) = import_files(&[("orders.csv", &format!("{HEADER}{rows}"))], &grouped("adjacent")).await;
    let hint = " (set `group = \"anywhere\"`, or sort the file)";
    let expected: BTreeMap<u64, String> = reasons_of(content)
        .into_iter()
        .map(|(line, why)| (line, if why.ends_with("in between") { why + hint } else { why }))
        .collect();
    assert_eq!(reasons["orders.csv"], expected);
    assert_eq!((report.totals().rows.accepted, report.totals().rows.refused), (3, 8));
    // Other versions of an order may come later.
    let mapping = grouped("adjacent").replace("id = \"{id}\"", "id = \"{id}\"\nversion = \"{version}\"");
    let content = "id,version,time,currency,amount\na,1,2026-06-01,GBP,1\nb,1,2026-06-01,GBP,1\na,2,2026-06-01,GBP,3\n\
                   b,2,2026-06-01,GBP,3\na,2,2026-06-01,GBP,1\n";
    let (report, _) = import_files(&[("orders.csv", content)], &mapping).await;
    assert_eq!((report.totals().rows.accepted, report.totals().rows.refused), (4, 1));
}

#[tokio::test]
async fn many_broken_rows_in_a_row_refuse_the_order_after_them() {
    let broken = "x,y\n".repeat(2_500);
    let content = format!("{HEADER}a,2026-06-01,GBP,1\n{broken}b,2026-06-01,GBP,1\nc,2026-06-01,GBP,1\n");
    let (report, reasons) = import_files(&[("orders.csv", &content)], &grouped("adjacent")).await;
    let rows = report.totals().rows;
    assert_eq!((rows.read, rows.accepted, rows.refused), (2_503, 1, 2_502));
    assert_eq!(reasons["orders.csv"][&2], "line 3: may belong here, but has 2 columns and not 4");
    assert!(reasons["orders.csv"][&2_503].contains("may belong here"));
}

#[tokio::test]
async fn rows_that_cannot_be_of_one_order_are_none() {
    let mapping = format!("{}customer = \"{{customer}}\"\nchannel = \"{{channel}}\"\n", grouped("adjacent"));
    let rows = [
        ("a,2026-06-01,GBP,10,k1,web", ""),
        ("a,2026-06-02,,10,,shop", ""),
        (
            "b,2026-06-01,GBP,10,k1,web",
            "line 5: `currency` is \"JPY\", and was \"GBP\" in a row before with the same id",
        ),
        ("b,2026-06-01,JPY,10,k1,web", "`currency` is \"JPY\", and was \"GBP\" in a row before with the same id"),
        ("b,2026-06-01,,10,k1,web", "line 5: `currency` is \"JPY\", and was \"GBP\" in a row before with the same id"),
        ("c,2026-06-01,GBP,10,k1,web", "line 8: `customer` is \"k2\", and was \"k1\" in a row before with the same id"),
        ("c,2026-06-01,GBP,10,k2,web", "`customer` is \"k2\", and was \"k1\" in a row before with the same id"),
        ("d,2026-06-01,USD,10,k1,web", "no exchange rate from USD to GBP on that day"),
        ("d,2026-06-01,USD,10,k1,web", "line 9: no exchange rate from USD to GBP on that day"),
    ];
    let content: String = rows.iter().map(|(row, _)| format!("{row}\n")).collect();
    let expected = reasons_of(&rows);
    let content = format!("{},customer,channel\n{content}", HEADER.trim_end());
    let (report, reasons) = import_files(&[("orders.csv", &content)], &mapping).await;
    assert_eq!(reasons["orders.csv"], expected);
    assert_eq!(report.totals().events.accepted, 1);
}

#[tokio::test]
async fn a_prefix_alone_is_no_id_and_no_customer() {
    let mapping = format!("{MAPPING}customer = \"berlin-{{customer}}\"\n").replace("\"{id}\"", "\"berlin-{id}\"");
    let content = "id,time,currency,amount,customer\na,2026-06-01,GBP,1,\n,2026-06-01,GBP,1,k\nb,2026-06-01,GBP,1,k\n";
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), content).expect("written");
    let rows = run(&acme, folder.path(), &mapping).await.totals().rows;
    assert_eq!((rows.accepted, rows.refused), (2, 1));
    let tx = test.app.db.read(acme.id()).await.expect("a transaction");
    let count = tx.query("SELECT customer_no FROM customers WHERE tenant_id = $1", []).await.expect("rows").len();
    assert_eq!(count, 1, "a guest is no customer");
}

#[tokio::test]
async fn negative_refunds_take_refunds_back_only_where_the_mapping_says_so() {
    let refunds = MAPPING.replace("fact = \"order\"", "fact = \"refund\"");
    let content = format!("{HEADER}a,2026-06-01,GBP,5\nb,2026-06-01,GBP,-5\n");
    let (report, reasons) = import_files(&[("orders.csv", &content)], &refunds).await;
    assert_eq!((report.totals().rows.accepted, report.totals().rows.refused), (1, 1));
    assert!(reasons["orders.csv"][&3].contains("set `reversals = true`"), "{reasons:?}");
    let (report, _) = import_files(&[("orders.csv", &content)], &format!("{refunds}reversals = true\n")).await;
    assert_eq!(report.totals().rows.accepted, 2);
}

#[tokio::test]
async fn numbers_beyond_all_amounts_are_refused() {
    let refunds = format!("{}reversals = true\n", MAPPING.replace("fact = \"order\"", "fact = \"refund\""));
    // i64::MIN in ten-thousandths, which has no positive counterpart.
    let content = format!("{HEADER}a,2026-06-01,GBP,-922337203685477.5808\nb,2026-06-01,GBP,1e-2147483648\n");
    let (report, reasons) = import_files(&[("orders.csv", &content)], &refunds).await;
    assert_eq!((report.totals().rows.accepted, report.totals().rows.refused), (0, 2), "{reasons:?}");
    assert!(reasons["orders.csv"][&2].contains("is beyond the largest amount"), "{reasons:?}");
}

#[tokio::test]
async fn rows_alike_are_told_from_those_of_an_earlier_run() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let row = "a,2026-06-01,GBP,1\n";
    std::fs::write(folder.path().join("orders.csv"), format!("{HEADER}{row}{row}")).expect("written");
    let first = run(&acme, folder.path(), MAPPING).await;
    assert_eq!(first.totals().rows, Counts { read: 2, accepted: 1, repeated_in_run: 1, ..Counts::default() });
    assert!(first.notes[0].starts_with("orders: warning: 1 rows equal others of this run"), "{:?}", first.notes);
    let second = run(&acme, folder.path(), MAPPING).await;
    assert_eq!(second.totals().rows, Counts { read: 2, repeated: 1, repeated_in_run: 1, ..Counts::default() });
}

const JOINED: &str = r#"
name = "shop"
[lookups.shops]
file = { path = "shops.csv" }
key = "{shop}"
by = "{shop}"
[lookups.towns]
file = { path = "towns.csv" }
key = "{town}"
by = "{town}"
[[feeds]]
name = "orders"
fact = "order"
file = { path = "orders.csv" }
id = "{id}"
time = "{time}"
amount = "{amount}"
region = "{shops.region}"
"#;

#[tokio::test]
async fn rows_of_tables_that_cannot_be_used_and_rows_without_one_are_told() {
    let shops = "shop,region\n1,North\n2,South,\n,Nowhere\n3,West\n";
    let orders = "id,time,amount,shop\na,2026-06-01,1,1\nb,2026-06-01,1,2\nc,2026-06-01,1,\nd,2026-06-01,1,3\n";
    // No feed uses it.
    let towns = "town,country\n";
    let files = [("shops.csv", shops), ("towns.csv", towns), ("orders.csv", orders)];
    let (report, reasons) = import_files(&files, JOINED).await;
    assert_eq!(report.totals().rows, Counts { read: 4, accepted: 4, ..Counts::default() });
    assert_eq!(report.table_rows_refused, 1);
    assert_eq!(reasons["shops.csv"], BTreeMap::from([(3, "has 3 columns and not 2".to_owned())]));
    let notes = ["shops: 1 rows of this table cannot be used", "orders: 2 rows find nothing in the table shops"];
    assert_eq!(report.notes, notes);
}

const TWO_FEEDS: &str = r#"
name = "shop"
[[feeds]]
name = "sales"
fact = "order"
group = "adjacent"
file = { path = "orders.csv" }
when = [{ value = "{id}", starts_with = "R" }]
id = "{id}"
time = "{time}"
amount = "{amount}"
[[feeds]]
name = "cancellations"
fact = "refund"
group = "adjacent"
file = { path = "orders.csv" }
when = [{ value = "{id}", starts_with = "S" }]
id = "{id}"
time = "{time}"
amount = "{amount}"
"#;

#[tokio::test]
async fn a_row_that_two_feeds_may_have_is_refused_once() {
    // A row too many columns may be of both feeds; one too few is of the feed that `when` says; the last is of none.
    let content = "id,time,amount\nR1,2026-06-01,5\nS1,2026-06-01,1\nx,S1,2026-06-01,1\nR2,2026-06-01,5\n\
                   S2,2026-06-01,1\nS2,2026-06-01\nR3,2026-06-01,5\nTotal: 7 rows\n";
    let (report, reasons) = import_files(&[("orders.csv", content)], TWO_FEEDS).await;
    let (sales, cancelled) = (report.feeds[0].1.rows, report.feeds[1].1.rows);
    assert_eq!(sales, Counts { read: 8, accepted: 1, refused: 3, skipped: 4, ..Counts::default() });
    assert_eq!(cancelled, Counts { read: 8, refused: 3, skipped: 5, ..Counts::default() });
    let why = "line 4: may belong here, but has 4 columns and not 3";
    let mut expected: BTreeMap<u64, String> = [2, 3, 5, 6, 7].map(|line| (line, why.to_owned())).into();
    expected.insert(4, "has 4 columns and not 3".to_owned());
    assert_eq!(reasons["orders.csv"], expected);
}

#[tokio::test]
async fn a_file_with_two_names_has_one_report() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("in")).expect("made");
    let content = "id,time,amount\nR1,2026-06-01,-5\nx,S1,2026-06-01,1\nS1,2026-06-01,1\n";
    std::fs::write(folder.path().join("orders.csv"), content).expect("written");
    let (sales, cancellations) = TWO_FEEDS.rsplit_once("orders.csv").expect("two feeds");
    let report = run(&acme, folder.path(), &format!("{sales}in/../orders.csv{cancellations}")).await;
    assert_eq!(report.totals().rows.refused, 3);
    let rejected = folder.path().join("orders.csv.rejected.csv");
    assert_eq!(report.rejected_files, [rejected.as_path()]);
    let lines = std::fs::read_to_string(rejected).expect("refused rows");
    // The row that may be of both feeds is refused by the first.
    let mut lines: Vec<_> = lines.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["2", "3", "4"]);
}

#[tokio::test]
async fn an_import_of_a_file_that_another_reads_does_not_touch_its_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), format!("{HEADER}a,2026-06-01,GBP,-1\n")).expect("written");
    let rejected = folder.path().join("orders.csv.rejected.csv");
    let open = async || {
        let mapping = Mapping::parse(MAPPING, "shop.toml").expect("good");
        Import::new(mapping, Files::in_folder(folder.path())).open(&CancellationToken::new()).await
    };
    let first = open().await.expect("it begins");
    let second = open().await.err().expect("it does not begin");
    assert!(failure(&second).contains("another import reads this file"), "{second:?}");
    assert!(rejected.exists());
    // One that ends before it has read anything leaves no report.
    drop(first);
    assert!(!rejected.exists());
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    assert_eq!(run(&acme, folder.path(), MAPPING).await.rejected_files, [rejected.as_path()]);
}

#[tokio::test]
async fn a_mapping_that_fails_leaves_the_refused_rows_of_the_run_before() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rejected = folder.path().join("orders.csv.rejected.csv");
    std::fs::write(folder.path().join("orders.csv"), format!("{HEADER}a,2026-06-01,GBP,-1\n")).expect("written");
    run(&acme, folder.path(), MAPPING).await;
    let before = std::fs::read(&rejected).expect("refused rows");
    let report = run(&acme, folder.path(), &MAPPING.replace("{amount}", "{price}")).await;
    assert!(failure(&report).contains("there is no column price"), "{report:?}");
    // What is to be read is never overwritten.
    let again = "[[feeds]]\nname = \"again\"\nfact = \"order\"\nfile = { path = \"orders.csv.rejected.csv\" }\n\
                 id = \"{line}\"\ntime = \"{row}\"\n";
    let both = format!("{MAPPING}{again}");
    let report = run(&acme, folder.path(), &both).await;
    assert!(failure(&report).contains("is to be read, and is where refused rows would go"), "{report:?}");
    assert_eq!(std::fs::read(&rejected).expect("refused rows"), before);
}

#[tokio::test]
async fn a_place_for_refused_rows_is_made_before_anything_is_recorded() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), format!("{HEADER}a,2026-06-01,GBP,1\nb,2026-06-01,GBP,-1\n"))
        .expect("written");
    let run_into = async |rejected: &str| {
        let mut import =
            Import::new(Mapping::parse(MAPPING, "shop.toml").expect("good"), Files::in_folder(folder.path()));
        import.rejected_folder = Some(folder.path().join(rejected));
        import.run(&test.app, acme.id(), &CancellationToken::new()).await
    };
    std::fs::write(folder.path().join("taken"), "a file").expect("written");
    let report = run_into("taken/in/it").await;
    assert!(failure(&report).contains("refused rows cannot be written"), "{report:?}");
    assert_eq!(report.totals().rows.read, 0);
    let report = run_into("made/for/it").await;
    assert_eq!(report.rejected_files, [folder.path().join("made/for/it/orders.csv.rejected.csv")]);
    assert_eq!((report.totals().rows.accepted, report.totals().rows.refused), (1, 1));
}

#[tokio::test]
async fn the_number_of_a_line_is_a_number() {
    let mapping = MAPPING.replace("{amount}", "{#}");
    let (report, _) = import_files(&[("orders.csv", &format!("{HEADER}a,2026-06-01,GBP,-1\n"))], &mapping).await;
    assert_eq!(report.totals().rows.accepted, 1);
}

#[tokio::test]
async fn refused_rows_of_an_earlier_run_are_not_left() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, rejected) = (folder.path().join("orders.csv"), folder.path().join("orders.csv.rejected.csv"));
    std::fs::write(&file, format!("{HEADER}a,2026-06-01,GBP,-1\n")).expect("written");
    assert_eq!(run(&acme, folder.path(), MAPPING).await.rejected_files, [rejected.as_path()]);
    std::fs::write(&file, format!("{HEADER}a,2026-06-01,GBP,1\n")).expect("written");
    let report = run(&acme, folder.path(), MAPPING).await;
    assert_eq!((report.end, report.rejected_files.len()), (End::Done, 0));
    assert!(!rejected.exists());
}

fn failure(report: &Report) -> &str {
    let End::Failed(message) = &report.end else { unreachable!("{:?}", report.end) };
    message
}

#[tokio::test]
async fn bad_rows_are_refused_alone_with_line_and_reason() {
    let rows = [
        ("a,2026-06-01,GBP,10.00", ""),
        ("b,2026-06-01,GBP,-1", "BAD_USER_INPUT,amount is negative"),
        ("c,2026-06-01,GBP,NaN", "BAD_USER_INPUT,\"`amount`: \"\"NaN\"\" is not a number\""),
        ("d,2026-06-01,XXQ,1", "BAD_CURRENCY,not a currency code of ISO 4217"),
        ("e,2026-06-01,USD,1", "NO_EXCHANGE_RATE,no exchange rate from USD to GBP on that day"),
        ("f,2027-06-01,GBP,1", "TIME_OUT_OF_RANGE,occurredAt is more than five minutes ahead of the server's clock"),
        ("g,2026-06-31,GBP,1", "BAD_USER_INPUT,\"`time`: \"\"2026-06-31\"\" is not a time in any of the formats\""),
        ("h\0,2026-06-01,GBP,1", "BAD_USER_INPUT,eventId contains a control character"),
        (",2026-06-01,GBP,1", "BAD_USER_INPUT,`id` is empty"),
        ("i,2026-06-01,GBP", "BAD_USER_INPUT,has 3 columns and not 4"),
        ("j,2026-06-01,GBP,0.00001", "BAD_USER_INPUT,`amount` has more than four decimals (see `round`)"),
        ("k,2026-06-01,GBP,99999999999999", "AMOUNT_OUT_OF_RANGE,amount is beyond 1000000000000.00"),
        ("\"l\"x,2026-06-01,GBP,1", "BAD_USER_INPUT,a quote within a quoted field is not doubled"),
        ("a,2026-06-01,GBP,10.01", "IDEMPOTENCY_CONFLICT,the event id was already used with other content"),
        ("a,2026-06-01,GBP,10.00", ""),
    ];
    let content: String = rows.iter().map(|(row, _)| format!("{row}\r\n")).collect();
    let (report, rejected) = import(format!("{HEADER}{content}").as_bytes(), MAPPING).await;
    assert_eq!(report.end, End::Done);
    let counts = Counts { read: 15, accepted: 1, repeated_in_run: 1, refused: 13, ..Counts::default() };
    assert_eq!((report.totals().rows, report.totals().events), (counts, counts));
    let expected: Vec<String> = (2..)
        .zip(rows)
        .filter(|(_, (_, why))| !why.is_empty())
        .map(|(line, (_, why))| format!("{line},orders,{why}"))
        .collect();
    assert_eq!(rejected.len(), expected.len() + 1);
    for (row, expected) in rejected[1..].iter().zip(expected) {
        assert!(row.starts_with(&expected), "{row} is not {expected}");
    }
}

#[tokio::test]
async fn what_is_not_utf8_is_refused_or_read_as_windows_writes_it() {
    let content = [HEADER.as_bytes(), b"caf\xe9,2026-06-01,GBP,1\n"].concat();
    let (report, rejected) = import(&content, MAPPING).await;
    assert_eq!(report.totals().rows.refused, 1);
    assert!(rejected[1].contains("not UTF-8"), "{rejected:?}");
    for encoding in ["latin1", "windows-1252"] {
        let encoded = MAPPING.replace("\"orders.csv\" }", &format!("\"orders.csv\", encoding = \"{encoding}\" }}"));
        assert_eq!(import(&content, &encoded).await.0.totals().rows.accepted, 1);
    }
}

#[tokio::test]
async fn a_file_cut_off_keeps_what_was_read_and_can_be_imported_whole_later() {
    let grouped = MAPPING.replace("id = \"{id}\"", "id = \"{id}\"\ngroup = \"adjacent\"");
    // Random ids, so that the compressed file is long enough to be cut in its middle.
    let rows: String = (0..2_000)
        .map(|_| uuid::Uuid::new_v4())
        .map(|id| format!("{id},2026-06-01,GBP,1\n{id},2026-06-01,GBP,2\n"))
        .collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(format!("{HEADER}{rows}").as_bytes()).expect("compressed");
    let whole = encoder.finish().expect("compressed");

    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("orders.csv");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    let report = run(&acme, folder.path(), &grouped).await;
    let totals = report.totals();
    let place = format!("{}:{}: ", path.display(), totals.rows.read + 2);
    assert!(failure(&report).starts_with(&place), "{report:?}");
    assert!(failure(&report).contains("the file was cut off"), "{report:?}");
    assert!(totals.events.accepted > 100, "{totals}");
    assert_eq!(totals.events.refused, 1);
    assert_eq!(totals.rows.read, totals.rows.accepted + totals.rows.refused);

    std::fs::write(&path, &whole).expect("written");
    let again = run(&acme, folder.path(), &grouped).await.totals();
    assert_eq!(again.events.repeated, totals.events.accepted);
    assert_eq!((again.events.accepted, again.events.refused), (2_000 - totals.events.accepted, 0));
    let query = "{ salesMetrics(period: {start: \"2026-06-01T00:00:00Z\", end: \"2026-06-02T00:00:00Z\"}) \
                 { grossRevenue ordersCount } }";
    let metrics = acme.viewer().query(query).await;
    assert_eq!(metrics["salesMetrics"], serde_json::json!({ "grossRevenue": "6000.00", "ordersCount": 2000 }));
    acme.verified().await;
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_import_with_the_place() {
    let (report, _) = import(format!("{HEADER}a,2026-06-01,GBP,1\n\"b,2026-06-01,GBP,1\n").as_bytes(), MAPPING).await;
    assert!(failure(&report).ends_with("orders.csv:3: a quote is opened here and never closed"), "{report:?}");
    assert_eq!(report.totals().rows.accepted, 1);

    let (report, _) = import(b"id,time,amount\n", MAPPING).await;
    assert!(
        failure(&report).ends_with("feed orders: `currency`: there is no column currency; there are id, time, amount"),
        "{report:?}"
    );
    let (report, _) = import(b"gr\xf6\xdfe,time,id\n", MAPPING).await;
    let hint = "there are gr\u{fffd}\u{fffd}e, time, id (these are not UTF-8: set `encoding`)";
    assert!(failure(&report).contains(hint), "{report:?}");
    let (report, _) = import(b"", MAPPING).await;
    assert!(failure(&report).contains("is empty"), "{report:?}");
    let (report, _) = import(b"\x1f\x8b\x08\x00garbage garbage garbage", MAPPING).await;
    assert!(failure(&report).contains("cannot be read any further"), "{report:?}");

    let missing = MAPPING.replace("orders.csv", "missing.csv");
    let (report, _) = import(b"", &missing).await;
    assert!(failure(&report).contains("missing.csv: cannot be read: "), "{report:?}");
    let zone = format!("{MAPPING}timezone = \"Europe/Atlantis\"\n");
    let (report, _) = import(HEADER.as_bytes(), &zone).await;
    assert!(failure(&report).contains("\"Europe/Atlantis\" is not a time zone"), "{report:?}");
    let format = format!("{MAPPING}time_formats = [\"%Q\"]\n");
    let (report, _) = import(HEADER.as_bytes(), &format).await;
    assert!(failure(&report).contains("\"%Q\" is not a format of times"), "{report:?}");
}

#[test]
fn mistakes_in_a_mapping_are_told_with_their_place() {
    let with = |more: &str| format!("{MAPPING}{more}\n");
    let refunds = |more: &str| with(more).replace("fact = \"order\"", "fact = \"refund\"");
    for (wrong, place, why) in [
        ("name = \"shop\"\nfeeds = 3\n", "shop.toml:2: ", "expected a sequence"),
        ("name = \"shop\"\n[[feeds]\n", "shop.toml:2: ", ""),
        (&MAPPING.replace("amount", "ammount"), "shop.toml:10: ", "unknown field `ammount`"),
        (&MAPPING.replace("\"order\"", "\"offer\""), "shop.toml:5: ", "unknown variant `offer`"),
        (&MAPPING.replace("id = \"{id}\"", ""), "shop.toml:3: ", "missing field `id`"),
        (
            &with("customer_email = \"{e}\""),
            "shop.toml: feed orders: ",
            "`customer_email` has no effect without `customer`",
        ),
        (&with("count = \"1\""), "shop.toml: feed orders: ", "`count` has no effect on orders"),
        (
            &MAPPING.replace("\"orders.csv\"", "\"orders.csv\", separator = \"blank\", quote = \"'\""),
            "shop.toml: feed orders: ",
            "`quote` has no effect where the separator is `blank`",
        ),
        (&with("order = \"{id}\""), "shop.toml: feed orders: ", "`order` has no effect on orders"),
        (&with("reversals = true"), "shop.toml: feed orders: ", "`reversals` has no effect on orders"),
        (&with("round = 5"), "shop.toml: feed orders: ", "`round` must be from 0 to 4"),
        (&with("when = [{ value = \"{id}\" }]"), "shop.toml: feed orders: ", "a condition of `when` has no test"),
        (&refunds("version = \"2\""), "shop.toml: feed orders: ", "`version` has no effect on refunds"),
        (&refunds("customer = \"{c}\""), "shop.toml: feed orders: ", "`customer` has no effect on refunds"),
        (
            &with("").replace("orders.csv\"", "o.csv\", columns = [\"id\"]"),
            "shop.toml: feed orders: ",
            "`columns` has no effect",
        ),
    ] {
        let error = Mapping::parse(wrong, "shop.toml").expect_err("a mistake").to_string();
        assert!(error.starts_with(place) && error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn a_newer_version_of_an_order_takes_the_place_of_the_older_one() {
    let mapping = MAPPING.replace("id = \"{id}\"", "id = \"{id}\"\nversion = \"{version}\"");
    let content = "id,version,time,currency,amount\na,2,2026-06-01,GBP,12\na,1,2026-06-01,GBP,10\n";
    let (report, _) = import(content.as_bytes(), &mapping).await;
    let counts = Counts { read: 2, accepted: 1, superseded: 1, ..Counts::default() };
    assert_eq!(report.totals().events, counts);
}

/// A row that cannot be read may be of any version: it takes no other row along.
#[tokio::test]
async fn a_broken_row_is_of_no_version() {
    let mapping = MAPPING.replace("id = \"{id}\"", "id = \"{id}\"\nversion = \"{version}\"\ngroup = \"adjacent\"");
    let content = "id,version,time,currency,amount\na,3,2026-06-01,GBP,x\nb,1,2026-06-01,GBP,1\na,1,2026-06-01,GBP,10\n\
                   c,1,2026-06-01,GBP,1\na,2,2026-06-01,GBP,y\n";
    let (report, rejected) = import(content.as_bytes(), &mapping).await;
    assert_eq!(report.totals().rows.accepted, 3);
    assert!(rejected.iter().any(|line| line.contains("\"x\"\" is not a number")), "{rejected:?}");
}

/// An order without a version is the first version of it.
#[tokio::test]
async fn an_empty_version_is_the_first() {
    let mapping = MAPPING.replace("id = \"{id}\"", "id = \"{id}\"\nversion = \"{version}\"\ngroup = \"adjacent\"");
    let content = "id,version,time,currency,amount\na,,2026-06-01,GBP,12\na,1,2026-06-01,GBP,10\n";
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), content).expect("written");
    assert_eq!(run(&acme, folder.path(), &mapping).await.totals().rows.accepted, 2);
    let orders = acme.viewer().query("{ orders { nodes { version amount } } }").await;
    assert_eq!(orders["orders"]["nodes"], serde_json::json!([{ "version": 1, "amount": "22.00" }]));
}

#[tokio::test]
async fn an_import_is_kept_as_a_data_source() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), format!("{HEADER}a,2026-06-01,GBP,1\n")).expect("written");
    for _ in 0..2 {
        assert_eq!(run(&acme, folder.path(), MAPPING).await.end, End::Done);
    }
    let tx = test.app.db.read(acme.id()).await.expect("a transaction");
    let sql = "SELECT kind, name FROM data_sources WHERE tenant_id = $1 AND last_sync_at IS NOT NULL";
    let rows = tx.query(sql, []).await.expect("rows");
    let rows: Vec<(String, String)> = rows
        .iter()
        .map(|row| (salespulse::db::get(row, 0).expect("kind"), salespulse::db::get(row, 1).expect("name")))
        .collect();
    assert_eq!(rows, [("csv".to_owned(), "shop".to_owned())]);
}
