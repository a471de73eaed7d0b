//! Loads what a batch of events needs of a tenant and saves what becomes of it, each as a few statements over many
//! rows.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sea_orm::QueryResult;
use uuid::Uuid;

use super::batch::{Batch, Changes, DealState, DimensionKind, Head, Loaded, Names};
use super::entry::{Entry, EntryKind, EntryLine, Segment, lines_from_json, lines_to_json};
use super::event::{Event, Fact};
use super::organization::Organization;
use super::rollup;
use super::state::{CustomerState, OrderState, RefundState};
use crate::clock::Timestamp;
use crate::db::{Column, OnConflict, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::money::Money;

/// Locks the tenant's ledger for writing and gives its head.
pub async fn lock_head(tx: &TenantTx) -> Result<Head> {
    head(tx, tx.for_update()).await
}

/// Locks the head and begins a new policy epoch: what lanes and caches know of organizations and products is read
/// again.
pub async fn begin_policy_epoch(tx: &TenantTx) -> Result<()> {
    let sql = "UPDATE ledger_heads SET policy_epoch = policy_epoch + 1 WHERE tenant_id = $1";
    if tx.execute(sql, []).await? == 1 { Ok(()) } else { Err(Error::not_found("tenant")) }
}

/// The next number of a product, of a transaction that has locked the head.
pub async fn new_product_no(tx: &TenantTx) -> Result<i64> {
    new_number(tx, "last_product_no").await
}

/// The next number of a channel, region or category, of a transaction that has locked the head.
pub async fn new_dimension_no(tx: &TenantTx) -> Result<i32> {
    i32::try_from(new_number(tx, "last_dimension_no").await?).map_err(Error::internal)
}

async fn new_number(tx: &TenantTx, column: &str) -> Result<i64> {
    let sql = format!("UPDATE ledger_heads SET {column} = {column} + 1 WHERE tenant_id = $1 RETURNING {column}");
    let row = tx.query_one(&sql, []).await?.ok_or_else(|| Error::not_found("tenant"))?;
    get(&row, 0)
}

/// The tenant's head as this transaction sees it.
pub async fn read_head(tx: &TenantTx) -> Result<Head> {
    head(tx, "").await
}

async fn head(tx: &TenantTx, lock: &str) -> Result<Head> {
    let sql = format!(
        "SELECT position, watermark, policy_epoch, last_customer_no, last_product_no, last_order_no, last_refund_no, \
         last_dimension_no, retained_from FROM ledger_heads WHERE tenant_id = $1 {lock}"
    );
    let row = tx.query_one(&sql, []).await?.ok_or_else(|| Error::not_found("tenant"))?;
    Ok(Head {
        position: get(&row, 0)?,
        watermark: get(&row, 1)?,
        policy_epoch: get(&row, 2)?,
        last_customer_no: get(&row, 3)?,
        last_product_no: get(&row, 4)?,
        last_order_no: get(&row, 5)?,
        last_refund_no: get(&row, 6)?,
        last_dimension_no: get(&row, 7)?,
        retained_from: get(&row, 8)?,
    })
}

/// Loads all that `events` refer to.
pub async fn load(
    tx: &TenantTx,
    head: Head,
    organizations: Vec<Organization>,
    names: Names,
    events: &[&Event],
) -> Result<Loaded> {
    let mut loaded = Loaded { head, organizations, names, ..Loaded::default() };
    let wanted = Wanted::of(events, &loaded);
    load_recorded(tx, &mut loaded, events).await?;
    load_names(tx, &mut loaded.names, &wanted).await?;
    load_orders(tx, &mut loaded, "external_id", texts(&wanted.orders)).await?;
    load_customers(tx, &mut loaded, "external_id", texts(&wanted.customers)).await?;
    let changed: BTreeSet<String> =
        wanted.placed.iter().filter(|id| loaded.orders.contains_key(*id)).cloned().collect();
    let former: BTreeSet<i64> =
        changed.iter().filter_map(|id| loaded.orders.get(id)).map(|o| o.customer_no).filter(|no| *no != 0).collect();
    let unknown = former.iter().filter(|no| !loaded.customer_ids.contains_key(no)).copied().collect();
    load_customers(tx, &mut loaded, "customer_no", Column::Int(unknown)).await?;
    load_histories(tx, &mut loaded, &wanted, &changed, former).await?;
    load_refunds(tx, &mut loaded, &wanted).await?;
    load_deals(tx, &mut loaded, &wanted).await?;
    load_rates(tx, &mut loaded, &wanted).await?;
    Ok(loaded)
}

/// The names that a batch mentions.
#[derive(Default)]
struct Wanted {
    /// Orders placed or cancelled.
    placed: BTreeSet<String>,
    /// Those that occur more than once.
    placed_again: BTreeSet<String>,
    /// Those and orders refunded.
    orders: BTreeSet<String>,
    customers: BTreeSet<String>,
    placed_customers: Vec<PlacedOrder>,
    refunds: BTreeSet<String>,
    products: BTreeSet<String>,
    dimensions: BTreeSet<(DimensionKind, String)>,
    deals: BTreeSet<String>,
    users: BTreeSet<String>,
    has_foreign_currency: bool,
}

/// Whose an order is and when it was placed.
struct PlacedOrder {
    order_id: String,
    customer_id: String,
    at: Timestamp,
}

impl Wanted {
    fn of(events: &[&Event], loaded: &Loaded) -> Self {
        let mut wanted = Wanted::default();
        for event in events {
            wanted.add(event, loaded);
        }
        wanted
    }

    fn add(&mut self, event: &Event, loaded: &Loaded) {
        match &event.fact {
            Fact::OrderPlaced(order) => {
                self.placed(&order.order_id);
                if let Some(customer) = &order.customer {
                    self.customers.insert(customer.id.clone());
                    let (order_id, customer_id) = (order.order_id.clone(), customer.id.clone());
                    self.placed_customers.push(PlacedOrder { order_id, customer_id, at: event.occurred_at });
                }
                self.dimension(DimensionKind::Channel, order.channel.as_ref(), loaded);
                self.dimension(DimensionKind::Region, order.region.as_ref(), loaded);
                self.lines(&order.lines, loaded);
                self.currency(order.currency.as_deref(), loaded);
            }
            Fact::OrderCancelled(cancelled) => self.placed(&cancelled.order_id),
            Fact::RefundIssued(refund) => {
                self.refunds.insert(refund.refund_id.clone().unwrap_or_else(|| event.event_id.clone()));
                self.orders.extend(refund.order_id.clone());
                self.dimension(DimensionKind::Channel, refund.channel.as_ref(), loaded);
                self.dimension(DimensionKind::Region, refund.region.as_ref(), loaded);
                self.lines(&refund.lines, loaded);
                self.currency(refund.currency.as_deref(), loaded);
            }
            Fact::VisitsCounted(visits) => {
                self.dimension(DimensionKind::Channel, visits.channel.as_ref(), loaded);
                self.dimension(DimensionKind::Region, visits.region.as_ref(), loaded);
            }
            Fact::ProductViewed(viewed) => self.product(&viewed.product_id, loaded),
            Fact::DealClosed(deal) => {
                self.deals.insert(deal.deal_id.clone());
                self.users.insert(deal.owner.clone());
                self.currency(deal.currency.as_deref(), loaded);
            }
            Fact::ActivityLogged(activity) => drop(self.users.insert(activity.owner.clone())),
        }
    }

    fn placed(&mut self, order_id: &str) {
        if !self.placed.insert(order_id.to_owned()) {
            self.placed_again.insert(order_id.to_owned());
        }
        self.orders.insert(order_id.to_owned());
    }

    fn lines(&mut self, lines: &[super::event::Line], loaded: &Loaded) {
        for line in lines {
            self.product(&line.product_id, loaded);
            self.dimension(DimensionKind::Category, line.category.as_ref(), loaded);
        }
    }

    fn product(&mut self, sku: &str, loaded: &Loaded) {
        if !loaded.names.products.contains_key(sku) {
            self.products.insert(sku.to_owned());
        }
    }

    fn dimension(&mut self, kind: DimensionKind, name: Option<&String>, loaded: &Loaded) {
        if let Some(name) = name {
            let key = (kind, name.clone());
            if !loaded.names.dimensions.contains_key(&key) {
                self.dimensions.insert(key);
            }
        }
    }

    fn currency(&mut self, code: Option<&str>, loaded: &Loaded) {
        self.has_foreign_currency |= code.is_some_and(|code| loaded.organizations.iter().any(|o| o.currency != code));
    }
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

async fn load_names(tx: &TenantTx, names: &mut Names, wanted: &Wanted) -> Result<()> {
    let dimensions = Table::new()
        .with("kind", Column::Int(wanted.dimensions.iter().map(|(kind, _)| *kind as i64).collect()))
        .with("value", Column::Text(wanted.dimensions.iter().map(|(_, value)| value.clone()).collect()));
    let sql =
        "SELECT d.kind, d.value, d.no FROM {keys} {each dimension_values d: d.kind = k.kind AND d.value = k.value}";
    for row in tx.query_by_keys(sql, &dimensions).await? {
        let kind = match get::<i32>(&row, 0)? {
            1 => DimensionKind::Channel,
            2 => DimensionKind::Region,
            _ => DimensionKind::Category,
        };
        names.dimensions.insert((kind, get(&row, 1)?), get(&row, 2)?);
    }
    let sql = "SELECT p.sku, p.product_no FROM {keys} {each products p: p.sku = k.sku}";
    for row in tx.query_by_keys(sql, &keys("sku", texts(&wanted.products))).await? {
        names.products.insert(get(&row, 0)?, get(&row, 1)?);
    }
    Ok(())
}

const ORDER_COLUMNS: &str = "o.order_no, o.external_id, o.version, o.is_cancelled, o.org_no, o.placed_at, o.customer_no, \
    o.channel_no, o.region_no, o.segment, o.currency, o.rate, o.amount_paid, o.discount_paid, o.units";

/// Loads orders by a column, without their lines; those that are loaded stay as they are.
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
        is_cancelled: get(row, 3)?,
        org_no: get(row, 4)?,
        placed_at: Timestamp(get(row, 5)?),
        customer_no: get(row, 6)?,
        channel_no: get(row, 7)?,
        region_no: get(row, 8)?,
        segment: Segment::from_i32(get(row, 9)?),
        currency: get(row, 10)?,
        rate: get(row, 11)?,
        amount_paid: Money(get(row, 12)?),
        discount_paid: Money(get(row, 13)?),
        units: get(row, 14)?,
        lines: Vec::new(),
    })
}

async fn load_customers(tx: &TenantTx, loaded: &mut Loaded, by: &str, values: Column) -> Result<()> {
    let sql = format!(
        "SELECT c.customer_no, c.external_id, c.name, c.email, c.first_at, c.first_order_id, c.last_at, c.orders_count, c.revenue \
         FROM {{keys}} {{each customers c: c.{by} = k.key}}"
    );
    for row in tx.query_by_keys(&sql, &keys("key", values)).await? {
        let first_at: Option<i64> = get(&row, 4)?;
        let first_id: Option<String> = get(&row, 5)?;
        let customer = CustomerState {
            customer_no: get(&row, 0)?,
            external_id: get(&row, 1)?,
            name: get(&row, 2)?,
            email: get(&row, 3)?,
            first: first_at.map(Timestamp).zip(first_id),
            last_at: get::<Option<i64>>(&row, 6)?.map(Timestamp),
            orders_count: get(&row, 7)?,
            revenue: get(&row, 8)?,
            history: None,
        };
        loaded.customer_ids.insert(customer.customer_no, customer.external_id.clone());
        loaded.customers.insert(customer.external_id.clone(), customer);
    }
    Ok(())
}

/// Loads whole orders where one of them may leave or come to be its customer's first: for customers of orders that
/// change, and of orders that are no later than the first one known.
async fn load_histories(
    tx: &TenantTx,
    loaded: &mut Loaded,
    wanted: &Wanted,
    changed: &BTreeSet<String>,
    former: BTreeSet<i64>,
) -> Result<()> {
    let mut customers = former;
    for event in &wanted.placed_customers {
        let Some(customer) = loaded.customers.get(&event.customer_id) else { continue };
        let moves_first = customer.first.as_ref().is_none_or(|(first_at, _)| event.at <= *first_at);
        if moves_first || changed.contains(&event.order_id) || wanted.placed_again.contains(&event.order_id) {
            customers.insert(customer.customer_no);
        }
    }
    load_orders(tx, loaded, "customer_no", Column::Int(customers.iter().copied().collect())).await?;
    for customer in loaded.customers.values_mut().filter(|c| customers.contains(&c.customer_no)) {
        customer.history = Some(BTreeSet::new());
    }
    let counting: Vec<_> = loaded
        .orders
        .values()
        .filter(|o| !o.is_cancelled && customers.contains(&o.customer_no))
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
        .filter(|o| changed.contains(&o.external_id) || customers.contains(&o.customer_no))
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
            amount: Money(get(&row, 4)?),
            discount: Money(get(&row, 5)?),
            cost: get::<Option<i64>>(&row, 6)?.map(Money),
        });
    }
    for order in loaded.orders.values_mut() {
        if let Some(lines) = lines.remove(&order.order_no) {
            order.lines = lines;
        }
    }
    Ok(())
}

async fn load_refunds(tx: &TenantTx, loaded: &mut Loaded, wanted: &Wanted) -> Result<()> {
    let sql = "SELECT r.external_id FROM {keys} {each refunds r: r.external_id = k.id}";
    for row in tx.query_by_keys(sql, &keys("id", texts(&wanted.refunds))).await? {
        loaded.refund_ids.insert(get(&row, 0)?);
    }
    if loaded.head.last_refund_no == 0 {
        return Ok(());
    }
    let orders: BTreeSet<String> = wanted.orders.iter().chain(loaded.orders.keys()).cloned().collect();
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
            issued_at: Timestamp(get(&row, 4)?),
            channel_no: get(&row, 5)?,
            region_no: get(&row, 6)?,
            currency: get(&row, 7)?,
            rate: get(&row, 8)?,
            amount_paid: Money(get(&row, 9)?),
            lines: lines_from_json(&get::<String>(&row, 10)?)?,
        };
        loaded.refunds_by_order.entry(order_id).or_default().push(refund);
    }
    Ok(())
}

async fn load_deals(tx: &TenantTx, loaded: &mut Loaded, wanted: &Wanted) -> Result<()> {
    let sql = "SELECT d.external_id, d.version, d.owner_id, d.org_no, d.is_won, d.closed_at, d.currency, d.amount_paid, d.amount \
               FROM {keys} {each deals d: d.external_id = k.id}";
    for row in tx.query_by_keys(sql, &keys("id", texts(&wanted.deals))).await? {
        let deal = DealState {
            version: get(&row, 1)?,
            owner_id: get(&row, 2)?,
            org_no: get(&row, 3)?,
            is_won: get(&row, 4)?,
            closed_at: Timestamp(get(&row, 5)?),
            currency: get(&row, 6)?,
            amount_paid: Money(get(&row, 7)?),
            amount: Money(get(&row, 8)?),
        };
        loaded.deals.insert(get(&row, 0)?, deal);
    }
    let sql = "SELECT u.id, u.email FROM {keys} {each users u: u.email = k.email}";
    for row in tx.query_by_keys(sql, &keys("email", texts(&wanted.users))).await? {
        loaded.users.insert(get(&row, 1)?, get(&row, 0)?);
    }
    let ids = Column::Uuid(wanted.users.iter().filter_map(|name| Uuid::parse_str(name).ok()).collect());
    let sql = "SELECT u.id FROM {keys} {each users u: u.id = k.id}";
    let found: Vec<Uuid> =
        tx.query_by_keys(sql, &keys("id", ids)).await?.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let found: HashSet<Uuid> = found.into_iter().collect();
    for name in &wanted.users {
        if let Some(id) = Uuid::parse_str(name).ok().filter(|id| found.contains(id)) {
            loaded.users.insert(name.clone(), id);
        }
    }
    Ok(())
}

async fn load_rates(tx: &TenantTx, loaded: &mut Loaded, wanted: &Wanted) -> Result<()> {
    if !wanted.has_foreign_currency {
        return Ok(());
    }
    let sql = "SELECT from_currency, to_currency, valid_from, rate FROM exchange_rates WHERE tenant_id = $1";
    for row in tx.query(sql, []).await? {
        let pair = (get(&row, 0)?, get(&row, 1)?);
        loaded.rates.entry(pair).or_default().insert(get(&row, 2)?, get(&row, 3)?);
    }
    Ok(())
}

/// Saves a batch: facts, entries, rollups and the head. Nothing is published before the transaction commits.
pub async fn save(tx: &TenantTx, batch: &Batch, received_at: Timestamp) -> Result<()> {
    let Batch { loaded, changes } = batch;
    save_events(tx, changes, received_at).await?;
    save_entries(tx, changes).await?;
    save_names(tx, changes).await?;
    save_orders(tx, loaded, changes).await?;
    save_refunds(tx, changes).await?;
    save_customers(tx, loaded, changes).await?;
    save_performance(tx, loaded, changes).await?;
    save_rollups(tx, loaded, changes).await?;
    save_head(tx, &loaded.head).await
}

async fn save_events(tx: &TenantTx, changes: &Changes, received_at: Timestamp) -> Result<()> {
    let events = &changes.recorded;
    let table = Table::new()
        .with("event_id", Column::Text(events.iter().map(|e| e.event_id.clone()).collect()))
        .with("position", Column::Int(events.iter().map(|e| e.position).collect()))
        .with("payload_hash", Column::Bytes(events.iter().map(|e| e.payload_hash.clone()).collect()))
        .with("kind", Column::Int(events.iter().map(|e| e.kind.into()).collect()))
        .with("is_superseded", Column::Bool(events.iter().map(|e| e.is_superseded).collect()))
        .with("occurred_at", Column::Int(events.iter().map(|e| e.occurred_at.0).collect()))
        .with("received_at", Column::Int(events.iter().map(|_| received_at.0).collect()));
    tx.insert("ledger_events", &table, OnConflict::Fail).await?;
    Ok(())
}

async fn save_entries(tx: &TenantTx, changes: &Changes) -> Result<()> {
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
    tx.insert("ledger_entries", &table, OnConflict::Fail).await?;
    Ok(())
}

/// What [`entry_from`] reads, of a table named `e`.
pub const ENTRY_COLUMNS: &str = "e.position, e.at, e.kind, e.sign, e.org_no, e.channel_no, e.region_no, e.segment, \
    e.customer_no, e.order_no, e.currency, e.amount_paid, e.amount, e.discount, e.units, e.lines";

/// A stored entry and its position, from [`ENTRY_COLUMNS`].
pub fn entry_from(row: &QueryResult) -> Result<(i64, Entry)> {
    let entry = Entry {
        at: Timestamp(get(row, 1)?),
        kind: EntryKind::from_i32(get(row, 2)?).ok_or_else(|| Error::internal("an entry of an unknown kind"))?,
        sign: get(row, 3)?,
        org_no: get(row, 4)?,
        channel_no: get(row, 5)?,
        region_no: get(row, 6)?,
        segment: Segment::from_i32(get(row, 7)?),
        customer_no: get(row, 8)?,
        order_no: get(row, 9)?,
        currency: get(row, 10)?,
        amount_paid: Money(get(row, 11)?),
        amount: Money(get(row, 12)?),
        discount: Money(get(row, 13)?),
        units: get(row, 14)?,
        lines: lines_from_json(&get::<String>(row, 15)?)?,
    };
    Ok((get(row, 0)?, entry))
}

async fn save_names(tx: &TenantTx, changes: &Changes) -> Result<()> {
    let dimensions = Table::new()
        .with("kind", Column::Int(changes.dimensions.iter().map(|(kind, _, _)| *kind as i64).collect()))
        .with("no", Column::Int(changes.dimensions.iter().map(|(_, no, _)| i64::from(*no)).collect()))
        .with("value", Column::Text(changes.dimensions.iter().map(|(_, _, value)| value.clone()).collect()));
    tx.insert("dimension_values", &dimensions, OnConflict::Fail).await?;
    // A product that only takes something back was named by an earlier batch; its row is there.
    let (named, unnamed): (Vec<_>, Vec<_>) = changes.products.iter().partition(|(_, (names, _))| !names.sku.is_empty());
    let product_columns = |products: &[(&i64, &(super::batch::ProductNames, super::batch::ProductChange))]| {
        let int = |of: fn(&super::batch::ProductChange) -> i64| {
            Column::Int(products.iter().map(|(_, (_, c))| of(c)).collect())
        };
        Table::new()
            .with("product_no", Column::Int(products.iter().map(|(no, _)| **no).collect()))
            .with("units", int(|c| c.units))
            .with("revenue", int(|c| c.revenue))
            .with("refunded", int(|c| c.refunded))
            .with("cost", int(|c| c.cost))
            .with("revenue_with_cost", int(|c| c.revenue_with_cost))
            .with("views", int(|c| c.views))
    };
    let table = product_columns(&named)
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
    tx.insert("products", &table, conflict).await?;
    let sql = "UPDATE products SET units = products.units + k.units, revenue = products.revenue + k.revenue, \
               refunded = products.refunded + k.refunded, cost = products.cost + k.cost, \
               revenue_with_cost = products.revenue_with_cost + k.revenue_with_cost, views = products.views + k.views \
               FROM {keys} WHERE products.tenant_id = $1 AND products.product_no = k.product_no";
    tx.execute_by_keys(sql, &product_columns(&unnamed)).await?;
    Ok(())
}

async fn save_orders(tx: &TenantTx, loaded: &Loaded, changes: &Changes) -> Result<()> {
    let orders: Vec<&OrderState> = changes.orders.iter().filter_map(|id| loaded.orders.get(id)).collect();
    let int = |of: fn(&OrderState) -> i64| Column::Int(orders.iter().map(|o| of(o)).collect());
    let table = Table::new()
        .with("order_no", int(|o| o.order_no))
        .with("external_id", Column::Text(orders.iter().map(|o| o.external_id.clone()).collect()))
        .with("version", int(|o| o.version))
        .with("is_cancelled", Column::Bool(orders.iter().map(|o| o.is_cancelled).collect()))
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
        .with("units", int(|o| o.units));
    tx.insert("orders", &table, OnConflict::Replace("order_no")).await?;

    let stored: Vec<i64> = changes
        .lines
        .iter()
        .filter(|(_, is_stored)| **is_stored)
        .filter_map(|(id, _)| loaded.orders.get(id).map(|o| o.order_no))
        .collect();
    let sql = "DELETE FROM order_lines WHERE tenant_id = $1 AND order_no IN (SELECT k.order_no FROM {keys})";
    tx.execute_by_keys(sql, &keys("order_no", Column::Int(stored))).await?;
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
    tx.insert("order_lines", &table, OnConflict::Fail).await?;
    Ok(())
}

async fn save_refunds(tx: &TenantTx, changes: &Changes) -> Result<()> {
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
    tx.insert("refunds", &table, OnConflict::Fail).await?;
    Ok(())
}

async fn save_customers(tx: &TenantTx, loaded: &Loaded, changes: &Changes) -> Result<()> {
    let customers: Vec<&CustomerState> = changes.customers.iter().filter_map(|id| loaded.customers.get(id)).collect();
    let table = Table::new()
        .with("customer_no", Column::Int(customers.iter().map(|c| c.customer_no).collect()))
        .with("external_id", Column::Text(customers.iter().map(|c| c.external_id.clone()).collect()))
        .with("name", Column::OptText(customers.iter().map(|c| c.name.clone()).collect()))
        .with("email", Column::OptText(customers.iter().map(|c| c.email.clone()).collect()))
        .with("first_at", Column::OptInt(customers.iter().map(|c| c.first.as_ref().map(|f| f.0.0)).collect()))
        .with(
            "first_order_id",
            Column::OptText(customers.iter().map(|c| c.first.as_ref().map(|f| f.1.clone())).collect()),
        )
        .with("last_at", Column::OptInt(customers.iter().map(|c| c.last_at.map(|at| at.0)).collect()))
        .with("orders_count", Column::Int(customers.iter().map(|c| c.orders_count).collect()))
        .with("revenue", Column::Int(customers.iter().map(|c| c.revenue).collect()));
    tx.insert("customers", &table, OnConflict::Replace("customer_no")).await?;
    Ok(())
}

async fn save_performance(tx: &TenantTx, loaded: &Loaded, changes: &Changes) -> Result<()> {
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
    tx.insert("deals", &table, OnConflict::Replace("external_id")).await?;

    let activities = &changes.activities;
    let table = Table::new()
        .with("position", Column::Int(activities.iter().map(|(position, ..)| *position).collect()))
        .with("owner_id", Column::Uuid(activities.iter().map(|(_, owner, ..)| *owner).collect()))
        .with("activity", Column::Text(activities.iter().map(|(_, _, a, _)| a.activity.clone()).collect()))
        .with("happened_at", Column::Int(activities.iter().map(|(.., at)| at.0).collect()))
        .with("count", Column::Int(activities.iter().map(|(_, _, a, _)| a.count).collect()));
    tx.insert("activities", &table, OnConflict::Fail).await?;

    let changed = &changes.performance;
    let table = Table::new()
        .with("owner_id", Column::Uuid(changed.keys().map(|(owner, ..)| *owner).collect()))
        .with("org_no", Column::Int(changed.keys().map(|(_, org_no, _)| (*org_no).into()).collect()))
        .with("slot", Column::Int(changed.keys().map(|(.., slot)| (*slot).into()).collect()))
        .with("deals_won", Column::Int(changed.values().map(|c| c.deals_won).collect()))
        .with("deals_lost", Column::Int(changed.values().map(|c| c.deals_lost).collect()))
        .with("revenue", Column::Int(changed.values().map(|c| c.revenue).collect()))
        .with("activities", Column::Int(changed.values().map(|c| c.activities).collect()));
    let conflict = OnConflict::Update(
        "owner_id, org_no, slot",
        "deals_won = sales_performance.deals_won + excluded.deals_won, \
         deals_lost = sales_performance.deals_lost + excluded.deals_lost, \
         revenue = sales_performance.revenue + excluded.revenue, \
         activities = sales_performance.activities + excluded.activities",
    );
    tx.insert("sales_performance", &table, conflict).await?;
    Ok(())
}

async fn save_rollups(tx: &TenantTx, loaded: &Loaded, changes: &Changes) -> Result<()> {
    let zone = |org_no| loaded.organizations.iter().find(|o| o.org_no == org_no).map_or(chrono_tz::UTC, |o| o.timezone);
    let keys: BTreeSet<rollup::Key> =
        changes.entries.iter().flat_map(|(_, entry)| rollup::keys(entry, zone(entry.org_no))).collect();
    let keys: Vec<rollup::Key> = keys.into_iter().collect();
    let mut rows = rollup::load(tx, &keys).await?;
    for (_, entry) in &changes.entries {
        rollup::fold(entry, zone(entry.org_no), &mut rows)?;
    }
    rollup::save(tx, &rows).await
}

async fn save_head(tx: &TenantTx, head: &Head) -> Result<()> {
    let values = [
        head.position.into(),
        head.watermark.into(),
        head.last_customer_no.into(),
        head.last_product_no.into(),
        head.last_order_no.into(),
        head.last_refund_no.into(),
        head.last_dimension_no.into(),
    ];
    let sql = "UPDATE ledger_heads SET position = $2, watermark = $3, last_customer_no = $4, last_product_no = $5, \
               last_order_no = $6, last_refund_no = $7, last_dimension_no = $8 WHERE tenant_id = $1";
    tx.execute(sql, values).await?;
    Ok(())
}

impl From<rollup::FoldError> for Error {
    fn from(error: rollup::FoldError) -> Self {
        match error {
            rollup::FoldError::OutOfRange => {
                Error::new(crate::error::Code::AmountOutOfRange, "a sum is beyond the largest amount")
            }
            rollup::FoldError::Inconsistent => Error::internal(error),
        }
    }
}
