//! The cells of one part of an answer with their KPIs, and the values derived from them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use models::kpis::Shift;

use super::answer::Bucket;
use super::catalog::Needs;
use super::cell::{Cell, Values};
use super::facts::Facts;
use super::filter::Filter;
use super::group::{GroupBy, GroupKey};
use super::kpis::Calendar;
use super::kpis::definitions::{Definitions, own_needs};
use super::kpis::part::{KpiPart, Snapshot, Views};
use super::labels::{Labels, Name};
use super::period::Span;
use super::plan::{BUCKETS_MAX, SeriesArgs};
use super::read::{Cells, Question};
use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::ledger::entry::Entry;
use crate::ledger::organization::Organization;

/// Whose facts count.
#[derive(Debug)]
pub struct Scope {
    pub filter: Filter,
    /// All organizations of the tenant.
    pub organizations: Arc<Vec<Organization>>,
    /// The requested KPIs.
    pub definitions: Definitions,
}

/// Cells and their dimensions.
pub struct CellGrid {
    pub boundaries: Vec<Timestamp>,
    pub group: GroupBy,
    pub needs: Needs,
    pub cells: Cells,
    pub kpis: KpiPart,
}

/// Reads grids in one snapshot.
pub struct GridReader<'a> {
    pub tx: &'a TenantTx,
    pub scope: &'a Scope,
    pub facts: &'a Facts,
    /// Entries before this have been dropped.
    pub retained_from: Option<Timestamp>,
}

impl GridReader<'_> {
    /// One cell for each bucket and group.
    pub async fn grid(
        &self,
        boundaries: Vec<Timestamp>,
        group: GroupBy,
        needs: Needs,
        kpis: &BTreeSet<String>,
        calendar: Calendar,
    ) -> Result<CellGrid> {
        let needs = needs.and(own_needs(&self.scope.definitions, kpis));
        let boundaries = self.facts.known(boundaries, &group, self.retained_from)?;
        let cells = self.scope.question(&boundaries, &group, needs).cells(self.tx, self.facts).await?;
        let kpis = self.kpis(&boundaries, &group, kpis, calendar).await?;
        Ok(CellGrid { boundaries, group, needs, cells, kpis })
    }

    /// One cell for each group.
    pub async fn one_bucket(
        &self,
        span: Span,
        group: GroupBy,
        needs: Needs,
        kpis: &BTreeSet<String>,
        calendar: Calendar,
    ) -> Result<CellGrid> {
        self.grid(vec![span.start, span.end], group, needs, kpis, calendar).await
    }

    pub async fn kpis(
        &self,
        boundaries: &[Timestamp],
        group: &GroupBy,
        kpis: &BTreeSet<String>,
        calendar: Calendar,
    ) -> Result<KpiPart> {
        let Scope { filter, organizations, definitions } = self.scope;
        let asked = kpis.iter().filter_map(|name| definitions.get(name));
        let snapshot = Snapshot { tx: self.tx, organizations, facts: self.facts, retained_from: self.retained_from };
        Views::find(self.tx, filter, asked).await?.read(&snapshot, (boundaries, group), calendar).await
    }
}

impl CellGrid {
    pub fn fold<'e>(&mut self, scope: &Scope, entries: impl Iterator<Item = &'e Entry> + Clone) -> Result<bool> {
        let question = scope.question(&self.boundaries, &self.group, self.needs);
        Ok(question.fold(entries.clone(), &mut self.cells)?
            && self.kpis.fold(&scope.organizations, &self.group, entries)?)
    }

    /// The values of a grid with one bucket and no grouping.
    pub async fn values(&self) -> Result<Values> {
        self.values_of(&[&GroupKey::new()]).await
    }

    /// The groups of a grid with one bucket.
    pub fn keys(&self) -> impl Iterator<Item = &GroupKey> {
        self.cells.cells.keys().map(|(_, key)| key)
    }

    /// The values of some groups of a grid with one bucket, combined.
    pub async fn values_of(&self, keys: &[&GroupKey]) -> Result<Values> {
        let found = keys.iter().filter_map(|key| self.cells.cells.get(&(0, (*key).clone())));
        let (found, mut combined): (Vec<&Cell>, _) = (found.collect(), Cell::default());
        let cell = if let [only] = found.as_slice() {
            only
        } else {
            found.iter().for_each(|cell| combined.merge(cell));
            &combined
        };
        self.with_kpis(self.cells.values(0, cell)?, 0, keys).await
    }

    /// The metrics of a bucket, over some groups combined, with the KPIs there.
    async fn with_kpis(&self, values: Values, bucket: usize, keys: &[&GroupKey]) -> Result<Values> {
        let kpis = self.kpis.values(&values, bucket, keys).await?;
        Ok(Values { kpis, ..values })
    }

    /// The values of some buckets of a grid without grouping.
    pub async fn values_by_bucket(&self, buckets: Range<usize>) -> Result<Vec<Values>> {
        let (empty, all) = (Cell::default(), GroupKey::new());
        let mut values = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let cell = self.cells.cells.get(&(bucket, GroupKey::new())).unwrap_or(&empty);
            values.push(self.with_kpis(self.cells.values(bucket, cell)?, bucket, &[&all]).await?);
        }
        Ok(values)
    }

    pub async fn series(&self, args: SeriesArgs, labels: &Labels, now: Timestamp) -> Result<Vec<Bucket>> {
        let bucket = |index: usize, key: Option<Name>, values: Values| {
            let span = Span { start: self.boundaries[index], end: self.boundaries[index + 1] };
            Bucket { span, is_open: span.is_open(now), has_begun: span.start <= now, key, values }
        };
        let Some(dimension) = args.by else {
            let values = self.values_by_bucket(0..self.boundaries.len() - 1).await?;
            return Ok(values.into_iter().enumerate().map(|(index, values)| bucket(index, None, values)).collect());
        };
        let cells = &self.cells.cells;
        if cells.len() > BUCKETS_MAX {
            let message = format!(
                "more than {BUCKETS_MAX} buckets with something in them; use another dimension, a coarser grain, a shorter period or filters"
            );
            return Err(Error::bad_input("by", message));
        }
        let mut found = Vec::with_capacity(cells.len());
        for ((index, key), cell) in cells {
            let values = self.with_kpis(self.cells.values(*index, cell)?, *index, &[key]).await?;
            found.push(bucket(*index, Some(labels.name(dimension, key[0])), values));
        }
        found.sort_by(|a, b| (a.span.start, &a.key).cmp(&(b.span.start, &b.key)));
        Ok(found)
    }
}

impl Scope {
    /// How far KPIs look back.
    pub fn shifts(&self, kpis: &BTreeSet<String>) -> BTreeSet<Shift> {
        let asked = kpis.iter().filter_map(|name| self.definitions.get(name));
        asked.flat_map(|definition| definition.plan.questions()).map(|question| question.shift.clone()).collect()
    }

    pub fn question<'a>(&'a self, boundaries: &'a [Timestamp], group: &'a GroupBy, needs: Needs) -> Question<'a> {
        Question { boundaries, filter: &self.filter, organizations: &self.organizations, group, needs }
    }
}

impl Cells {
    /// The values of a cell in a bucket.
    fn values(&self, bucket: usize, cell: &Cell) -> Result<Values> {
        cell.values(self.view, self.first_customers(bucket))
    }
}

pub fn too_many_buckets() -> Error {
    Error::bad_input("grain", format!("more than {BUCKETS_MAX} buckets; use a coarser grain or a shorter period"))
}
