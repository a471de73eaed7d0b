use serde_json::{Value, json};

use super::*;
use crate::ledger::event::{Event, OrderPlaced, RefundIssued};

fn read(topic: &str, body: &Value) -> Vec<Event> {
    let body = body.to_string();
    let at = Timestamp(0);
    let delivery = Delivery { integration: uuid::Uuid::nil(), topic, id: "d", at, body: body.as_bytes() };
    match Shopify.read(&delivery, &Settings::default()).expect("understood") {
        WebhookContent::Events(events) => events,
        WebhookContent::Nothing => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// Two of A for 30.00 each and one of B for 40.00, with `changes` applied.
fn order(changes: Value) -> Value {
    let mut order = json!({
        "id": 1, "created_at": "2026-06-10T10:00:00Z", "updated_at": "2026-06-10T10:00:00Z", "currency": "GBP",
        "total_price": "100.00", "current_total_price": "100.00", "refunds": [],
        "line_items": [line(1, "A", 2, 2, "30.00"), line(2, "B", 1, 1, "40.00")],
    });
    for (name, value) in changes.as_object().expect("an object") {
        order[name] = value.clone();
    }
    order
}

fn line(id: u64, sku: &str, quantity: i64, current: i64, price: &str) -> Value {
    json!({ "id": id, "sku": sku, "quantity": quantity, "current_quantity": current, "price": price })
}

/// A refund that returns B, with `transactions`.
fn returned(transactions: Value) -> Value {
    json!({
        "id": 5, "order_id": 1, "created_at": "2026-06-12T10:00:00Z", "transactions": transactions,
        "refund_line_items": [{ "quantity": 1, "subtotal": 40.00, "line_item": line(2, "B", 1, 0, "40.00") }],
    })
}

fn money(amount: &str) -> Value {
    json!([{ "kind": "refund", "status": "success", "amount": amount }])
}

/// An order's amount with its lines, and its refunds with theirs.
fn worth(body: &Value) -> (String, Vec<(String, String)>) {
    let events = read("orders/updated", body);
    let Fact::OrderPlaced(placed) = &events[0].fact else { panic!("{events:?}") };
    (told_order(placed), events[1..].iter().map(told_refund).collect())
}

fn told_order(placed: &OrderPlaced) -> String {
    let lines = placed.lines.iter().map(|line| format!(" {}x{} {}", line.quantity, line.product_id, line.amount));
    format!("{}:{}", placed.amount.expect("an amount"), lines.collect::<String>())
}

fn told_refund(event: &Event) -> (String, String) {
    let Fact::RefundIssued(RefundIssued { amount, currency, lines, .. }) = &event.fact else { panic!("{event:?}") };
    let lines = lines.iter().map(|line| format!(" {} {}", line.product_id, line.amount)).collect::<String>();
    (format!("{}:{lines}", amount.expect("an amount")), currency.clone().unwrap_or_default())
}

fn gbp(refunds: &[&str]) -> Vec<(String, String)> {
    refunds.iter().map(|told| ((*told).to_owned(), "GBP".to_owned())).collect()
}

#[test]
fn what_is_taken_out_without_money_makes_the_order_smaller() {
    let b_gone = json!([line(1, "A", 2, 2, "30.00"), line(2, "B", 1, 0, "40.00")]);
    let edited =
        order(json!({ "current_total_price": "60.00", "line_items": b_gone, "refunds": [returned(json!([]))] }));
    assert_eq!(worth(&edited), ("60.00: 2xA 60.00".to_owned(), gbp(&[])));
    // B exchanged for C, which costs more: nothing is refunded.
    let c_came = json!([line(1, "A", 2, 2, "30.00"), line(2, "B", 1, 0, "40.00"), line(3, "C", 1, 1, "50.00")]);
    let exchanged = json!({ "total_price": "150.00", "current_total_price": "110.00", "line_items": c_came,
        "refunds": [returned(json!([]))] });
    assert_eq!(worth(&order(exchanged)), ("110.00: 2xA 60.00 1xC 50.00".to_owned(), gbp(&[])));
    // A third of a line is removed, with a third of its discount.
    let mut discounted = line(1, "A", 3, 2, "10.00");
    discounted["discount_allocations"] = json!([{ "amount": "9.00" }]);
    let changes = json!({ "total_price": "21.00", "current_total_price": "14.00", "total_discounts": "9.00",
        "line_items": [discounted] });
    let events = read("orders/updated", &order(changes));
    let Fact::OrderPlaced(placed) = &events[0].fact else { panic!("{events:?}") };
    assert_eq!(told_order(placed), "14.00: 2xA 14.00");
    assert_eq!((placed.discount, placed.lines[0].discount), ("6.00".parse().ok(), "6.00".parse().expect("money")));
}

#[test]
fn what_is_returned_for_money_stays_in_the_order() {
    let b_gone = json!([line(1, "A", 2, 2, "30.00"), line(2, "B", 1, 0, "40.00")]);
    let given_back = |refund: Value, current: &str| {
        worth(&order(json!({ "current_total_price": current, "line_items": b_gone, "refunds": [refund] })))
    };
    let whole = "100.00: 2xA 60.00 1xB 40.00".to_owned();
    assert_eq!(given_back(returned(money("40.00")), "60.00"), (whole.clone(), gbp(&["40.00: B 40.00"])));
    // 10.00 are withheld.
    let mut less = returned(money("30.00"));
    less["order_adjustments"] = json!([{ "kind": "refund_discrepancy", "amount": "10.00" }]);
    assert_eq!(given_back(less, "60.00"), (whole.clone(), gbp(&["30.00: B 30.00"])));
    // While the money is pending, the order does not shrink and grow again.
    let pending = json!([{ "kind": "refund", "status": "pending", "amount": "40.00" }]);
    assert_eq!(given_back(returned(pending), "60.00"), (whole.clone(), gbp(&[])));
    // Money without returned goods, whether or not Shopify deducts it from the order.
    let mut kindness = returned(money("10.00"));
    kindness["refund_line_items"] = json!([]);
    for current in ["100.00", "90.00"] {
        let kind = worth(&order(json!({ "current_total_price": current, "refunds": [kindness] })));
        assert_eq!(kind, (whole.clone(), gbp(&["10.00:"])));
    }
    // B exchanged for C, which costs less: the difference is refunded, and only that of B stays.
    let c_came = json!([line(1, "A", 2, 2, "30.00"), line(2, "B", 1, 0, "40.00"), line(3, "C", 1, 1, "25.00")]);
    let exchanged = json!({ "total_price": "125.00", "current_total_price": "85.00", "line_items": c_came,
        "refunds": [returned(money("15.00"))] });
    let expected = "100.00: 2xA 60.00 1xB 15.00 1xC 25.00".to_owned();
    assert_eq!(worth(&order(exchanged)), (expected, gbp(&["15.00: B 15.00"])));
    // Where the shop omits some of it, the order counts as placed.
    for unknown in ["current_total_price", "refunds"] {
        let mut changes = json!({ "current_total_price": "60.00", "line_items": b_gone });
        changes[unknown] = Value::Null;
        assert_eq!(worth(&order(changes)).0, whole, "{unknown}");
    }
}

#[test]
fn a_refund_in_the_customers_currency_is_told_in_the_shops() {
    let both = |shop: &str, customer: &str| {
        json!({ "shop_money": { "amount": shop, "currency_code": "GBP" },
            "presentment_money": { "amount": customer, "currency_code": "EUR" } })
    };
    let euros = json!([{ "kind": "refund", "status": "success", "amount": "25.00", "currency": "EUR" }]);
    // 25 of 50 EUR that are 40 GBP.
    let mut by_lines = returned(euros.clone());
    by_lines["refund_line_items"][0]["subtotal_set"] = both("40.00", "50.00");
    by_lines["total_duties_set"] = both("0.00", "0.00");
    let alone = |refund: &Value| read("refunds/create", refund).iter().map(told_refund).collect::<Vec<_>>();
    assert_eq!(alone(&by_lines), gbp(&["20.00: B 20.00"]));
    // A refund of money only has an adjustment.
    let mut by_adjustment = returned(euros.clone());
    by_adjustment["refund_line_items"] = json!([]);
    by_adjustment["order_adjustments"] =
        json!([{ "kind": "refund_discrepancy", "amount_set": both("-19.00", "-25.00") }]);
    assert_eq!(alone(&by_adjustment), gbp(&["19.00:"]));
    let mut by_transaction = by_lines.clone();
    by_transaction["transactions"][0]["amount_set"] = both("19.50", "25.00");
    assert_eq!(alone(&by_transaction), gbp(&["19.50: B 19.50"]));
    // By the order's amount in both: 25 of 125 EUR that are 100 GBP.
    let in_order = |refund: Value, total: Value| {
        worth(&order(json!({ "total_price_set": total, "current_total_price": "60.00", "refunds": [refund] })))
    };
    let (amount, refunds) = in_order(returned(euros.clone()), both("100.00", "125.00"));
    assert_eq!((amount.split_once(':').map(|told| told.0), refunds), (Some("80.00"), gbp(&["20.00: B 20.00"])));
    // No rate is given: the tenant's rates apply to the refund, and the order counts as placed.
    let (amount, refunds) = in_order(returned(euros.clone()), Value::Null);
    assert_eq!((amount.split_once(':').map(|told| told.0), &refunds[0].1), (Some("100.00"), &"EUR".to_owned()));
    assert_eq!(refunds[0].0, "25.00:");
    let mut unset = by_lines;
    unset["refund_line_items"][0]["subtotal_set"]["presentment_money"] = Value::Null;
    assert_eq!(alone(&unset), [("25.00:".to_owned(), "EUR".to_owned())]);
}

#[test]
fn gift_cards_are_no_sale() {
    let mut card = line(2, "B", 1, 1, "40.00");
    card["gift_card"] = json!(true);
    let mixed = order(json!({ "line_items": [line(1, "A", 2, 2, "30.00"), card] }));
    assert_eq!(worth(&mixed), ("60.00: 2xA 60.00".to_owned(), gbp(&[])));
    // Refunds to a gift card do not count: of 50.00, only the 10.00 beyond it.
    let mut refund = returned(money("50.00"));
    refund["refund_line_items"][0]["line_item"]["gift_card"] = json!(true);
    assert_eq!(
        read("refunds/create", &refund).iter().map(told_refund).collect::<Vec<_>>(),
        [("10.00:".to_owned(), String::new())]
    );
    refund["transactions"] = money("40.00");
    assert_eq!(read("refunds/create", &refund), []);
    // With nothing else in it, it is no order, whatever it was before.
    let events = read("orders/updated", &order(json!({ "line_items": [card] })));
    let second = events[0].occurred_at.0 / crate::clock::SECOND;
    let none = Fact::OrderCancelled(OrderCancelled { order_id: "1".to_owned(), version: second });
    assert_eq!((events.len(), &events[0].fact), (1, &none));
}

#[test]
fn a_deletion_wins_over_every_change() {
    let deleted = read("orders/delete", &json!({ "id": 1 }));
    let Fact::OrderCancelled(OrderCancelled { version, .. }) = deleted[0].fact else { panic!("{deleted:?}") };
    let changed = read("orders/updated", &order(json!({ "updated_at": "9999-12-31T23:59:59Z" })));
    let Fact::OrderPlaced(OrderPlaced { version: last, .. }) = changed[0].fact else { panic!("{changed:?}") };
    assert!(version > last, "{version} {last}");
}

#[test]
fn an_order_whose_payment_was_voided_is_called_off() {
    let events = read("orders/updated", &order(json!({ "financial_status": "voided" })));
    let version = events[0].occurred_at.0 / crate::clock::SECOND + 1;
    let off = Fact::OrderCancelled(OrderCancelled { order_id: "1".to_owned(), version });
    assert_eq!((events.len(), &events[0].fact), (1, &off));
}

#[test]
fn what_products_are_known_by_is_taken_by_the_ledger() {
    let sku = |sku: &str| {
        let events = read("orders/create", &order(json!({ "line_items": [line(1, sku, 1, 1, "1.00")] })));
        let Fact::OrderPlaced(placed) = &events[0].fact else { panic!("{events:?}") };
        placed.lines[0].product_id.clone()
    };
    let long = |last: &str| format!("{}{last}", "ü".repeat(220));
    assert_eq!(sku(&long("a")).chars().count(), 200);
    assert_ne!(sku(&long("a")), sku(&long("b")));
    assert_eq!(sku(&long("a")), sku(&long("a")));
    assert_eq!(sku("TEA\t1\n"), "TEA1");
}

#[test]
fn a_returned_line_needs_one_of_its_two_subtotals() {
    let mut refund = returned(money("40.00"));
    let line = refund["refund_line_items"][0].as_object_mut().expect("a line");
    line.remove("subtotal");
    line.insert("subtotal_set".to_owned(), json!({ "shop_money": { "amount": "40.00", "currency_code": "GBP" } }));
    assert_eq!(read("refunds/create", &refund).iter().map(told_refund).collect::<Vec<_>>(), gbp(&["40.00: B 40.00"]));
}

#[test]
fn a_long_name_and_address_keep_no_order_from_the_ledger() {
    let address = json!({ "address1": "x".repeat(255), "address2": "y".repeat(255), "city": "Ulm" });
    let buyer =
        json!({ "id": 1, "first_name": "a".repeat(255), "last_name": "b".repeat(255), "default_address": address });
    let events = read("orders/updated", &order(json!({ "customer": buyer })));
    assert_eq!(crate::ledger::check::check(&events[0], Timestamp(i64::MAX / 2)), Ok(()));
    let Fact::OrderPlaced(OrderPlaced { customer: Some(customer), .. }) = &events[0].fact else { panic!("{events:?}") };
    let [name, address] = [&customer.name, &customer.address].map(|text| text.as_deref().expect("a text"));
    assert_eq!((name.len(), address.len()), (500, 500));
    assert!(address.starts_with("xx") && address.ends_with("yy"));
}
