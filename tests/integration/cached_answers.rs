//! Answers from the cache are those that would be computed anew, whatever was changed in between, by this process or
//! another.

use axum::body::Body;
use axum::http::{Request, header};
use salespulse::app::App;
use salespulse::clock::{MINUTE, SECOND, Timestamp};
use salespulse::ledger::fold::fold_tail;
use salespulse::ledger::memory::Memory;
use salespulse::server::{Options, router};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::sales;
use crate::support::{Actor, NOW, TestApp, kek};

/// Everything that may be cached, and some of what may not.
const QUERIES: &[&str] = &[
    "{ salesMetrics(period: { preset: TODAY }) { totalRevenue ordersCount conversionRate currency timezone asOf { position } } }",
    r#"{ salesMetrics(period: { firstDay: "2026-06-01", lastDay: "2026-06-30" }) { totalRevenue unitsSold newCustomers
        returningCustomers series(grain: DAY, by: CHANNEL) { start state key { value label } totalRevenue ordersCount } } }"#,
    r#"{ salesMetrics(period: { firstDay: "2026-06-01", lastDay: "2026-06-30" }, filters: { organizationId: "acme" }) {
        o: breakdown(by: [ORGANIZATION]) { rows { key grossRevenue } } p: breakdown(by: [PRODUCT], first: 3) { rows { key unitsSold } other { unitsSold } }
        c: breakdown(by: [PRODUCT_CATEGORY, REGION], orderBy: { metric: UNITS_SOLD }) { rows { keys { value label } unitsSold } } } }"#,
    r#"{ salesMetrics(period: { firstDay: "2026-06-01", lastDay: "2026-06-30" }, filters: { organizationId: "acme" }) {
        kpi(name: "net") { unit amount number } metrics(names: [TOTAL_REVENUE, VISITS]) { metric amount number } } }"#,
    r#"{ salesMetrics(period: { firstDay: "2026-06-08", lastDay: "2026-06-14" }, filters: { regions: ["North"], customerSegment: RETURNING }) { ordersCount
        comparison(to: PREVIOUS_PERIOD) { previousPeriod { start end } previous { ordersCount } } } }"#,
    "{ customers(first: 5) { totalCount nodes { id name externalId ordersCount revenue orders(first: 2) { id version status refunded lines { quantity product { title category } } } } } }",
    "{ customers(first: 3, orderBy: REVENUE) { nodes { id name email revenue firstPurchaseAt } pageInfo { hasNextPage } } }",
    "{ orders(first: 4, filters: { organizationId: \"acme\" }) { totalCount nodes { id amount currency status customer { id name } } } }",
    r#"{ order(externalId: "o0-0") { version status amount refunded refundedCurrency lines { amount quantity } } }"#,
    "{ products(first: 5, orderBy: UNITS) { totalCount nodes { sku title category unitsSold revenue returnRate views } } }",
    "{ products(first: 2) { nodes { sku inventory } } }",
    r#"{ a: customer(externalId: "c1") { name revenue } b: product(sku: "tea") { title unitsSold } o: salesMetrics(period: { preset: MONTH_TO_DATE }) { ordersCount } }"#,
    "{ organizations { slug name currency timezone } teams { name members { id name } } kpis { name formula unit } }",
];

/// Changes; `#` stands for a number that is another one each time, and `%` for one of a few.
const CHANGES: &[&str] = &[
    r##"mutation { recordEvents(events: [{ eventId: "e#", occurredAt: "2026-06-15T11:0%:00Z", orderPlaced: { orderId: "n#", amount: "1%.50", channel: "web", region: "North", customer: { id: "c%", name: "Customer #" } } }]) { results { outcome } } }"##,
    r##"mutation { recordEvents(events: [{ eventId: "v#", occurredAt: "2026-06-1%T09:00:00Z", orderPlaced: { orderId: "o%-0", version: #, lines: [{ productId: "tea", title: "Tea #", category: "drinks", amount: "7.25", quantity: 3 }], customer: { id: "c1" } } }]) { results { outcome } } }"##,
    r##"mutation { recordEvents(events: [{ eventId: "r#", occurredAt: "2026-06-15T10:00:00Z", refundIssued: { refundId: "r#", orderId: "o%-1", amount: "0.5%" } }]) { results { outcome } } }"##,
    r##"mutation { recordEvents(events: [{ eventId: "x#", occurredAt: "2026-06-15T10:00:00Z", orderCancelled: { orderId: "o%-2", version: # } }]) { results { outcome } } }"##,
    r##"mutation { recordEvents(events: [{ eventId: "w#", occurredAt: "2026-06-15T11:30:00Z", visitsCounted: { count: 1% } }, { eventId: "p#", occurredAt: "2026-06-15T11:30:00Z", productViewed: { productId: "tea", count: % } }]) { results { outcome } } }"##,
    r##"mutation { recordEvents(events: [{ eventId: "b#", occurredAt: "2026-06-15T08:00:00Z", organizationId: "second", orderPlaced: { orderId: "b#", amount: "3.00", channel: "shop %" } }]) { results { outcome } } }"##,
    r##"mutation { updateProduct(input: { sku: "tea", title: "Tea of %", category: "drinks%", inventory: # }) { title } }"##,
    r##"mutation { createOrganization(input: { slug: "second", name: "Second", timezone: "Europe/Berlin", currency: "GBP" }) { id } }"##,
    r##"mutation { updateOrganization(id: "{organization}", input: { name: "Acme #", timezone: "Asia/Kathmandu" }) { id } }"##,
    r##"mutation { updateOrganization(id: "{organization}", input: { timezone: "UTC" }) { id } }"##,
    r##"mutation { setExchangeRates(rates: [{ from: "EUR", to: "GBP", validFrom: "2026-0%-01", rate: "0.8%" }]) }"##,
    r##"mutation { createKpi(name: "net", input: { formula: "grossRevenue - refunds" }) { name } }"##,
    r##"mutation { updateKpi(name: "net", input: { formula: "grossRevenue - % * refunds" }) { name } }"##,
    r##"mutation { deleteKpi(name: "net") }"##,
    r##"mutation { createTeam(input: { name: "Team %", memberIds: ["{user}"] }) { id } }"##,
    r##"mutation { updateUser(id: "{user}", input: { name: "Name #" }) { state } }"##,
    r##"mutation { eraseCustomer(customerId: "%") { id } }"##,
    r##"mutation { rotateKeys { rowsLeft } }"##,
];

/// Numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

async fn ask(server: &axum::Router, actor: &Actor<'_>, body: &Value) -> Value {
    let request = Request::post("/graphql")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", actor.token()))
        .body(Body::from(body.to_string()))
        .expect("a request");
    let response = server.clone().oneshot(request).await.expect("a response");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn what_is_cached_is_what_would_be_computed() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    sales::record(&acme, 4, 3).await;
    let other = test.beside(kek()).await;
    let server = router(test.app.clone(), &Options::default());
    let (admin, viewer) = (acme.admin(), acme.viewer());
    let organization = admin.query("{ organizations { id } }").await["organizations"][0]["id"].clone();
    let organization = organization.as_str().expect("an id");
    let user = viewer.caller.user_id.to_string();

    let mut numbers = Numbers(5);
    let mut cached = vec![0; QUERIES.len()];
    for step in 0..100 {
        let change = CHANGES[numbers.below(CHANGES.len())];
        let change = change.replace('#', &(step + 10).to_string()).replace('%', &numbers.below(5).to_string());
        let change = change.replace("{organization}", organization).replace("{user}", &user);
        // A change that finds nothing to change leaves all as it is.
        let changer = if numbers.below(2) == 0 { admin.within(&other) } else { acme.admin() };
        changer.run(&change, Value::Null).await;
        if numbers.below(4) == 0 {
            acme.fold().await;
        }
        let millis = [0, 0, 500, 20_000, 16 * 60_000][numbers.below(5)];
        let now = Timestamp(NOW.0 + step * MINUTE + millis * SECOND / 1000);
        test.clock.set(now);
        other.clock.set(now);
        let actor = if numbers.below(2) == 0 { &admin } else { &viewer };
        let without_memory = App { memory: Memory::default(), ..test.app.clone() };
        let without_memory = router(without_memory, &Options::default());
        for (query, cached) in QUERIES.iter().zip(&mut cached) {
            let asked = json!({ "query": query });
            let first = ask(&server, actor, &asked).await;
            let before = test.app.db.statements().statements;
            let again = ask(&server, actor, &asked).await;
            *cached += usize::from(test.app.db.statements().statements - before <= 1);
            let anew = ask(&without_memory, actor, &asked).await;
            assert_eq!(first, anew, "after step {step}, {change}: {query}");
            assert_eq!(again, anew, "again after step {step}, {change}: {query}");
        }
    }
    // Stock, and what is not of the ledger, is never cached; all else is, while there are no errors.
    for (query, cached) in QUERIES.iter().zip(cached) {
        let may_be_cached = !query.contains("inventory") && !query.contains("organizations {");
        assert_eq!(cached > 20, may_be_cached, "{cached} times from the cache: {query}");
    }
}

#[tokio::test]
async fn sums_of_days_are_asked_for_once_until_they_change() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let other = test.beside(kek()).await;
    sales::record(&acme, 4, 3).await;
    acme.fold().await;
    // Else the lanes would fold while statements are counted.
    test.app.ledger.close().await;
    let (viewer, elsewhere) = (acme.viewer(), acme.admin().within(&other));
    let ask = async |days: &str| {
        let query = format!(
            "{{ salesMetrics(period: {{ {days} }}) {{ totalRevenue unitsSold
                series(grain: WEEK, by: CHANNEL) {{ start key {{ value }} ordersCount }} }} }}"
        );
        let before = test.app.db.statements();
        let data = viewer.query(&query).await;
        let asked = test.app.db.statements() - before;
        (data["salesMetrics"].clone(), asked.statements)
    };
    let (june, first_week) =
        (r#"firstDay: "2026-06-01", lastDay: "2026-06-30""#, r#"firstDay: "2026-06-01", lastDay: "2026-06-07""#);
    assert_ne!(ask(june).await.1, 0);
    let (known, statements) = ask(june).await;
    assert_eq!(statements, 0, "a second time");
    assert_eq!(ask(first_week).await.1, 0, "a part of it");

    let sale = r#"mutation { recordEvents(events: [{ eventId: "late", occurredAt: "2026-06-03T11:00:00Z",
        orderPlaced: { orderId: "late", amount: "4.00", channel: "web" } }]) { results { outcome } } }"#;
    elsewhere.query(sale).await;
    let (later, statements) = ask(june).await;
    assert_ne!(later, known, "another process recorded it");
    assert_ne!(statements, 0, "its entries are read");
    assert_eq!(ask(june).await, (later.clone(), 0));
    other.app.ledger.close().await;
    fold_tail(&other.app.db, &other.app.memory.tails, acme.id()).await.expect("folded");
    let (folded, statements) = ask(june).await;
    assert_eq!(folded, later, "it is in the rollups now");
    assert_ne!(statements, 0, "which have changed");
    assert_eq!(ask(june).await, (later, 0));
}

#[tokio::test]
async fn weeks_that_begin_within_days_are_made_of_all_their_days() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    sales::record(&acme, 4, 3).await;
    acme.fold().await;
    // Each of some three hundred weeks has a range of days of its own.
    let period = r#"period: { firstDay: "2020-06-01", lastDay: "2026-06-30" }"#;
    let query = format!(
        r#"{{ salesMetrics({period}) {{ unitsSold series(grain: WEEK, timezone: "Asia/Kathmandu") {{ unitsSold }} }} }}"#
    );
    let metrics = acme.viewer().query(&query).await["salesMetrics"].take();
    let units = |of: &Value| of["unitsSold"].as_i64().expect("a count");
    let weeks = metrics["series"].as_array().expect("weeks");
    assert!(units(&metrics) > 0 && weeks.len() > 300);
    assert_eq!(weeks.iter().map(units).sum::<i64>(), units(&metrics));
    let alone = acme.viewer().query(&format!("{{ salesMetrics({period}) {{ unitsSold }} }}")).await;
    assert_eq!(alone["salesMetrics"]["unitsSold"], metrics["unitsSold"]);
}

#[tokio::test]
async fn a_period_that_ends_after_everything_needs_no_entries() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let sale = r#"mutation { recordEvents(events: [{ eventId: "newest", occurredAt: "2026-06-15T11:05:00Z",
        orderPlaced: { orderId: "newest", amount: "4.00" } }]) { results { outcome } } }"#;
    acme.admin().query(sale).await;
    acme.fold().await;
    // Else the lanes would fold while statements are counted.
    test.app.ledger.close().await;
    let ask = async |end: &str| {
        let query = format!(
            r#"{{ salesMetrics(period: {{ start: "2026-06-15T00:00:00Z", end: "{end}" }}) {{ totalRevenue ordersCount }} }}"#
        );
        let before = test.app.db.statements();
        let found = acme.viewer().query(&query).await["salesMetrics"]["ordersCount"].take();
        (found, (test.app.db.statements() - before).statements)
    };
    // The head and slots; and entries, where some may lie after the end.
    assert_eq!(ask("2026-06-15T11:05:00Z").await, (json!(0), 3));
    assert_eq!(ask("2026-06-15T11:05:01Z").await, (json!(1), 2));
    assert_eq!(ask("2026-06-15T11:31:00Z").await, (json!(1), 2));
}
