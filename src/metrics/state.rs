//! What the answer to a [`Plan`] is made of. It is read once, in one snapshot of the ledger; then it can be carried on from
//! batch to batch by adding their entries, which costs nothing but those entries.

use std::ops::Range;
use std::sync::Arc;

use chrono_tz::Tz;
use sea_orm::Value;

use super::answer::{Answer, AsOf, Breakdown, Bucket, Comparison};
use super::catalog::Needs;
use super::cell::{Cell, Values};
use super::filter::Filter;
use super::history::{self, History, HistoryArgs};
use super::input::{ComparisonPeriod, SortDirection};
use super::labels::{Labels, Name};
use super::period::{self, Span};
use super::plan::{BUCKETS_MAX, BreakdownPlan, ComparisonArgs, Plan, SeriesArgs};
use super::read::{Cells, Dimension, Facts, GroupKey, Question};
use crate::calendar;
use crate::clock::{MINUTE, SECOND, Timestamp};
use crate::db::{LazyTx, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::ledger::changes::Head;
use crate::ledger::entry::Entry;
use crate::ledger::memory::Memory;
use crate::ledger::organization::Organization;
use crate::ledger::store::read_head;
use crate::money::Money;
use crate::stream::Batch;

/// The part of a running period that is compared ends no longer ago than this; without newer facts, than that.
const CUT_AGE_MAX: i64 = SECOND;
const CUT_AGE_MAX_IDLE: i64 = MINUTE;

/// Sums and sets of everything that a plan asks for, as of one position.
pub struct State {
    plan: Plan,
    scope: Arc<Scope>,
    /// The zone of days, where the plan names none.
    zone: Tz,
    span: Span,
    /// When it was read, which is where running periods are cut for comparison.
    read_at: Timestamp,
    slides_at: Option<Timestamp>,
    head: Head,
    as_of: AsOf,
    totals: Option<Part>,
    series: Vec<Part>,
    breakdowns: Vec<Part>,
    comparisons: Vec<Compared>,
    /// As they were read: what comes later is not added to them.
    histories: Vec<(HistoryArgs, Arc<History>)>,
    labels: Labels,
    /// Newer entries were added since it was read.
    is_carried_on: bool,
}

/// Whose facts count.
#[derive(Debug)]
pub(super) struct Scope {
    filter: Filter,
    /// All of the tenant.
    pub(super) organizations: Arc<Vec<Organization>>,
}

/// Cells, and what they are cells of.
struct Part {
    boundaries: Vec<Timestamp>,
    group: Vec<Dimension>,
    needs: Needs,
    cells: Cells,
}

/// Two periods, both cut to the part that had elapsed.
struct Compared {
    current: (Span, Part),
    previous: (Span, Part),
    is_open: bool,
}

impl State {
    /// Reads all of it in the snapshot of `tx`, at the time `now`. Errors: as [`super::answer::answer`].
    pub async fn read(tx: &TenantTx, memory: &Memory, plan: &Plan, now: Timestamp) -> Result<State> {
        let head = read_head(tx).await?;
        let organizations = memory.organizations.get(tx, &head).await?;
        let filter = Filter::find(tx, &organizations, &plan.filters).await?;
        let zone = default_zone(&filter, &organizations);
        let span = plan.period.resolve("period", now, zone)?;
        let as_of = as_of(tx, plan, &head, span).await?;
        let facts = Facts::at(tx, memory, &head, as_of.position).await?;
        let custom = plan.comparisons.iter().filter_map(|comparison| comparison.args.period);
        let slides_at = custom.chain([plan.period]).filter_map(|period| period.slides_at(now, zone)).min();
        let mut state = State {
            plan: plan.clone(),
            scope: Arc::new(Scope { filter, organizations }),
            zone,
            span,
            read_at: now,
            slides_at,
            head,
            as_of,
            totals: None,
            series: Vec::with_capacity(plan.series.len()),
            breakdowns: Vec::with_capacity(plan.breakdowns.len()),
            comparisons: Vec::with_capacity(plan.comparisons.len()),
            histories: Vec::with_capacity(plan.histories.len()),
            labels: Labels::default(),
            is_carried_on: false,
        };
        state.read_parts(tx, &facts).await?;
        Ok(state)
    }

    async fn read_parts(&mut self, tx: &TenantTx, facts: &Facts) -> Result<()> {
        let (scope, span) = (&self.scope, self.span);
        for asked in &self.plan.series {
            let zone = asked.args.timezone.unwrap_or(self.zone);
            let boundaries = calendar::boundaries(span.start, span.end, asked.args.step(), zone, BUCKETS_MAX)
                .ok_or_else(too_many_buckets)?;
            // What the buckets are made of makes up the whole too, and is then read once.
            let adds_up = asked.args.by.is_none_or(Dimension::adds_up);
            let whole_needs = self.plan.totals.filter(|_| self.totals.is_none() && adds_up);
            let needs = whole_needs.map_or(asked.needs, |whole| asked.needs.and(whole));
            let part = Part::read(tx, scope, facts, boundaries, asked.args.by.into_iter().collect(), needs).await?;
            if whole_needs.is_some() {
                let cells = part.cells.whole();
                self.totals = Some(Part { boundaries: vec![span.start, span.end], group: Vec::new(), needs, cells });
            }
            self.series.push(part);
        }
        if let (None, Some(needs)) = (&self.totals, self.plan.totals) {
            self.totals = Some(Part::of_span(tx, scope, facts, span, Vec::new(), needs).await?);
        }
        for BreakdownPlan { args, needs, .. } in &self.plan.breakdowns {
            let needs = needs.and(args.order.metric.needs());
            self.breakdowns.push(Part::of_span(tx, scope, facts, span, args.by.clone(), needs).await?);
        }
        let is_open = span.is_open(self.read_at);
        for asked in &self.plan.comparisons {
            let other = self.compared_with(asked.args)?;
            let (current, previous) =
                if is_open { period::elapsed_parts(span, other, self.read_at, self.zone) } else { (span, other) };
            let read = async |span| Part::of_span(tx, scope, facts, span, Vec::new(), asked.needs).await;
            let compared = Compared {
                current: (current, read(current).await?),
                previous: (previous, read(previous).await?),
                is_open,
            };
            self.comparisons.push(compared);
        }
        self.read_histories(tx, facts).await
    }

    async fn read_histories(&mut self, tx: &TenantTx, facts: &Facts) -> Result<()> {
        if self.plan.histories.is_empty() {
            return Ok(());
        }
        let is_newest = self.as_of.position == self.head.position;
        let left_at = if is_newest { None } else { history::left_at(tx, self.as_of.position).await? };
        let at = history::At {
            scope: &self.scope,
            zone: self.zone,
            as_of: self.as_of,
            head: self.head(),
            is_newest,
            kept_from: self.head.retained_from.filter(|_| !is_newest).map(Timestamp),
            over_by: left_at.unwrap_or(self.read_at).min(self.read_at),
        };
        for asked in &self.plan.histories {
            let history = History::read(tx, &at, facts, asked, self.span).await?;
            self.histories.push((asked.args, Arc::new(history)));
        }
        Ok(())
    }

    fn compared_with(&self, args: ComparisonArgs) -> Result<Span> {
        match (args.to, args.period) {
            (ComparisonPeriod::Custom, Some(other)) => other.resolve("period", self.read_at, self.zone),
            (ComparisonPeriod::SamePeriodLastYear, _) => Ok(period::year_before(self.span, self.zone)),
            _ => Ok(self.plan.period.previous(self.span, self.zone)),
        }
    }

    /// The newest state of the ledger that is counted.
    pub fn head(&self) -> crate::db::Head {
        self.head.to_db()
    }

    /// When it must be read anew though the ledger stands still: a preset slides on, more of a running period has
    /// elapsed than is compared, or one more bucket is over for a history.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.due_after(if self.is_carried_on { CUT_AGE_MAX } else { CUT_AGE_MAX_IDLE })
    }

    fn due_after(&self, cut_age_max: i64) -> Option<Timestamp> {
        let is_running = self.comparisons.iter().any(|compared| compared.is_open);
        let cut = is_running.then(|| Timestamp(self.read_at.0 + cut_age_max).min(self.span.end));
        let histories = self.histories.iter().filter_map(|(_, history)| history.next_end);
        [self.slides_at, cut].into_iter().flatten().chain(histories).min()
    }

    /// Carries on to the end of `batch`. `false` when it must be read anew instead: the batch does not follow, is not all
    /// there, or does not tell what becomes of sets; settings have changed; a name of the filter may be there only now; or
    /// `now` is too late.
    pub fn fold(&mut self, batch: &Batch, now: Timestamp) -> Result<bool> {
        let Some(entries) = &batch.entries else { return Ok(false) };
        if batch.policy_epoch > self.head.policy_epoch || batch.first > self.head.position + 1 {
            return Ok(false);
        }
        if batch.last <= self.head.position {
            return Ok(true);
        }
        if self.due_after(CUT_AGE_MAX).is_some_and(|at| at <= now) {
            return Ok(false);
        }
        let position = self.head.position;
        let new = entries.iter().filter(|(at, _)| *at > position).map(|(_, entry)| entry);
        if !self.scope.filter.is_complete && new.clone().any(|entry| has_new_name(&self.head, entry)) {
            return Ok(false);
        }
        let compared = self.comparisons.iter_mut().flat_map(|c| [&mut c.current.1, &mut c.previous.1]);
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
        self.head.position = batch.last;
        self.head.last_alert_no = batch.last_alert_no;
        self.as_of = AsOf { position: batch.last, watermark: batch.watermark.map(Timestamp) };
        Ok(true)
    }

    /// The numbers at the time `now`. Names that are not known are read.
    pub async fn answer(&mut self, reads: &LazyTx<'_>, memory: &Memory, now: Timestamp) -> Result<Answer> {
        let mut labels = std::mem::take(&mut self.labels);
        let mut series = Vec::with_capacity(self.series.len());
        for (part, asked) in self.series.iter().zip(&self.plan.series) {
            let keys = part.cells.cells.keys().map(|(_, key)| key);
            labels.complete(reads, &memory.names, &part.group, keys, &self.scope.organizations).await?;
            series.push((asked.args, part.series(asked.args, &labels, now)?));
        }
        let mut breakdowns = Vec::with_capacity(self.breakdowns.len());
        for (part, asked) in self.breakdowns.iter().zip(&self.plan.breakdowns) {
            let ranked = Ranked::new(part, asked)?;
            let keys = ranked.named();
            labels.complete(reads, &memory.names, &part.group, keys, &self.scope.organizations).await?;
            breakdowns.push((asked.args.clone(), ranked.breakdown(part, asked, &labels)?));
        }
        self.labels = labels;
        let comparison = |compared: &Compared| -> Result<Comparison> {
            Ok(Comparison {
                current_span: compared.current.0,
                previous_span: compared.previous.0,
                current: compared.current.1.values()?,
                previous: compared.previous.1.values()?,
                is_open: compared.is_open,
            })
        };
        let comparisons = self.comparisons.iter().zip(&self.plan.comparisons);
        Ok(Answer {
            span: self.span,
            now,
            as_of: self.as_of,
            head: self.head.to_db(),
            slides_at: self.slides_at,
            currency: self.scope.filter.organizations.first().map(|o| o.currency.clone()).unwrap_or_default(),
            totals: self.totals.as_ref().map(Part::values).transpose()?.unwrap_or_default(),
            series,
            breakdowns,
            comparisons: comparisons.map(|(c, asked)| Ok((asked.args, comparison(c)?))).collect::<Result<_>>()?,
            histories: self.histories.clone(),
        })
    }
}

/// The zone of the one organization asked for, else of the default one.
fn default_zone(filter: &Filter, organizations: &[Organization]) -> Tz {
    let asked = match filter.organizations.as_slice() {
        [only] => Some(only),
        _ => organizations.iter().find(|o| o.is_default),
    };
    asked.map_or(chrono_tz::UTC, |o| o.timezone)
}

/// The position to answer as of, if it lies in the past and its entries are still there.
async fn as_of(tx: &TenantTx, plan: &Plan, head: &Head, span: Span) -> Result<AsOf> {
    let newest = AsOf { position: head.position, watermark: head.watermark.map(Timestamp) };
    let position = match plan.as_of {
        None => return Ok(newest),
        Some(position) if position == head.position => return Ok(newest),
        Some(position) => position,
    };
    let unavailable = |message: &str| Err(Error::new(Code::AsOfNotAvailable, message));
    if position > head.position {
        return unavailable("the ledger has not come to this position yet");
    }
    if head.retained_from.is_some_and(|from| span.start.0 < from) {
        return unavailable("the period reaches into months whose entries were dropped");
    }
    let sql =
        "SELECT MAX(occurred_at) FROM ledger_events WHERE tenant_id = $1 AND position <= $2 AND NOT is_superseded";
    let row = tx.query_one(sql, [Value::from(position)]).await?;
    let watermark = row.map(|row| get::<Option<i64>>(&row, 0)).transpose()?.flatten();
    Ok(AsOf { position, watermark: watermark.map(Timestamp) })
}

/// Whether an entry has a name that was given its number after `head`.
fn has_new_name(head: &Head, entry: &Entry) -> bool {
    let is_new = |no: i32| i64::from(no) > head.last_dimension_no;
    is_new(entry.channel_no)
        || is_new(entry.region_no)
        || entry.lines.iter().any(|line| is_new(line.category_no) || line.product_no > head.last_product_no)
}

impl Part {
    async fn read(
        tx: &TenantTx,
        scope: &Scope,
        facts: &Facts,
        boundaries: Vec<Timestamp>,
        group: Vec<Dimension>,
        needs: Needs,
    ) -> Result<Part> {
        let cells = scope.question(&boundaries, &group, needs).cells(tx, facts).await?;
        Ok(Part { boundaries, group, needs, cells })
    }

    async fn of_span(
        tx: &TenantTx,
        scope: &Scope,
        facts: &Facts,
        span: Span,
        group: Vec<Dimension>,
        needs: Needs,
    ) -> Result<Part> {
        Part::read(tx, scope, facts, vec![span.start, span.end], group, needs).await
    }

    fn fold<'e>(&mut self, scope: &Scope, entries: impl Iterator<Item = &'e Entry> + Clone) -> Result<bool> {
        scope.question(&self.boundaries, &self.group, self.needs).fold(entries, &mut self.cells)
    }

    /// The values of a part that has one bucket and no group.
    fn values(&self) -> Result<Values> {
        self.cells.whole_values()
    }

    fn series(&self, args: SeriesArgs, labels: &Labels, now: Timestamp) -> Result<Vec<Bucket>> {
        let bucket = |index: usize, key: Option<Name>, cell: &Cell| -> Result<Bucket> {
            let span = Span { start: self.boundaries[index], end: self.boundaries[index + 1] };
            Ok(Bucket { span, is_open: span.is_open(now), key, values: self.cells.values(index, cell)? })
        };
        let Some(dimension) = args.by else {
            let empty = Cell::default();
            let cell = |index| self.cells.cells.get(&(index, GroupKey::new())).unwrap_or(&empty);
            return (0..self.boundaries.len() - 1).map(|index| bucket(index, None, cell(index))).collect();
        };
        let cells = self.cells.cells.iter();
        let buckets = cells.map(|((index, key), cell)| bucket(*index, Some(labels.name(dimension, key[0])), cell));
        let mut found = buckets.collect::<Result<Vec<_>>>()?;
        if found.len() > BUCKETS_MAX {
            return Err(too_many_buckets());
        }
        found.sort_by(|a, b| (a.span.start, &a.key).cmp(&(b.span.start, &b.key)));
        Ok(found)
    }
}

impl Scope {
    pub(super) fn question<'a>(
        &'a self,
        boundaries: &'a [Timestamp],
        group: &'a [Dimension],
        needs: Needs,
    ) -> Question<'a> {
        Question { boundaries, filter: &self.filter, organizations: &self.organizations, group, needs }
    }
}

impl Cells {
    /// The values of cells of one bucket and no group.
    pub fn whole_values(&self) -> Result<Values> {
        match self.cells.get(&(0, GroupKey::new())) {
            Some(cell) => self.values(0, cell),
            None => self.values(0, &Cell::default()),
        }
    }

    /// The values of some buckets, of cells without a group.
    pub fn values_by_bucket(&self, buckets: Range<usize>) -> Result<Vec<Values>> {
        let empty = Cell::default();
        let cell = |bucket| self.cells.get(&(bucket, GroupKey::new())).unwrap_or(&empty);
        buckets.map(|bucket| self.values(bucket, cell(bucket))).collect()
    }

    /// The values of a cell of a bucket.
    fn values(&self, bucket: usize, cell: &Cell) -> Result<Values> {
        cell.values(self.view, self.first_customers(bucket))
    }
}

/// The rows of a breakdown in the order asked for, but for ties.
struct Ranked<'a> {
    rows: Vec<(Rank, &'a GroupKey, Values)>,
    /// Names break ties, so only rows that tie with the last one shown must be named beyond those shown.
    named: usize,
}

impl<'a> Ranked<'a> {
    fn new(part: &'a Part, asked: &BreakdownPlan) -> Result<Self> {
        let order = asked.args.order;
        let mut rows = Vec::with_capacity(part.cells.cells.len());
        for ((_, key), cell) in &part.cells.cells {
            let values = part.cells.values(0, cell)?;
            rows.push((Rank::new(order.metric.value(&values), order.direction), key, values));
        }
        rows.sort_by_key(|(rank, ..)| *rank);
        let named = match rows.get(asked.args.first.min(rows.len()).saturating_sub(1)) {
            Some((last, ..)) => rows.partition_point(|(rank, ..)| rank <= last),
            None => 0,
        };
        Ok(Ranked { rows, named })
    }

    fn named(&self) -> impl Iterator<Item = &'a GroupKey> + Clone {
        self.rows[..self.named].iter().map(|(_, key, _)| *key)
    }

    fn breakdown(mut self, part: &Part, asked: &BreakdownPlan, labels: &Labels) -> Result<Breakdown> {
        let BreakdownPlan { args, has_other, .. } = asked;
        let rows_count = self.rows.len();
        let mut rows: Vec<_> = self
            .rows
            .drain(..self.named)
            .map(|(rank, key, values)| (rank, labels.names(&args.by, key), key, values))
            .collect();
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut rest: Vec<&GroupKey> = self.rows.into_iter().map(|(_, key, _)| key).collect();
        rest.extend(rows.drain(args.first.min(rows.len())..).map(|(_, _, key, _)| key));
        let other = if *has_other && !rest.is_empty() {
            let mut other = Cell::default();
            let cells = rest.iter().filter_map(|key| part.cells.cells.get(&(0, (*key).clone())));
            cells.for_each(|cell| other.merge(cell));
            Some(part.cells.values(0, &other)?)
        } else {
            None
        };
        let rows = rows.into_iter().map(|(_, names, _, values)| (names, values)).collect();
        Ok(Breakdown { rows, other, rows_count })
    }
}

/// Where a row stands: by its value in the direction asked for, rows without one last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(bool, i128);

impl Rank {
    fn new(value: Option<Money>, direction: SortDirection) -> Self {
        let ascending = value.map_or(0, |value| i128::from(value.0));
        Rank(value.is_none(), if direction == SortDirection::Asc { ascending } else { -ascending })
    }
}

pub(super) fn too_many_buckets() -> Error {
    Error::bad_input("grain", format!("more than {BUCKETS_MAX} buckets; take a coarser grain or a shorter period"))
}
