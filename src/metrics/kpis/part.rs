//! The extra cells KPIs need: one set per filter and shift in their formulas.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use models::kpis::{Dimension as Named, Filter as Conditions, Number, Question as Asked, Shift, Values as Names};
use roaring::RoaringBitmap;

use super::definitions::{Definition, View, metric_of};
use super::shift::Calendar;
use super::value::KpiValue;
use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::{Error, Result};
use crate::ledger::changes::DimensionKind;
use crate::ledger::entry::Entry;
use crate::ledger::organization::Organization;
use crate::metrics::catalog::{Metric, Needs};
use crate::metrics::cell::{Cell, Values};
use crate::metrics::dimension::Dimension;
use crate::metrics::facts::Facts;
use crate::metrics::filter::{Filter, dimension_numbers, product_numbers, segment_number};
use crate::metrics::group::{GroupBy, GroupKey, UNGROUPED};
use crate::metrics::period::Span;
use crate::metrics::read::{Cells, Question};

/// Filters and shifts of all KPIs in one part of a request.
const VIEWS_MAX: usize = 48;

/// KPIs with the filters and shifts of their formulas, names resolved.
#[derive(Clone, Default)]
pub struct Views {
    kpis: Vec<Compiled>,
    views: Vec<(Filter, Shift, Needs)>,
}

#[derive(Clone)]
struct Compiled {
    definition: Arc<Definition>,
    /// For each question, the metric and the index of its view; `None` for the part's own cells.
    questions: Vec<(Option<usize>, Metric)>,
}

/// The KPIs of a part of an answer.
#[derive(Default)]
pub struct KpiPart {
    kpis: Vec<Compiled>,
    viewed: Vec<Viewed>,
    /// A shifted bucket's original is open, so ever more of the shifted one counts.
    pub is_running: bool,
}

/// Cells under a filter and shift.
struct Viewed {
    filter: Filter,
    /// Bucket boundaries. Buckets may overlap and leave gaps, so each is a range of cells.
    boundaries: Vec<Timestamp>,
    buckets: Vec<Range<usize>>,
    needs: Needs,
    cells: Cells,
}

impl Views {
    /// The views of some KPIs, on top of the filter `base`; equal views are shared across KPIs. Error: BAD_USER_INPUT
    /// (too many).
    pub async fn find(
        tx: &TenantTx,
        base: &Filter,
        definitions: impl Iterator<Item = &Arc<Definition>>,
    ) -> Result<Views> {
        let (mut kpis, mut wanted) = (Vec::new(), Vec::<(View, Needs)>::new());
        for definition in definitions {
            for (view, needs) in definition.views() {
                match wanted.iter_mut().find(|(other, _)| *other == view) {
                    Some((_, other)) => *other = other.and(needs),
                    None => wanted.push((view, needs)),
                }
            }
            let place = |question: &Asked| {
                let metric =
                    metric_of(question).ok_or_else(|| Error::internal("a metric that is not in the catalog"))?;
                let is_view = |(filter, shift): &View| *filter == question.filter && *shift == question.shift;
                Ok((wanted.iter().position(|(view, _)| is_view(view)), metric))
            };
            let questions = definition.plan.questions().iter().map(place).collect::<Result<_>>()?;
            kpis.push(Compiled { definition: Arc::clone(definition), questions });
        }
        if wanted.len() > VIEWS_MAX {
            let message = format!("the KPIs asked for have more than {VIEWS_MAX} filters and earlier times");
            return Err(Error::bad_input("names", message));
        }
        let mut views = Vec::with_capacity(wanted.len());
        for ((conditions, shift), needs) in wanted {
            views.push((narrowed(tx, base, &conditions).await?, shift, needs));
        }
        Ok(Views { kpis, views })
    }

    /// What they need of the surrounding cells.
    pub fn own_needs(&self) -> Needs {
        self.kpis.iter().fold(Needs::default(), |needs, kpi| needs.and(kpi.definition.own_needs()))
    }

    /// The spans read for `span`, except itself.
    pub fn spans(&self, span: Span, calendar: &Calendar) -> impl Iterator<Item = (Span, &Shift)> {
        self.views.iter().map(move |(_, shift, _)| (calendar.back(span, shift), shift))
    }

    /// Reads what they need in the buckets between `boundaries`. Error: AS_OF_NOT_AVAILABLE.
    pub async fn read(
        self,
        snapshot: &Snapshot<'_>,
        (boundaries, group): Buckets<'_>,
        calendar: Calendar,
    ) -> Result<KpiPart> {
        let mut part = KpiPart { kpis: self.kpis, ..KpiPart::default() };
        for (filter, shift, needs) in self.views {
            let mut viewed = Viewed::new(filter, boundaries, &calendar, &shift, needs);
            viewed.boundaries = snapshot.facts.known(viewed.boundaries, group, snapshot.retained_from)?;
            viewed.cells = viewed.question(snapshot.organizations, group).cells(snapshot.tx, snapshot.facts).await?;
            let is_open = boundaries.last().is_some_and(|end| *end > calendar.now);
            part.is_running |= is_open && shift != Shift::default();
            part.viewed.push(viewed);
        }
        Ok(part)
    }

    /// Computes what they need in the buckets between `boundaries` from entries alone; `entries` returns those of a
    /// span.
    pub fn of_entries<'e, E: Iterator<Item = &'e Entry> + Clone>(
        self,
        (organizations, boundaries): (&[Organization], &[Timestamp]),
        calendar: &Calendar,
        mut entries: impl FnMut(Span) -> E,
    ) -> Result<KpiPart> {
        let mut part = KpiPart { kpis: self.kpis, ..KpiPart::default() };
        for (filter, shift, needs) in self.views {
            let mut viewed = Viewed::new(filter, boundaries, calendar, &shift, needs);
            if let (Some(start), Some(end)) = (viewed.boundaries.first(), viewed.boundaries.last()) {
                let span = Span { start: *start, end: *end };
                viewed.cells = viewed.question(organizations, &UNGROUPED).cells_of(entries(span))?;
            }
            part.viewed.push(viewed);
        }
        Ok(part)
    }
}

/// Bucket boundaries, and what each bucket is split by.
type Buckets<'a> = (&'a [Timestamp], &'a GroupBy);

/// The source of a read.
pub struct Snapshot<'a> {
    pub tx: &'a TenantTx,
    /// All organizations of the tenant.
    pub organizations: &'a [Organization],
    pub facts: &'a Facts,
    /// Entries before this have been dropped.
    pub retained_from: Option<Timestamp>,
}

impl Compiled {
    /// The KPI's value, given the surrounding metrics `own` and those of the views, `viewed`.
    fn value(&self, own: &Values, viewed: &[Values]) -> KpiValue {
        let values = |view: &Option<usize>| view.and_then(|view| viewed.get(view)).unwrap_or(own);
        let answers: Vec<Option<Number>> =
            self.questions.iter().map(|(view, metric)| metric.number(values(view))).collect();
        let Definition { name, plan } = self.definition.as_ref();
        KpiValue { name: Arc::clone(name), unit: plan.unit(), result: plan.evaluate(&answers) }
    }
}

impl KpiPart {
    /// Whether every name in the filters was found.
    pub fn is_complete(&self) -> bool {
        self.viewed.iter().all(|viewed| viewed.filter.is_complete)
    }

    /// Adds newer entries; `false` if the cells must be re-read.
    pub fn fold<'e>(
        &mut self,
        organizations: &[Organization],
        group: &GroupBy,
        entries: impl Iterator<Item = &'e Entry> + Clone,
    ) -> Result<bool> {
        for viewed in &mut self.viewed {
            let Viewed { filter, boundaries, needs, cells, .. } = viewed;
            let question = Question { boundaries, filter, organizations, group, needs: *needs };
            if !question.fold(entries.clone(), cells)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The KPIs in one bucket, over the groups `keys` combined; `own` are the metrics there. A formula may take long
    /// enough to let other tasks run after a number of them.
    pub async fn values(&self, own: &Values, bucket: usize, keys: &[&GroupKey]) -> Result<Vec<KpiValue>> {
        let viewed = self.viewed.iter().map(|viewed| viewed.values(bucket, keys)).collect::<Result<Vec<_>>>()?;
        let mut values = Vec::with_capacity(self.kpis.len());
        for kpi in &self.kpis {
            tokio::task::consume_budget().await;
            values.push(kpi.value(own, &viewed));
        }
        Ok(values)
    }
}

impl Viewed {
    fn new(filter: Filter, boundaries: &[Timestamp], calendar: &Calendar, shift: &Shift, needs: Needs) -> Viewed {
        let buckets = boundaries.windows(2).map(|pair| Span { start: pair[0], end: pair[1] });
        let spans: Vec<Span> = buckets.map(|bucket| calendar.back(bucket, shift)).collect();
        let cuts: BTreeSet<Timestamp> = spans.iter().flat_map(|span| [span.start, span.end]).collect();
        let boundaries: Vec<Timestamp> = cuts.into_iter().collect();
        let place = |at: Timestamp| boundaries.partition_point(|boundary| *boundary < at);
        let buckets = spans.iter().map(|span| place(span.start)..place(span.end)).collect();
        Viewed { filter, boundaries, buckets, needs, cells: Cells::default() }
    }

    fn question<'a>(&'a self, organizations: &'a [Organization], group: &'a GroupBy) -> Question<'a> {
        Question { boundaries: &self.boundaries, filter: &self.filter, organizations, group, needs: self.needs }
    }

    /// The metrics of a bucket's cells, counting each order and customer once.
    fn values(&self, bucket: usize, keys: &[&GroupKey]) -> Result<Values> {
        let (mut all, mut first_customers) = (Cell::default(), RoaringBitmap::new());
        for index in self.buckets.get(bucket).cloned().unwrap_or_default() {
            let cells = keys.iter().filter_map(|key| self.cells.cells.get(&(index, (*key).clone())));
            cells.for_each(|cell| all.merge(cell));
            first_customers |= self.cells.first_customers(index);
        }
        all.values(self.cells.view, &first_customers)
    }
}

/// A filter narrowed by a formula's conditions.
async fn narrowed(tx: &TenantTx, base: &Filter, conditions: &Conditions) -> Result<Filter> {
    let mut filter = base.clone();
    for (named, values) in conditions.by_dimension() {
        let (Names::Only(names) | Names::AllBut(names)) = values;
        let names: Vec<String> = names.iter().cloned().collect();
        let (dimension, numbers) = match named {
            Named::Channel => (Dimension::Channel, dimension_numbers(tx, DimensionKind::Channel, &names).await?),
            Named::Region => (Dimension::Region, dimension_numbers(tx, DimensionKind::Region, &names).await?),
            Named::Category => {
                (Dimension::ProductCategory, dimension_numbers(tx, DimensionKind::Category, &names).await?)
            }
            Named::Product => (Dimension::Product, product_numbers(tx, &names).await?),
            Named::Segment => {
                (Dimension::CustomerSegment, names.iter().filter_map(|name| segment_number(name)).collect())
            }
        };
        filter.is_complete &= numbers.len() == names.len();
        match values {
            Names::Only(_) => filter.keep(dimension, &numbers),
            Names::AllBut(_) => filter.drop(dimension, &numbers),
        }
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use models::kpis::{Formula, Kpis, SALES};

    use super::*;

    #[tokio::test]
    async fn a_time_out_ends_the_evaluation_of_many_formulas() {
        let formula = Formula::parse("1 / 3 + 1 / 7").expect("a formula");
        let plan = Kpis::new(SALES, [].into()).plan(&formula).expect("a plan");
        let definition = Arc::new(Definition { name: "many".into(), plan });
        let part = KpiPart { kpis: vec![Compiled { definition, questions: Vec::new() }], ..KpiPart::default() };
        let forever = async {
            loop {
                part.values(&Values::default(), 0, &[]).await.expect("values");
            }
        };
        tokio::time::timeout(Duration::from_millis(1), forever).await.expect_err("ended");
    }
}
