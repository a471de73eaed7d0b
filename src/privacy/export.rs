//! Export of everything stored about one customer, as JSON.

use std::collections::HashMap;

use sea_orm::QueryResult;
use serde_json::{Value, json};

use crate::customer_value;
use crate::customers::get_customer;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::Result;
use crate::graphql::scalars::DateTime;
use crate::integrations::quarantine;
use crate::ledger::changes::{DimensionKind, Holder};
use crate::ledger::node_id::Numbered;
use crate::ledger::store::read_head;
use crate::money::Money;
use crate::personal::{Field, Keys};

/// Exports a customer's data in one snapshot: the profile, orders with their lines and refunds, predictions,
/// quarantined deliveries, and the audit entries about the customer. Amounts are decimal strings in the order's
/// currency. Errors: NOT_FOUND, DECRYPTION_FAILED, SERVICE_UNAVAILABLE.
pub async fn export(tx: &TenantTx, keys: &Keys, customer_no: i64) -> Result<Value> {
    let customer = get_customer(tx, customer_no).await?;
    let mut profile = serde_json::Map::new();
    for field in Field::ALL {
        let text = customer.identity.open(keys, tx, field).await?;
        profile.insert(field.column().to_owned(), json!(text));
    }
    let lines = rows_by_order(tx, LINES, customer_no, |row| {
        Ok(json!({
            "productId": get::<String>(row, 1)?,
            "title": get::<Option<String>>(row, 2)?,
            "category": get::<Option<String>>(row, 3)?,
            "quantity": get::<i64>(row, 4)?,
            "amount": money(row, 5)?,
            "discount": money(row, 6)?,
        }))
    });
    let refunds = rows_by_order(tx, REFUNDS, customer_no, |row| {
        Ok(json!({
            "externalId": get::<String>(row, 1)?,
            "issuedAt": time(row, 2)?,
            "currency": get::<String>(row, 3)?,
            "amount": money(row, 4)?,
        }))
    });
    let (mut lines, mut refunds) = (lines.await?, refunds.await?);
    let sql = format!(
        "SELECT o.order_no, o.external_id, o.version, o.cancelled_at, o.placed_at, o.currency, o.amount_paid, o.discount_paid, \
         c.value, r.value, g.slug FROM orders o \
         JOIN organizations g ON g.tenant_id = $1 AND g.org_no = o.org_no \
         LEFT JOIN dimension_values c ON c.tenant_id = $1 AND c.kind = {} AND c.no = o.channel_no \
         LEFT JOIN dimension_values r ON r.tenant_id = $1 AND r.kind = {} AND r.no = o.region_no \
         WHERE o.tenant_id = $1 AND o.customer_no = $2 ORDER BY o.placed_at, o.order_no",
        DimensionKind::Channel as i32,
        DimensionKind::Region as i32
    );
    let mut orders = Vec::new();
    for row in tx.query(&sql, [customer_no.into()]).await? {
        let order_no: i64 = get(&row, 0)?;
        orders.push(json!({
            "id": Numbered::Order.id(order_no).as_str(),
            "externalId": get::<String>(&row, 1)?,
            "version": get::<i64>(&row, 2)?,
            "isCancelled": get::<Option<i64>>(&row, 3)?.is_some(),
            "placedAt": time(&row, 4)?,
            "currency": get::<String>(&row, 5)?,
            "amount": money(&row, 6)?,
            "discount": money(&row, 7)?,
            "channel": get::<Option<String>>(&row, 8)?,
            "region": get::<Option<String>>(&row, 9)?,
            "organization": get::<String>(&row, 10)?,
            "lines": lines.remove(&order_no).unwrap_or_default(),
            "refunds": refunds.remove(&order_no).unwrap_or_default(),
        }));
    }
    let sql = "SELECT currency, amount FROM other_revenue WHERE tenant_id = $1 AND holder = $2 AND holder_no = $3";
    let rows = tx.query(sql, [(Holder::Customer as i32).into(), customer_no.into()]).await?;
    let other = rows.iter().map(|row| Ok(json!({ "currency": get::<String>(row, 0)?, "amount": money(row, 1)? })));
    let other_revenue = other.collect::<Result<Vec<_>>>()?;
    let sql = "SELECT at, action, actor_id, through FROM audit_logs WHERE tenant_id = $1 AND subject = $2 \
               AND action >= 'customer.' AND action < 'customer/' ORDER BY id";
    let mut audit = Vec::new();
    for row in tx.query(sql, [customer.id.as_str().into()]).await? {
        audit.push(json!({
            "at": time(&row, 0)?,
            "action": get::<String>(&row, 1)?,
            "actorId": get::<Option<uuid::Uuid>>(&row, 2)?,
            "through": get::<Option<String>>(&row, 3)?,
        }));
    }
    let waiting = quarantine::list_of_customer(tx, keys, &customer.external_id).await?;
    let quarantined = waiting.into_iter().map(
        |(kept, body)| json!({ "topic": kept.topic, "receivedAt": DateTime(kept.received_at).to_text(), "body": body }),
    );
    Ok(json!({
        "asOf": read_head(tx).await?.position.to_string(),
        "customer": {
            "id": customer.id.as_str(),
            "externalId": customer.external_id,
            "profile": profile,
            "erasedAt": customer.erased_at.and_then(DateTime::to_text),
            "firstPurchaseAt": customer.first_purchase_at.and_then(DateTime::to_text),
            "lastPurchaseAt": customer.last_purchase_at.and_then(DateTime::to_text),
            "ordersCount": customer.orders_count.0,
            "revenue": customer.revenue.0.to_string(),
            "otherRevenue": other_revenue,
        },
        "orders": orders,
        "predictions": customer_value::export(tx, customer_no).await?,
        "quarantined": quarantined.collect::<Vec<_>>(),
        "audit": audit,
    }))
}

const LINES: &str = "SELECT l.order_no, p.sku, p.title, c.value, l.quantity, l.amount_paid, l.discount_paid FROM {keys} \
    {each orders o: o.customer_no = k.customer_no} {each order_lines l: l.order_no = o.order_no} \
    {each products p: p.product_no = l.product_no} \
    LEFT JOIN dimension_values c ON c.tenant_id = $1 AND c.kind = 3 AND c.no = l.category_no \
    ORDER BY l.order_no, l.line_no";

const REFUNDS: &str = "SELECT o.order_no, r.external_id, r.issued_at, r.currency, r.amount_paid FROM {keys} \
    {each orders o: o.customer_no = k.customer_no} {each refunds r: r.order_id = o.external_id} ORDER BY r.refund_no";

/// Rows of the customer's orders, by order number, which is their first column.
async fn rows_by_order(
    tx: &TenantTx,
    sql: &str,
    customer_no: i64,
    to_json: impl Fn(&QueryResult) -> Result<Value>,
) -> Result<HashMap<i64, Vec<Value>>> {
    let keys = Table::new().with("customer_no", Column::Int(vec![customer_no]));
    let mut by_order: HashMap<i64, Vec<Value>> = HashMap::new();
    for row in tx.query_by_keys(sql, &keys).await? {
        by_order.entry(get(&row, 0)?).or_default().push(to_json(&row)?);
    }
    Ok(by_order)
}

fn money(row: &QueryResult, index: usize) -> Result<String> {
    Ok(get::<Money>(row, index)?.to_string())
}

fn time(row: &QueryResult, index: usize) -> Result<Option<String>> {
    Ok(DateTime(get(row, index)?).to_text())
}
