//! The data behind the answer to a [`Plan`]. It is read once, in one ledger snapshot, and then carried forward batch by
//! batch by adding their entries, at no further cost.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono_tz::Tz;

use super::answer::{Answer, AsOf, ComparedValues, Comparison};
use super::cell::Values;
use super::dimension::Dimension;
use super::facts::Facts;
use super::filter::Filter;
use super::grid::{CellGrid, GridReader, Scope, too_many_buckets};
use super::group::{GroupBy, GroupKey, UNGROUPED};
use super::history::{self, History, HistoryArgs, HistoryResult};
use super::input::ComparisonPeriod;
use super::kpis::Calendar;
use super::kpis::definitions::{self, cost, own_needs};
use super::labels::Labels;
use super::period::{self, Span};
use super::plan::{BUCKETS_MAX, BreakdownPlan, ComparisonArgs, ComparisonPlan, Plan};
use super::ranking::Ranked;
use crate::calendar;
use crate::clock::{MINUTE, SECOND, Timestamp};
use crate::db::{LazyTx, Standing, TenantTx};
use crate::error::{Error, Result};
use crate::graphql::size::Size;
use crate::ledger::entry::Entry;
use crate::ledger::memory::Memory;
use crate::ledger::organization::Organization;
use crate::ledger::store::read_head;
use crate::stream::CommittedBatch;

/// Maximum age of the cut-off of a running period in comparisons, with and without newer facts.
const CUT_AGE_MAX: i64 = SECOND;
const CUT_AGE_MAX_IDLE: i64 = MINUTE;

/// Sums and sets of everything a plan asks for, as of one position.
pub struct State {
    plan: Plan,
    scope: Arc<Scope>,
    /// Time zone of days: the period's, otherwise its organization's.
    zone: Tz,
    span: Span,
    /// When it was read, which is the cut-off of running periods in comparisons.
    read_at: Timestamp,
    slides_at: Option<Timestamp>,
    standing: Standing,
    as_of: AsOf,
    totals: Option<CellGrid>,
    series: Vec<CellGrid>,
    breakdowns: Vec<CellGrid>,
    comparisons: Vec<Compared>,
    /// As read: not carried forward.
    histories: Vec<(HistoryArgs, HistoryResult)>,
    labels: Labels,
    /// Newer entries were added since it was read.
    is_carried_on: bool,
}

/// Two periods, both cut to the elapsed part.
struct Compared {
    current_span: Span,
    previous_span: Span,
    whole: ComparedGrids,
    breakdowns: Vec<ComparedGrids>,
    is_open: bool,
}

struct ComparedGrids {
    current: CellGrid,
    previous: CellGrid,
}

impl ComparedGrids {
    fn both(&self) -> [&CellGrid; 2] {
        [&self.current, &self.previous]
    }

    /// The groups of either period.
    fn keys(&self) -> BTreeSet<&GroupKey> {
        self.current.keys().chain(self.previous.keys()).collect()
    }

    /// The values of some groups in both periods, combined.
    async fn values_of(&self, keys: &[&GroupKey]) -> Result<ComparedValues> {
        let (current, previous) = (self.current.values_of(keys).await?, self.previous.values_of(keys).await?);
        Ok(ComparedValues { current, previous })
    }
}

impl Compared {
    fn grids(&self) -> impl Iterator<Item = &CellGrid> {
        [&self.whole].into_iter().chain(&self.breakdowns).flat_map(ComparedGrids::both)
    }

    fn grids_mut(&mut self) -> impl Iterator<Item = &mut CellGrid> {
        let grids = [&mut self.whole].into_iter().chain(&mut self.breakdowns);
        grids.flat_map(|grids| [&mut grids.current, &mut grids.previous])
    }
}

impl State {
    /// Reads everything in the snapshot of `tx` at time `now`. Errors: as [`super::answer::answer`].
    pub async fn read(tx: &TenantTx, memory: &Memory, plan: &Plan, now: Timestamp, size: &Size) -> Result<State> {
        let standing = read_head(tx).await?.standing();
        State::read_at(tx, standing, memory, plan, now, size).await
    }

    /// The same where it is known what `tx` sees of the head.
    pub async fn read_at(
        tx: &TenantTx,
        standing: Standing,
        memory: &Memory,
        plan: &Plan,
        now: Timestamp,
        size: &Size,
    ) -> Result<State> {
        let organizations = memory.organizations.get(tx, standing.head.policy_epoch).await?;
        let as_of = AsOf::find(tx, plan.as_of, &standing).await?;
        let earlier = Some(as_of.position).filter(|position| *position < standing.head.position);
        let filter = Filter::find(tx, &organizations, &plan.filters, plan.adds_amounts(), earlier).await?;
        let zone = plan.period.timezone.map_or_else(|| default_zone(&filter, &organizations), |zone| zone.0);
        let span = plan.period.resolve("period", now, zone)?;
        let facts = Facts::at(tx, memory, &standing, as_of.position).await?;
        let custom = plan.comparisons.iter().filter_map(|comparison| comparison.args.period);
        let slides_at = custom.chain([plan.period]).filter_map(|period| period.slides_at(now, zone)).min();
        let mut state = State {
            plan: plan.clone(),
            scope: Arc::new(Scope {
                filter,
                organizations,
                definitions: definitions::find(tx, &plan.all_kpis()).await?,
            }),
            zone,
            span,
            read_at: now,
            slides_at,
            standing,
            as_of,
            totals: None,
            series: Vec::with_capacity(plan.series.len()),
            breakdowns: Vec::with_capacity(plan.breakdowns.len()),
            comparisons: Vec::with_capacity(plan.comparisons.len()),
            histories: Vec::new(),
            labels: Labels::default(),
            is_carried_on: false,
        };
        state.read_parts(tx, &facts, size).await?;
        Ok(state)
    }

    async fn read_parts(&mut self, tx: &TenantTx, facts: &Facts, size: &Size) -> Result<()> {
        let scope = Arc::clone(&self.scope);
        let retained_from = self.standing.retained_from.map(Timestamp);
        let reader = GridReader { tx, scope: &scope, facts, retained_from };
        let whole = Some((self.plan.period, self.span));
        let calendar = Calendar { zone: self.zone, now: self.read_at, whole, part_of: None, step: None };
        self.read_series(&reader, calendar, size).await?;
        if let (None, Some(needs)) = (&self.totals, self.plan.totals) {
            let group = UNGROUPED.clone();
            self.totals = Some(reader.one_bucket(self.span, group, needs, &self.plan.kpis, calendar).await?);
        }
        for asked in &self.plan.breakdowns {
            let group = GroupBy { dimensions: asked.args.by.clone(), zone: self.zone };
            let grid = reader.one_bucket(self.span, group, asked.all_needs(), &asked.kpis, calendar).await;
            let grid = grid.and_then(|grid| paid(grid, size)).map_err(|error| error.in_field(&asked.field))?;
            take_rows(size, asked, grid.cells.cells.len(), cost(&scope.definitions, &asked.kpis))?;
            self.breakdowns.push(grid);
        }
        for asked in &self.plan.comparisons {
            let compared = self.read_comparison(&reader, asked, calendar, size).await?;
            self.comparisons.push(compared);
        }
        self.histories = self.read_histories(&reader, size).await?;
        Ok(())
    }

    /// Reads all series, and with one whose buckets sum to the whole also the totals.
    async fn read_series(&mut self, reader: &GridReader<'_>, calendar: Calendar, size: &Size) -> Result<()> {
        let span = self.span;
        let mut boundaries_of_series = Vec::with_capacity(self.plan.series.len());
        for asked in &self.plan.series {
            let zone = asked.args.timezone.unwrap_or(self.zone);
            let boundaries = calendar::boundaries(span.start, span.end, asked.args.step(), zone, BUCKETS_MAX)
                .ok_or_else(|| too_many_buckets().in_field(&asked.field))?;
            let fields = asked.fields + cost(&self.scope.definitions, &asked.kpis);
            size.take(boundaries.len().saturating_sub(1), fields, "grain")
                .map_err(|error| error.in_field(&asked.field))?;
            boundaries_of_series.push((boundaries, zone, fields));
        }
        for (asked, (boundaries, zone, fields)) in self.plan.series.iter().zip(boundaries_of_series) {
            let adds_up = asked.args.by.is_none_or(Dimension::adds_up);
            let whole_needs = self.plan.totals.filter(|_| self.totals.is_none() && adds_up);
            let of_kpis = own_needs(&self.scope.definitions, &self.plan.kpis);
            let needs = whole_needs.map_or(asked.needs, |whole| asked.needs.and(whole).and(of_kpis));
            let of_buckets = Calendar { zone, whole: None, step: Some(asked.args.step()), ..calendar };
            let group = GroupBy { dimensions: asked.args.by.into_iter().collect(), zone };
            let buckets = boundaries.len().saturating_sub(1);
            let grid = reader.grid(boundaries, group, needs, &asked.kpis, of_buckets).await;
            let grid = grid.and_then(|grid| paid(grid, size)).map_err(|error| error.in_field(&asked.field))?;
            if asked.args.by.is_some() {
                size.take(grid.cells.cells.len().saturating_sub(buckets), fields, "by")
                    .map_err(|error| error.in_field(&asked.field))?;
            }
            if whole_needs.is_some() {
                let ends = [grid.boundaries.first(), grid.boundaries.last()];
                let boundaries: Vec<_> = ends.into_iter().flatten().copied().collect();
                let cells = grid.cells.whole();
                let kpis = reader.kpis(&boundaries, &UNGROUPED, &self.plan.kpis, calendar).await?;
                self.totals = Some(CellGrid { boundaries, group: UNGROUPED.clone(), needs, cells, kpis });
            }
            self.series.push(grid);
        }
        Ok(())
    }

    async fn read_comparison(
        &self,
        reader: &GridReader<'_>,
        asked: &ComparisonPlan,
        calendar: Calendar,
        size: &Size,
    ) -> Result<Compared> {
        let span = self.span;
        let is_open = span.is_open(self.read_at);
        let other = self.compared_with(asked.args).map_err(|error| error.in_field(&asked.field))?;
        let (current_span, previous_span) = match asked.args.to {
            _ if !is_open => (span, other),
            ComparisonPeriod::SamePeriodLastYear => period::elapsed_and_year_before(span, self.read_at, self.zone),
            _ => period::elapsed_parts(span, other, self.read_at, self.zone),
        };
        // A shifted part is the equally long part of the shifted whole.
        let of_current = Calendar { part_of: Some(span), ..calendar };
        let other_range = asked.args.period.unwrap_or(self.plan.period);
        let of_previous =
            Calendar { now: previous_span.end, whole: Some((other_range, other)), part_of: Some(other), ..calendar };
        let read = async |by: &[Dimension], needs, kpis| {
            let group = GroupBy { dimensions: by.to_vec(), zone: self.zone };
            let current = paid(reader.one_bucket(current_span, group.clone(), needs, kpis, of_current).await?, size)?;
            let previous = paid(reader.one_bucket(previous_span, group, needs, kpis, of_previous).await?, size)?;
            Ok::<_, Error>(ComparedGrids { current, previous })
        };
        let whole = read(&[], asked.needs, &asked.kpis).await?;
        let mut breakdowns = Vec::with_capacity(asked.breakdowns.len());
        for rows in &asked.breakdowns {
            let grids = read(&rows.args.by, rows.all_needs(), &rows.kpis).await;
            let grids = grids.map_err(|error| error.in_field(&rows.field).in_field(&asked.field))?;
            let cost = 2 * cost(&self.scope.definitions, &rows.kpis);
            take_rows(size, rows, grids.keys().len(), cost).map_err(|error| error.in_field(&asked.field))?;
            breakdowns.push(grids);
        }
        Ok(Compared { current_span, previous_span, whole, breakdowns, is_open })
    }

    async fn read_histories(&self, reader: &GridReader<'_>, size: &Size) -> Result<Vec<(HistoryArgs, HistoryResult)>> {
        if self.plan.histories.is_empty() {
            return Ok(Vec::new());
        }
        let is_newest = self.as_of.position == self.standing.head.position;
        let left_at = if is_newest { None } else { history::left_at(reader.tx, self.as_of.position).await? };
        let at = history::At {
            scope: &self.scope,
            zone: self.zone,
            as_of: self.as_of,
            head: self.head(),
            is_newest,
            kept_from: self.standing.retained_from.filter(|_| !is_newest).map(Timestamp),
            over_by: left_at.unwrap_or(self.read_at).min(self.read_at),
            size,
        };
        History::tell(reader, &at, &self.plan.histories, self.span).await
    }

    fn compared_with(&self, args: ComparisonArgs) -> Result<Span> {
        match (args.to, args.period) {
            (ComparisonPeriod::Custom, Some(other)) => other.resolve("period", self.read_at, self.zone),
            (ComparisonPeriod::SamePeriodLastYear, _) => Ok(period::year_before(self.span, self.zone)),
            _ => Ok(self.plan.period.previous(self.span, self.zone)),
        }
    }

    /// The newest ledger state counted.
    pub fn head(&self) -> crate::db::Head {
        self.standing.head
    }

    /// When it must be re-read even though the ledger does not move: a preset slides on, a running comparison's cut-off
    /// is too old, or a history gains a bucket.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.due_after(if self.is_carried_on { CUT_AGE_MAX } else { CUT_AGE_MAX_IDLE })
    }

    fn due_after(&self, cut_age_max: i64) -> Option<Timestamp> {
        let cut = self.is_running().then(|| Timestamp(self.read_at.0 + cut_age_max).min(self.span.end));
        let histories = self.histories.iter().filter_map(|(_, history)| history.next_end());
        [self.slides_at, cut].into_iter().flatten().chain(histories).min()
    }

    /// Whether parts of open periods are compared with equally long earlier ones.
    fn is_running(&self) -> bool {
        self.comparisons.iter().any(|compared| compared.is_open) || self.parts().any(|part| part.kpis.is_running)
    }

    /// Whether it contains running comparisons, which end when it was read, beside newer facts. It has to be read again
    /// before the next answer, so that all of an answer agrees.
    pub fn is_behind(&self) -> bool {
        self.is_carried_on && self.is_running()
    }

    fn parts(&self) -> impl Iterator<Item = &CellGrid> {
        let compared = self.comparisons.iter().flat_map(Compared::grids);
        self.totals.iter().chain(&self.series).chain(&self.breakdowns).chain(compared)
    }

    /// Carries the state forward to the end of `batch`. `false` if it must be re-read instead: the batch is not
    /// contiguous or incomplete, or set multiplicities are unknown; settings changed; a name in the filter may be new;
    /// an organization got its first facts; or `now` is past the due time.
    pub fn fold(&mut self, batch: &CommittedBatch, now: Timestamp) -> Result<bool> {
        let Some(entries) = &batch.entries else { return Ok(false) };
        if batch.policy_epoch > self.standing.head.policy_epoch || batch.first > self.standing.head.position + 1 {
            return Ok(false);
        }
        if batch.last <= self.standing.head.position {
            return Ok(true);
        }
        if self.due_after(CUT_AGE_MAX).is_some_and(|at| at <= now) {
            return Ok(false);
        }
        let position = self.standing.head.position;
        let new = entries.iter().filter(|(at, _)| *at > position).map(|(_, entry)| entry);
        let is_complete = self.scope.filter.is_complete && self.parts().all(|part| part.kpis.is_complete());
        if !is_complete && new.clone().any(|entry| has_new_name(&self.standing, entry)) {
            return Ok(false);
        }
        let left_out = &self.scope.filter.left_out;
        if new.clone().any(|entry| left_out.contains(&entry.org_no)) {
            return Ok(false);
        }
        let compared = self.comparisons.iter_mut().flat_map(Compared::grids_mut);
        let parts = self.totals.iter_mut().chain(&mut self.series).chain(&mut self.breakdowns).chain(compared);
        for part in parts {
            if !part.fold(&self.scope, new.clone())? {
                return Ok(false);
            }
        }
        for line in new.flat_map(|entry| &entry.lines) {
            self.labels.forget_product(line.product_no);
        }
        self.is_carried_on = true;
        self.standing.head.position = batch.last;
        self.standing.head.last_alert_no = batch.last_alert_no;
        self.as_of = AsOf { position: batch.last, watermark: batch.watermark.map(Timestamp) };
        Ok(true)
    }

    /// The numbers at time `now`. Unknown names are looked up.
    pub async fn answer(&mut self, reads: &LazyTx<'_>, memory: &Memory, now: Timestamp) -> Result<Answer> {
        let mut labels = std::mem::take(&mut self.labels);
        let mut series = Vec::with_capacity(self.series.len());
        for (part, asked) in self.series.iter().zip(&self.plan.series) {
            let keys = part.cells.cells.keys().map(|(_, key)| key);
            labels.complete(reads, &memory.names, &part.group.dimensions, keys, &self.scope.organizations).await?;
            let buckets = part.series(asked.args, &labels, now).await.map_err(|error| error.in_field(&asked.field))?;
            series.push((asked.args, buckets));
        }
        let mut breakdowns = Vec::with_capacity(self.breakdowns.len());
        for (part, asked) in self.breakdowns.iter().zip(&self.plan.breakdowns) {
            let mut rows = Vec::with_capacity(part.cells.cells.len());
            for key in part.keys() {
                rows.push((key, part.values_of(&[key]).await?));
            }
            let ranked = Ranked::new(rows, &asked.args, |values| asked.args.order.measured.exact(values));
            let (by, keys) = (&part.group.dimensions, ranked.named());
            labels.complete(reads, &memory.names, by, keys, &self.scope.organizations).await?;
            let (mut breakdown, rest) = ranked.breakdown(&asked.args, &labels);
            if asked.has_other && !rest.is_empty() {
                breakdown.other = Some(part.values_of(&rest).await?);
            }
            breakdowns.push((asked.args.clone(), breakdown));
        }
        let mut comparisons = Vec::with_capacity(self.comparisons.len());
        for (compared, asked) in self.comparisons.iter().zip(&self.plan.comparisons) {
            let mut breakdowns = Vec::with_capacity(compared.breakdowns.len());
            for (grids, asked) in compared.breakdowns.iter().zip(&asked.breakdowns) {
                let mut rows = Vec::new();
                for key in grids.keys() {
                    rows.push((key, grids.values_of(&[key]).await?));
                }
                let order = &asked.args.order;
                let ranked =
                    Ranked::new(rows, &asked.args, |values: &ComparedValues| values.exact(&order.measured, order.of));
                let (by, keys) = (&asked.args.by, ranked.named());
                labels.complete(reads, &memory.names, by, keys, &self.scope.organizations).await?;
                let (mut breakdown, rest) = ranked.breakdown(&asked.args, &labels);
                if asked.has_other && !rest.is_empty() {
                    breakdown.other = Some(grids.values_of(&rest).await?);
                }
                breakdowns.push((asked.args.clone(), breakdown));
            }
            let comparison = Comparison {
                current_span: compared.current_span,
                previous_span: compared.previous_span,
                whole: compared.whole.values_of(&[&GroupKey::new()]).await?,
                breakdowns,
                is_open: compared.is_open,
            };
            comparisons.push((asked.args, comparison));
        }
        self.labels = labels;
        let totals = match &self.totals {
            Some(totals) => totals.values().await?,
            None => Values::default(),
        };
        Ok(Answer {
            span: self.span,
            zone: self.zone,
            now,
            as_of: self.as_of,
            head: self.standing.head,
            slides_at: self.slides_at,
            currency: self.scope.filter.organizations.first().map(|o| o.currency.as_str().into()).unwrap_or_default(),
            totals,
            series,
            breakdowns,
            comparisons,
            is_running: self.is_running(),
            histories: self.histories.clone(),
        })
    }
}

/// Charges what is added up from entries, shown or not.
fn paid(grid: CellGrid, size: &Size) -> Result<CellGrid> {
    if !grid.group.is_rolled_up() {
        size.take(grid.cells.cells.len(), 1, "by")?;
    }
    Ok(grid)
}

/// Charges the rows that a breakdown shows of `rows` to `size`, and for all of them, which are ranked, the `cost` of
/// their KPIs.
fn take_rows(size: &Size, asked: &BreakdownPlan, rows: usize, cost: usize) -> Result<()> {
    let ranked = || size.take(rows * cost, 1, "by");
    let shown = size.take(rows.min(asked.args.first), asked.fields, "first");
    shown.and_then(|()| ranked()).map_err(|error| error.in_field(&asked.field))
}

/// The zone of the single requested organization, otherwise of the default one.
pub fn default_zone(filter: &Filter, organizations: &[Organization]) -> Tz {
    let asked = match filter.organizations.as_slice() {
        [only] if filter.left_out.is_empty() => Some(only),
        _ => organizations.iter().find(|o| o.is_default),
    };
    asked.map_or(chrono_tz::UTC, |o| o.timezone)
}

/// Whether an entry has a name that got its number after `standing` was read.
fn has_new_name(standing: &Standing, entry: &Entry) -> bool {
    let is_new = |no: i32| i64::from(no) > standing.last_dimension_no;
    is_new(entry.channel_no)
        || is_new(entry.region_no)
        || entry.lines.iter().any(|line| is_new(line.category_no) || line.product_no > standing.last_product_no)
}
