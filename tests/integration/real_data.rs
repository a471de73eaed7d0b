//! Data that nobody here made, imported by the mappings of `examples/` and asked for over GraphQL, to the last digit.
//! The folder of the data is named by `SALESPULSE_TEST_DATA`; these tests are ignored unless they are asked for, as `make`
//! does where it is.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use salespulse::import::totals::Counts;
use salespulse::import::{End, Files, Import, Mapping, Report};
use salespulse::money::Money;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ledger::money;
use crate::support::{TestApp, TestTenant, is_on_postgres};

/// The folder of the data sets.
pub fn data() -> PathBuf {
    let folder = std::env::var_os("SALESPULSE_TEST_DATA").filter(|folder| !folder.is_empty());
    folder.expect("SALESPULSE_TEST_DATA names the folder of data").into()
}

pub async fn import(tenant: &TestTenant<'_>, example: &str, folder: &Path) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{example}.toml"));
    let text = std::fs::read_to_string(&path).expect("the example");
    let mapping = Mapping::parse(&text, example).expect("a good mapping");
    let rejected = tempfile::tempdir().expect("a temporary folder");
    let mut import = Import::new(mapping, Files::in_folder(folder));
    import.rejected_folder = Some(rejected.path().to_owned());
    let begun = std::time::Instant::now();
    let report = import.run(&tenant.test.app, tenant.id(), &CancellationToken::new()).await;
    eprintln!("{example}: {} in {:?}", report.totals(), begun.elapsed());
    assert_eq!(report.end, End::Done);
    report
}

/// All rows were accepted, but those skipped.
fn assert_accepted(report: &Report, events: u64) {
    let totals = report.totals();
    assert_eq!(totals.events, Counts { read: events, accepted: events, ..Counts::default() });
    assert_eq!(totals.rows.read, totals.rows.accepted + totals.rows.skipped);
}

/// A table of the ground truth: rows by the first column, then values by column.
fn expected(data: &Path, file: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(data.join("expected").join(file)).expect("the ground truth");
    let header = reader.headers().expect("a header").clone();
    let row = |record: csv::StringRecord| {
        let values = header.iter().zip(&record).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (record[0].to_owned(), values)
    };
    reader.records().map(|record| row(record.expect("a row"))).collect()
}

fn ground_truth(data: &Path, file: &str) -> Value {
    let text = std::fs::read_to_string(data.join("expected").join(file)).expect("the ground truth");
    serde_json::from_str(&text).expect("json")
}

const FIELDS: &str = "grossRevenue refunds totalRevenue discounts ordersCount avgOrderValue newCustomers \
                      returningCustomers uniqueCustomers conversionRate visits unitsSold";

/// The metrics of a period, with `more` besides the totals.
async fn metrics(tenant: &TestTenant<'_>, start: &str, end: &str, more: &str) -> Value {
    let query = format!(
        "{{ salesMetrics(period: {{start: \"{start}T00:00:00Z\", end: \"{end}T00:00:00Z\"}}) {{ {FIELDS} {more} }} }}"
    );
    tenant.viewer().query(&query).await["salesMetrics"].clone()
}

fn amount(value: &Value) -> Money {
    money(value.as_str().expect("an amount"))
}

/// An amount of the ground truth, which may be written as a number with up to four decimals.
fn true_amount(value: &Value) -> Money {
    money(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// Buckets of a series by the first `chars` of their start, the empty ones left out.
fn buckets(series: &Value, chars: usize) -> BTreeMap<String, Value> {
    let is_empty = |bucket: &Value| bucket["ordersCount"] == 0 && amount(&bucket["refunds"]) == Money::ZERO;
    let key = |bucket: &Value| bucket["start"].as_str().expect("a time")[..chars].to_owned();
    let buckets = series.as_array().expect("buckets").iter();
    buckets.filter(|bucket| !is_empty(bucket)).map(|bucket| (key(bucket), bucket.clone())).collect()
}

/// The series has exactly the rows of the table.
fn assert_table(series: &Value, chars: usize, table: &BTreeMap<String, BTreeMap<String, String>>) {
    let buckets = buckets(series, chars);
    // Some tables show days without sales as well.
    let happened = |row: &&BTreeMap<String, String>| row["orders"] != "0" || row["refunds"] != "0";
    assert_eq!(buckets.len(), table.values().filter(happened).count());
    for (key, row) in table.iter().filter(|(_, row)| happened(row)) {
        let bucket = &buckets[key];
        for (column, field) in [
            ("gross_revenue", "grossRevenue"),
            ("refund_amount", "refunds"),
            ("net_revenue", "totalRevenue"),
            ("aov", "avgOrderValue"),
        ] {
            let Some(value) = row.get(column).filter(|value| !value.is_empty()) else { continue };
            assert_eq!(amount(&bucket[field]), money(value), "{key} {column}");
        }
        for (column, field) in [
            ("orders", "ordersCount"),
            ("customers", "uniqueCustomers"),
            ("new_customers", "newCustomers"),
            ("returning_customers", "returningCustomers"),
        ] {
            let Some(value) = row.get(column) else { continue };
            let value = if value.is_empty() { "0" } else { value };
            assert_eq!(bucket[field].to_string(), *value, "{key} {column}");
        }
    }
}

/// Rows of a breakdown by what is shown for them.
fn breakdown(metrics: &Value) -> BTreeMap<String, Value> {
    let rows = metrics["breakdown"]["rows"].as_array().expect("rows").iter();
    rows.map(|row| (row["keys"][0]["value"].as_str().unwrap_or("").to_owned(), row.clone())).collect()
}

fn by(dimension: &str) -> String {
    format!("breakdown(by: [{dimension}], first: 1000) {{ rows {{ keys {{ value }} {FIELDS} }} }}")
}

fn series(grain: &str) -> String {
    format!("series(grain: {grain}) {{ start {FIELDS} }}")
}

#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn cdnow_adds_up() {
    let data = data();
    let test = TestApp::start().await;
    let shop = test.tenant_in("cdnow", chrono_tz::UTC, "USD").await;
    assert_accepted(&import(&shop, "cdnow", &data.join("cdnow")).await, 69_659);
    let months = metrics(&shop, "1997-01-01", "1998-07-01", &series("MONTH")).await;
    assert_eq!(amount(&months["grossRevenue"]), money("2500315.63"));
    assert_eq!((&months["ordersCount"], &months["unitsSold"]), (&69_659.into(), &167_881.into()));
    assert_eq!((&months["uniqueCustomers"], &months["newCustomers"]), (&23_570.into(), &23_570.into()));
    assert_table(&months["series"], 7, &expected(&data, "cdnow_monthly.csv"));
    let days = metrics(&shop, "1997-01-01", "1998-07-01", &series("DAY")).await;
    assert_table(&days["series"], 10, &expected(&data, "cdnow_daily.csv"));
    shop.verified().await;
}

#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn fuzzy_factory_refunds_land_on_their_own_days_and_products() {
    let data = data();
    let test = TestApp::start().await;
    let shop = test.tenant_in("fuzzy", chrono_tz::UTC, "USD").await;
    let folder = data.join("fuzzy_factory");
    assert_accepted(&import(&shop, "fuzzy_factory", &folder).await, 32_313 + 1_731);
    let (start, end) = ("2012-03-01", "2015-05-01");
    let days = metrics(&shop, start, end, &series("DAY")).await;
    assert_eq!(amount(&days["grossRevenue"]), money("1938509.75"));
    assert_eq!(amount(&days["refunds"]), money("85338.69"));
    assert_eq!(amount(&days["totalRevenue"]), money("1853171.06"));
    assert_eq!((&days["ordersCount"], &days["uniqueCustomers"]), (&32_313.into(), &31_696.into()));
    assert_table(&days["series"], 10, &expected(&data, "fuzzy_factory_daily.csv"));
    let months = metrics(&shop, start, end, &series("MONTH")).await;
    assert_table(&months["series"], 7, &expected(&data, "fuzzy_factory_monthly.csv"));
    let products = breakdown(&metrics(&shop, start, end, &by("PRODUCT")).await);
    let truth = ground_truth(&data, "ground_truth.json")["fuzzy_factory"]["by_product"].clone();
    for row in truth.as_array().expect("products") {
        let product = &products[&row["product"].to_string()];
        assert_eq!(amount(&product["grossRevenue"]), true_amount(&row["revenue"]));
        assert_eq!(amount(&product["refunds"]), true_amount(&row["refund_amount"]));
        assert_eq!(product["unitsSold"], row["items"]);
    }
    // The same again changes nothing.
    let again = import(&shop, "fuzzy_factory", &folder).await.totals();
    assert_eq!(again.events, Counts { read: 34_044, repeated: 34_044, ..Counts::default() });
    assert_eq!(metrics(&shop, start, end, &series("DAY")).await, days);
    shop.verified().await;
}

#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn complete_journey_baskets_have_their_lines_discounts_and_departments() {
    let data = data();
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The whole takes a minute.
    let is_full = !is_on_postgres() || std::env::var_os("SALESPULSE_TEST_FULL").is_some();
    let until = if is_full { "2018-01-01" } else { "2017-01-15" };
    let sums = journey_until(&data.join("complete_journey"), folder.path(), until);
    let test = TestApp::start().await;
    let shop = test.tenant_in("grocer", chrono_tz::UTC, "USD").await;
    assert_accepted(&import(&shop, "complete_journey", folder.path()).await, sums.baskets);
    let days = metrics(&shop, "2017-01-01", until, &series("DAY")).await;
    assert_eq!(amount(&days["discounts"]), Money(sums.discounts_cents * 100));
    let mut table = expected(&data, "complete_journey_h1_daily.csv");
    table.retain(|day, _| day.as_str() < until);
    assert_table(&days["series"], 10, &table);
    let departments = breakdown(&metrics(&shop, "2017-01-01", until, &by("PRODUCT_CATEGORY")).await);
    let found: BTreeMap<&str, Money> =
        departments.iter().map(|(name, row)| (name.as_str(), amount(&row["grossRevenue"]))).collect();
    let read = sums.departments.iter().map(|(name, cents)| (name.as_str(), Money(cents * 100))).collect();
    assert_eq!(found, read);
    if is_full {
        let months = metrics(&shop, "2017-01-01", until, &series("MONTH")).await;
        assert_table(&months["series"], 7, &expected(&data, "complete_journey_h1_monthly.csv"));
        assert_eq!((&days["ordersCount"], &days["uniqueCustomers"]), (&76_895.into(), &2_393.into()));
        assert_eq!(amount(&days["grossRevenue"]), money("2249188.20"));
        assert_eq!(amount(&days["discounts"]), money("409429.83")); // 394,817.04 + 12,435.60 + 2,177.19
        let truth = ground_truth(&data, "ground_truth.json")["complete_journey_h1"].clone();
        for row in truth["top_departments"].as_array().expect("departments") {
            let department = &departments[row["department"].as_str().expect("a name")];
            assert_eq!(amount(&department["grossRevenue"]), true_amount(&row["sales_value"]), "{row}");
            assert_eq!(department["unitsSold"], row["lines"], "{row}");
        }
        let stores = breakdown(&metrics(&shop, "2017-01-01", until, &by("REGION")).await);
        assert_eq!(truth["stores"], stores.len());
        for row in truth["top_stores"].as_array().expect("stores") {
            let store = &stores[&format!("store {}", row["store_id"])];
            assert_eq!(amount(&store["grossRevenue"]), true_amount(&row["sales_value"]), "{row}");
            assert_eq!(store["ordersCount"], row["baskets"], "{row}");
        }
    }
    shop.fold().await;
    shop.verified_as_is().await;
}

/// Sums in cents, made here from the rows.
#[derive(Default)]
struct JourneySums {
    baskets: u64,
    discounts_cents: i64,
    departments: BTreeMap<String, i64>,
}

/// Copies the rows, which are ordered by time, up to a day.
fn journey_until(from: &Path, to: &Path, until: &str) -> JourneySums {
    let lines = |file: &str| {
        BufReader::new(GzDecoder::new(std::fs::File::open(from.join(file)).expect("the data")))
            .lines()
            .map(|line| line.expect("a line"))
    };
    std::fs::copy(from.join("products.csv.gz"), to.join("products.csv.gz")).expect("copied");
    let mut products = csv::Reader::from_reader(GzDecoder::new(
        std::fs::File::open(from.join("products.csv.gz")).expect("the products"),
    ));
    let departments: BTreeMap<String, String> =
        products.records().map(|r| r.expect("a row")).map(|r| (r[0].to_owned(), r[2].to_owned())).collect();
    // Floats do for single amounts in cents.
    let cents = |text: &str| (text.parse::<f64>().expect("a number") * 100.0).round() as i64;
    let mut sums = JourneySums::default();
    let mut out = std::io::BufWriter::new(std::fs::File::create(to.join("transactions_2017_h1.csv.gz")).expect("made"));
    let mut last_basket = String::new();
    for (number, line) in lines("transactions_2017_h1.csv.gz").enumerate() {
        let fields: Vec<&str> = line.split(',').collect();
        if number > 0 {
            if fields[10] >= until {
                break;
            }
            if fields[2] != last_basket {
                sums.baskets += 1;
                last_basket = fields[2].to_owned();
            }
            sums.discounts_cents += fields[6..9].iter().map(|text| cents(text)).sum::<i64>();
            let department = departments.get(fields[3]).cloned().unwrap_or_default();
            *sums.departments.entry(department).or_default() += cents(fields[5]);
        }
        writeln!(out, "{line}").expect("written");
    }
    sums
}

#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn online_retail_sales_and_cancellations_add_up() {
    let data = data();
    let test = TestApp::start().await;
    let shop = test.tenant_in("gifts", chrono_tz::UTC, "GBP").await;
    let folder = data.join("online_retail_ii");
    let report = import(&shop, "online_retail_ii", &folder).await;
    let truth = ground_truth(&data, "online_retail_ii_2009-12_2010-02.json");
    // One of the 941, C496350, takes an earlier refund back: -373.57.
    let (sales, cancelled) = (&report.feeds[0].1, &report.feeds[1].1);
    assert_eq!(sales.events, Counts { read: 3_988, accepted: 3_988, ..Counts::default() });
    assert_eq!(cancelled.events, Counts { read: 941, accepted: 941, ..Counts::default() });
    assert_eq!((sales.rows.accepted, cancelled.rows.accepted), (102_876, 2_277));

    let (start, end) = ("2009-12-01", "2010-03-01");
    let months = metrics(&shop, start, end, &series("MONTH")).await;
    assert_eq!(amount(&months["grossRevenue"]), money("2031733.998"));
    assert_eq!(amount(&months["refunds"]), money("74762.57"));
    assert_eq!((&months["ordersCount"], &months["unitsSold"]), (&truth["sale_completed"], &truth["units_sold"]));
    assert_eq!(months["uniqueCustomers"], truth["buying_customers"]);
    for (month, bucket) in buckets(&months["series"], 7) {
        let row = &truth["monthly"][&month];
        assert_eq!(amount(&bucket["grossRevenue"]), true_amount(&row["gross"]), "{month}");
        assert_eq!(amount(&bucket["refunds"]), true_amount(&row["refund_amount"]), "{month}");
        assert_eq!(bucket["ordersCount"], row["orders"], "{month}");
        assert_eq!(bucket["uniqueCustomers"], row["customers"], "{month}");
        assert_eq!(bucket["newCustomers"], row["new_customers"], "{month}");
        assert_eq!(bucket["returningCustomers"], row["returning_customers"], "{month}");
    }
    let days = metrics(&shop, start, end, &series("DAY")).await;
    let mut found: BTreeMap<String, Value> = buckets(&days["series"], 10);
    found.retain(|_, bucket| bucket["ordersCount"] != 0);
    assert_pairs(&found, &truth["daily_gross"]);
    assert_pairs(&breakdown(&metrics(&shop, start, end, &by("REGION")).await), &truth["by_country_gross"]);

    let again = import(&shop, "online_retail_ii", &folder).await.totals();
    assert_eq!(again.events, Counts { read: 4_929, repeated: 4_929, ..Counts::default() });
    shop.verified().await;
}

/// Rows have the orders and the gross revenue of the ground truth; a row without orders is not in it.
fn assert_pairs(found: &BTreeMap<String, Value>, truth: &Value) {
    let found: BTreeMap<&String, (Value, Money)> = found
        .iter()
        .filter(|(_, row)| row["ordersCount"] != 0)
        .map(|(key, row)| (key, (row["ordersCount"].clone(), amount(&row["grossRevenue"]))))
        .collect();
    let truth = truth.as_object().expect("rows").iter();
    assert_eq!(found, truth.map(|(key, row)| (key, (row[0].clone(), true_amount(&row[1])))).collect());
}

#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn superstore_has_its_categories_and_regions_to_four_decimals() {
    let data = data();
    let test = TestApp::start().await;
    let shop = test.tenant_in("superstore", chrono_tz::UTC, "USD").await;
    assert_accepted(&import(&shop, "superstore", &data.join("superstore")).await, 5_009);
    let (start, end) = ("2014-01-01", "2018-01-01");
    let months = metrics(&shop, start, end, &series("MONTH")).await;
    assert_eq!(amount(&months["grossRevenue"]), money("2297200.8603"));
    assert_eq!((&months["ordersCount"], &months["uniqueCustomers"]), (&5_009.into(), &793.into()));
    assert_eq!(months["unitsSold"], 37_873);
    assert_table(&months["series"], 7, &expected(&data, "superstore_monthly.csv"));
    let truth = ground_truth(&data, "ground_truth.json")["superstore"].clone();
    for (dimension, rows, key) in
        [("PRODUCT_CATEGORY", &truth["by_category"], "Category"), ("REGION", &truth["by_region"], "Region")]
    {
        let found = breakdown(&metrics(&shop, start, end, &by(dimension)).await);
        let rows = rows.as_array().expect("rows");
        assert_eq!(found.len(), rows.len());
        for row in rows {
            let name = row[key].as_str().expect("a name");
            assert_eq!(amount(&found[name]["grossRevenue"]), true_amount(&row["sales"]), "{name}");
        }
    }
    shop.verified().await;
}

#[tokio::test]
#[ignore = "needs SALESPULSE_TEST_DATA"]
async fn sessions_convert_as_counted() {
    let data = data();
    let test = TestApp::start().await;
    let shop = test.tenant("sessions").await;
    assert_accepted(&import(&shop, "sessions", &data.join("sessions")).await, 12_330 + 1_908);
    for (file, dimension, key) in
        [("sessions_by_visitortype.csv", "CHANNEL", "VisitorType"), ("sessions_by_region.csv", "REGION", "Region")]
    {
        let all = metrics(&shop, "2017-01-01", "2018-01-01", &by(dimension)).await;
        // 15.474453 %
        assert_eq!(all["conversionRate"].as_f64(), Some(1_908.0 / 12_330.0));
        let found = breakdown(&all);
        for (_, row) in expected(&data, file) {
            let values = &found[&row[key]];
            assert_eq!(values["visits"].to_string(), row["sessions"]);
            assert_eq!(values["ordersCount"].to_string(), row["conversions"]);
        }
    }
    shop.verified().await;
}
