//! Aggregates of rows, and the values derived from them.

use roaring::RoaringBitmap;

use super::catalog::Needs;
use super::kpis::KpiValue;
use crate::error::{Error, Result};
use crate::ledger::entry::{Entry, EntryKind, Segment};
use crate::ledger::rollup::sketch::Sketch;
use crate::ledger::rollup::{RollupDelta, Row};
use crate::money::Money;

/// Sums and sets of one bucket and one combination of dimension values. Sums are exact, in 128 bits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    pub orders: i128,
    /// Those that are their customers' first.
    pub first_orders: i128,
    pub gross: i128,
    pub discount: i128,
    pub units: i128,
    pub refunds: i128,
    pub refunds_by_order: i128,
    pub visits: i128,
    pub customers: RoaringBitmap,
    pub order_set: RoaringBitmap,
    pub first_order_set: RoaringBitmap,
    pub order_values: Sketch,
}

/// What a cell's facts were read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// Order lines rather than whole orders.
    pub by_line: bool,
    /// Visits can be attributed.
    pub has_visits: bool,
}

impl Cell {
    /// Whether everything counted here was reversed.
    pub fn is_void(&self) -> bool {
        self.orders == 0 && self.refunds == 0 && self.refunds_by_order == 0 && self.visits == 0
    }

    /// Adds a part of an entry; only the sets that are needed.
    pub fn add_part(&mut self, entry: &Entry, part: RollupDelta, by_line: bool, needs: Needs) -> Result<()> {
        let sign = i128::from(entry.sign);
        let amount = sign * i128::from(part.amount);
        match entry.kind {
            EntryKind::Order => {
                let is_first = entry.segment == Segment::New;
                self.orders += sign;
                self.gross += amount;
                self.discount += sign * i128::from(part.discount);
                self.units += sign * i128::from(part.units);
                if is_first {
                    self.first_orders += sign;
                }
                if needs.customers && entry.customer_no != 0 {
                    self.customers.insert(member(entry.customer_no)?);
                }
                if by_line && (needs.orders || needs.first_orders) {
                    let order = member(entry.order_no)?;
                    self.order_set.insert(order);
                    if is_first {
                        self.first_order_set.insert(order);
                    }
                }
                if !by_line && needs.order_values {
                    self.order_values.add(entry.amount, entry.sign.into());
                }
            }
            EntryKind::Refund => self.refunds += amount,
            EntryKind::RefundByOrder => self.refunds_by_order += amount,
            EntryKind::Visits if by_line => {}
            EntryKind::Visits => self.visits += sign * i128::from(part.units),
        }
        Ok(())
    }

    /// Adds a row folded from entries, of either first orders or others.
    pub fn add_row(&mut self, row: &Row, is_first: bool) {
        self.orders += i128::from(row.orders);
        self.gross += i128::from(row.gross);
        self.discount += i128::from(row.discount);
        self.units += i128::from(row.units);
        self.refunds += i128::from(row.refunds);
        self.refunds_by_order += i128::from(row.refunds_by_order);
        self.visits += i128::from(row.visits);
        if is_first {
            self.first_orders += i128::from(row.orders);
        }
        self.customers |= row.customers.members();
        self.add_orders(row.order_set.members(), is_first);
        self.order_values.merge(&row.order_values);
    }

    /// Adds orders, each once.
    pub fn add_orders(&mut self, orders: &RoaringBitmap, is_first: bool) {
        self.order_set |= orders;
        if is_first {
            self.first_order_set |= orders;
        }
    }

    /// Merges `other`, counting each order and customer once.
    pub fn merge(&mut self, other: &Cell) {
        self.orders += other.orders;
        self.first_orders += other.first_orders;
        self.gross += other.gross;
        self.discount += other.discount;
        self.units += other.units;
        self.refunds += other.refunds;
        self.refunds_by_order += other.refunds_by_order;
        self.visits += other.visits;
        self.customers |= &other.customers;
        self.order_set |= &other.order_set;
        self.first_order_set |= &other.first_order_set;
        self.order_values.merge(&other.order_values);
    }

    /// The values; `first_customers` are those whose first order ever lies in the bucket.
    pub fn values(&self, view: View, first_customers: &RoaringBitmap) -> Result<Values> {
        let (orders, first_orders) = if view.by_line {
            (i128::from(self.order_set.len()), i128::from(self.first_order_set.len()))
        } else {
            (self.orders, self.first_orders)
        };
        Ok(Values {
            total_revenue: Money(fit(self.gross - self.refunds)?),
            gross: Money(fit(self.gross)?),
            refunds: Money(fit(self.refunds)?),
            refunds_by_order: Money(fit(self.refunds_by_order)?),
            discounts: Money(fit(self.discount)?),
            orders: fit(orders)?,
            units: fit(self.units)?,
            visits: if view.has_visits { Some(fit(self.visits)?) } else { None },
            new_customers: fit(first_orders)?,
            unique_customers: fit(i128::from(self.customers.len()))?,
            returning_customers: fit(i128::from(
                self.customers.len() - self.customers.intersection_len(first_customers),
            ))?,
            order_value_p50: self.order_values.quantile(50).filter(|_| !view.by_line),
            order_value_p95: self.order_values.quantile(95).filter(|_| !view.by_line),
            kpis: Vec::new(),
        })
    }
}

/// A sequence number as a set member.
pub fn member(number: i64) -> Result<u32> {
    u32::try_from(number).map_err(Error::internal)
}

fn fit(sum: i128) -> Result<i64> {
    i64::try_from(sum).map_err(|_| Error::sum_out_of_range())
}

/// The final components of metrics. Those not needed are not filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    pub total_revenue: Money,
    pub gross: Money,
    pub refunds: Money,
    pub refunds_by_order: Money,
    pub discounts: Money,
    pub orders: i64,
    pub units: i64,
    pub visits: Option<i64>,
    pub new_customers: i64,
    pub unique_customers: i64,
    pub returning_customers: i64,
    pub order_value_p50: Option<Money>,
    pub order_value_p95: Option<Money>,
    /// The requested KPIs.
    pub kpis: Vec<KpiValue>,
}

impl Values {
    pub fn avg_order_value(&self) -> Option<Money> {
        self.gross.per(self.orders)
    }

    pub fn conversion_rate(&self) -> Option<f64> {
        ratio(self.orders, self.visits?)
    }

    pub fn refund_rate(&self) -> Option<f64> {
        ratio(self.refunds.0, self.gross.0)
    }
}

/// The quotient of two integers as the nearest float; for rates, never for money.
pub fn ratio(numerator: i64, denominator: i64) -> Option<f64> {
    (denominator != 0).then(|| numerator as f64 / denominator as f64)
}
