//! Labels of dimension values by number.

use std::collections::{BTreeSet, HashMap};

use super::dimension::Dimension;
use super::group::GroupKey;
use crate::db::{Column, LazyTx, Table, TenantTx, get};
use crate::error::Result;
use crate::ledger::dimensions::DimensionNames;
use crate::ledger::entry::Segment;
use crate::ledger::organization::Organization;

/// One value of one dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Names are in the order of this, then of their labels: hours and days of the week in that of time.
    order: i64,
    pub label: String,
    pub value: Option<String>,
    pub dimension: Dimension,
}

/// Names by dimension and number.
#[derive(Default)]
pub struct Labels(HashMap<(Dimension, i64), (String, Option<String>)>);

impl Labels {
    /// Looks up the missing names of all values in `keys`, whose elements belong to the dimensions `by`.
    pub async fn complete<'a>(
        &mut self,
        reads: &LazyTx<'_>,
        known: &DimensionNames,
        by: &[Dimension],
        keys: impl Iterator<Item = &'a GroupKey> + Clone,
        organizations: &[Organization],
    ) -> Result<()> {
        for (index, dimension) in by.iter().enumerate() {
            let is_missing = |number: &i64| *number != 0 && !self.0.contains_key(&(*dimension, *number));
            let numbers: BTreeSet<i64> = keys.clone().map(|key| key[index]).filter(is_missing).collect();
            if numbers.is_empty() {
                continue;
            }
            let names = match dimension {
                Dimension::Organization => organization_names(organizations),
                Dimension::CustomerSegment => segment_names(),
                Dimension::Channel | Dimension::Region | Dimension::ProductCategory => {
                    let names = known.get(reads.get().await?, numbers.iter().copied()).await?;
                    numbers.iter().filter_map(|no| Some((*no, (names.get(no)?.clone(), None)))).collect()
                }
                Dimension::Product => product_names(reads.get().await?, &numbers).await?,
                Dimension::Customer => customer_names(reads.get().await?, &numbers).await?,
                Dimension::DayOfWeek => numbers.iter().filter_map(|no| Some((*no, day_name(*no)?))).collect(),
                Dimension::HourOfDay => numbers.iter().map(|no| (*no, hour_name(*no))).collect(),
            };
            self.0.extend(names.into_iter().map(|(number, name)| ((*dimension, number), name)));
        }
        Ok(())
    }

    /// Evicts a product's name, which a newer sale may have changed.
    pub fn forget_product(&mut self, product_no: i64) {
        self.0.remove(&(Dimension::Product, product_no));
    }

    /// The name of a number; "(none)" for facts whose source gave none.
    pub fn name(&self, dimension: Dimension, number: i64) -> Name {
        let order = if dimension.is_of_time() { number } else { 0 };
        match self.0.get(&(dimension, number)) {
            Some((value, label)) => {
                let label = label.clone().unwrap_or_else(|| value.clone());
                Name { order, label, value: Some(value.clone()), dimension }
            }
            None => Name { order, label: "(none)".to_owned(), value: None, dimension },
        }
    }

    pub fn names(&self, by: &[Dimension], key: &GroupKey) -> Vec<Name> {
        by.iter().zip(key).map(|(dimension, number)| self.name(*dimension, *number)).collect()
    }
}

/// Number, value, and display name.
type Names = Vec<(i64, (String, Option<String>))>;

fn organization_names(organizations: &[Organization]) -> Names {
    organizations.iter().map(|o| (o.org_no.into(), (o.slug.clone(), Some(o.name.clone())))).collect()
}

fn segment_names() -> Names {
    vec![(Segment::New as i64, ("NEW".to_owned(), None)), (Segment::Returning as i64, ("RETURNING".to_owned(), None))]
}

fn day_name(number: i64) -> Option<(String, Option<String>)> {
    const NAMES: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let name = NAMES.get(usize::try_from(number - 1).ok()?)?;
    Some((name.to_uppercase(), Some((*name).to_owned())))
}

fn hour_name(number: i64) -> (String, Option<String>) {
    let hour = number - 1;
    (format!("{hour:02}"), Some(format!("{hour:02}:00")))
}

async fn product_names(tx: &TenantTx, numbers: &BTreeSet<i64>) -> Result<Names> {
    let sql = "SELECT p.product_no, p.sku, p.title FROM {keys} {each products p: p.product_no = k.no}";
    let rows = tx.query_by_keys(sql, &numbers_table(numbers)).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, (get(row, 1)?, get(row, 2)?)))).collect()
}

async fn customer_names(tx: &TenantTx, numbers: &BTreeSet<i64>) -> Result<Names> {
    let sql = "SELECT c.customer_no, c.external_id FROM {keys} {each customers c: c.customer_no = k.no}";
    let rows = tx.query_by_keys(sql, &numbers_table(numbers)).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, (get(row, 1)?, None)))).collect()
}

fn numbers_table(numbers: &BTreeSet<i64>) -> Table {
    Table::new().with("no", Column::Int(numbers.iter().copied().collect()))
}
