//! Answers a [`Plan`] from one snapshot of the ledger.

use std::sync::Arc;

use chrono_tz::Tz;
use sea_orm::Value;

use super::catalog::{Metric, Needs};
use super::cell::{Cell, Values};
use super::filter::Filter;
use super::input::{ComparisonPeriod, SortDirection};
use super::labels::{Labels, Name};
use super::period::{self, Span};
use super::plan::{BUCKETS_MAX, BreakdownArgs, BreakdownPlan, ComparisonArgs, Plan, SeriesArgs, SeriesPlan};
use super::read::{Cells, Dimension, Facts, GroupKey, Question};
use crate::calendar;
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::answers::Freshness;
use crate::ledger::changes::Head;
use crate::ledger::memory::Memory;
use crate::ledger::organization::Organization;
use crate::ledger::store::read_head;
use crate::money::Money;

/// The numbers of one plan, all of the same position.
#[derive(Clone, Debug)]
pub struct Answer {
    pub span: Span,
    /// When it was computed: buckets that end later are open.
    pub now: Timestamp,
    pub as_of: AsOf,
    /// The head of the snapshot.
    pub head: crate::db::Head,
    /// When a preset next means another span.
    pub slides_at: Option<Timestamp>,
    pub currency: String,
    pub totals: Values,
    pub series: Vec<(SeriesArgs, Vec<Bucket>)>,
    pub breakdowns: Vec<(BreakdownArgs, Breakdown)>,
    pub comparisons: Vec<(ComparisonArgs, Comparison)>,
}

impl Answer {
    /// How long this is the answer; `None` where it changes at every moment.
    pub fn freshness(&self) -> Option<Freshness> {
        let is_running = self.comparisons.iter().any(|(_, comparison)| comparison.is_open);
        (!is_running).then(|| Freshness { head: self.head, until: self.next_end() })
    }

    /// When the same question next has another answer though the ledger stands still: an open bucket or the period
    /// ends, or a preset slides on. A comparison of an open period changes at every moment; it is not waited for.
    pub fn next_end(&self) -> Option<Timestamp> {
        let buckets = self.series.iter().flat_map(|(_, buckets)| buckets).map(|bucket| bucket.span.end);
        buckets.chain([self.span.end]).chain(self.slides_at).filter(|end| *end > self.now).min()
    }
}

/// A state of the ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AsOf {
    pub position: i64,
    pub watermark: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    pub span: Span,
    pub is_open: bool,
    pub key: Option<Name>,
    pub values: Values,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Breakdown {
    pub rows: Vec<(Vec<Name>, Values)>,
    /// What further rows are together.
    pub other: Option<Values>,
    pub rows_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub current_span: Span,
    pub previous_span: Span,
    pub current: Values,
    pub previous: Values,
    /// Whether the current period still runs, so that the part compared grows with the clock.
    pub is_open: bool,
}

impl Comparison {
    /// Current less previous.
    pub fn absolute(&self, metric: Metric) -> Option<Money> {
        let (current, previous) = (metric.value(&self.current)?, metric.value(&self.previous)?);
        Money::from_sum(i128::from(current.0) - i128::from(previous.0))
    }

    /// The absolute change per previous value.
    pub fn relative(&self, metric: Metric) -> Option<f64> {
        super::cell::ratio(self.absolute(metric)?.0, metric.value(&self.previous)?.0)
    }
}

/// Answers `plan` in the snapshot of `tx`, at the time `now`. Errors: BAD_USER_INPUT, NOT_FOUND (organization),
/// MIXED_CURRENCIES, AS_OF_NOT_AVAILABLE, AMOUNT_OUT_OF_RANGE.
pub async fn answer(tx: &TenantTx, memory: &Memory, plan: &Plan, now: Timestamp) -> Result<Answer> {
    let head = read_head(tx).await?;
    let organizations = memory.organizations.get(tx, &head).await?;
    let filter = Filter::find(tx, &organizations, &plan.filters).await?;
    let zone = default_zone(&filter, &organizations);
    let span = plan.period.resolve("period", now, zone)?;
    let as_of = as_of(tx, plan, &head, span).await?;
    let currency = filter.organizations.first().map(|o| o.currency.clone()).unwrap_or_default();
    let facts = if as_of.position == head.position {
        Facts::Newest(memory.tails.get(tx, &head).await?)
    } else {
        Facts::AsOf(as_of.position)
    };
    let reader = Reader { tx, memory, filter, organizations, facts, zone, now };
    let mut totals = None;
    let mut series = Vec::with_capacity(plan.series.len());
    for asked in &plan.series {
        // What the buckets are made of makes up the whole too, and is then read once.
        let adds_up = asked.args.by.is_none_or(Dimension::adds_up);
        let needs = if totals.is_none() && adds_up { plan.totals } else { None };
        let (buckets, whole) = reader.series(span, asked, needs).await?;
        totals = totals.or(whole);
        series.push((asked.args, buckets));
    }
    let totals = match (totals, plan.totals) {
        (Some(totals), _) => totals,
        (None, Some(needs)) => reader.totals(span, needs).await?,
        (None, None) => Values::default(),
    };
    let mut breakdowns = Vec::with_capacity(plan.breakdowns.len());
    for asked in &plan.breakdowns {
        breakdowns.push((asked.args.clone(), reader.breakdown(span, asked).await?));
    }
    let mut comparisons = Vec::with_capacity(plan.comparisons.len());
    for asked in &plan.comparisons {
        let other = reader.compared_with(plan, span, asked.args)?;
        comparisons.push((asked.args, reader.comparison(span, other, asked.needs).await?));
    }
    let head = crate::db::Head { position: head.position, policy_epoch: head.policy_epoch };
    let custom = plan.comparisons.iter().filter_map(|comparison| comparison.args.period);
    let slides_at = custom.chain([plan.period]).filter_map(|period| period.slides_at(now, zone)).min();
    Ok(Answer { span, now, as_of, head, slides_at, currency, totals, series, breakdowns, comparisons })
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

struct Reader<'a> {
    tx: &'a TenantTx,
    filter: Filter,
    organizations: Arc<Vec<Organization>>,
    memory: &'a Memory,
    facts: Facts,
    zone: Tz,
    now: Timestamp,
}

impl Reader<'_> {
    async fn cells(&self, boundaries: &[Timestamp], group: &[Dimension], needs: Needs) -> Result<Cells> {
        let organizations = &self.organizations;
        Question { boundaries, filter: &self.filter, organizations, group, needs, facts: &self.facts }
            .cells(self.tx)
            .await
    }

    async fn totals(&self, span: Span, needs: Needs) -> Result<Values> {
        self.cells(&[span.start, span.end], &[], needs).await?.total_values()
    }

    /// The buckets, and the values of the whole period where `totals` says what they need.
    async fn series(
        &self,
        span: Span,
        asked: &SeriesPlan,
        totals: Option<Needs>,
    ) -> Result<(Vec<Bucket>, Option<Values>)> {
        let SeriesPlan { args, needs } = asked;
        let needs = totals.map_or(*needs, |totals| needs.and(totals));
        let zone = args.timezone.unwrap_or(self.zone);
        let boundaries =
            calendar::boundaries(span.start, span.end, args.step(), zone, BUCKETS_MAX).ok_or_else(too_many_buckets)?;
        let group: Vec<Dimension> = args.by.into_iter().collect();
        let cells = self.cells(&boundaries, &group, needs).await?;
        let whole = totals.map(|_| cells.total_values()).transpose()?;
        let bucket = |index: usize, key: Option<Name>, cell: &Cell| -> Result<Bucket> {
            let span = Span { start: boundaries[index], end: boundaries[index + 1] };
            Ok(Bucket { span, is_open: span.is_open(self.now), key, values: cells.values(index, cell)? })
        };
        let Some(dimension) = args.by else {
            let empty = Cell::default();
            let buckets = (0..boundaries.len() - 1)
                .map(|index| bucket(index, None, cells.cells.get(&(index, GroupKey::new())).unwrap_or(&empty)))
                .collect::<Result<_>>()?;
            return Ok((buckets, whole));
        };
        let labels = Labels::load(
            self.tx,
            &self.memory.names,
            &[dimension],
            cells.cells.keys().map(|(_, key)| key),
            &self.organizations,
        )
        .await?;
        let mut found = Vec::with_capacity(cells.cells.len());
        for ((index, key), cell) in &cells.cells {
            found.push(bucket(*index, Some(labels.name(dimension, key[0])), cell)?);
        }
        found.sort_by(|a, b| (a.span.start, &a.key).cmp(&(b.span.start, &b.key)));
        if found.len() > BUCKETS_MAX {
            return Err(too_many_buckets());
        }
        Ok((found, whole))
    }

    async fn breakdown(&self, span: Span, asked: &BreakdownPlan) -> Result<Breakdown> {
        let BreakdownPlan { args, needs, has_other } = asked;
        let needs = needs.and(args.order.metric.needs());
        let cells = self.cells(&[span.start, span.end], &args.by, needs).await?;
        let mut ranked = Vec::with_capacity(cells.cells.len());
        for ((_, key), cell) in &cells.cells {
            let values = cells.values(0, cell)?;
            ranked.push((Rank::new(args.order.metric.value(&values), args.order.direction), key, values));
        }
        ranked.sort_by_key(|(rank, ..)| *rank);
        let rows_count = ranked.len();
        // Names break ties, so only rows that tie with the last one shown must be named beyond those shown.
        let named = match ranked.get(args.first.min(rows_count).saturating_sub(1)) {
            Some((last, ..)) => ranked.partition_point(|(rank, ..)| rank <= last),
            None => 0,
        };
        let labels = Labels::load(
            self.tx,
            &self.memory.names,
            &args.by,
            ranked[..named].iter().map(|(_, key, _)| *key),
            &self.organizations,
        )
        .await?;
        let mut rows: Vec<_> =
            ranked.drain(..named).map(|(rank, key, values)| (rank, labels.names(&args.by, key), key, values)).collect();
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut rest: Vec<&GroupKey> = ranked.into_iter().map(|(_, key, _)| key).collect();
        rest.extend(rows.drain(args.first.min(rows.len())..).map(|(_, _, key, _)| key));
        let other = if *has_other && !rest.is_empty() {
            let mut other = Cell::default();
            rest.iter().filter_map(|key| cells.cells.get(&(0, (*key).clone()))).for_each(|cell| other.merge(cell));
            Some(cells.values(0, &other)?)
        } else {
            None
        };
        let rows = rows.into_iter().map(|(_, names, _, values)| (names, values)).collect();
        Ok(Breakdown { rows, other, rows_count })
    }

    fn compared_with(&self, plan: &Plan, span: Span, args: ComparisonArgs) -> Result<Span> {
        match (args.to, args.period) {
            (ComparisonPeriod::Custom, Some(other)) => other.resolve("period", self.now, self.zone),
            (ComparisonPeriod::SamePeriodLastYear, _) => Ok(period::year_before(span, self.zone)),
            _ => Ok(plan.period.previous(span, self.zone)),
        }
    }

    async fn comparison(&self, current: Span, previous: Span, needs: Needs) -> Result<Comparison> {
        let is_open = current.is_open(self.now);
        let (current_span, previous_span) =
            if is_open { period::elapsed_parts(current, previous, self.now, self.zone) } else { (current, previous) };
        Ok(Comparison {
            current_span,
            previous_span,
            current: self.totals(current_span, needs).await?,
            previous: self.totals(previous_span, needs).await?,
            is_open,
        })
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

impl Cells {
    /// The values of all cells together.
    fn total_values(&self) -> Result<Values> {
        self.total().values(self.view, &self.all_first_customers())
    }

    /// The values of a cell of a bucket.
    fn values(&self, bucket: usize, cell: &Cell) -> Result<Values> {
        cell.values(self.view, &self.first_customers(bucket))
    }
}

fn too_many_buckets() -> Error {
    Error::bad_input("grain", format!("more than {BUCKETS_MAX} buckets; take a coarser grain or a shorter period"))
}
