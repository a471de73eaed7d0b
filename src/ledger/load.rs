//! Loads a tenant's state needed by a batch of events, in a few multi-key statements.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use sea_orm::QueryResult;
use uuid::Uuid;

use super::batch_keys::BatchKeys;
use super::changes::{DealState, DimensionKind, Loaded, Names};
use super::entry::{EntryLine, Segment, lines_from_json};
use super::event::Event;
use super::organization::Organization;
use super::state::{CustomerState, OrderState, RefundState};
use super::store::Head;
use crate::clock::Timestamp;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::personal::{CustomerDetails, erased_id};
use crate::sealing::TenantKeys;
use crate::users::email_of;

/// Loads everything `events` refer to.
pub async fn load(
    tx: &TenantTx,
    head: Head,
    organizations: Arc<Vec<Organization>>,
    names: Names,
    events: &[&Event],
    keys: Option<&TenantKeys>,
) -> Result<Loaded> {
    let mut loaded = Loaded { head, organizations, names, ..Loaded::default() };
    let batch_keys = BatchKeys::of(events, &loaded);
    load_recorded(tx, &mut loaded, events).await?;
    load_names(tx, &mut loaded.names, &batch_keys).await?;
    load_orders(tx, &mut loaded, "external_id", texts(&batch_keys.orders)).await?;
    load_customers(tx, &mut loaded, "external_id", texts(&batch_keys.customers)).await?;
    load_erased(tx, &mut loaded, &batch_keys, keys).await?;
    let changed: BTreeSet<String> =
        batch_keys.placed.iter().filter(|id| loaded.orders.contains_key(*id)).cloned().collect();
    let former: BTreeSet<i64> =
        changed.iter().filter_map(|id| loaded.orders.get(id)).map(|o| o.customer_no).filter(|no| *no != 0).collect();
    // Includes refunded orders: their customers' totals change.
    let unknown: BTreeSet<i64> = loaded.orders.values().map(|order| order.customer_no).filter(|no| *no != 0).collect();
    let unknown = unknown.into_iter().filter(|no| !loaded.customer_ids.contains_key(no)).collect();
    load_customers(tx, &mut loaded, "customer_no", Column::Int(unknown)).await?;
    load_histories(tx, &mut loaded, &batch_keys, &changed, former).await?;
    load_refunds(tx, &mut loaded, &batch_keys).await?;
    load_deals(tx, &mut loaded, &batch_keys).await?;
    load_rates(tx, &mut loaded, &batch_keys).await?;
    Ok(loaded)
}

fn texts(of: &BTreeSet<String>) -> Column {
    Column::Text(of.iter().cloned().collect())
}

fn keys(name: &'static str, column: Column) -> Table {
    Table::new().with(name, column)
}

async fn load_recorded(tx: &TenantTx, loaded: &mut Loaded, events: &[&Event]) -> Result<()> {
    let ids: BTreeSet<&str> = events.iter().map(|e| e.event_id.as_str()).collect();
    let ids = Column::Text(ids.into_iter().map(str::to_owned).collect());
    let sql = "SELECT e.event_id, e.position, e.payload_hash FROM {keys} {each ledger_events e: e.event_id = k.id}";
    for row in tx.query_by_keys(sql, &keys("id", ids)).await? {
        loaded.recorded.insert(get(&row, 0)?, (get(&row, 1)?, get(&row, 2)?));
    }
    Ok(())
}

async fn load_names(tx: &TenantTx, names: &mut Names, batch_keys: &BatchKeys) -> Result<()> {
    let dimensions = Table::new()
        .with("kind", Column::Int(batch_keys.dimensions.iter().map(|(kind, _)| *kind as i64).collect()))
        .with("value", Column::Text(batch_keys.dimensions.iter().map(|(_, value)| value.clone()).collect()));
    let sql =
        "SELECT d.kind, d.value, d.no FROM {keys} {each dimension_values d: d.kind = k.kind AND d.value = k.value}";
    for row in tx.query_by_keys(sql, &dimensions).await? {
        let kind = DimensionKind::from_repr(get(&row, 0)?);
        let kind = kind.ok_or_else(|| Error::internal("a dimension value of an unknown kind"))?;
        names.dimensions.insert((kind, get(&row, 1)?), get(&row, 2)?);
    }
    let sql = "SELECT p.sku, p.product_no FROM {keys} {each products p: p.sku = k.sku}";
    for row in tx.query_by_keys(sql, &keys("sku", texts(&batch_keys.products))).await? {
        names.products.insert(get(&row, 0)?, get(&row, 1)?);
    }
    Ok(())
}

const ORDER_COLUMNS: &str = "o.order_no, o.external_id, o.version, o.cancelled_at, o.org_no, o.placed_at, o.customer_no, \
    o.channel_no, o.region_no, o.segment, o.currency, o.rate, o.amount_paid, o.discount_paid, o.units, o.position";

/// Loads orders by a column, without their lines; orders already loaded are kept.
async fn load_orders(tx: &TenantTx, loaded: &mut Loaded, by: &str, values: Column) -> Result<()> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM {{keys}} {{each orders o: o.{by} = k.key}}");
    for row in tx.query_by_keys(&sql, &keys("key", values)).await? {
        let order = order_from(&row)?;
        loaded.orders.entry(order.external_id.clone()).or_insert(order);
    }
    Ok(())
}

fn order_from(row: &QueryResult) -> Result<OrderState> {
    Ok(OrderState {
        order_no: get(row, 0)?,
        external_id: get(row, 1)?,
        version: get(row, 2)?,
        cancelled_at: get(row, 3)?,
        org_no: get(row, 4)?,
        placed_at: get(row, 5)?,
        customer_no: get(row, 6)?,
        channel_no: get(row, 7)?,
        region_no: get(row, 8)?,
        segment: Segment::from_repr(get(row, 9)?).ok_or_else(|| Error::internal("an unknown customer segment"))?,
        currency: get(row, 10)?,
        rate: get(row, 11)?,
        amount_paid: get(row, 12)?,
        discount_paid: get(row, 13)?,
        units: get(row, 14)?,
        position: get(row, 15)?,
        lines: Vec::new(),
    })
}

async fn load_customers(tx: &TenantTx, loaded: &mut Loaded, by: &str, values: Column) -> Result<()> {
    let sql = format!(
        "SELECT c.customer_no, c.external_id, c.erased_at IS NOT NULL, t.first_at, t.first_order_id, t.last_at, t.orders_count, \
         t.revenue, c.details_print \
         FROM {{keys}} {{each customers c: c.{by} = k.key}} {{each customer_totals t: t.customer_no = c.customer_no}}"
    );
    for row in tx.query_by_keys(&sql, &keys("key", values)).await? {
        let first_at: Option<i64> = get(&row, 3)?;
        let first_id: Option<String> = get(&row, 4)?;
        let customer = CustomerState {
            customer_no: get(&row, 0)?,
            external_id: get(&row, 1)?,
            is_erased: get(&row, 2)?,
            details: CustomerDetails::default(),
            details_print: get(&row, 8)?,
            first: first_at.map(Timestamp).zip(first_id),
            last_at: get(&row, 5)?,
            orders_count: get(&row, 6)?,
            revenue: i128::from(get::<i64>(&row, 7)?),
            history: None,
        };
        loaded.customer_ids.insert(customer.customer_no, customer.external_id.clone());
        loaded.customers.insert(customer.external_id.clone(), customer);
    }
    Ok(())
}

/// Loads erased customers by the pseudonyms that replaced the ids events still use.
async fn load_erased(
    tx: &TenantTx,
    loaded: &mut Loaded,
    batch_keys: &BatchKeys,
    keys: Option<&TenantKeys>,
) -> Result<()> {
    let Some(keys) = keys.filter(|_| loaded.head.erased_customers > 0) else { return Ok(()) };
    let unknown = batch_keys.customers.iter().filter(|id| !loaded.customers.contains_key(*id));
    let given: Vec<(String, String)> = unknown.map(|id| (id.clone(), erased_id(&keys.index, id))).collect();
    let erased = Column::Text(given.iter().map(|(_, erased)| erased.clone()).collect());
    load_customers(tx, loaded, "external_id", erased).await?;
    for (id, erased) in given {
        if let Some(customer) = loaded.customers.remove(&erased) {
            loaded.customer_ids.insert(customer.customer_no, id.clone());
            loaded.customers.insert(id, customer);
        }
    }
    Ok(())
}

/// Loads full order histories where an order may cease or come to be its customer's first: all orders of customers
/// whose orders change; and where an order is no later than the known first one, that one, which may become the second.
async fn load_histories(
    tx: &TenantTx,
    loaded: &mut Loaded,
    batch_keys: &BatchKeys,
    changed: &BTreeSet<String>,
    former: BTreeSet<i64>,
) -> Result<()> {
    let (mut customers, mut firsts) = (former, BTreeSet::new());
    for event in &batch_keys.placed_customers {
        let Some(customer) = loaded.customers.get(&event.customer_id) else { continue };
        if changed.contains(&event.order_id) || batch_keys.placed_again.contains(&event.order_id) {
            customers.insert(customer.customer_no);
        }
        firsts.extend(customer.first.iter().filter(|(first_at, _)| event.at <= *first_at).map(|(_, id)| id.clone()));
    }
    load_orders(tx, loaded, "external_id", texts(&firsts)).await?;
    load_orders(tx, loaded, "customer_no", Column::Int(customers.iter().copied().collect())).await?;
    for customer in loaded.customers.values_mut().filter(|c| customers.contains(&c.customer_no)) {
        customer.history = Some(BTreeSet::new());
    }
    let counting: Vec<_> = loaded
        .orders
        .values()
        .filter(|o| !o.is_cancelled() && customers.contains(&o.customer_no))
        .map(|o| (o.customer_no, o.placed()))
        .collect();
    for (customer_no, placed) in counting {
        let customer = loaded.customer_ids.get(&customer_no).and_then(|id| loaded.customers.get_mut(id));
        if let Some(history) = customer.and_then(|c| c.history.as_mut()) {
            history.insert(placed);
        }
    }
    let whole: BTreeSet<i64> = loaded
        .orders
        .values()
        .filter(|o| {
            changed.contains(&o.external_id) || firsts.contains(&o.external_id) || customers.contains(&o.customer_no)
        })
        .map(|o| o.order_no)
        .collect();
    load_lines(tx, loaded, whole).await
}

async fn load_lines(tx: &TenantTx, loaded: &mut Loaded, order_nos: BTreeSet<i64>) -> Result<()> {
    let sql = "SELECT l.order_no, l.product_no, l.category_no, l.quantity, l.amount_paid, l.discount_paid, l.cost_paid \
               FROM {keys} {each order_lines l: l.order_no = k.order_no} ORDER BY l.order_no, l.line_no";
    let mut lines: BTreeMap<i64, Vec<EntryLine>> = BTreeMap::new();
    for row in tx.query_by_keys(sql, &keys("order_no", Column::Int(order_nos.into_iter().collect()))).await? {
        lines.entry(get(&row, 0)?).or_default().push(EntryLine {
            product_no: get(&row, 1)?,
            category_no: get(&row, 2)?,
            units: get(&row, 3)?,
            amount: get(&row, 4)?,
            discount: get(&row, 5)?,
            cost: get(&row, 6)?,
        });
    }
    for order in loaded.orders.values_mut() {
        if let Some(lines) = lines.remove(&order.order_no) {
            order.lines = lines;
        }
    }
    Ok(())
}

async fn load_refunds(tx: &TenantTx, loaded: &mut Loaded, batch_keys: &BatchKeys) -> Result<()> {
    let sql = "SELECT r.external_id FROM {keys} {each refunds r: r.external_id = k.id}";
    for row in tx.query_by_keys(sql, &keys("id", texts(&batch_keys.refunds))).await? {
        loaded.refund_ids.insert(get(&row, 0)?);
    }
    if loaded.head.last_refund_no == 0 {
        return Ok(());
    }
    let orders: BTreeSet<String> = batch_keys.orders.iter().chain(loaded.orders.keys()).cloned().collect();
    let sql = "SELECT r.refund_no, r.external_id, r.order_id, r.org_no, r.issued_at, r.channel_no, r.region_no, \
               r.currency, r.rate, r.amount_paid, r.lines \
               FROM {keys} {each refunds r: r.order_id = k.id} ORDER BY r.refund_no";
    for row in tx.query_by_keys(sql, &keys("id", texts(&orders))).await? {
        let order_id: String = get(&row, 2)?;
        let refund = RefundState {
            refund_no: get(&row, 0)?,
            external_id: get(&row, 1)?,
            order_id: Some(order_id.clone()),
            org_no: get(&row, 3)?,
            issued_at: get(&row, 4)?,
            channel_no: get(&row, 5)?,
            region_no: get(&row, 6)?,
            currency: get(&row, 7)?,
            rate: get(&row, 8)?,
            amount_paid: get(&row, 9)?,
            lines: lines_from_json(&get::<String>(&row, 10)?)?,
        };
        loaded.refunds_by_order.entry(order_id).or_default().push(refund);
    }
    Ok(())
}

async fn load_deals(tx: &TenantTx, loaded: &mut Loaded, batch_keys: &BatchKeys) -> Result<()> {
    let sql = "SELECT d.external_id, d.version, d.owner_id, d.org_no, d.is_won, d.closed_at, d.currency, d.amount_paid, d.amount \
               FROM {keys} {each deals d: d.external_id = k.id}";
    for row in tx.query_by_keys(sql, &keys("id", texts(&batch_keys.deals))).await? {
        let deal = DealState {
            version: get(&row, 1)?,
            owner_id: get(&row, 2)?,
            org_no: get(&row, 3)?,
            is_won: get(&row, 4)?,
            closed_at: get(&row, 5)?,
            currency: get(&row, 6)?,
            amount_paid: get(&row, 7)?,
            amount: get(&row, 8)?,
        };
        loaded.deals.insert(get(&row, 0)?, deal);
    }
    let sql = "SELECT u.id, u.email FROM {keys} {each users u: u.email = k.email}";
    let emails: HashMap<&String, String> =
        batch_keys.users.iter().filter_map(|name| Some((name, email_of(name).ok()?))).collect();
    let mut found: HashMap<String, Uuid> = HashMap::new();
    let distinct: BTreeSet<&String> = emails.values().collect();
    let distinct = Column::Text(distinct.into_iter().cloned().collect());
    for row in tx.query_by_keys(sql, &keys("email", distinct)).await? {
        found.insert(get(&row, 1)?, get(&row, 0)?);
    }
    let by_name = emails.into_iter().filter_map(|(name, email)| Some((name.clone(), *found.get(&email)?)));
    loaded.users.extend(by_name);
    let ids = Column::Uuid(batch_keys.users.iter().filter_map(|name| Uuid::parse_str(name).ok()).collect());
    let sql = "SELECT u.id FROM {keys} {each users u: u.id = k.id}";
    let found: Vec<Uuid> =
        tx.query_by_keys(sql, &keys("id", ids)).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let found: HashSet<Uuid> = found.into_iter().collect();
    for name in &batch_keys.users {
        if let Some(id) = Uuid::parse_str(name).ok().filter(|id| found.contains(id)) {
            loaded.users.insert(name.clone(), id);
        }
    }
    Ok(())
}

/// The newest rates in force on the wanted days.
async fn load_rates(tx: &TenantTx, loaded: &mut Loaded, batch_keys: &BatchKeys) -> Result<()> {
    let currencies: BTreeSet<&str> = loaded.organizations.iter().map(|o| o.currency.as_str()).collect();
    let pairs = batch_keys.foreign_currencies.iter().flat_map(|(from, day)| {
        currencies.iter().filter(move |to| **to != from).map(move |to| (from.clone(), (*to).to_owned(), *day))
    });
    let pairs: Vec<(String, String, i64)> = pairs.collect();
    let table = Table::new()
        .with("from_currency", Column::Text(pairs.iter().map(|(from, ..)| from.clone()).collect()))
        .with("to_currency", Column::Text(pairs.iter().map(|(_, to, _)| to.clone()).collect()))
        .with("day", Column::Int(pairs.iter().map(|(.., day)| *day).collect()));
    let sql = "SELECT k.from_currency, k.to_currency, k.day, (SELECT r.rate FROM exchange_rates r WHERE r.tenant_id = $1 \
               AND r.from_currency = k.from_currency AND r.to_currency = k.to_currency AND r.valid_from <= k.day \
               ORDER BY r.valid_from DESC LIMIT 1) FROM {keys}";
    for row in tx.query_by_keys(sql, &table).await? {
        if let Some(rate) = get(&row, 3)? {
            loaded.rates.insert((get(&row, 0)?, get(&row, 1)?, get(&row, 2)?), rate);
        }
    }
    Ok(())
}
