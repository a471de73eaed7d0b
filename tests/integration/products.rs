//! Products: what sales say of them, and what is set by hand.

use salespulse::app::App;
use salespulse::audit::By;
use salespulse::auth::Role;
use salespulse::ledger::event::{Fact, Line, OrderPlaced, ProductViewed, RefundIssued};
use serde_json::json;

use crate::ledger::{event, money};
use crate::support::TestApp;

const FIELDS: &str = "id sku title category unitsSold revenue views margin returnRate inventory";

fn update(input: &str) -> String {
    format!("mutation {{ updateProduct(input: {{{input}}}) {{ {FIELDS} }} }}")
}

#[tokio::test]
async fn a_cursor_belongs_to_its_order() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    crate::sales::record(&acme, 11, 4).await;
    let orders = ["ID", "REVENUE", "UNITS"];
    for made in orders {
        let page = format!("{{ products(orderBy: {made}, first: 1) {{ pageInfo {{ endCursor }} }} }}");
        let cursor = acme.viewer().query(&page).await["products"]["pageInfo"]["endCursor"].take();
        for used in orders {
            let page = format!("{{ products(orderBy: {used}, after: {cursor}) {{ nodes {{ id }} }} }}");
            if used == made {
                acme.viewer().query(&page).await;
            } else {
                acme.viewer().refused(&page, "after").await;
            }
        }
        acme.viewer().refused(&format!("{{ customers(before: {cursor}) {{ nodes {{ id }} }} }}"), "before").await;
    }
}

#[tokio::test]
async fn a_product_adds_up_what_was_sold_of_it() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let line = |product: &str, quantity: i64, amount: &str, cost: Option<&str>| Line {
        product_id: product.into(),
        category: Some("drinks".into()),
        quantity,
        amount: money(amount),
        cost: cost.map(money),
        ..Line::default()
    };
    let placed = OrderPlaced {
        order_id: "A".into(),
        version: 1,
        lines: vec![line("tea", 2, "8.00", Some("6.00")), line("milk", 1, "1.00", None)],
        ..OrderPlaced::default()
    };
    let refund = RefundIssued {
        order_id: Some("A".into()),
        lines: vec![line("tea", 1, "4.00", None)],
        ..RefundIssued::default()
    };
    acme.apply(vec![
        event("a", "2026-06-01T10:00:00Z", Fact::OrderPlaced(placed)),
        event("r", "2026-06-02T10:00:00Z", Fact::RefundIssued(refund)),
        event("v", "2026-06-02T10:00:00Z", Fact::ProductViewed(ProductViewed { product_id: "tea".into(), count: 9 })),
        event("w", "2026-06-02T10:00:00Z", Fact::ProductViewed(ProductViewed { product_id: "jam".into(), count: 1 })),
    ])
    .await;
    let data = acme.viewer().query(&format!("{{ products {{ nodes {{ {FIELDS} }} }} }}")).await;
    // Tea: (8 - 6) / 8 and 4 / 8.
    let expected = json!([
        { "id": "p1", "sku": "tea", "title": null, "category": "drinks", "unitsSold": 2, "revenue": "8.00", "views": 9,
          "margin": 0.25, "returnRate": 0.5, "inventory": null },
        { "id": "p2", "sku": "milk", "title": null, "category": "drinks", "unitsSold": 1, "revenue": "1.00", "views": 0,
          "margin": null, "returnRate": 0.0, "inventory": null },
        { "id": "p3", "sku": "jam", "title": null, "category": null, "unitsSold": 0, "revenue": "0.00", "views": 1,
          "margin": null, "returnRate": null, "inventory": null },
    ]);
    assert_eq!(data["products"]["nodes"], expected);
}

#[tokio::test]
async fn what_is_set_by_hand_stays_until_it_is_set_again() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let manager = acme.actor(Role::Manager);
    let viewed = |id: &str, product: &str| {
        let fact = Fact::ProductViewed(ProductViewed { product_id: product.into(), count: 1 });
        event(id, "2026-06-01T10:00:00Z", fact)
    };
    acme.apply(vec![viewed("v1", "tea")]).await;
    let jam = manager.query(&update(r#"sku: "jam", title: "Jam", category: "food", inventory: 5"#)).await;
    let expected = json!({ "id": "p2", "sku": "jam", "title": "Jam", "category": "food", "unitsSold": 0, "revenue": "0.00",
                           "views": 0, "margin": null, "returnRate": null, "inventory": 5 });
    assert_eq!(jam["updateProduct"], expected);
    // The ledger goes on where the hand left off: the same number for jam, a new one for milk.
    acme.apply(vec![viewed("v2", "jam"), viewed("v3", "milk")]).await;
    let sold = manager.query(&update(r#"sku: "jam", inventory: 0"#)).await["updateProduct"].take();
    assert_eq!(
        (&sold["id"], &sold["views"], &sold["inventory"], &sold["title"]),
        (&json!("p2"), &json!(1), &json!(0), &json!("Jam"))
    );
    let tea = manager.query(&update(r#"sku: "tea", category: "food""#)).await["updateProduct"].take();
    assert_eq!((&tea["id"], &tea["category"], &tea["views"]), (&json!("p1"), &json!("food"), &json!(1)));
    let list = acme.viewer().query("{ products { nodes { id sku } } }").await["products"]["nodes"].take();
    assert_eq!(
        list,
        json!([{ "id": "p1", "sku": "tea" }, { "id": "p2", "sku": "jam" }, { "id": "p3", "sku": "milk" }])
    );
    acme.verified().await;
}

/// A change of a setting locks the tenant and then the head of its ledger; a batch that refers to the tenant locks them the
/// other way round.
#[tokio::test]
async fn products_are_set_while_sales_come_in() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let another = test.another().await;
    let set = async {
        for n in 0..20 {
            acme.actor(Role::Manager).query(&update(&format!(r#"sku: "set {n}", inventory: {n}"#))).await;
        }
    };
    let sell = async |app: &App, name: &str| {
        for n in 0..20 {
            let fact = Fact::ProductViewed(ProductViewed { product_id: format!("{name} {n}"), count: 1 });
            let viewed = event(&format!("{name} {n}"), "2026-06-01T10:00:00Z", fact);
            app.ledger.record(acme.id(), By::default(), vec![viewed], false).await.expect("recorded");
        }
    };
    tokio::join!(set, sell(&test.app, "here"), sell(&another, "there"));
    let list = acme.viewer().query("{ products(first: 100) { nodes { id } } }").await;
    assert_eq!(list["products"]["nodes"].as_array().map(Vec::len), Some(60));
    acme.verified().await;
}

#[tokio::test]
async fn stock_alone_makes_no_answer_old() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let mut epochs = Vec::new();
    for input in [r#"sku: "tea", inventory: 1"#, r#"sku: "tea", inventory: 2"#, r#"sku: "tea", title: "Tea""#] {
        acme.actor(Role::Manager).query(&update(input)).await;
        epochs.push(test.app.db.head(acme.id()).await.expect("a head").expect("a tenant").policy_epoch);
    }
    assert_eq!((epochs[1] - epochs[0], epochs[2] - epochs[1]), (0, 1));
    let found = acme.viewer().query("{ products { nodes { title inventory } } }").await;
    assert_eq!(found["products"]["nodes"], json!([{ "title": "Tea", "inventory": 2 }]));
}

#[tokio::test]
async fn bad_products_are_refused() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let long = "s".repeat(201);
    for (input, argument) in [
        (r#"sku: """#.to_owned(), "sku"),
        (format!(r#"sku: "{long}""#), "sku"),
        (r#"sku: "nul\u0000""#.to_owned(), "sku"),
        (r#"sku: "a", title: """#.to_owned(), "title"),
        (r#"sku: "a", category: "nul\u0000""#.to_owned(), "category"),
        (r#"sku: "a", inventory: -1"#.to_owned(), "inventory"),
    ] {
        acme.admin().refused(&update(&input), argument).await;
    }
    for role in [Role::Analyst, Role::Viewer] {
        assert_eq!(acme.actor(role).error_code(&update(r#"sku: "a""#)).await, "FORBIDDEN");
    }
    assert_eq!(acme.viewer().query("{ products { nodes { id } } }").await["products"]["nodes"], json!([]));
}

#[tokio::test]
async fn products_are_found_by_category_and_text() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for (sku, title, category) in
        [("T-1", "Green tea", "drinks"), ("T_2", "100% ÖL", "food"), ("X!3", "teapot", "kitchen")]
    {
        let input = format!(r#"sku: "{sku}", title: "{title}", category: "{category}""#);
        acme.actor(Role::Manager).query(&update(&input)).await;
    }
    let found = async |arguments: &str| -> Vec<String> {
        let data = acme.viewer().query(&format!("{{ products({arguments}) {{ nodes {{ sku }} }} }}")).await;
        let nodes = data["products"]["nodes"].as_array().expect("nodes").clone();
        nodes.iter().map(|node| node["sku"].as_str().expect("a SKU").to_owned()).collect()
    };
    assert_eq!(found(r#"category: "drinks""#).await, ["T-1"]);
    assert!(found(r#"category: "none""#).await.is_empty());
    acme.actor(Role::Manager).query(&update(r#"sku: "N", title: "anything""#)).await;
    assert_eq!(found(r#"category: """#).await, ["N"]);
    assert_eq!(found(r#"search: "TEA""#).await, ["T-1", "X!3"]);
    assert_eq!(found(r#"search: "tea", category: "kitchen", first: 1"#).await, ["X!3"]);
    // What stands for other letters in patterns stands for itself.
    assert_eq!(found(r#"search: "0%""#).await, ["T_2"]);
    assert_eq!(found(r#"search: "t_""#).await, ["T_2"]);
    assert_eq!(found(r#"search: "x!""#).await, ["X!3"]);
    // Nothing has as long a text.
    assert!(found(&format!("search: \"{}\"", "t".repeat(60_000))).await.is_empty());
    assert_eq!(found(r#"search: "öl""#).await.len(), usize::from(test.app.db.is_postgres()));
}
