//! Saves the result of a batch: bulk writes, per table.

use super::batch::BatchApplier;
use super::changes::{Changes, DealState, Loaded, ProductChange, ProductNames};
use super::entry::{Entry, EntryLine, lines_to_json};
use super::recordings;
use super::rollup::FoldError;
use super::save_customers;
use super::state::OrderState;
use super::store::Head;
use crate::clock::Timestamp;
use crate::db::{Column, Inserts, OnConflict, Table, TenantTx};
use crate::error::Result;
use crate::sealing::TenantKeys;

/// Saves a batch's events, entries and facts. Rollups and the head are left to the caller. `before` is the head before
/// the batch; its sequence numbers tell which entities are new.
pub async fn save(
    tx: &TenantTx,
    before: &Head,
    batch: &BatchApplier,
    received_at: Timestamp,
    is_backfill: bool,
    keys: Option<&TenantKeys>,
) -> Result<()> {
    let BatchApplier { loaded, changes } = batch;
    take_from_products(tx, changes).await?;
    delete_lines(tx, loaded, changes).await?;
    let mut inserts = Inserts::default();
    let table = Table::new()
        .with("last_position", Column::Int(vec![loaded.head.position]))
        .with("recorded_at", Column::Int(vec![received_at.0]))
        .with("is_backfill", Column::Bool(vec![is_backfill]))
        .with("watermark", Column::OptInt(vec![loaded.head.watermark]));
    inserts.add("ledger_batches", table, OnConflict::Fail);
    add_events(&mut inserts, changes, received_at);
    recordings::add(&mut inserts, &changes.recorded, received_at);
    add_entries(&mut inserts, changes)?;
    add_names(&mut inserts, changes)?;
    add_other_revenue(&mut inserts, changes)?;
    add_orders(&mut inserts, before, loaded, changes);
    add_lines(&mut inserts, loaded, changes);
    add_refunds(&mut inserts, changes)?;
    save_customers::add(&mut inserts, tx.tenant(), before, batch, keys)?;
    add_performance(&mut inserts, loaded, changes)?;
    tx.insert_all(inserts).await
}

fn add_events(inserts: &mut Inserts, changes: &Changes, received_at: Timestamp) {
    let events = &changes.recorded;
    let table = Table::new()
        .with("event_id", Column::Text(events.iter().map(|e| e.event_id.clone()).collect()))
        .with("position", Column::Int(events.iter().map(|e| e.position).collect()))
        .with("payload_hash", Column::Bytes(events.iter().map(|e| e.payload_hash.clone()).collect()))
        .with("kind", Column::Int(events.iter().map(|e| e.kind.into()).collect()))
        .with("is_superseded", Column::Bool(events.iter().map(|e| e.is_superseded).collect()))
        .with("occurred_at", Column::Int(events.iter().map(|e| e.occurred_at.0).collect()))
        .with("received_at", Column::Int(events.iter().map(|_| received_at.0).collect()));
    inserts.add("ledger_events", table, OnConflict::Fail);
}

fn add_entries(inserts: &mut Inserts, changes: &Changes) -> Result<()> {
    let entries = &changes.entries;
    let mut numbers = Vec::with_capacity(entries.len());
    let mut last = (0, 0);
    for (position, _) in entries {
        last = if last.0 == *position { (*position, last.1 + 1) } else { (*position, 0) };
        numbers.push(last.1);
    }
    let int = |of: fn(&Entry) -> i64| Column::Int(entries.iter().map(|(_, entry)| of(entry)).collect());
    let lines = entries.iter().map(|(_, entry)| lines_to_json(&entry.lines)).collect::<Result<_, _>>()?;
    let table = Table::new()
        .with("position", Column::Int(entries.iter().map(|(position, _)| *position).collect()))
        .with("entry_no", Column::Int(numbers))
        .with("at", int(|e| e.at.0))
        .with("kind", int(|e| e.kind as i64))
        .with("sign", int(|e| e.sign.into()))
        .with("org_no", int(|e| e.org_no.into()))
        .with("channel_no", int(|e| e.channel_no.into()))
        .with("region_no", int(|e| e.region_no.into()))
        .with("segment", int(|e| e.segment as i64))
        .with("customer_no", int(|e| e.customer_no))
        .with("order_no", int(|e| e.order_no))
        .with("currency", Column::Text(entries.iter().map(|(_, e)| e.currency.clone()).collect()))
        .with("amount_paid", int(|e| e.amount_paid.0))
        .with("amount", int(|e| e.amount.0))
        .with("discount", int(|e| e.discount.0))
        .with("units", int(|e| e.units))
        .with("lines", Column::Text(lines));
    inserts.add("ledger_entries", table, OnConflict::Fail);
    Ok(())
}

fn add_names(inserts: &mut Inserts, changes: &Changes) -> Result<()> {
    let dimensions = Table::new()
        .with("kind", Column::Int(changes.dimensions.iter().map(|(kind, _, _)| *kind as i64).collect()))
        .with("no", Column::Int(changes.dimensions.iter().map(|(_, no, _)| i64::from(*no)).collect()))
        .with("value", Column::Text(changes.dimensions.iter().map(|(_, _, value)| value.clone()).collect()));
    inserts.add("dimension_values", dimensions, OnConflict::Fail);
    let named: Vec<_> = changes.products.iter().filter(|(_, (names, _))| !names.sku.is_empty()).collect();
    let table = product_columns(&named)?
        .with("sku", Column::Text(named.iter().map(|(_, (names, _))| names.sku.clone()).collect()))
        .with("title", Column::OptText(named.iter().map(|(_, (names, _))| names.title.clone()).collect()))
        .with("category_no", Column::Int(named.iter().map(|(_, (names, _))| names.category_no.into()).collect()));
    let conflict = OnConflict::Update(
        "product_no",
        "units = products.units + excluded.units, revenue = products.revenue + excluded.revenue, \
         refunded = products.refunded + excluded.refunded, cost = products.cost + excluded.cost, \
         revenue_with_cost = products.revenue_with_cost + excluded.revenue_with_cost, views = products.views + excluded.views, \
         title = COALESCE(excluded.title, products.title), \
         category_no = CASE WHEN excluded.category_no = 0 THEN products.category_no ELSE excluded.category_no END",
    );
    inserts.add("products", table, conflict);
    Ok(())
}

fn add_other_revenue(inserts: &mut Inserts, changes: &Changes) -> Result<()> {
    let added = &changes.other_revenue;
    let table = Table::new()
        .with("holder", Column::Int(added.keys().map(|(holder, ..)| *holder as i64).collect()))
        .with("holder_no", Column::Int(added.keys().map(|(_, no, _)| *no).collect()))
        .with("currency", Column::Text(added.keys().map(|(.., currency)| currency.clone()).collect()))
        .with("amount", sums(added.values().copied())?);
    let conflict = OnConflict::Update("holder, holder_no, currency", "amount = other_revenue.amount + excluded.amount");
    inserts.add("other_revenue", table, conflict);
    Ok(())
}

/// A column of sums. Error: AMOUNT_OUT_OF_RANGE, on which the lane bisects for the offending event.
pub(super) fn sums(values: impl Iterator<Item = i128>) -> Result<Column> {
    let stored = |sum: i128| i64::try_from(sum).map_err(|_| FoldError::OutOfRange);
    Ok(Column::Int(values.map(stored).collect::<Result<_, _>>()?))
}

/// Deltas of products.
fn product_columns(products: &[(&i64, &(ProductNames, ProductChange))]) -> Result<Table> {
    let int = |of: fn(&ProductChange) -> i64| Column::Int(products.iter().map(|(_, (_, c))| of(c)).collect());
    let sum = |of: fn(&ProductChange) -> i128| sums(products.iter().map(|(_, (_, c))| of(c)));
    Ok(Table::new()
        .with("product_no", Column::Int(products.iter().map(|(no, _)| **no).collect()))
        .with("units", int(|c| c.units))
        .with("revenue", sum(|c| c.revenue)?)
        .with("refunded", sum(|c| c.refunded)?)
        .with("cost", sum(|c| c.cost)?)
        .with("revenue_with_cost", sum(|c| c.revenue_with_cost)?)
        .with("views", int(|c| c.views)))
}

/// Products with reversals only were named by an earlier batch, so their rows exist.
async fn take_from_products(tx: &TenantTx, changes: &Changes) -> Result<()> {
    let unnamed: Vec<_> = changes.products.iter().filter(|(_, (names, _))| names.sku.is_empty()).collect();
    let sql = "UPDATE products SET units = products.units + k.units, revenue = products.revenue + k.revenue, \
               refunded = products.refunded + k.refunded, cost = products.cost + k.cost, \
               revenue_with_cost = products.revenue_with_cost + k.revenue_with_cost, views = products.views + k.views \
               FROM {keys} WHERE products.tenant_id = $1 AND products.product_no = k.product_no";
    tx.execute_by_keys(sql, &product_columns(&unnamed)?).await?;
    Ok(())
}

fn add_orders(inserts: &mut Inserts, before: &Head, loaded: &Loaded, changes: &Changes) {
    let orders = changes.orders.iter().filter_map(|id| loaded.orders.get(id));
    let (new, stored): (Vec<&OrderState>, Vec<&OrderState>) =
        orders.partition(|order| order.order_no > before.last_order_no);
    inserts.add("orders", order_table(&new), OnConflict::Fail);
    inserts.add("orders", order_table(&stored), OnConflict::Replace("order_no"));
}

fn order_table(orders: &[&OrderState]) -> Table {
    let int = |of: fn(&OrderState) -> i64| Column::Int(orders.iter().map(|o| of(o)).collect());
    Table::new()
        .with("order_no", int(|o| o.order_no))
        .with("external_id", Column::Text(orders.iter().map(|o| o.external_id.clone()).collect()))
        .with("version", int(|o| o.version))
        .with("cancelled_at", Column::OptInt(orders.iter().map(|o| o.cancelled_at.map(|at| at.0)).collect()))
        .with("org_no", int(|o| o.org_no.into()))
        .with("placed_at", int(|o| o.placed_at.0))
        .with("customer_no", int(|o| o.customer_no))
        .with("channel_no", int(|o| o.channel_no.into()))
        .with("region_no", int(|o| o.region_no.into()))
        .with("segment", int(|o| o.segment as i64))
        .with("currency", Column::Text(orders.iter().map(|o| o.currency.clone()).collect()))
        .with("rate", int(|o| o.rate))
        .with("amount_paid", int(|o| o.amount_paid.0))
        .with("discount_paid", int(|o| o.discount_paid.0))
        .with("units", int(|o| o.units))
        .with("position", Column::OptInt(orders.iter().map(|o| o.position).collect()))
}

/// Deletes the stored lines of orders whose lines are replaced.
async fn delete_lines(tx: &TenantTx, loaded: &Loaded, changes: &Changes) -> Result<()> {
    let stored: Vec<i64> = changes
        .lines
        .iter()
        .filter(|(_, is_stored)| **is_stored)
        .filter_map(|(id, _)| loaded.orders.get(id).map(|o| o.order_no))
        .collect();
    let sql = "DELETE FROM order_lines WHERE tenant_id = $1 AND order_no IN (SELECT k.order_no FROM {keys})";
    tx.execute_by_keys(sql, &Table::new().with("order_no", Column::Int(stored))).await?;
    Ok(())
}

fn add_lines(inserts: &mut Inserts, loaded: &Loaded, changes: &Changes) {
    let lines: Vec<(i64, i64, &EntryLine)> = changes
        .lines
        .keys()
        .filter_map(|id| loaded.orders.get(id))
        .flat_map(|order| (1..).zip(&order.lines).map(|(line_no, line)| (order.order_no, line_no, line)))
        .collect();
    let table = Table::new()
        .with("order_no", Column::Int(lines.iter().map(|(order_no, _, _)| *order_no).collect()))
        .with("line_no", Column::Int(lines.iter().map(|(_, line_no, _)| *line_no).collect()))
        .with("product_no", Column::Int(lines.iter().map(|(_, _, l)| l.product_no).collect()))
        .with("category_no", Column::Int(lines.iter().map(|(_, _, l)| l.category_no.into()).collect()))
        .with("quantity", Column::Int(lines.iter().map(|(_, _, l)| l.units).collect()))
        .with("amount_paid", Column::Int(lines.iter().map(|(_, _, l)| l.amount.0).collect()))
        .with("discount_paid", Column::Int(lines.iter().map(|(_, _, l)| l.discount.0).collect()))
        .with("cost_paid", Column::OptInt(lines.iter().map(|(_, _, l)| l.cost.map(|c| c.0)).collect()));
    inserts.add("order_lines", table, OnConflict::Fail);
}

fn add_refunds(inserts: &mut Inserts, changes: &Changes) -> Result<()> {
    let refunds = &changes.refunds;
    let table = Table::new()
        .with("refund_no", Column::Int(refunds.iter().map(|r| r.refund_no).collect()))
        .with("external_id", Column::Text(refunds.iter().map(|r| r.external_id.clone()).collect()))
        .with("order_id", Column::OptText(refunds.iter().map(|r| r.order_id.clone()).collect()))
        .with("org_no", Column::Int(refunds.iter().map(|r| r.org_no.into()).collect()))
        .with("issued_at", Column::Int(refunds.iter().map(|r| r.issued_at.0).collect()))
        .with("channel_no", Column::OptInt(refunds.iter().map(|r| r.channel_no.map(i64::from)).collect()))
        .with("region_no", Column::OptInt(refunds.iter().map(|r| r.region_no.map(i64::from)).collect()))
        .with("currency", Column::Text(refunds.iter().map(|r| r.currency.clone()).collect()))
        .with("rate", Column::Int(refunds.iter().map(|r| r.rate).collect()))
        .with("amount_paid", Column::Int(refunds.iter().map(|r| r.amount_paid.0).collect()))
        .with("lines", Column::Text(refunds.iter().map(|r| lines_to_json(&r.lines)).collect::<Result<_, _>>()?));
    inserts.add("refunds", table, OnConflict::Fail);
    Ok(())
}

fn add_performance(inserts: &mut Inserts, loaded: &Loaded, changes: &Changes) -> Result<()> {
    let deals: Vec<(&String, &DealState)> =
        changes.deals.iter().filter_map(|id| loaded.deals.get_key_value(id)).collect();
    let table = Table::new()
        .with("external_id", Column::Text(deals.iter().map(|(id, _)| (*id).clone()).collect()))
        .with("version", Column::Int(deals.iter().map(|(_, d)| d.version).collect()))
        .with("owner_id", Column::Uuid(deals.iter().map(|(_, d)| d.owner_id).collect()))
        .with("org_no", Column::Int(deals.iter().map(|(_, d)| d.org_no.into()).collect()))
        .with("is_won", Column::Bool(deals.iter().map(|(_, d)| d.is_won).collect()))
        .with("closed_at", Column::Int(deals.iter().map(|(_, d)| d.closed_at.0).collect()))
        .with("currency", Column::Text(deals.iter().map(|(_, d)| d.currency.clone()).collect()))
        .with("amount_paid", Column::Int(deals.iter().map(|(_, d)| d.amount_paid.0).collect()))
        .with("amount", Column::Int(deals.iter().map(|(_, d)| d.amount.0).collect()));
    inserts.add("deals", table, OnConflict::Replace("external_id"));

    let activities = &changes.activities;
    let table = Table::new()
        .with("position", Column::Int(activities.iter().map(|(position, ..)| *position).collect()))
        .with("owner_id", Column::Uuid(activities.iter().map(|(_, owner, ..)| *owner).collect()))
        .with("activity", Column::Text(activities.iter().map(|(_, _, a, _)| a.activity.clone()).collect()))
        .with("happened_at", Column::Int(activities.iter().map(|(.., at)| at.0).collect()))
        .with("count", Column::Int(activities.iter().map(|(_, _, a, _)| a.count).collect()));
    inserts.add("activities", table, OnConflict::Fail);

    let changed = &changes.performance;
    let table = Table::new()
        .with("owner_id", Column::Uuid(changed.keys().map(|(owner, ..)| *owner).collect()))
        .with("org_no", Column::Int(changed.keys().map(|(_, org_no, _)| (*org_no).into()).collect()))
        .with("slot", Column::Int(changed.keys().map(|(.., slot)| (*slot).into()).collect()))
        .with("deals_won", Column::Int(changed.values().map(|c| c.deals_won).collect()))
        .with("deals_lost", Column::Int(changed.values().map(|c| c.deals_lost).collect()))
        .with("revenue", sums(changed.values().map(|c| c.revenue))?)
        .with("activities", Column::Int(changed.values().map(|c| c.activities).collect()));
    let conflict = OnConflict::Update(
        "owner_id, org_no, slot",
        "deals_won = sales_performance.deals_won + excluded.deals_won, \
         deals_lost = sales_performance.deals_lost + excluded.deals_lost, \
         revenue = sales_performance.revenue + excluded.revenue, \
         activities = sales_performance.activities + excluded.activities",
    );
    inserts.add("sales_performance", table, conflict);
    Ok(())
}

/// Saves the head after a batch.
pub async fn save_head(tx: &TenantTx, head: &Head) -> Result<()> {
    let values = [
        head.position.into(),
        head.watermark.into(),
        head.last_customer_no.into(),
        head.last_product_no.into(),
        head.last_order_no.into(),
        head.last_refund_no.into(),
        head.last_dimension_no.into(),
        head.folded.into(),
        head.largest_sum.into(),
        head.tail_volume.into(),
    ];
    let sql = "UPDATE ledger_heads SET position = $2, watermark = $3, last_customer_no = $4, last_product_no = $5, \
               last_order_no = $6, last_refund_no = $7, last_dimension_no = $8, \
               folded = $9, largest_sum = $10, tail_volume = $11 WHERE tenant_id = $1";
    tx.execute(sql, values).await?;
    Ok(())
}
