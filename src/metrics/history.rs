//! Past values of metrics in closed buckets: training data for models.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono_tz::Tz;
use models::kpis::{Number, Shift, Unit};
use sea_orm::Value;
use tokio::sync::Mutex;

use super::answer::AsOf;
use super::catalog::{Metric, Needs};
use super::cell::Values;
use super::dimension::Dimension;
use super::facts::{Facts, read_entries};
use super::grid::{CellGrid, GridReader, Scope, too_many_buckets};
use super::group::{GroupBy, UNGROUPED};
use super::input::{Grain, Weekday};
use super::kpis::Calendar;
use super::kpis::definitions::{Definition, cost};
use super::labels::{Labels, Name};
use super::measured::Measured;
use super::period::Span;
use super::plan::BUCKETS_MAX;
use crate::calendar::dial::Dial;
use crate::calendar::{Step, boundaries_after, buckets_before};
use crate::clock::Timestamp;
use crate::db::{Head, LazyTx, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::size::Size;
use crate::ledger::memory::Memory;
use crate::ledger::store::read_head;

/// Identifies a history: everything that determines its buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryArgs {
    pub grain: Grain,
    pub timezone: Option<Tz>,
    pub week_start: Weekday,
    /// How many buckets it reaches back from its end.
    pub window: usize,
    /// Whether it reaches back to the start of the period, however long ago.
    pub covers_period: bool,
    /// Where months were dropped, KPIs that look back make the history start later.
    pub kpis: BTreeSet<String>,
}

/// A requested history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPlan {
    pub args: HistoryArgs,
    pub needs: Needs,
}

/// A history, or why there is none.
#[derive(Clone, Debug)]
pub struct HistoryResult(Result<Arc<History>, Arc<Error>>);

impl HistoryResult {
    /// Keeps the error if the request asks for too much; any other fails the whole answer.
    fn of(read: Result<History>) -> Result<HistoryResult> {
        match read {
            Ok(history) => Ok(HistoryResult(Ok(Arc::new(history)))),
            Err(error) if matches!(error.code, Code::BadUserInput | Code::AsOfNotAvailable) => {
                Ok(HistoryResult(Err(Arc::new(error))))
            }
            Err(error) => Err(error),
        }
    }

    pub fn get(&self) -> Result<&History> {
        self.0.as_deref().map_err(Error::shared)
    }

    /// When the next bucket closes.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.0.as_ref().ok().and_then(|history| history.next_end)
    }
}

/// Equality of the numbers.
impl PartialEq for HistoryResult {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Ok(history), Ok(other)) => history == other,
            (Err(error), Err(other)) => error.code == other.code,
            _ => false,
        }
    }
}

/// The last buckets closed by the end of a period, each with its metrics and KPIs, starting with the first that has any
/// facts, or after it if these begin within it.
#[derive(Debug)]
pub struct History {
    scope: Arc<Scope>,
    step: Step,
    zone: Tz,
    pub as_of: AsOf,
    /// Head of the snapshot it was read from.
    pub head: Head,
    /// Bucket boundaries.
    pub boundaries: Vec<Timestamp>,
    values: Vec<Values>,
    /// When the next bucket closes.
    next_end: Option<Timestamp>,
    /// Whether buckets before it were left out because months were dropped.
    pub is_cut: bool,
    /// Whether it was read as of the newest position.
    was_newest: bool,
    splits: Mutex<Vec<(Split, Members)>>,
}

impl History {
    /// Reads the histories `plans` ask for in a period. Each result is as if requested alone, but those with the same
    /// frame are read together.
    pub(super) async fn tell(
        reader: &GridReader<'_>,
        at: &At<'_>,
        plans: &[HistoryPlan],
        span: Span,
    ) -> Result<Vec<(HistoryArgs, HistoryResult)>> {
        let frames: Vec<Option<Frame>> = plans.iter().map(|plan| Frame::of(at, &plan.args, span)).collect();
        let mut told: Vec<(HistoryArgs, HistoryResult)> = Vec::with_capacity(plans.len());
        for (plan, frame) in plans.iter().zip(&frames) {
            let of_same = frames.iter().position(|other| other == frame).and_then(|first| told.get(first));
            let history = match (of_same, frame) {
                (Some((_, history)), _) => history.clone(),
                (None, None) => HistoryResult::of(Err(too_many_buckets()))?,
                (None, Some(frame)) => {
                    let same = || plans.iter().zip(&frames).filter(|(_, other)| other.as_ref() == Some(frame));
                    let needs = same().fold(Needs::default(), |needs, (plan, _)| needs.and(plan.needs));
                    let kpis = same().flat_map(|(plan, _)| &plan.args.kpis).cloned().collect();
                    HistoryResult::of(History::read(reader, at, frame, needs, &kpis).await)?
                }
            };
            told.push((plan.args.clone(), history));
        }
        Ok(told)
    }

    async fn read(
        reader: &GridReader<'_>,
        at: &At<'_>,
        frame: &Frame,
        needs: Needs,
        kpis: &BTreeSet<String>,
    ) -> Result<History> {
        let entries = match reader.facts {
            Facts::AsOf(position) => {
                let entries = read_entries(reader.tx, &frame.spans, *position, ENTRIES_MAX).await?;
                Some(Facts::Entries(entries.ok_or_else(too_many_entries)?))
            }
            Facts::Newest(_) | Facts::Entries(_) => None,
        };
        let reader = GridReader { facts: entries.as_ref().unwrap_or(reader.facts), ..*reader };
        let mut part = reader.grid(frame.boundaries.clone(), UNGROUPED.clone(), needs, kpis, frame.calendar()).await?;
        let buckets = part.boundaries.len() - 1;
        let mut first = part.cells.cells.keys().map(|(bucket, _)| *bucket).min().unwrap_or(buckets);
        // Where it is all there is, how little that is can be told.
        if first > 0 && first + 1 < buckets && !frame.begins_whole(&reader, &part, first).await? {
            first += 1;
        }
        at.size.take((buckets - first) * cost(&at.scope.definitions, kpis), 1, "grain")?;
        Ok(History {
            scope: Arc::clone(at.scope),
            step: frame.step,
            zone: frame.zone,
            as_of: at.as_of,
            head: at.head,
            values: part.values_by_bucket(first..buckets).await?,
            boundaries: part.boundaries.split_off(first),
            next_end: frame.next_end,
            is_cut: frame.is_cut,
            was_newest: at.is_newest,
            splits: Mutex::default(),
        })
    }

    /// A metric or KPI by bucket.
    pub fn series(&self, measured: &Measured) -> Vec<Option<f64>> {
        learned(&self.values, measured)
    }

    /// The definition of a KPI.
    pub fn definition(&self, measured: &Measured) -> Option<&Definition> {
        measured.kpi().and_then(|name| self.scope.definitions.get(name)).map(Arc::as_ref)
    }

    /// Unit of a metric or KPI.
    pub fn unit(&self, measured: &Measured) -> Unit {
        let of_formula = self.definition(measured).map(|definition| definition.plan.unit());
        of_formula.or_else(|| measured.metric().map(Metric::unit)).unwrap_or(Unit::Ratio)
    }

    /// The number of its buckets.
    pub fn buckets(&self) -> usize {
        self.values.len()
    }

    pub fn span(&self, bucket: usize) -> Option<Span> {
        Some(Span { start: *self.boundaries.get(bucket)?, end: *self.boundaries.get(bucket + 1)? })
    }

    /// Clock positions of its buckets, or of those between other boundaries of the same kind.
    pub fn dial(&self, boundaries: &[Timestamp]) -> Dial {
        Dial::new(boundaries, self.step, self.zone)
    }

    /// The bucket at each position of its dial.
    pub fn by_place(&self, dial: &Dial) -> Vec<Option<usize>> {
        dial.lay(&(0..self.values.len()).map(Some).collect::<Vec<_>>())
    }

    /// The ends of the upcoming buckets.
    pub fn ends_to_come(&self) -> impl Iterator<Item = Timestamp> {
        self.boundaries.last().into_iter().flat_map(|last| boundaries_after(*last, self.step, self.zone))
    }

    /// Splits some buckets by a dimension's values, as of the same position; `None` if it has more than
    /// [`MEMBERS_MAX`]. Cached.
    pub async fn split(&self, reads: &LazyTx<'_>, memory: &Memory, split: Split) -> Result<Members> {
        let mut splits = self.splits.lock().await;
        if let Some((_, members)) = splits.iter().find(|(other, _)| *other == split) {
            return Ok(members.clone());
        }
        let members = self.read_split(reads.get().await?, memory, &split).await?.map(Arc::new);
        splits.push((split, members.clone()));
        Ok(members)
    }

    /// Reads a few seasons at a time: the cells read are far larger than the sums kept.
    async fn read_split(&self, tx: &TenantTx, memory: &Memory, split: &Split) -> Result<Option<Vec<Member>>> {
        let facts = self.facts_of(tx, memory, split).await?;
        let group = GroupBy { dimensions: vec![split.dimension], zone: self.zone };
        let needs = Needs::of(split.wanted.iter().map(|(_, metric)| *metric));
        let (mut labels, mut members) = (Labels::default(), BTreeMap::<i64, Vec<(usize, f64)>>::new());
        for part in split.wanted.chunk_by(|(a, _), (b, _)| a / SPLIT_BUCKETS == b / SPLIT_BUCKETS) {
            let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else { continue };
            let Some(boundaries) = self.boundaries.get(*first..=last + 1) else { continue };
            let cells = self.scope.question(boundaries, &group, needs).cells(tx, &facts).await?;
            let keys = cells.cells.keys().map(|(_, key)| key);
            labels
                .complete(&LazyTx::Begun(tx), &memory.names, &group.dimensions, keys, &self.scope.organizations)
                .await?;
            for ((bucket, key), cell) in &cells.cells {
                let place = split.wanted.partition_point(|(wanted, _)| *wanted < first + bucket);
                let wanted = split.wanted.iter().enumerate().skip(place);
                let mut wanted = wanted.take_while(|(_, (wanted, _))| *wanted == first + bucket).peekable();
                if wanted.peek().is_none() {
                    continue;
                }
                let values = cell.values(cells.view, cells.first_customers(*bucket))?;
                let number = |metric: Metric| metric.number(&values).map(Number::to_f64).unwrap_or_default();
                let sums = wanted.map(|(place, (_, metric))| (place, number(*metric)));
                members.entry(key[0]).or_default().extend(sums);
            }
            if members.len() > MEMBERS_MAX {
                return Ok(None);
            }
        }
        let member = |(no, mut sums): (i64, Vec<(usize, f64)>)| {
            sums.sort_unstable_by_key(|(place, _)| *place);
            Member { name: labels.name(split.dimension, no), sums }
        };
        let mut members: Vec<Member> = members.into_iter().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(members))
    }

    /// The state to read a split from: the history's own, or the newest if the history was the newest and entries of it
    /// have been dropped, or are too many. The latter occurs in subscriptions, whose buckets are closed, so hardly
    /// anything has changed in them since.
    async fn facts_of(&self, tx: &TenantTx, memory: &Memory, split: &Split) -> Result<Facts> {
        let standing = read_head(tx).await?.standing();
        let facts = Facts::at(tx, memory, &standing, self.as_of.position).await?;
        let (first, last) =
            (split.wanted.first().map_or(0, |(at, _)| *at), split.wanted.last().map_or(0, |(at, _)| *at));
        let boundaries = self.boundaries.get(first..=last + 1).unwrap_or_default();
        let are_dropped = boundaries.first().zip(standing.retained_from).is_some_and(|(start, from)| start.0 < from);
        let is_newer_needed = self.was_newest && are_dropped;
        if !is_newer_needed && !has_too_many(tx, &facts, boundaries).await? {
            return Ok(facts);
        }
        if self.was_newest {
            Facts::at(tx, memory, &standing, standing.head.position).await
        } else {
            Err(too_many_entries())
        }
    }
}

/// What a history is made of.
#[derive(PartialEq)]
struct Frame {
    step: Step,
    zone: Tz,
    /// Buckets ending later are not closed.
    until: Timestamp,
    boundaries: Vec<Timestamp>,
    next_end: Option<Timestamp>,
    /// Whether buckets were left out because months were dropped.
    is_cut: bool,
    /// As of an earlier position: where its entries lie, including those KPIs look back on; read once for all.
    spans: Vec<Span>,
}

impl Frame {
    /// `None` if there are too many buckets.
    fn of(at: &At<'_>, args: &HistoryArgs, span: Span) -> Option<Frame> {
        let (step, zone) = (args.grain.step(args.week_start), args.timezone.unwrap_or(at.zone));
        let until = at.over_by.min(span.end);
        let window = u32::try_from(args.window).unwrap_or(u32::MAX);
        let mut start = buckets_before(until, window, step, zone);
        if args.covers_period {
            start = start.min(buckets_before(span.start, 0, step, zone));
        }
        let mut boundaries = vec![start];
        let mut later = boundaries_after(start, step, zone).peekable();
        while let Some(next) = later.next_if(|next| *next <= until) {
            boundaries.push(next);
            if boundaries.len() > BUCKETS_MAX + 1 {
                return None;
            }
        }
        let next_end = later.next().filter(|next| *next <= span.end && at.is_newest);
        let mut frame = Frame { step, zone, until, boundaries, next_end, is_cut: false, spans: Vec::new() };
        if !at.is_newest {
            frame.cut(at, &at.scope.shifts(&args.kpis));
        }
        Some(frame)
    }

    /// Drops the buckets that need dropped months, and determines the spans the others need.
    fn cut(&mut self, at: &At<'_>, shifts: &BTreeSet<Shift>) {
        let calendar = self.calendar();
        let back = |pair: &[Timestamp], shift: &Shift| calendar.back(Span { start: pair[0], end: pair[1] }, shift);
        if let Some(kept_from) = at.kept_from {
            let is_gone = |pair: &[Timestamp]| {
                pair[0] < kept_from || shifts.iter().any(|shift| back(pair, shift).start < kept_from)
            };
            let gone = self.boundaries.windows(2).take_while(|pair| is_gone(pair)).count();
            self.boundaries.drain(..gone);
            self.is_cut = gone > 0;
        }
        let hull = |shift: &Shift| {
            let spans = self.boundaries.windows(2).map(|pair| back(pair, shift));
            spans.reduce(|a, b| Span { start: a.start.min(b.start), end: a.end.max(b.end) })
        };
        self.spans = Span::united(shifts.iter().chain([&Shift::default()]).filter_map(hull).collect());
    }

    /// Whether facts begin early enough in their first bucket for it to be like the others. Days and less are taken as
    /// they are; of a longer bucket, something must lie in the first tenth, in whole days: many a month begins with a
    /// holiday, but a half of one would be taken for half the sales.
    async fn begins_whole(&self, reader: &GridReader<'_>, part: &CellGrid, first: usize) -> Result<bool> {
        let (Step::Week(_) | Step::Months(_), Some([start, end])) =
            (self.step, part.boundaries.get(first..first + 2).and_then(<[Timestamp]>::first_chunk))
        else {
            return Ok(true);
        };
        let days: Vec<Timestamp> =
            boundaries_after(*start, Step::Day, self.zone).take_while(|day| day <= end).collect();
        let Some(early) = days.get((days.len() / 10).max(1) - 1) else { return Ok(true) };
        let span = Span { start: *start, end: *early };
        let early = reader.one_bucket(span, UNGROUPED.clone(), part.needs, &BTreeSet::new(), self.calendar()).await?;
        Ok(!early.cells.cells.is_empty())
    }

    /// The calendar in which the buckets are closed.
    fn calendar(&self) -> Calendar {
        Calendar { zone: self.zone, now: self.until, whole: None, part_of: None, step: Some(self.step) }
    }
}

/// A metric or KPI by bucket, as models learn it, without a KPI's leading zeros: what it filters by may have begun later
/// than the sales around it, and its absence before says nothing about the future. A ratio is `None` without a
/// denominator, so its zeros are real.
pub fn learned(buckets: &[Values], measured: &Measured) -> Vec<Option<f64>> {
    let mut series: Vec<Option<f64>> = buckets.iter().map(|values| measured.number(values)).collect();
    let kpi = buckets.first().zip(measured.kpi()).and_then(|(values, name)| values.kpi(name));
    if kpi.is_some_and(|kpi| kpi.unit != Unit::Ratio) {
        let before = series.iter().take_while(|value| value.is_none_or(|value| value == 0.0)).count();
        series[..before].fill(None);
    }
    series
}

/// Maximum dimension values in a split.
const MEMBERS_MAX: usize = 1_000;
/// Maximum buckets whose cells are held at once.
const SPLIT_BUCKETS: usize = 400;

/// Which sums of a history are split, and by which dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub dimension: Dimension,
    /// Buckets with a metric that is additive over the dimension's values; sorted and distinct.
    pub wanted: Vec<(usize, Metric)>,
}

impl Split {
    /// Index of a sum in `wanted`.
    pub fn place(&self, bucket: usize, metric: Metric) -> Option<usize> {
        self.wanted.binary_search(&(bucket, metric)).ok()
    }
}

/// All members; `None` if there are too many.
type Members = Option<Arc<Vec<Member>>>;

/// One value of a dimension.
#[derive(Debug)]
pub struct Member {
    pub name: Name,
    /// Its sums by index in [`Split::wanted`], sorted; absent ones are zero.
    sums: Vec<(usize, f64)>,
}

impl Member {
    /// Its distinguishing content, apart from the name.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let sums = self.sums.iter().flat_map(|(place, sum)| [*place as u64, sum.to_bits()]);
        std::iter::once(self.sums.len() as u64).chain(sums)
    }

    pub fn sum(&self, place: usize) -> f64 {
        let found = self.sums.binary_search_by_key(&place, |(place, _)| *place);
        found.ok().and_then(|at| self.sums.get(at)).map_or(0.0, |(_, sum)| *sum)
    }
}

/// Equality of the numbers.
impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        (self.as_of, &self.boundaries, &self.values) == (other.as_of, &other.boundaries, &other.values)
    }
}

/// Limit on entries summed for a history as of an earlier position, which has no rollups.
const ENTRIES_MAX: usize = 200_000;

/// Whether summing what lies between the boundaries would exceed that limit.
async fn has_too_many(tx: &TenantTx, facts: &Facts, boundaries: &[Timestamp]) -> Result<bool> {
    let (Facts::AsOf(position), Some(start), Some(end)) = (facts, boundaries.first(), boundaries.last()) else {
        return Ok(false);
    };
    let sql = "SELECT 1 FROM ledger_entries WHERE tenant_id = $1 AND at >= $2 AND at < $3 AND position <= $4 LIMIT 1 OFFSET $5";
    let values =
        [start.0.into(), end.0.into(), (*position).into(), i64::try_from(ENTRIES_MAX).unwrap_or(i64::MAX).into()];
    Ok(tx.query_one(sql, values).await?.is_some())
}

fn too_many_entries() -> Error {
    let message =
        format!("as of an earlier position, at most {ENTRIES_MAX} entries are learned from, and there are more");
    Error::new(Code::AsOfNotAvailable, message)
}

/// The state and time a history is read at.
pub(super) struct At<'a> {
    pub scope: &'a Arc<Scope>,
    pub zone: Tz,
    pub as_of: AsOf,
    pub head: Head,
    /// Whether the position is the newest.
    pub is_newest: bool,
    /// Data before this has been dropped.
    pub kept_from: Option<Timestamp>,
    /// Buckets ending later were not closed at that position.
    pub over_by: Timestamp,
    /// What KPIs cost is charged to it.
    pub size: &'a Size,
}

/// When a position was last the newest: the ledger did not yet contain anything later.
pub(super) async fn left_at(tx: &TenantTx, position: i64) -> Result<Option<Timestamp>> {
    let sql = "SELECT recorded_at FROM ledger_batches WHERE tenant_id = $1 AND last_position > $2 ORDER BY last_position LIMIT 1";
    let row = tx.query_one(sql, [Value::from(position)]).await?;
    row.map(|row| get(&row, 0).map(Timestamp)).transpose()
}
