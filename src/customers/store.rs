//! Storage of customers.

use std::collections::HashMap;

use sea_orm::QueryResult;

use super::graphql::{Customer, CustomerSort};
use super::identity::Identity;
use crate::clock::Timestamp;
use crate::customer_value::PredictionFilter;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::BatchLoad;
use crate::graphql::page::{Clauses, Cursor, KeyKind, Listed, Matching, Page, SortKey, SortOrder};
use crate::graphql::scalars::{Count, DateTime, Decimal};
use crate::ledger::node_id::{Numbered, OneOf};
use crate::sealing::BlindIndex;

const COLUMNS: &str = "c.customer_no, c.external_id, t.first_at, t.last_at, t.orders_count, t.revenue, c.erased_at, \
    c.name, c.email, c.phone, c.address";

const COLUMNS_COUNT: usize = 11;

const CUSTOMERS: &str = "customers c JOIN customer_totals t ON t.tenant_id = $1 AND t.customer_no = c.customer_no \
    WHERE c.tenant_id = $1";

/// Restricts customers to those that satisfy all of these.
#[derive(Default)]
pub struct CustomerFilter {
    pub email: Option<BlindIndex>,
    pub phone: Option<BlindIndex>,
}

/// Predictions by the current model, for customers that have any.
const PREDICTED: &str = "customer_predictions p JOIN customers c ON c.tenant_id = $1 AND c.customer_no = p.customer_no \
    JOIN customer_totals t ON t.tenant_id = $1 AND t.customer_no = p.customer_no \
    WHERE p.tenant_id = $1 AND p.fit_no = (SELECT m.fit_no FROM customer_models m WHERE m.tenant_id = $1)";

/// All customers: each has totals.
const TOTALS: &str = "customer_totals t WHERE t.tenant_id = $1";

/// A page of customers.
pub async fn list(
    tx: &TenantTx,
    page: &Page,
    filter: &CustomerFilter,
    predicted: Option<&PredictionFilter>,
    order: CustomerSort,
) -> Result<Listed<Customer>> {
    const BY_NUMBER: SortKey = SortKey::ascending("c.customer_no", KeyKind::Int);
    const BY_NUMBER_OF_TOTALS: SortKey = SortKey::ascending("t.customer_no", KeyKind::Int);
    // Customers without a purchase come last: no time is before 1970.
    const LAST_PURCHASE: SortKey = SortKey::descending("COALESCE(t.last_at, -1)", KeyKind::Int);
    // Matches the index order, so that a page reads only its own rows.
    const BY_PREDICTED_NUMBER: SortKey = SortKey::ascending("p.customer_no", KeyKind::Int);
    let is_predicted = predicted.is_some() || order.is_predicted();
    let is_whole = !is_predicted && filter.email.is_none() && filter.phone.is_none();
    let mut matching = Matching::of(match (is_predicted, is_whole) {
        (true, _) => PREDICTED,
        (false, true) => TOTALS,
        (false, false) => CUSTOMERS,
    });
    for (condition, index) in [("c.email_index =", filter.email), ("c.phone_index =", filter.phone)] {
        if let Some(index) = index {
            matching.and(condition, index.to_vec());
        }
    }
    if let Some(predicted) = predicted {
        predicted.narrow(&mut matching)?;
    }
    let (name, keys) = match order {
        CustomerSort::Id if is_whole => ("customers.id", vec![BY_NUMBER_OF_TOTALS]),
        CustomerSort::Id => ("customers.id", vec![BY_NUMBER]),
        CustomerSort::Revenue => (
            "customers.revenue",
            vec![
                // In the order of the index as far as it goes.
                SortKey::descending("t.magnitude", KeyKind::Int),
                SortKey::descending("t.revenue", KeyKind::Int),
                BY_NUMBER_OF_TOTALS,
            ],
        ),
        CustomerSort::LastPurchase => ("customers.lastPurchase", vec![LAST_PURCHASE, BY_NUMBER_OF_TOTALS]),
        CustomerSort::Churn => {
            ("customers.churn", vec![SortKey::descending("p.churn", KeyKind::Int), BY_PREDICTED_NUMBER])
        }
        CustomerSort::LifetimeValue => (
            "customers.lifetimeValue",
            vec![SortKey::descending("p.lifetime_value", KeyKind::Int), BY_PREDICTED_NUMBER],
        ),
    };
    let sorted = SortOrder { name, keys: &keys };
    let Clauses { filter: beyond, order: by, values: bounds } = page.clauses(&sorted, 2 + matching.values.len())?;
    let from = &matching.from;
    let sql = if is_predicted {
        format!("SELECT {COLUMNS}, p.churn, p.lifetime_value FROM {from}{beyond}{by}")
    } else if is_whole {
        // The page is found among the totals, and only its customers are looked up.
        format!(
            "SELECT {COLUMNS} FROM (SELECT * FROM {from}{beyond}{by}) t \
             {{each customers c: c.customer_no = t.customer_no}}{by}"
        )
    } else {
        format!("SELECT {COLUMNS} FROM {from}{beyond}{by}")
    };
    let rows = tx.query(&sql, matching.values.iter().cloned().chain(bounds)).await?;
    let item = |row: &QueryResult| {
        let customer = customer_from(row)?;
        let keys = match order {
            CustomerSort::Id => vec![],
            CustomerSort::Revenue => vec![customer.revenue.0.magnitude(), customer.revenue.0.0],
            CustomerSort::LastPurchase => vec![customer.last_purchase_at.map_or(-1, |at| at.0.0)],
            CustomerSort::Churn => vec![get(row, COLUMNS_COUNT)?],
            CustomerSort::LifetimeValue => vec![get(row, COLUMNS_COUNT + 1)?],
        };
        let values = keys.into_iter().chain([customer.customer_no]).map(|key| key.to_string());
        Ok((Cursor::new(&sorted, values.collect()), customer))
    };
    Ok(Listed { rows: rows.iter().map(item).collect::<Result<_>>()?, matching: Some(matching) })
}

fn customer_from(row: &QueryResult) -> Result<Customer> {
    let customer_no: i64 = get(row, 0)?;
    let time = |index| get::<Option<Timestamp>>(row, index).map(|at| at.map(DateTime));
    Ok(Customer {
        id: Numbered::Customer.id(customer_no),
        customer_no,
        external_id: get(row, 1)?,
        identity: Identity { customer_no, sealed: [get(row, 7)?, get(row, 8)?, get(row, 9)?, get(row, 10)?] },
        first_purchase_at: time(2)?,
        last_purchase_at: time(3)?,
        orders_count: Count(get(row, 4)?),
        revenue: Decimal(get(row, 5)?),
        erased_at: time(6)?,
    })
}

/// A customer by number. Error: NOT_FOUND.
pub async fn get_customer(tx: &TenantTx, customer_no: i64) -> Result<Customer> {
    let mut found = CustomersByNumber::load(tx, &[customer_no]).await?;
    found.remove(&customer_no).ok_or_else(|| Error::not_found("customer"))
}

/// A customer by number or the source's id.
pub async fn find_customer(tx: &TenantTx, key: &OneOf) -> Result<Option<Customer>> {
    let Some((column, value)) = key.condition("customer_no", "external_id") else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM {CUSTOMERS} AND c.{column} = $2");
    tx.query_one(&sql, [value]).await?.as_ref().map(customer_from).transpose()
}

pub struct CustomersByNumber;

impl BatchLoad for CustomersByNumber {
    type Key = i64;
    type Value = Customer;

    async fn load(tx: &TenantTx, keys: &[i64]) -> Result<HashMap<i64, Customer>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM {{keys}} {{each customers c: c.customer_no = k.customer_no}} \
             {{each customer_totals t: t.customer_no = k.customer_no}}"
        );
        let keys = Table::new().with("customer_no", Column::Int(keys.to_vec()));
        let rows = tx.query_by_keys(&sql, &keys).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, customer_from(row)?))).collect()
    }
}
