//! Reads the reference data.

use std::collections::BTreeMap;
use std::io::Read;

use models::value::{PurchaseDays, Purchases};

/// 1997-09-30, where the papers cut the history, and 1998-06-30, its end; days are counted from 1997-01-01.
pub const CUT_DAY: i32 = 272;
pub const LAST_DAY: i32 = 545;

pub struct Order {
    pub customer: u32,
    pub day: i32,
    /// Months since January 1997.
    pub month: i32,
    pub cents: i64,
}

pub fn json(path: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(crate::data().join(path)).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

/// The orders of one customer in ten.
pub fn cdnow_sample() -> Vec<Order> {
    orders("cdnow/CDNOW_sample.txt.gz", 0, 2, 4)
}

/// The orders of all customers.
pub fn cdnow() -> Vec<Order> {
    orders("cdnow/CDNOW_master.txt.gz", 1, 1, 3)
}

pub fn purchase_days(orders: &[Order]) -> Vec<PurchaseDays> {
    let mut by_customer = BTreeMap::<u32, Vec<(i32, i64)>>::new();
    for order in orders {
        by_customer.entry(order.customer).or_default().push((order.day, order.cents));
    }
    by_customer.into_values().map(|orders| PurchaseDays::from_orders(orders).expect("days")).collect()
}

pub fn until(customers: &[PurchaseDays], day: i32) -> Vec<Purchases> {
    customers.iter().filter_map(|days| days.until(day)).collect()
}

fn orders(path: &str, header_lines: usize, date_column: usize, amount_column: usize) -> Vec<Order> {
    let file = std::fs::File::open(crate::data().join(path)).expect("a file");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("text");
    let order = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (day, month) = day_and_month(fields[date_column].parse().expect("a date"));
        let cents = fields[amount_column].replace('.', "").parse().expect("two decimals");
        Order { customer: fields[0].parse().expect("a number"), day, month, cents }
    };
    text.lines().skip(header_lines).map(order).collect()
}

/// Of a date like 19970118.
fn day_and_month(date: i32) -> (i32, i32) {
    const DAYS_BEFORE: [i32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let (year, month0, day) = (date / 10_000 - 1997, date / 100 % 100 - 1, date % 100);
    (year * 365 + DAYS_BEFORE[month0 as usize] + day - 1, year * 12 + month0)
}
