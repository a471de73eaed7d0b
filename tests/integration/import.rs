//! Imports of what files should not be: broken, wrong, or read twice.

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
    assert_eq!(rows.read, rows.accepted + rows.repeated + rows.superseded + rows.refused + rows.skipped);
    (report, rejected.lines().map(str::to_owned).collect())
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
        ("h\0,2026-06-01,GBP,1", "BAD_USER_INPUT,eventId holds a control character"),
        (",2026-06-01,GBP,1", "BAD_USER_INPUT,`id` is empty"),
        ("i,2026-06-01,GBP", "BAD_USER_INPUT,has 3 columns and not 4"),
        ("j,2026-06-01,GBP,0.00001", "BAD_USER_INPUT,`amount` has more than four decimals (see `round`)"),
        ("k,2026-06-01,GBP,99999999999999", "AMOUNT_OUT_OF_RANGE,amount is beyond 1000000000000.00"),
        ("\"l\"x,2026-06-01,GBP,1", "BAD_USER_INPUT,a quote within a quoted field is not doubled"),
        ("a,2026-06-01,GBP,10.01", "IDEMPOTENCY_CONFLICT,the event id was used for other content"),
        ("a,2026-06-01,GBP,10.00", ""),
    ];
    let content: String = rows.iter().map(|(row, _)| format!("{row}\r\n")).collect();
    let (report, rejected) = import(format!("{HEADER}{content}").as_bytes(), MAPPING).await;
    assert_eq!(report.end, End::Done);
    let counts = Counts { read: 15, accepted: 1, repeated: 1, refused: 13, ..Counts::default() };
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
async fn what_is_not_utf8_is_refused_or_read_as_latin1() {
    let content = [HEADER.as_bytes(), b"caf\xe9,2026-06-01,GBP,1\n"].concat();
    let (report, rejected) = import(&content, MAPPING).await;
    assert_eq!(report.totals().rows.refused, 1);
    assert!(rejected[1].contains("not UTF-8"), "{rejected:?}");
    let latin = MAPPING.replace("\"orders.csv\" }", "\"orders.csv\", encoding = \"latin1\" }");
    assert_eq!(import(&content, &latin).await.0.totals().rows.accepted, 1);
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
fn mistakes_in_a_mapping_are_told_with_their_line() {
    for (wrong, place, why) in [
        ("name = \"shop\"\nfeeds = 3\n", "shop.toml:2: ", "expected a sequence"),
        ("name = \"shop\"\n[[feeds]\n", "shop.toml:2: ", ""),
        (&MAPPING.replace("amount", "ammount"), "shop.toml:10: ", "unknown field `ammount`"),
        (&MAPPING.replace("\"order\"", "\"offer\""), "shop.toml:5: ", "unknown variant `offer`"),
        (&MAPPING.replace("id = \"{id}\"", ""), "shop.toml:3: ", "missing field `id`"),
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
