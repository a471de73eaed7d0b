//! Which facts count, in the ledger's numbers.

use std::collections::BTreeSet;

use async_graphql::{Enum, ID, InputObject};

use super::read::Dimension;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::changes::DimensionKind;
use crate::ledger::entry::Segment;
use crate::ledger::organization::{Organization, find_organization};

/// Names in one list of a filter.
const NAMES_MAX: usize = 1000;

/// Narrows the facts that count. Within one list any value fits; between fields all must fit. An empty list fits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, InputObject, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MetricsFilters {
    /// The organization's id or slug. Error: NOT_FOUND.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<ID>,
    /// Sales channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// Regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// Product categories. Reads the lines of orders: amounts are those of the lines, an order still counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_categories: Option<Vec<String>>,
    /// Product ids. Reads the lines of orders, as with categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub products: Option<Vec<String>>,
    /// Only first orders, or only later orders, of known customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_segment: Option<CustomerSegment>,
}

/// Which order of its customer an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CustomerSegment {
    /// The customer's first order ever.
    New,
    /// Any later order.
    Returning,
}

impl MetricsFilters {
    /// Error: BAD_USER_INPUT (a list is too long).
    pub fn check(&self) -> Result<()> {
        let lists = [&self.channels, &self.regions, &self.product_categories, &self.products];
        if lists.into_iter().flatten().any(|list| list.len() > NAMES_MAX) {
            return Err(Error::bad_input("filters", format!("more than {NAMES_MAX} values in one list")));
        }
        let organization = self.organization_id.iter().map(|id| id.as_str());
        let mut names = lists.into_iter().flatten().flatten().map(String::as_str).chain(organization);
        if names.any(|name| name.contains('\0')) {
            return Err(Error::bad_input("filters", "a NUL in a name"));
        }
        Ok(())
    }
}

/// The same by numbers. A name that no fact has is left out, so an empty list fits nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The organizations that count, all with the same currency.
    pub organizations: Vec<Organization>,
    pub channels: Option<Vec<i64>>,
    pub regions: Option<Vec<i64>>,
    pub categories: Option<Vec<i64>>,
    pub products: Option<Vec<i64>>,
    pub segment: Option<Segment>,
    /// Every name asked for was found.
    pub is_complete: bool,
}

impl Filter {
    /// Looks the names up. Errors: NOT_FOUND (organization), MIXED_CURRENCIES.
    pub async fn find(tx: &TenantTx, organizations: &[Organization], names: &MetricsFilters) -> Result<Filter> {
        names.check()?;
        let organizations = match &names.organization_id {
            Some(name) => {
                let found =
                    find_organization(organizations, Some(name)).ok_or_else(|| Error::not_found("organization"))?;
                vec![found.clone()]
            }
            None => organizations.to_vec(),
        };
        if organizations.windows(2).any(|pair| pair[0].currency != pair[1].currency) {
            let message = "the organizations have several currencies; filter by one organization";
            return Err(Error::new(Code::MixedCurrencies, message));
        }
        let mut filter = Filter {
            organizations,
            channels: dimension_numbers(tx, DimensionKind::Channel, names.channels.as_ref()).await?,
            regions: dimension_numbers(tx, DimensionKind::Region, names.regions.as_ref()).await?,
            categories: dimension_numbers(tx, DimensionKind::Category, names.product_categories.as_ref()).await?,
            products: product_numbers(tx, names.products.as_ref()).await?,
            segment: names.customer_segment.map(|segment| match segment {
                CustomerSegment::New => Segment::New,
                CustomerSegment::Returning => Segment::Returning,
            }),
            is_complete: true,
        };
        let asked = [&names.channels, &names.regions, &names.product_categories, &names.products];
        let asked: usize = asked.into_iter().flatten().map(|list| BTreeSet::from_iter(list).len()).sum();
        filter.is_complete = asked == filter.lists().map(|(_, list)| list.len()).sum::<usize>();
        Ok(filter)
    }

    /// The lists of allowed numbers by dimension.
    pub fn lists(&self) -> impl Iterator<Item = (Dimension, &[i64])> {
        [
            (Dimension::Channel, self.channels.as_deref()),
            (Dimension::Region, self.regions.as_deref()),
            (Dimension::ProductCategory, self.categories.as_deref()),
            (Dimension::Product, self.products.as_deref()),
        ]
        .into_iter()
        .filter_map(|(dimension, list)| Some((dimension, list?)))
    }

    pub fn uses(&self, dimension: Dimension) -> bool {
        (dimension == Dimension::CustomerSegment && self.segment.is_some()) || self.lists().any(|(d, _)| d == dimension)
    }
}

async fn dimension_numbers(
    tx: &TenantTx,
    kind: DimensionKind,
    names: Option<&Vec<String>>,
) -> Result<Option<Vec<i64>>> {
    let Some(names) = names else { return Ok(None) };
    let keys = Table::new().with("value", Column::Text(names.clone()));
    let sql = format!(
        "SELECT d.no FROM {{keys}} {{each dimension_values d: d.kind = {} AND d.value = k.value}}",
        kind as i32
    );
    let rows = tx.query_by_keys(&sql, &keys).await?;
    let mut numbers = rows.iter().map(|row| get::<i32>(row, 0).map(i64::from)).collect::<Result<Vec<_>>>()?;
    // The empty name stands for facts without one.
    if names.iter().any(String::is_empty) {
        numbers.push(0);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}

async fn product_numbers(tx: &TenantTx, skus: Option<&Vec<String>>) -> Result<Option<Vec<i64>>> {
    let Some(skus) = skus else { return Ok(None) };
    let keys = Table::new().with("sku", Column::Text(skus.clone()));
    let sql = "SELECT p.product_no FROM {keys} {each products p: p.sku = k.sku}";
    let rows = tx.query_by_keys(sql, &keys).await?;
    let mut numbers = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}
