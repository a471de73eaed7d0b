//! Which facts count, by ledger numbers.

use std::collections::BTreeSet;

use async_graphql::{Enum, ID, InputObject};

use super::dimension::Dimension;
use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::changes::DimensionKind;
use crate::ledger::check::TEXT_CHARS_MAX;
use crate::ledger::entry::Segment;
use crate::ledger::organization::{Organization, find_organization, has_facts, list_organizations};

/// Maximum names per filter list.
const NAMES_MAX: usize = 1000;
/// Maximum length of a stored filter, as JSON.
const STORED_BYTES_MAX: usize = 16 * 1024;

/// Which facts to count. Values within a list are alternatives; all fields given must match. An empty list matches nothing. In the lists of channels, regions and categories, an empty string matches facts without a value. A list has at most 1000 names, and a name 500 characters.
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
    /// Product categories. Counts order lines: amounts are those of the matching lines, while an order still counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_categories: Option<Vec<String>>,
    /// Products by SKU (`sku` of `Product`). Counts order lines, as with categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub products: Option<Vec<String>>,
    /// Only the first orders of known customers, or only their later orders. Orders of guests are neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_segment: Option<CustomerSegment>,
}

/// Whether an order is the first of its customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CustomerSegment {
    /// The customer's first order ever.
    New,
    /// Any later order.
    Returning,
}

impl MetricsFilters {
    /// Errors: BAD_USER_INPUT (a list or a name is too long, a NUL), NOT_FOUND (an organization that cannot be).
    pub fn check(&self) -> Result<()> {
        for (argument, list) in [
            ("filters.channels", &self.channels),
            ("filters.regions", &self.regions),
            ("filters.productCategories", &self.product_categories),
            ("filters.products", &self.products),
        ] {
            let list = list.as_deref().unwrap_or_default();
            if list.len() > NAMES_MAX {
                return Err(Error::bad_input(argument, format!("more than {NAMES_MAX} values in one list")));
            }
            if let Some(index) = list.iter().position(|name| name.contains('\0')) {
                return Err(Error::bad_input(format!("{argument}.{index}"), "a NUL in a name"));
            }
            if let Some(index) = list.iter().position(|name| name.chars().count() > TEXT_CHARS_MAX) {
                let message = format!("a name has more than {TEXT_CHARS_MAX} characters");
                return Err(Error::bad_input(format!("{argument}.{index}"), message));
            }
        }
        if self.organization_id.as_ref().is_some_and(|id| id.contains('\0')) {
            return Err(no_organization());
        }
        Ok(())
    }

    /// Like [`MetricsFilters::check`], for a filter that is to be stored, which has to be small as well.
    pub fn check_stored(&self) -> Result<()> {
        self.check()?;
        if serde_json::to_string(self)?.len() > STORED_BYTES_MAX {
            return Err(Error::bad_input("filters", format!("more than {STORED_BYTES_MAX} bytes as JSON")));
        }
        Ok(())
    }

    /// Whether there are names of facts in it.
    pub fn has_names(&self) -> bool {
        [&self.channels, &self.regions, &self.product_categories, &self.products].into_iter().any(Option::is_some)
    }

    /// The same filter in a form to be stored: the organization's slug, which may change, is replaced by its id. Error:
    /// NOT_FOUND (organization).
    pub async fn to_be_stored(&self, tx: &TenantTx) -> Result<MetricsFilters> {
        let Some(name) = &self.organization_id else { return Ok(self.clone()) };
        let organizations = list_organizations(tx).await?;
        let organization = find_organization(&organizations, Some(name)).ok_or_else(no_organization)?;
        Ok(MetricsFilters { organization_id: Some(organization.id.into()), ..self.clone() })
    }
}

fn no_organization() -> Error {
    Error::not_found("organization").about("filters.organizationId")
}

/// A filter resolved to numbers. Names no fact has are dropped, so a list may be empty, which matches nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The organizations that count.
    pub organizations: Vec<Organization>,
    /// Organizations without facts, left out so that currencies are not mixed.
    pub left_out: Vec<i32>,
    /// Allowed numbers per filtered dimension, sorted and distinct.
    lists: Vec<(Dimension, Vec<i64>)>,
    /// Excluded numbers, likewise.
    excluded: Vec<(Dimension, Vec<i64>)>,
    /// Every requested name was found.
    pub is_complete: bool,
}

impl Filter {
    /// Resolves names, as of a position or, for `None`, the newest. Errors: NOT_FOUND (organization); MIXED_CURRENCIES, if
    /// amounts are added up.
    pub async fn find(
        tx: &TenantTx,
        organizations: &[Organization],
        names: &MetricsFilters,
        adds_amounts: bool,
        as_of: Option<i64>,
    ) -> Result<Filter> {
        let mut filter = Filter::find_any(tx, organizations, names).await?;
        if !adds_amounts {
            return Ok(filter);
        }
        if filter.has_several_currencies() {
            filter.leave_out_empty(tx, as_of).await?;
        }
        if filter.has_several_currencies() {
            let message =
                "amounts of organizations with different currencies cannot be added up; filter by one organization";
            return Err(Error::new(Code::MixedCurrencies, message));
        }
        Ok(filter)
    }

    fn has_several_currencies(&self) -> bool {
        self.organizations.windows(2).any(|pair| pair[0].currency != pair[1].currency)
    }

    /// Leaves out organizations without facts, if that leaves one currency; if none has any, the default one stays.
    async fn leave_out_empty(&mut self, tx: &TenantTx, as_of: Option<i64>) -> Result<()> {
        let mut filled: Vec<Organization> = Vec::new();
        for organization in &self.organizations {
            if has_facts(tx, organization.org_no, as_of).await? {
                filled.push(organization.clone());
                if filled[0].currency != organization.currency {
                    return Ok(());
                }
            }
        }
        if filled.is_empty() {
            filled.extend(self.organizations.first().cloned());
        }
        let is_left_out = |one: &&Organization| !filled.iter().any(|other| other.org_no == one.org_no);
        self.left_out = self.organizations.iter().filter(is_left_out).map(|one| one.org_no).collect();
        self.organizations = filled;
        Ok(())
    }

    /// Like [`Filter::find`], for results that are not summed, so currencies may differ. Error: NOT_FOUND
    /// (organization).
    pub async fn find_any(tx: &TenantTx, organizations: &[Organization], names: &MetricsFilters) -> Result<Filter> {
        names.check()?;
        let organizations = match &names.organization_id {
            Some(name) => {
                let found = find_organization(organizations, Some(name)).ok_or_else(no_organization)?;
                vec![found.clone()]
            }
            None => organizations.to_vec(),
        };
        let mut filter = Filter { organizations, is_complete: true, ..Filter::default() };
        for (dimension, kind, list) in [
            (Dimension::Channel, DimensionKind::Channel, &names.channels),
            (Dimension::Region, DimensionKind::Region, &names.regions),
            (Dimension::ProductCategory, DimensionKind::Category, &names.product_categories),
        ] {
            if let Some(names) = list {
                filter.keep_named(dimension, names, dimension_numbers(tx, kind, names).await?);
            }
        }
        if let Some(names) = &names.products {
            filter.keep_named(Dimension::Product, names, product_numbers(tx, names).await?);
        }
        if let Some(segment) = names.customer_segment {
            filter.keep(Dimension::CustomerSegment, &[Segment::from(segment) as i64]);
        }
        Ok(filter)
    }

    /// First orders of all customers of some organizations.
    pub fn first_orders(organizations: &[Organization]) -> Filter {
        let mut filter = Filter { organizations: organizations.to_vec(), ..Filter::default() };
        filter.keep(Dimension::CustomerSegment, &[Segment::New as i64]);
        filter
    }

    fn keep_named(&mut self, dimension: Dimension, names: &[String], numbers: Vec<i64>) {
        self.is_complete &= numbers.len() == BTreeSet::from_iter(names).len();
        self.keep(dimension, &numbers);
    }

    /// Restricts the filter to facts with one of these numbers.
    pub fn keep(&mut self, dimension: Dimension, numbers: &[i64]) {
        match self.lists.iter_mut().find(|(other, _)| *other == dimension) {
            Some((_, list)) => list.retain(|number| numbers.contains(number)),
            None => self.lists.push((dimension, in_order(numbers))),
        }
    }

    /// Excludes facts with one of these numbers.
    pub fn drop(&mut self, dimension: Dimension, numbers: &[i64]) {
        if let Some((_, list)) = self.lists.iter_mut().find(|(other, _)| *other == dimension) {
            list.retain(|number| !numbers.contains(number));
        } else {
            // Even when empty: filtering by product reads lines whether or not the product exists yet.
            self.excluded.push((dimension, in_order(numbers)));
        }
    }

    /// Allowed numbers by dimension.
    pub fn lists(&self) -> impl Iterator<Item = (Dimension, &[i64])> {
        self.lists.iter().map(|(dimension, list)| (*dimension, list.as_slice()))
    }

    /// Excluded numbers by dimension; empty for names without a number yet.
    pub fn excluded(&self) -> impl Iterator<Item = (Dimension, &[i64])> {
        self.excluded.iter().map(|(dimension, list)| (*dimension, list.as_slice()))
    }

    pub fn uses(&self, dimension: Dimension) -> bool {
        self.lists().chain(self.excluded()).any(|(other, _)| other == dimension)
    }

    /// Whether facts match whose number in a dimension is given by `number`.
    pub fn fits(&self, number: impl Fn(Dimension) -> i64) -> bool {
        let has = |list: &[i64], dimension| list.binary_search(&number(dimension)).is_ok();
        self.lists().all(|(dimension, list)| has(list, dimension))
            && !self.excluded().any(|(dimension, list)| has(list, dimension))
    }
}

fn in_order(numbers: &[i64]) -> Vec<i64> {
    let numbers: BTreeSet<i64> = numbers.iter().copied().collect();
    numbers.into_iter().collect()
}

impl From<CustomerSegment> for Segment {
    fn from(segment: CustomerSegment) -> Self {
        match segment {
            CustomerSegment::New => Segment::New,
            CustomerSegment::Returning => Segment::Returning,
        }
    }
}

/// The number of a segment by its name in formulas.
pub fn segment_number(name: &str) -> Option<i64> {
    match name {
        "NEW" => Some(Segment::New as i64),
        "RETURNING" => Some(Segment::Returning as i64),
        _ => None,
    }
}

/// The numbers of known names; the empty name stands for facts without one.
pub async fn dimension_numbers(tx: &TenantTx, kind: DimensionKind, names: &[String]) -> Result<Vec<i64>> {
    let keys = Table::new().with("value", Column::Text(names.to_vec()));
    let sql = format!(
        "SELECT d.no FROM {{keys}} {{each dimension_values d: d.kind = {} AND d.value = k.value}}",
        kind as i32
    );
    let rows = tx.query_by_keys(&sql, &keys).await?;
    let mut numbers = rows.iter().map(|row| get::<i32>(row, 0).map(i64::from)).collect::<Result<Vec<_>>>()?;
    if names.iter().any(String::is_empty) {
        numbers.push(0);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The numbers of known products.
pub async fn product_numbers(tx: &TenantTx, skus: &[String]) -> Result<Vec<i64>> {
    let keys = Table::new().with("sku", Column::Text(skus.to_vec()));
    let sql = "SELECT p.product_no FROM {keys} {each products p: p.sku = k.sku}";
    let rows = tx.query_by_keys(sql, &keys).await?;
    let mut numbers = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}
