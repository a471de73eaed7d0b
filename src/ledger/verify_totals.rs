//! Recomputes customer and product totals from entries, and customers' first and last orders and order segments from
//! orders, and compares.

use std::collections::{BTreeMap, HashMap};

use sea_orm::QueryResult;

use super::changes::Holder;
use super::entry::{Entry, EntryKind, Segment};
use super::organization::Organization;
use super::verify::{PAGE, Report};
use crate::db::{TenantTx, get};
use crate::error::Result;
use crate::money::Money;

/// Sums of entries, including the tail.
#[derive(Default)]
pub(super) struct Totals {
    /// Currencies of organizations that differ from the default's.
    other_currencies: HashMap<i32, String>,
    /// Orders and revenue.
    customers: HashMap<i64, [i128; 2]>,
    /// Units, revenue, refunded, cost, and revenue of lines with a cost.
    products: HashMap<i64, [i128; 5]>,
    /// Revenue in other currencies, by holder and its number.
    other_revenue: BTreeMap<(i32, i64, String), i128>,
}

impl Totals {
    pub fn new(organizations: &[Organization]) -> Self {
        let home = organizations.iter().find(|organization| organization.is_default).map(|o| &o.currency);
        let others =
            organizations.iter().filter(|organization| home.is_some_and(|home| organization.currency != *home));
        Totals { other_currencies: others.map(|o| (o.org_no, o.currency.clone())).collect(), ..Totals::default() }
    }

    pub fn add(&mut self, entry: &Entry) {
        let sign = i128::from(entry.sign);
        let (orders, revenue) = match entry.kind {
            EntryKind::Order => (sign, sign * i128::from(entry.amount.0)),
            EntryKind::Refund => (0, -sign * i128::from(entry.amount.0)),
            EntryKind::RefundByOrder | EntryKind::Visits => return,
        };
        let other = self.other_currencies.get(&entry.org_no);
        if entry.customer_no != 0 {
            let sums = self.customers.entry(entry.customer_no).or_default();
            sums[0] += orders;
            match other {
                None => sums[1] += revenue,
                Some(currency) => {
                    let key = (Holder::Customer as i32, entry.customer_no, currency.clone());
                    *self.other_revenue.entry(key).or_default() += revenue;
                }
            }
        }
        for line in &entry.lines {
            let amount = sign * i128::from(line.amount.0);
            let [units, revenue, refunded, cost, revenue_with_cost] = self.products.entry(line.product_no).or_default();
            match (entry.kind, other) {
                (EntryKind::Order, None) => {
                    *units += sign * i128::from(line.units);
                    *revenue += amount;
                    if let Some(of_line) = line.cost {
                        *cost += sign * i128::from(of_line.0);
                        *revenue_with_cost += amount;
                    }
                }
                (EntryKind::Order, Some(currency)) => {
                    *units += sign * i128::from(line.units);
                    let key = (Holder::Product as i32, line.product_no, currency.clone());
                    *self.other_revenue.entry(key).or_default() += amount;
                }
                (_, None) => *refunded += amount,
                (_, Some(_)) => {}
            }
        }
    }

    /// Compares with the stored totals.
    pub async fn compare(self, tx: &TenantTx, report: &mut Report) -> Result<()> {
        let customers = "SELECT customer_no, orders_count, revenue, CAST(magnitude AS BIGINT) FROM customer_totals \
                         WHERE tenant_id = $1 AND customer_no > $2 ORDER BY customer_no LIMIT $3";
        let with_magnitude = |[orders, revenue]: [i128; 2]| {
            [orders, revenue, Money::from_sum(revenue).unwrap_or_default().magnitude().into()]
        };
        let computed = self.customers.into_iter().map(|(no, sums)| (no, with_magnitude(sums))).collect();
        compare_sums(tx, report, "customer", customers, computed).await?;
        let products = "SELECT product_no, units, revenue, refunded, cost, revenue_with_cost FROM products \
                        WHERE tenant_id = $1 AND product_no > $2 ORDER BY product_no LIMIT $3";
        compare_sums(tx, report, "product", products, self.products).await?;

        let mut computed = self.other_revenue;
        let sql = "SELECT CAST(holder AS BIGINT), holder_no, currency, amount FROM other_revenue WHERE tenant_id = $1";
        for row in tx.query(sql, []).await? {
            let holder = i32::try_from(get::<i64>(&row, 0)?).unwrap_or_default();
            let key = (holder, get(&row, 1)?, get(&row, 2)?);
            let stored = i128::from(get::<i64>(&row, 3)?);
            let computed = computed.remove(&key).unwrap_or_default();
            report.rows += 1;
            if stored != computed {
                report.differences.push(format!("other revenue of {key:?}: stored {stored}, entries give {computed}"));
            }
        }
        let missing = computed.into_iter().filter(|(_, sum)| *sum != 0);
        report.differences.extend(missing.map(|(key, _)| format!("other revenue of {key:?}: not stored")));
        Ok(())
    }
}

/// Compares pages of numbers and their sums.
async fn compare_sums<const N: usize>(
    tx: &TenantTx,
    report: &mut Report,
    what: &str,
    sql: &str,
    mut computed: HashMap<i64, [i128; N]>,
) -> Result<()> {
    let mut after = 0i64;
    loop {
        let page = tx.query(sql, [after.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { break };
        after = get(last, 0)?;
        for row in &page {
            let no: i64 = get(row, 0)?;
            let mut stored = [0; N];
            for (index, sum) in stored.iter_mut().enumerate() {
                *sum = i128::from(get::<i64>(row, index + 1)?);
            }
            let computed = computed.remove(&no).unwrap_or([0; N]);
            report.rows += 1;
            if stored != computed {
                report.differences.push(format!("{what} {no}: stored {stored:?}, entries give {computed:?}"));
            }
        }
    }
    let mut missing: Vec<i64> = computed.into_iter().filter(|(_, sums)| *sums != [0; N]).map(|(no, _)| no).collect();
    missing.sort_unstable();
    report.differences.extend(missing.into_iter().map(|no| format!("{what} {no}: not stored")));
    Ok(())
}

/// A customer's orders that are not cancelled.
#[derive(Debug, Default, PartialEq)]
struct Orders {
    count: i64,
    first_at: Option<i64>,
    last_at: Option<i64>,
    /// For a customer, the first order; for orders, the one whose segment says it is first.
    first_id: Option<String>,
}

/// Compares customers' order summaries, and the orders' first-order segments, with the orders. Orders outlive the
/// entries of dropped months.
pub(super) async fn compare_orders(tx: &TenantTx, report: &mut Report) -> Result<()> {
    let customers = "SELECT customer_no, orders_count, first_at, last_at, first_order_id FROM customer_totals \
                     WHERE tenant_id = $1 AND customer_no > $2 ORDER BY customer_no LIMIT $3";
    let (new, returning) = (Segment::New as i32, Segment::Returning as i32);
    let orders = format!(
        "SELECT customer_no, COUNT(*), MIN(placed_at), MAX(placed_at), MAX(CASE WHEN segment = {new} THEN external_id END), \
         COUNT(CASE WHEN segment = {new} THEN 1 END), COUNT(CASE WHEN segment = {returning} THEN 1 END), \
         MAX(CASE WHEN segment = {new} THEN placed_at END) \
         FROM orders WHERE tenant_id = $1 AND customer_no > $2 AND customer_no <= $3 AND cancelled_at IS NULL \
         GROUP BY customer_no"
    );
    let read = |row: &QueryResult| -> Result<(i64, Orders)> {
        let orders =
            Orders { count: get(row, 1)?, first_at: get(row, 2)?, last_at: get(row, 3)?, first_id: get(row, 4)? };
        Ok((get(row, 0)?, orders))
    };
    let mut after = 0i64;
    loop {
        let page = tx.query(customers, [after.into(), PAGE.into()]).await?;
        let Some(last) = page.last() else { return Ok(()) };
        let last: i64 = get(last, 0)?;
        let mut computed = HashMap::new();
        for row in tx.query(&orders, [after.into(), last.into()]).await? {
            let (no, of_customer) = read(&row)?;
            let (news, returning): (i64, i64) = (get(&row, 5)?, get(&row, 6)?);
            if news != 1 || returning != of_customer.count - 1 || get::<Option<i64>>(&row, 7)? != of_customer.first_at {
                report.differences.push(format!("customer {no}: the first order alone is not the one that is new"));
            }
            computed.insert(no, of_customer);
        }
        for row in &page {
            let (no, stored) = read(row)?;
            let computed = computed.remove(&no).unwrap_or_default();
            if stored != computed {
                report.differences.push(format!("customer {no}: stored {stored:?}, orders give {computed:?}"));
            }
        }
        after = last;
    }
}
