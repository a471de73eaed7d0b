//! Saves customers: their totals and, sealed, their identifying fields.

use super::batch::BatchApplier;
use super::save::sums;
use super::state::CustomerState;
use super::store::Head;
use crate::clock::Timestamp;
use crate::db::{Column, Inserts, OnConflict, Table, TenantId};
use crate::error::Result;
use crate::money::Money;
use crate::personal::{Field, SealedDetails};
use crate::sealing::{BlindIndex, TenantKeys};

/// Omitted fields keep their value, and so does the id, which may have been replaced by a pseudonym.
const UPDATE: &str = "details_print = excluded.details_print, \
    name = COALESCE(excluded.name, customers.name), email = COALESCE(excluded.email, customers.email), \
    phone = COALESCE(excluded.phone, customers.phone), address = COALESCE(excluded.address, customers.address), \
    email_index = CASE WHEN excluded.email IS NULL THEN customers.email_index ELSE excluded.email_index END, \
    phone_index = CASE WHEN excluded.phone IS NULL THEN customers.phone_index ELSE excluded.phone_index END, \
    key_version = CASE WHEN excluded.key_version < customers.key_version THEN excluded.key_version \
        ELSE COALESCE(customers.key_version, excluded.key_version) END";

/// Adds the customers of a batch. Details are sealed here, once for each customer, unless they are those last stored.
pub(super) fn add(
    inserts: &mut Inserts,
    tenant: TenantId,
    before: &Head,
    BatchApplier { loaded, changes }: &BatchApplier,
    keys: Option<&TenantKeys>,
) -> Result<()> {
    let customers = changes.customers.iter().filter_map(|id| loaded.customers.get(id));
    let (new, stored): (Vec<&CustomerState>, Vec<&CustomerState>) =
        customers.partition(|customer| customer.customer_no > before.last_customer_no);
    let told: Vec<&CustomerState> = stored.iter().copied().filter(|customer| has_news(customer, keys)).collect();
    inserts.add("customers", details_table(tenant, &new, keys)?, OnConflict::Fail);
    inserts.add("customers", details_table(tenant, &told, keys)?, OnConflict::Update("customer_no", UPDATE));
    inserts.add("customer_totals", totals_table(&new)?, OnConflict::Fail);
    inserts.add("customer_totals", totals_table(&stored)?, OnConflict::Replace("customer_no"));
    Ok(())
}

/// Whether the batch gave other details than those last stored.
fn has_news(customer: &CustomerState, keys: Option<&TenantKeys>) -> bool {
    let print = keys.and_then(|keys| customer.details.print(&keys.index, customer.customer_no));
    print.is_some_and(|print| customer.details_print.as_deref() != Some(print.as_slice()))
}

fn details_table(tenant: TenantId, customers: &[&CustomerState], keys: Option<&TenantKeys>) -> Result<Table> {
    let seal = |c: &&CustomerState| match keys {
        Some(keys) => c.details.seal(keys, tenant, c.customer_no),
        None => Ok(SealedDetails::default()),
    };
    let sealed = customers.iter().map(seal).collect::<Result<Vec<_>>>()?;
    let index = |of: fn(&SealedDetails) -> Option<BlindIndex>| {
        Column::OptBytes(sealed.iter().map(|details| of(details).map(Vec::from).unwrap_or_default()).collect())
    };
    let table = Table::new()
        .with("customer_no", Column::Int(customers.iter().map(|c| c.customer_no).collect()))
        .with("external_id", Column::Text(customers.iter().map(|c| c.external_id.clone()).collect()))
        .with("email_index", index(|details| details.email_index))
        .with("phone_index", index(|details| details.phone_index))
        .with("details_print", index(|details| details.print))
        .with("key_version", Column::OptInt(sealed.iter().map(|details| details.key_version.map(i64::from)).collect()));
    Ok(Field::ALL.into_iter().enumerate().fold(table, |table, (n, field)| {
        table.with(field.column(), Column::OptBytes(sealed.iter().map(|details| details.values[n].clone()).collect()))
    }))
}

fn totals_table(customers: &[&CustomerState]) -> Result<Table> {
    let first = |c: &CustomerState| c.first.clone().unzip();
    let magnitude = |c: &&CustomerState| Money::from_sum(c.revenue).unwrap_or_default().magnitude();
    Ok(Table::new()
        .with("customer_no", Column::Int(customers.iter().map(|c| c.customer_no).collect()))
        .with("first_at", Column::OptInt(customers.iter().map(|c| first(c).0.map(|at: Timestamp| at.0)).collect()))
        .with("first_order_id", Column::OptText(customers.iter().map(|c| first(c).1).collect()))
        .with("last_at", Column::OptInt(customers.iter().map(|c| c.last_at.map(|at| at.0)).collect()))
        .with("orders_count", Column::Int(customers.iter().map(|c| c.orders_count).collect()))
        .with("revenue", sums(customers.iter().map(|c| c.revenue))?)
        .with("magnitude", Column::Int(customers.iter().map(magnitude).collect())))
}
