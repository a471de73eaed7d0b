//! Storage of orders.

use sea_orm::QueryResult;

use super::graphql::{Order, OrderStatus};
use crate::db::{TenantTx, get};
use crate::error::Result;
use crate::graphql::page::{KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::ledger::node_id::OneOf;
use crate::metrics::dimension::Dimension;
use crate::metrics::filter::Filter;
use crate::metrics::period::Span;
use crate::money::Money;

/// Columns read by [`order_from`], of a table aliased `o`.
pub const COLUMNS: &str = "o.order_no, o.external_id, o.version, o.cancelled_at, o.placed_at, o.amount_paid, \
    o.discount_paid, o.currency, o.channel_no, o.region_no, o.customer_no, \
    (SELECT g.currency FROM organizations g WHERE g.tenant_id = $1 AND g.org_no = o.org_no) AS home_currency, o.org_no";
pub const COLUMNS_COUNT: usize = 13;

/// Which orders are listed.
#[derive(Default)]
pub struct OrderFilter {
    pub span: Option<Span>,
    pub customer_no: Option<i64>,
    pub status: Option<OrderStatus>,
    pub currency: Option<String>,
    /// Each in the order's own currency.
    pub min_amount: Option<Money>,
    pub max_amount: Option<Money>,
    /// Restricts to orders that count in metrics with this filter.
    pub facts: Option<Filter>,
}

/// Leaves out cancellations of what was never recorded, which are kept so that an order that comes late changes nothing.
const PLACED_ONCE: &str = " AND (o.cancelled_at IS NULL OR o.cancelled_at <> o.placed_at OR o.amount_paid <> 0 \
    OR o.units <> 0 OR o.customer_no <> 0 OR o.channel_no <> 0 OR o.region_no <> 0)";

/// A page of orders, newest first by time placed.
pub async fn list(tx: &TenantTx, page: &Page, filter: &OrderFilter) -> Result<Listed<Order>> {
    const ORDER: SortOrder<'_> = SortOrder {
        name: "orders",
        keys: &[SortKey::descending("o.placed_at", KeyKind::Int), SortKey::descending("o.order_no", KeyKind::Int)],
    };
    let mut matching = Matching::of(format!("orders o WHERE o.tenant_id = $1{PLACED_ONCE}"));
    if let Some(span) = filter.span {
        matching.and("o.placed_at >=", span.start);
        matching.and("o.placed_at <", span.end);
    }
    if let Some(customer_no) = filter.customer_no {
        matching.and("o.customer_no =", customer_no);
    }
    if let Some(currency) = &filter.currency {
        matching.and("o.currency =", currency.as_str());
    }
    if let Some(amount) = filter.min_amount {
        matching.and("o.amount_paid >=", amount);
    }
    if let Some(amount) = filter.max_amount {
        matching.and("o.amount_paid <=", amount);
    }
    if let Some(facts) = &filter.facts {
        narrow_as_metrics(facts, &mut matching);
    }
    matching.from.push_str(match filter.status {
        None => "",
        Some(OrderStatus::Placed) => " AND o.cancelled_at IS NULL",
        Some(OrderStatus::Cancelled) => " AND o.cancelled_at IS NOT NULL",
    });
    let item = |row: &QueryResult| {
        let order = order_from(row)?;
        Ok((vec![order.placed_at.0.to_string(), order.order_no.to_string()], order))
    };
    matching.page(tx, page, &ORDER, COLUMNS, item).await
}

/// Only orders matched by a metrics filter; categories and products match by any of an order's lines.
fn narrow_as_metrics(facts: &Filter, matching: &mut Matching) {
    let organizations: Vec<i64> = facts.organizations.iter().map(|organization| organization.org_no.into()).collect();
    let all = [(Dimension::Organization, organizations.as_slice())].into_iter().chain(facts.lists());
    let (mut orders, mut lines) = (String::new(), String::new());
    for (dimension, numbers) in all {
        let (column, conditions) = match dimension {
            Dimension::Organization => ("o.org_no", &mut orders),
            Dimension::Channel => ("o.channel_no", &mut orders),
            Dimension::Region => ("o.region_no", &mut orders),
            Dimension::CustomerSegment => ("o.segment", &mut orders),
            Dimension::ProductCategory => ("l.category_no", &mut lines),
            Dimension::Product => ("l.product_no", &mut lines),
            Dimension::Customer | Dimension::DayOfWeek | Dimension::HourOfDay => continue,
        };
        let bound: Vec<String> = numbers.iter().map(|number| matching.bind(*number)).collect();
        conditions.push_str(&match bound.is_empty() {
            true => " AND false".to_owned(),
            false => format!(" AND {column} IN ({})", bound.join(", ")),
        });
    }
    matching.from.push_str(&orders);
    if !lines.is_empty() {
        matching.from.push_str(&format!(
            " AND EXISTS (SELECT 1 FROM order_lines l WHERE l.tenant_id = $1 AND l.order_no = o.order_no{lines})"
        ));
    }
}

/// An order by its number or the source's id.
pub async fn find_order(tx: &TenantTx, key: &OneOf) -> Result<Option<Order>> {
    let Some((column, value)) = key.condition("order_no", "external_id") else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM orders o WHERE o.tenant_id = $1 AND o.{column} = $2{PLACED_ONCE}");
    tx.query_one(&sql, [value]).await?.as_ref().map(order_from).transpose()
}

pub fn order_from(row: &QueryResult) -> Result<Order> {
    let cancelled_at: Option<i64> = get(row, 3)?;
    Ok(Order {
        order_no: get(row, 0)?,
        external_id: get(row, 1)?,
        version: get(row, 2)?,
        status: if cancelled_at.is_some() { OrderStatus::Cancelled } else { OrderStatus::Placed },
        placed_at: get(row, 4)?,
        amount: get(row, 5)?,
        discount: get(row, 6)?,
        currency: get(row, 7)?,
        channel_no: get(row, 8)?,
        region_no: get(row, 9)?,
        customer_no: get(row, 10)?,
        home_currency: get(row, 11)?,
        org_no: get(row, 12)?,
    })
}
