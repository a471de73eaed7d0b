//! Anomalies of metrics: what they say.

use serde_json::{Value, json};

use crate::histories::{numbers, sale, shop, weeks, with_a_spike};
use crate::kpis::define;
use crate::support::TestApp;

#[tokio::test]
async fn an_anomaly_says_what_was_expected_and_what_was_behind_it() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", with_a_spike(10)).await;
    let query =
        "{ salesMetrics(period: {preset: LAST_30_DAYS}) { anomalies(metrics: [GROSS_REVENUE, UNITS_SOLD]) { threshold
        training { start end buckets known } asOf { position }
        groups { start end score anomalies { start end metric direction score isolation
            readings { metric value expected lower upper score }
            contributions { metric key { dimension value } value expected share } } } } } }";
    let report = acme.viewer().query(query).await["salesMetrics"]["anomalies"].take();
    assert_eq!(report["groups"].as_array().expect("groups").len(), 1, "{report}");
    let (group, anomaly) = (&report["groups"][0], &report["groups"][0]["anomalies"][0]);
    assert_eq!((&group["start"], &group["end"]), (&"2026-06-05T00:00:00Z".into(), &"2026-06-06T00:00:00Z".into()));
    assert_eq!((&anomaly["metric"], &anomaly["direction"]), (&"GROSS_REVENUE".into(), &"UP".into()));
    assert!(anomaly["score"].as_f64() > report["threshold"].as_f64(), "{report}");
    assert!(anomaly["isolation"].as_f64().expect("a share") > 0.6, "{report}");
    let reading = &anomaly["readings"][0];
    // 100 and 50 and twice 0 to 4, and 900 more: 10 x 7 % 5 = 0.
    assert_eq!(reading["value"], "1050.00");
    let [expected, lower, upper] = ["expected", "lower", "upper"].map(|f| numbers(&json!([reading]), f)[0]);
    assert!(
        (150.0..=158.0).contains(&expected) && lower <= expected && expected <= upper && upper < 300.0,
        "{reading}"
    );
    let behind: Vec<(&str, &str)> = anomaly["contributions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|part| {
            let share = part["share"].as_f64()?;
            (share > 0.9).then_some((part["key"]["dimension"].as_str()?, part["key"]["value"].as_str()?))
        })
        .collect();
    assert_eq!(behind, [("CHANNEL", "shop"), ("REGION", "North"), ("PRODUCT_CATEGORY", "food")]);
    // Not of a period without it; nor of a calm history.
    let june =
        query.replace("{preset: LAST_30_DAYS}", r#"{start: "2026-06-06T00:00:00Z", end: "2026-06-15T00:00:00Z"}"#);
    assert_eq!(acme.viewer().query(&june).await["salesMetrics"]["anomalies"]["groups"], json!([]));
    let calm = shop(&test, "calm", weeks(60)).await;
    assert_eq!(calm.viewer().query(query).await["salesMetrics"]["anomalies"]["groups"], json!([]));
}

#[tokio::test]
async fn a_kpi_may_be_an_anomaly_too() {
    let test = TestApp::start().await;
    let acme = shop(&test, "acme", with_a_spike(10)).await;
    define(&acme, "of_web", r#"sum(net) filter channel = "web" / sum(net)"#).await;
    let ask = async |arguments: &str| {
        let query = format!(
            "{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ anomalies({arguments}) {{ groups {{ anomalies {{ start metric kpi direction
            readings {{ metric kpi unit value expected }} contributions {{ metric }} }} }} }} }} }}"
        );
        acme.viewer().query(&query).await["salesMetrics"]["anomalies"]["groups"].take()
    };
    let groups = ask("kpis: [\"of_web\"]").await;
    assert_eq!(groups.as_array().expect("groups").len(), 1, "{groups}");
    let anomaly = &groups[0]["anomalies"][0];
    assert_eq!(
        (&anomaly["start"], &anomaly["metric"], &anomaly["kpi"], &anomaly["direction"]),
        (&"2026-06-05T00:00:00Z".into(), &Value::Null, &"of_web".into(), &"DOWN".into())
    );
    let reading = &anomaly["readings"][0];
    // 100 of 1050, usually of 150.
    assert_eq!(
        (&reading["kpi"], &reading["unit"], &reading["value"]),
        (&"of_web".into(), &"RATIO".into(), &"0.0952".into())
    );
    let expected = numbers(&anomaly["readings"], "expected")[0];
    assert!((0.65..0.68).contains(&expected), "{anomaly}");
    assert_eq!(anomaly["contributions"], json!([]), "no formula is the sum of what it is by channels");
    let both = ask("metrics: [GROSS_REVENUE], kpis: [\"of_web\"]").await;
    let (readings, contributions) = (&both[0]["anomalies"][0]["readings"], &both[0]["anomalies"][0]["contributions"]);
    assert_eq!((&readings[0]["metric"], &readings[1]["kpi"]), (&"GROSS_REVENUE".into(), &"of_web".into()));
    assert_eq!(contributions[0]["metric"], "GROSS_REVENUE");
    for (bad, code) in [
        ("kpis: []", "BAD_USER_INPUT"),
        ("kpis: [\"of_web\", \"of_web\"]", "BAD_USER_INPUT"),
        ("kpis: [\"none\"]", "NOT_FOUND"),
    ] {
        let query =
            format!("{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ anomalies({bad}) {{ threshold }} }} }}");
        assert_eq!(acme.viewer().error_code(&query).await, code, "{bad}");
    }
}

#[tokio::test]
async fn a_dimension_of_too_many_values_explains_nothing() {
    let test = TestApp::start().await;
    let mut events = with_a_spike(10);
    // A week before, with which the day is compared.
    events.extend((0..=1000).map(|n| sale(&format!("r{n}"), 17, "0.01", ["web", &format!("region {n}"), "drinks"])));
    let acme = shop(&test, "acme", events).await;
    let query = "{ salesMetrics(period: {start: \"2026-06-05T00:00:00Z\", end: \"2026-06-06T00:00:00Z\"}) {
        anomalies(metrics: [GROSS_REVENUE]) { groups { anomalies { contributions { key { dimension } } } } } } }";
    let report = acme.viewer().query(query).await["salesMetrics"]["anomalies"].take();
    let parts = report["groups"][0]["anomalies"][0]["contributions"].as_array().expect("a list");
    let mut dimensions: Vec<&str> = parts.iter().filter_map(|part| part["key"]["dimension"].as_str()).collect();
    dimensions.dedup();
    assert_eq!(dimensions, ["CHANNEL", "PRODUCT_CATEGORY"]);
}

#[tokio::test]
async fn days_without_a_value_are_not_known() {
    let test = TestApp::start().await;
    let events = weeks(60).into_iter().filter(|event| !["d20", "d30"].contains(&event.event_id.as_str())).collect();
    let acme = shop(&test, "acme", events).await;
    let training = async |metrics: &str| {
        let query = format!(
            "{{ salesMetrics(period: {{preset: LAST_30_DAYS}}) {{ anomalies(metrics: {metrics}) {{ training {{ buckets known }} }} }} }}"
        );
        acme.viewer().query(&query).await["salesMetrics"]["anomalies"]["training"].take()
    };
    assert_eq!(training("[AVG_ORDER_VALUE]").await, json!({ "buckets": 60, "known": 58 }));
    assert_eq!(training("[AVG_ORDER_VALUE, ORDERS_COUNT]").await, json!({ "buckets": 60, "known": 60 }));
}
