//! `salesMetrics` as its users see it: values small enough to add by hand.

use salespulse::ledger::event::{
    Event, Fact, Line, OrderCancelled, OrderPlaced, ProductViewed, RefundIssued, VisitsCounted,
};
use serde_json::{Value, json};

use crate::ledger::{event, money, order};
use crate::support::{TestApp, TestTenant};

const ALL: &str = "totalRevenue grossRevenue refunds byOrder: refunds(by: ORDER) discounts ordersCount unitsSold avgOrderValue \
    conversionRate visits newCustomers returningCustomers uniqueCustomers refundRate orderValueP50 orderValueP95";

/// Two orders of 10.00 and one of 5.50 by two customers, 2.25 of them given back a day later, 40 visits.
async fn three_orders(acme: &TestTenant<'_>) {
    let refund = RefundIssued { order_id: Some("A".into()), amount: Some(money("2.25")), ..RefundIssued::default() };
    let visits = VisitsCounted { count: 40, channel: Some("web".into()), ..VisitsCounted::default() };
    acme.apply(vec![
        event("1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 1, "ann", "10.00"))),
        event("2", "2026-06-02T10:00:00Z", Fact::OrderPlaced(order("B", 1, "ann", "10.00"))),
        event("3", "2026-06-02T11:00:00Z", Fact::OrderPlaced(order("C", 1, "bob", "5.50"))),
        event("4", "2026-06-02T12:00:00Z", Fact::RefundIssued(refund)),
        event("5", "2026-06-02T13:00:00Z", Fact::VisitsCounted(visits)),
    ])
    .await;
}

async fn ask(acme: &TestTenant<'_>, selection: &str) -> Value {
    let period = r#"period: { start: "2026-06-01T00:00:00Z", end: "2026-06-03T00:00:00Z" }"#;
    acme.viewer().query(&format!("{{ salesMetrics({period}) {{ {selection} }} }}")).await["salesMetrics"].clone()
}

#[tokio::test]
async fn an_answer_names_its_time_zone() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::Europe::London, "GBP").await;
    acme.organization("berlin", chrono_tz::Europe::Berlin, "GBP").await;
    for (arguments, zone) in [
        ("period: { preset: TODAY }", "Europe/London"),
        (r#"period: { preset: TODAY }, filters: { organizationId: "berlin" }"#, "Europe/Berlin"),
        (r#"period: { preset: TODAY, timezone: "Asia/Tokyo" }, filters: { organizationId: "berlin" }"#, "Asia/Tokyo"),
    ] {
        let answer = acme.viewer().query(&format!("{{ salesMetrics({arguments}) {{ timezone }} }}")).await;
        assert_eq!(answer["salesMetrics"]["timezone"], zone, "{arguments}");
    }
}

#[tokio::test]
async fn hours_and_days_of_the_week_are_those_of_the_zone() {
    let test = TestApp::start().await;
    let acme = test.tenant_in("acme", chrono_tz::Europe::London, "GBP").await;
    let mut events = Vec::new();
    // London's clocks are set back on Sunday 26 October 2025 at 02:00: 00:30 and 01:30 UTC are both 01:30 there.
    for (id, time, amount) in [
        ("A", "2025-10-25T22:59:00Z", "1.00"),
        ("B", "2025-10-25T23:00:00Z", "2.00"),
        ("C", "2025-10-26T00:30:00Z", "4.00"),
        ("D", "2025-10-26T01:30:00Z", "8.00"),
        ("E", "2025-10-26T02:30:00Z", "16.00"),
        ("F", "2025-11-04T01:30:00Z", "32.00"),
        ("G", "2025-11-06T01:30:00Z", "64.00"),
    ] {
        events.push(event(id, time, Fact::OrderPlaced(order(id, 1, "ann", amount))));
    }
    acme.apply(events).await;
    let rows = async |arguments: &str| -> Vec<(Vec<String>, String)> {
        let period = r#"start: "2025-10-01T00:00:00Z", end: "2025-11-30T00:00:00Z""#;
        let query = format!(
            "{{ salesMetrics(period: {{ {period} }}) {{ breakdown({arguments}) {{ rows {{ keys {{ value label }} totalRevenue }} }} }} }}"
        );
        let answer = acme.viewer().query(&query).await;
        let rows = answer["salesMetrics"]["breakdown"]["rows"].as_array().expect("rows").clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let keys = |row: &Value| row["keys"].as_array().expect("keys").iter().map(|key| text(&key["value"])).collect();
        rows.iter().map(|row| (keys(row), text(&row["totalRevenue"]))).collect()
    };
    let row = |keys: &[&str], revenue: &str| (keys.iter().map(|key| (*key).to_owned()).collect(), revenue.to_owned());
    let days = rows("by: [DAY_OF_WEEK]").await;
    let expected = [("THURSDAY", "64.00"), ("TUESDAY", "32.00"), ("SUNDAY", "30.00"), ("SATURDAY", "1.00")];
    assert_eq!(days, expected.map(|(day, revenue)| row(&[day], revenue)));
    let hours = rows("by: [HOUR_OF_DAY]").await;
    let expected = [("01", "108.00"), ("02", "16.00"), ("00", "2.00"), ("23", "1.00")];
    assert_eq!(hours, expected.map(|(hour, revenue)| row(&[hour], revenue)));
    let both = rows("by: [HOUR_OF_DAY, DAY_OF_WEEK], first: 1").await;
    assert_eq!(both, [row(&["01", "THURSDAY"], "64.00")]);
    // Nobody visited on any day, so all are equal, and in the order of the week.
    let equal = rows("by: [DAY_OF_WEEK], orderBy: { metric: VISITS }").await;
    let expected = [("TUESDAY", "32.00"), ("THURSDAY", "64.00"), ("SATURDAY", "1.00"), ("SUNDAY", "30.00")];
    assert_eq!(equal, expected.map(|(day, revenue)| row(&[day], revenue)));
}

#[tokio::test]
async fn small_rates_are_compared_and_ranked_exactly() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut events = Vec::new();
    let mut add = |at: &str, region: &str, orders: usize| {
        let visits = VisitsCounted { count: 100_000, region: Some(region.into()), ..VisitsCounted::default() };
        events.push(event(&format!("v{at}{region}"), at, Fact::VisitsCounted(visits)));
        for n in 0..orders {
            let id = format!("{at}{region}{n}");
            let placed = OrderPlaced { region: Some(region.into()), ..order(&id, 1, "ann", "1.00") };
            events.push(event(&id, at, Fact::OrderPlaced(placed)));
        }
    };
    add("2026-05-01T10:00:00Z", "north", 6);
    for (region, orders) in [("north", 1), ("south", 3), ("east", 2), ("west", 4)] {
        add("2026-06-01T10:00:00Z", region, orders);
    }
    acme.apply(events).await;
    let kpi = r#"mutation { createKpi(name: "conversion", input: { formula: "ordersCount / visits" }) { name } }"#;
    acme.admin().query(kpi).await;
    let query = r#"{ salesMetrics(period: { start: "2026-06-01T00:00:00Z", end: "2026-07-01T00:00:00Z", timezone: "UTC" }, filters: { regions: ["north"] }) {
            comparison(to: CUSTOM, period: { start: "2026-05-01T00:00:00Z", end: "2026-05-16T00:00:00Z" }) {
                change(metric: CONVERSION_RATE) { relative } kpiChange(name: "conversion") { relative } } }
        all: salesMetrics(period: { start: "2026-06-01T00:00:00Z", end: "2026-07-01T00:00:00Z" }) {
            best: breakdown(by: [REGION], orderBy: { metric: CONVERSION_RATE }, first: 2) { rows { key } }
            worst: breakdown(by: [REGION], orderBy: { kpi: "conversion", direction: ASC }, first: 2) { rows { key } } } }"#;
    let found = acme.viewer().query(query).await;
    let comparison = &found["salesMetrics"]["comparison"];
    for change in ["change", "kpiChange"] {
        let relative = comparison[change]["relative"].as_f64().expect("a number");
        assert!((relative + 5.0 / 6.0).abs() < 1e-12, "{change}: {relative}");
    }
    assert_eq!(found["all"]["best"]["rows"], json!([{ "key": "west" }, { "key": "south" }]));
    assert_eq!(found["all"]["worst"]["rows"], json!([{ "key": "north" }, { "key": "east" }]));
}

#[tokio::test]
async fn large_amounts_have_rates_too() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let refund = RefundIssued { amount: Some(money("100000000000")), ..RefundIssued::default() };
    acme.apply(vec![
        event("1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 1, "ann", "200000000000"))),
        event("2", "2026-06-02T10:00:00Z", Fact::RefundIssued(refund)),
    ])
    .await;
    let fields = r#"refundRate comparison(to: CUSTOM, period: { start: "2026-06-01T00:00:00Z", end: "2026-06-03T00:00:00Z" }) {
        change(metric: REFUND_RATE) { absolute relative } }"#;
    let expected = json!({ "refundRate": 0.5, "comparison": { "change": { "absolute": "0.00", "relative": 0.0 } } });
    assert_eq!(ask(&acme, fields).await, expected);
}

#[tokio::test]
async fn a_year_before_is_by_the_periods_clock() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let query = r#"{ salesMetrics(period: { start: "2026-03-09T04:00:00Z", end: "2026-03-10T04:00:00Z", timezone: "America/New_York" }) {
        comparison(to: SAME_PERIOD_LAST_YEAR) { previousPeriod { start end } } } }"#;
    let found = acme.viewer().query(query).await["salesMetrics"]["comparison"]["previousPeriod"].take();
    assert_eq!(found, json!({ "start": "2025-03-09T05:00:00Z", "end": "2025-03-10T04:00:00Z" }));
}

#[tokio::test]
async fn long_series_and_many_of_them_have_their_limits() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    let of = |year: &str, fields: &str| {
        let period = format!(r#"period: {{ start: "{year}-01-01T00:00:00Z", end: "2026-06-15T00:00:00Z" }}"#);
        format!("salesMetrics({period}) {{ {fields} }}")
    };
    // A range of days for each bucket, as weeks elsewhere begin within a day here.
    let weeks = of("1971", r#"series(grain: WEEK, timezone: "Asia/Tokyo") { totalRevenue }"#);
    let found = acme.viewer().query(&format!("{{ {weeks} }}")).await["salesMetrics"]["series"].take();
    let revenue: Vec<&Value> = found.as_array().expect("a list").iter().map(|bucket| &bucket["totalRevenue"]).collect();
    let sold: Vec<&&Value> = revenue.iter().filter(|revenue| **revenue != "0.00").collect();
    assert!(revenue.len() > 2_800 && sold == [&&json!("23.25")], "{} {sold:?}", revenue.len());
    // As often as they are shown, in one field of the root or in several.
    let series = |n: usize| format!("s{n}: series(grain: DAY) {{ start totalRevenue }}");
    let aliases = |count: usize| of("2000", &(0..count).map(series).collect::<Vec<_>>().join(" "));
    acme.viewer().query(&format!("{{ {} }}", aliases(10))).await;
    acme.viewer().refused(&format!("{{ {} }}", aliases(11)), "grain").await;
    let fields: Vec<String> = (0..11).map(|n| format!("m{n}: {}", aliases(1))).collect();
    acme.viewer().refused(&format!("{{ {} }}", fields.join(" ")), "grain").await;
}

#[tokio::test]
async fn things_are_found_by_their_ids() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    let viewed = ProductViewed { product_id: "tea".into(), count: 2 };
    acme.apply(vec![event("6", "2026-06-02T14:00:00Z", Fact::ProductViewed(viewed))]).await;
    let query = r#"{ order(id: "o1") { id externalId } customer(id: "c2") { id externalId } product(id: "p1") { id sku }
        again: product(sku: "tea") { views } by: order(externalId: "A") { id } who: customer(externalId: "bob") { id } }"#;
    let expected = json!({ "order": { "id": "o1", "externalId": "A" }, "customer": { "id": "c2", "externalId": "bob" },
        "product": { "id": "p1", "sku": "tea" }, "again": { "views": 2 },
        "by": { "id": "o1" }, "who": { "id": "c2" } });
    assert_eq!(acme.viewer().query(query).await, expected);
    let other = test.tenant("other").await;
    for field in [
        r#"order(id: "o1")"#,
        r#"order(id: "c1")"#,
        r#"order(externalId: "A")"#,
        r#"customer(id: "c2")"#,
        r#"customer(externalId: "bob")"#,
        r#"product(id: "p1")"#,
        r#"product(sku: "tea")"#,
    ] {
        let found = other.viewer().query(&format!("{{ found: {field} {{ id }} }}")).await;
        assert_eq!(found, json!({ "found": null }), "{field}");
    }
    for field in ["order", "customer", "product"] {
        acme.viewer().refused(&format!("{{ {field} {{ id }} }}"), "id").await;
    }
    acme.viewer().refused(r#"{ order(id: "o1", externalId: "A") { id } }"#, "id").await;
}

#[tokio::test]
async fn totals_and_buckets_say_the_same() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    let found = ask(
        &acme,
        &format!(
            "{ALL} series(grain: YEAR) {{ ...Bucket }} breakdown(by: [ORGANIZATION]) {{ rows {{ {ALL} }} }} }} }} \
        fragment Bucket on MetricsBucket {{ ... on MetricsBucket {{ {ALL} }} ... {{ ordersCount"
        ),
    )
    .await;
    let totals = json!({
        // 10 + 10 + 5.50 - 2.25
        "totalRevenue": "23.25", "grossRevenue": "25.50", "refunds": "2.25", "byOrder": "2.25", "discounts": "0.00",
        // 25.50 / 3; 3 / 40; 2.25 / 25.50
        "ordersCount": 3, "unitsSold": 6, "avgOrderValue": "8.50", "conversionRate": 0.075, "visits": 40,
        "newCustomers": 2, "returningCustomers": 0, "uniqueCustomers": 2, "refundRate": 2.25 / 25.5,
        "orderValueP50": found["orderValueP50"], "orderValueP95": found["orderValueP95"],
    });
    let values = |object: &Value| {
        let mut object = object.clone();
        object.as_object_mut().expect("an object").retain(|key, _| totals.get(key).is_some());
        object
    };
    assert_eq!(values(&found), totals);
    assert_eq!(found["series"], json!([totals]));
    assert_eq!(found["breakdown"]["rows"], json!([totals]));
}

#[tokio::test]
async fn days_have_their_own_refunds_customers_and_keys() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    let days = ask(
        &acme,
        "series(grain: DAY) { start state refunds byOrder: refunds(by: ORDER) newCustomers returningCustomers }
         split: series(grain: DAY, by: CUSTOMER_SEGMENT) { start key { dimension value label } ordersCount __typename }",
    )
    .await;
    assert_eq!(
        days["series"],
        json!([
            { "start": "2026-06-01T00:00:00Z", "state": "CLOSED", "refunds": "0.00", "byOrder": "2.25", "newCustomers": 1, "returningCustomers": 0 },
            { "start": "2026-06-02T00:00:00Z", "state": "CLOSED", "refunds": "2.25", "byOrder": "0.00", "newCustomers": 1, "returningCustomers": 1 },
        ])
    );
    let bucket = |day: u32, value: Value, label: &str, orders: u32| {
        json!({ "start": format!("2026-06-0{day}T00:00:00Z"), "ordersCount": orders, "__typename": "MetricsBucket",
            "key": { "dimension": "CUSTOMER_SEGMENT", "value": value, "label": label } })
    };
    let split = days["split"].as_array().expect("a list");
    assert_eq!(split[0], bucket(1, json!("NEW"), "NEW", 1));
    assert!(split.contains(&bucket(2, json!("RETURNING"), "RETURNING", 1)), "{split:?}");
}

#[tokio::test]
async fn a_breakdown_has_the_rest_in_one_row() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let sale = |id: &str, region: &str, amount: &str| -> Event {
        let mut placed = order(id, 1, "ann", amount);
        placed.region = Some(region.into());
        event(id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(placed))
    };
    acme.apply(vec![sale("1", "N", "3.00"), sale("2", "S", "2.00"), sale("3", "E", "2.00"), sale("4", "W", "1.00")])
        .await;
    let found = ask(
        &acme,
        "breakdown(by: [REGION], first: 2) { rowsCount rows { key totalRevenue } other { totalRevenue ordersCount uniqueCustomers } }
         asc: breakdown(by: [REGION, CHANNEL], first: 1, orderBy: { metric: TOTAL_REVENUE, direction: ASC }) { rows { key } }",
    )
    .await;
    // Of the two that tie at 2.00, E comes before S.
    assert_eq!(
        found["breakdown"],
        json!({ "rowsCount": 4, "rows": [{ "key": "N", "totalRevenue": "3.00" }, { "key": "E", "totalRevenue": "2.00" }],
            "other": { "totalRevenue": "3.00", "ordersCount": 2, "uniqueCustomers": 1 } })
    );
    assert_eq!(found["asc"], json!({ "rows": [{ "key": "W / web" }] }));
}

/// Also after another currency came.
#[tokio::test]
async fn an_earlier_answer_is_not_changed_by_a_currency_that_came_later() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    acme.organization("us", chrono_tz::UTC, "USD").await;
    acme.apply(vec![event("1", "2026-06-01T10:00:00Z", Fact::OrderPlaced(order("A", 1, "ann", "10.00")))]).await;
    let mut abroad = event("2", "2026-06-01T11:00:00Z", Fact::OrderPlaced(order("B", 1, "bob", "3.00")));
    abroad.organization = Some("us".into());
    let as_of = |position: i64| {
        format!(
            r#"{{ salesMetrics(period: {{ start: "2026-06-01T00:00:00Z", end: "2026-06-03T00:00:00Z" }}, asOf: "{position}") {{ totalRevenue currency }} }}"#
        )
    };
    let before = acme.viewer().query(&as_of(1)).await;
    acme.apply(vec![abroad]).await;
    acme.fold().await;
    assert_eq!(acme.viewer().query(&as_of(1)).await, before);
    assert_eq!(before["salesMetrics"], json!({ "totalRevenue": "10.00", "currency": "GBP" }));
    assert_eq!(acme.viewer().error_code(&as_of(2)).await, "MIXED_CURRENCIES");
}

#[tokio::test]
async fn who_bought_most_is_told_from_the_orders() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    let guest = OrderPlaced { customer: None, ..order("D", 1, "", "1.00") };
    acme.apply(vec![event("6", "2026-06-02T14:00:00Z", Fact::OrderPlaced(guest))]).await;
    acme.fold().await;
    // Taken back after all was folded, and not folded itself.
    let more = order("E", 1, "bob", "7.00");
    acme.apply(vec![event("7", "2026-06-02T15:00:00Z", Fact::OrderPlaced(more))]).await;
    let cancel = OrderCancelled { order_id: "C".into(), version: 2 };
    acme.apply(vec![event("8", "2026-06-02T16:00:00Z", Fact::OrderCancelled(cancel))]).await;
    let found = ask(
        &acme,
        "breakdown(by: [CUSTOMER], first: 2) { rowsCount rows { key keys { value } totalRevenue ordersCount refunds visits newCustomers returningCustomers }
             other { totalRevenue visits } }
         series(grain: DAY, timezone: \"UTC\", by: CUSTOMER) { start key { label } ordersCount }
         comparison(to: PREVIOUS_PERIOD) { breakdown(by: [CUSTOMER, CHANNEL], first: 1) { rows { key change(metric: TOTAL_REVENUE) { absolute } } } }",
    )
    .await;
    assert_eq!(
        found["breakdown"],
        json!({ "rowsCount": 3, "rows": [
            { "key": "ann", "keys": [{ "value": "ann" }], "totalRevenue": "17.75", "ordersCount": 2, "refunds": "2.25",
                "visits": null, "newCustomers": 1, "returningCustomers": 0 },
            { "key": "bob", "keys": [{ "value": "bob" }], "totalRevenue": "7.00", "ordersCount": 1, "refunds": "0.00",
                "visits": null, "newCustomers": 1, "returningCustomers": 0 }],
            "other": { "totalRevenue": "1.00", "visits": null } })
    );
    let series = found["series"].as_array().expect("a series");
    let of_second: Vec<_> = series.iter().filter(|bucket| bucket["start"] == "2026-06-02T00:00:00Z").collect();
    assert_eq!(of_second.len(), 3, "{series:?}");
    assert!(of_second.iter().all(|bucket| bucket["ordersCount"] == 1), "{series:?}");
    let rows = &found["comparison"]["breakdown"]["rows"];
    assert_eq!(*rows, json!([{ "key": "ann / web", "change": { "absolute": "17.75" } }]));
}

#[tokio::test]
async fn more_orders_than_can_be_added_up_by_customer_are_told() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    acme.fold().await;
    let tx = test.app.db.write(acme.id()).await.expect("a transaction");
    // The same entry 100,000 times.
    let tens = "(VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))";
    let columns = "position, entry_no, kind, sign, org_no, channel_no, region_no, segment, customer_no, order_no, currency, amount_paid, \
        amount, discount, units, lines";
    let chosen = columns.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", ");
    let sql = format!(
        "WITH digit(n) AS {tens} INSERT INTO ledger_entries (tenant_id, at, {columns}) \
         SELECT $1, e.at + 1 + a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * f.n, {chosen} FROM ledger_entries e \
         CROSS JOIN digit a CROSS JOIN digit b CROSS JOIN digit c CROSS JOIN digit d CROSS JOIN digit f \
         WHERE e.tenant_id = $1 AND e.position = 1"
    );
    tx.execute(&sql, []).await.expect("inserted");
    tx.commit().await.expect("committed");
    let ask = async |by: &str| {
        let period = r#"period: { start: "2026-06-01T00:00:00Z", end: "2026-06-03T00:00:00Z" }"#;
        let query = format!("{{ salesMetrics({period}) {{ breakdown(by: [{by}]) {{ rowsCount }} }} }}");
        acme.viewer().error(&query).await
    };
    assert_eq!(ask("CUSTOMER").await, ("BAD_USER_INPUT".into(), Some("by".into())));
    assert_eq!(ask("CUSTOMER, PRODUCT").await.0, "BAD_USER_INPUT");
}

#[tokio::test]
async fn a_comparison_can_be_split() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let sale = |id: &str, region: &str, at: &str, amount: &str| -> Event {
        let placed = OrderPlaced { region: Some(region.into()), ..order(id, 1, "ann", amount) };
        event(id, at, Fact::OrderPlaced(placed))
    };
    let (may, june) = ("2026-05-01T10:00:00Z", "2026-06-01T10:00:00Z");
    acme.apply(vec![
        sale("1", "gone", may, "8.00"),
        sale("2", "falls", may, "6.00"),
        sale("3", "falls", june, "3.00"),
        sale("4", "rises", may, "1.00"),
        sale("5", "rises", june, "2.00"),
        sale("6", "new", june, "4.00"),
    ])
    .await;
    let query = r#"{ salesMetrics(period: { start: "2026-06-01T00:00:00Z", end: "2026-07-01T00:00:00Z", timezone: "UTC" }) {
        comparison {
            breakdown(by: [REGION], first: 3) {
                rowsCount
                rows { key keys { value } current { totalRevenue } previous { totalRevenue } change(metric: TOTAL_REVENUE) { absolute relative } }
                other { current { totalRevenue uniqueCustomers } previous { totalRevenue } change(metric: ORDERS_COUNT) { absolute } } }
            fallen: breakdown(by: [REGION], orderBy: { of: ABSOLUTE_CHANGE, direction: ASC }, first: 2) { rows { key } }
            risen: breakdown(by: [REGION], orderBy: { metric: ORDERS_COUNT, of: RELATIVE_CHANGE }) { rows { key } }
            before: breakdown(by: [REGION], orderBy: { of: PREVIOUS }) { rows { key } } } } }"#;
    let found = acme.viewer().query(query).await["salesMetrics"]["comparison"].take();
    let row = |key: &str, current: &str, previous: &str, absolute: &str, relative: Value| {
        json!({ "key": key, "keys": [{ "value": key }], "current": { "totalRevenue": current }, "previous": { "totalRevenue": previous },
            "change": { "absolute": absolute, "relative": relative } })
    };
    assert_eq!(
        found["breakdown"],
        json!({ "rowsCount": 4, "rows": [
            row("new", "4.00", "0.00", "4.00", Value::Null),
            row("falls", "3.00", "6.00", "-3.00", json!(-0.5)),
            row("rises", "2.00", "1.00", "1.00", json!(1.0)),
        ], "other": { "current": { "totalRevenue": "0.00", "uniqueCustomers": 0 }, "previous": { "totalRevenue": "8.00" }, "change": { "absolute": "-1.00" } } })
    );
    let keys = |name: &str| -> Vec<String> {
        let rows = found[name]["rows"].as_array().expect("rows");
        rows.iter().map(|row| row["key"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(keys("fallen"), ["gone", "falls"]);
    assert_eq!(keys("risen"), ["falls", "rises", "gone", "new"]);
    assert_eq!(keys("before"), ["gone", "falls", "rises", "new"]);
    let refused =
        r#"{ salesMetrics(period: { preset: TODAY }) { then: comparison { rows: breakdown(by: []) { rowsCount } } } }"#;
    let refused = acme.viewer().run(refused, json!({})).await.errors.remove(0);
    assert_eq!(json!(refused.path), json!(["salesMetrics", "then", "rows"]), "{refused:?}");
}

#[tokio::test]
async fn an_answer_can_be_asked_for_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    three_orders(&acme).await;
    let cancelled = OrderCancelled { order_id: "A".into(), version: 2 };
    acme.apply(vec![event("6", "2026-06-03T10:00:00Z", Fact::OrderCancelled(cancelled))]).await;
    let at = |position: &str| {
        format!(
            "{{ salesMetrics(period: {{ start: \"2026-06-01T00:00:00Z\", end: \"2026-06-03T00:00:00Z\" }}, asOf: \"{position}\") \
            {{ totalRevenue newCustomers asOf {{ position watermark }} }} }}"
        )
    };
    let answer = |revenue: &str, position: &str, watermark: &str| json!({ "salesMetrics": { "totalRevenue": revenue, "newCustomers": 2, "asOf": { "position": position, "watermark": watermark } } });
    assert_eq!(acme.viewer().query(&at("5")).await, answer("23.25", "5", "2026-06-02T13:00:00Z"));
    // Without A and its refund: 10 + 5.50.
    assert_eq!(acme.viewer().query(&at("6")).await, answer("15.50", "6", "2026-06-03T10:00:00Z"));
    assert_eq!(acme.viewer().error_code(&at("7")).await, "AS_OF_NOT_AVAILABLE");
    // A batch that is cut, and batches that have not noted how far they came.
    let viewed = |id: &str, when: &str| {
        event(id, when, Fact::ProductViewed(ProductViewed { product_id: "tea".into(), count: 1 }))
    };
    acme.apply(vec![viewed("7", "2026-06-04T10:00:00Z"), viewed("8", "2026-06-05T10:00:00Z")]).await;
    acme.apply(vec![viewed("9", "2026-06-01T10:00:00Z")]).await;
    for is_noted in [true, false] {
        if !is_noted {
            let tx = test.app.db.write(acme.id()).await.expect("begun");
            let sql = "UPDATE ledger_batches SET watermark = NULL WHERE tenant_id = $1";
            tx.execute(sql, []).await.expect("forgotten");
            tx.commit().await.expect("committed");
        }
        assert_eq!(acme.viewer().query(&at("5")).await, answer("23.25", "5", "2026-06-02T13:00:00Z"));
        assert_eq!(acme.viewer().query(&at("7")).await, answer("15.50", "7", "2026-06-04T10:00:00Z"));
        assert_eq!(acme.viewer().query(&at("8")).await, answer("15.50", "8", "2026-06-05T10:00:00Z"));
    }
}

#[tokio::test]
async fn bad_arguments_are_told_by_code() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let day = r#"period: { start: "2026-06-01T00:00:00Z", end: "2026-06-02T00:00:00Z" }"#;
    for (arguments, selection) in [
        (r#"period: { start: "2026-06-02T00:00:00Z", end: "2026-06-01T00:00:00Z" }"#, "ordersCount"),
        (r#"period: { start: "2026-06-02T00:00:00Z" }"#, "ordersCount"),
        (r#"period: { preset: TODAY, start: "2026-06-02T00:00:00Z", end: "2026-06-03T00:00:00Z" }"#, "ordersCount"),
        (r#"period: { start: "1969-06-02T00:00:00Z", end: "2026-06-01T00:00:00Z" }"#, "ordersCount"),
        (r#"period: { preset: TODAY, timezone: "Mars/Base" }"#, "ordersCount"),
        (
            r#"period: { start: "2020-01-01T00:00:00Z", end: "2026-06-01T00:00:00Z" }"#,
            "series(grain: QUARTER_HOUR) { start }",
        ),
        (day, "breakdown(by: []) { rowsCount }"),
        (day, "breakdown(by: [REGION, REGION]) { rowsCount }"),
        (day, "breakdown(by: [REGION], first: 0) { rowsCount }"),
        (day, "comparison(to: CUSTOM) { current { ordersCount } }"),
    ] {
        let query = format!("{{ salesMetrics({arguments}) {{ {selection} }} }}");
        assert_eq!(acme.viewer().error_code(&query).await, "BAD_USER_INPUT", "{query}");
    }
    let unknown = format!("{{ salesMetrics({day}, filters: {{ organizationId: \"nobody\" }}) {{ ordersCount }} }}");
    assert_eq!(acme.viewer().error_code(&unknown).await, "NOT_FOUND");
    acme.organization("other", chrono_tz::UTC, "EUR").await;
    let mixed = format!("{{ salesMetrics({day}) {{ ordersCount }} }}");
    // Of an organization that has nothing yet there is nothing to add up.
    assert_eq!(acme.viewer().query(&mixed).await["salesMetrics"]["ordersCount"], 0);
    let sold = |id: &str, organization: Option<&str>| {
        let placed = event(id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(order(id, 1, "ann", "1.00")));
        Event { organization: organization.map(str::to_owned), ..placed }
    };
    acme.apply(vec![sold("abroad", Some("other"))]).await;
    let found = acme.viewer().query(&format!("{{ salesMetrics({day}) {{ ordersCount currency }} }}")).await;
    assert_eq!(found["salesMetrics"], json!({ "ordersCount": 1, "currency": "EUR" }));
    acme.apply(vec![sold("home", None)]).await;
    // Orders can be added up, whatever was paid with; amounts cannot.
    let counts = "ordersCount visits uniqueCustomers breakdown(by: [ORGANIZATION], orderBy: { metric: ORDERS_COUNT }) { rows { ordersCount } } \
                  series(grain: YEAR) { unitsSold } comparison { change(metric: NEW_CUSTOMERS) { absolute } }";
    let found = acme.viewer().query(&format!("{{ salesMetrics({day}) {{ {counts} }} }}")).await["salesMetrics"].take();
    assert_eq!((&found["ordersCount"], &found["uniqueCustomers"]), (&json!(2), &json!(1)));
    assert_eq!(found["breakdown"]["rows"], json!([{ "ordersCount": 1 }, { "ordersCount": 1 }]));
    for amounts in [
        "currency",
        "ordersCount refundRate",
        "orderValueP95",
        "series(grain: DAY) { avgOrderValue }",
        "breakdown(by: [ORGANIZATION]) { rows { discounts } }",
        "breakdown(by: [CHANNEL], orderBy: { metric: GROSS_REVENUE }) { rows { ordersCount } }",
        "comparison { change(metric: REFUNDS) { absolute } }",
        "forecast(horizon: 2) { __typename }",
    ] {
        let query = format!("{{ salesMetrics({day}) {{ {amounts} }} }}");
        assert_eq!(acme.viewer().error_code(&query).await, "MIXED_CURRENCIES", "{amounts}");
    }
}

#[tokio::test]
async fn an_error_of_a_field_within_has_its_path() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let line = |n: usize| Line { product_id: n.to_string(), quantity: 1, amount: money("1.00"), ..Line::default() };
    let placed = (0..11).map(|n| {
        let id = format!("o{n}");
        let lines = (n * 1000..(n + 1) * 1000).map(line).collect();
        event(&id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(OrderPlaced { lines, ..order(&id, 1, "ann", "1.00") }))
    });
    acme.apply(placed.collect()).await;
    let years = r#"period: { start: "2020-01-01T00:00:00Z", end: "2026-06-14T00:00:00Z" }"#;
    for (selection, field, argument) in [
        ("fine: series(grain: QUARTER_HOUR) { start }", "fine", "grain"),
        ("series(grain: YEAR, by: PRODUCT) { ordersCount }", "series", "by"),
        ("none: breakdown(by: []) { rowsCount }", "none", "by"),
        ("breakdown(by: [REGION], first: 0) { rowsCount }", "breakdown", "first"),
        ("comparison(to: CUSTOM) { current { ordersCount } }", "comparison", "period"),
        (
            r#"odd: comparison(period: { firstDay: "2026-06-02", lastDay: "2026-06-01" }) { current { ordersCount } }"#,
            "odd",
            "period",
        ),
    ] {
        let query = format!("{{ tenant {{ slug }} m: salesMetrics({years}) {{ ordersCount {selection} }} }}");
        acme.viewer().refused(&query, argument).await;
        let response = acme.viewer().run(&query, Value::Null).await;
        let error = serde_json::to_value(&response.errors[0]).expect("JSON");
        assert_eq!(error["path"], json!(["m", field]), "{query}");
        assert_eq!(error["extensions"], json!({ "code": "BAD_USER_INPUT", "argument": argument }), "{query}");
        // Neither the field nor the one around it can be null.
        assert_eq!(response.data, async_graphql::Value::Null, "{query}");
    }
}

#[tokio::test]
async fn a_bucket_says_whether_it_has_begun() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let buckets = async |range: &str| -> Vec<(bool, String)> {
        let query = format!("{{ salesMetrics(period: {{ {range} }}) {{ series(grain: DAY) {{ hasBegun state }} }} }}");
        let data = acme.viewer().query(&query).await;
        let buckets = data["salesMetrics"]["series"].as_array().expect("buckets").clone();
        buckets.iter().map(|b| (b["hasBegun"] == true, b["state"].as_str().expect("a state").to_owned())).collect()
    };
    let (begun, open, closed) = (true, "OPEN".to_owned(), "CLOSED".to_owned());
    // It is noon of the 15th.
    let range = r#"firstDay: "2026-06-14", lastDay: "2026-06-16""#;
    assert_eq!(buckets(range).await, [(begun, closed), (begun, open.clone()), (!begun, open)]);
    acme.viewer().refused(r#"{ salesMetrics(period: { firstDay: "2026-06-14" }) { ordersCount } }"#, "period").await;
    let upside_down = r#"{ salesMetrics(period: { firstDay: "2026-06-14", lastDay: "2026-06-13" }) { ordersCount } }"#;
    acme.viewer().refused(upside_down, "period").await;
}

/// An order has two lines of a category, of which rollups of days count one and those of quarters of an hour two.
#[tokio::test]
async fn what_is_reversed_after_the_last_fold_is_taken_from_sets_and_lines() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut two = order("A", 1, "ann", "3.00");
    two.lines.push(Line { product_id: "milk".into(), ..two.lines[0].clone() });
    let placed = |id: &str, order: OrderPlaced| event(id, "2026-06-01T10:00:00Z", Fact::OrderPlaced(order));
    acme.apply(vec![placed("1", two), placed("2", order("B", 1, "bob", "1.00"))]).await;
    acme.fold().await;
    let follow = async |orders: i64| {
        let selection = "ordersCount uniqueCustomers newCustomers breakdown(by: [PRODUCT_CATEGORY]) { rows { key ordersCount uniqueCustomers } }
            series(grain: HOUR, timezone: \"UTC\", by: PRODUCT_CATEGORY) { ordersCount uniqueCustomers newCustomers }";
        let row = json!({ "ordersCount": orders, "uniqueCustomers": orders, "newCustomers": orders });
        let expected = json!({ "ordersCount": orders, "uniqueCustomers": orders, "newCustomers": orders,
            "breakdown": { "rows": [{ "key": "drinks", "ordersCount": orders, "uniqueCustomers": orders }] }, "series": [row] });
        assert_eq!(ask(&acme, selection).await, expected);
    };
    follow(2).await;
    acme.apply(vec![placed("3", order("A", 2, "ann", "3.00"))]).await;
    follow(2).await;
    let cancel = |id: &str, order: &str| {
        let cancelled = OrderCancelled { order_id: order.into(), version: 3 };
        event(id, "2026-06-01T11:00:00Z", Fact::OrderCancelled(cancelled))
    };
    acme.apply(vec![cancel("4", "A")]).await;
    follow(1).await;
    acme.apply(vec![placed("5", order("C", 1, "cat", "2.00")), cancel("6", "B")]).await;
    follow(1).await;
    acme.fold().await;
    follow(1).await;
}
