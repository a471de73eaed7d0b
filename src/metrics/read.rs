//! Adds up rollup rows and entries into cells.

use std::collections::HashMap;
use std::sync::LazyLock;

use roaring::RoaringBitmap;
use sea_orm::Value;

use super::catalog::Needs;
use super::cell::{Cell, View, member};
use super::days::{self, DayStatement};
use super::dimension::Dimension;
use super::facts::{Facts, Newest};
use super::filter::Filter;
use super::group::{GroupBy, GroupKey, OwnKey, UNGROUPED};
use super::period::Span;
use super::ranges::{Ranges, ranges, slot_start};
use super::sums::{CellKey, Sums};
use crate::calendar::day_of;
use crate::clock::Timestamp;
use crate::db::{TenantTx, get};
use crate::error::{Error, Result};
use crate::ledger::entry::{Entry, EntryKind, Segment};
use crate::ledger::organization::Organization;
use crate::ledger::rollup::days::DayRows;
use crate::ledger::rollup::{self, IN_RANGE, Key, Level, RollupDelta, Slots, Split, packed, range_table};
use crate::ledger::store::{ENTRY_COLUMNS, entry_from};
use crate::ledger::tail::takes_back;

/// Entries per page.
const PAGE: usize = 10_000;
/// Maximum number of entries that are added up for groups that rollups do not keep apart.
const UNROLLED_MAX: usize = 100_000;

/// A bucket, and what of its groups does not follow from a rollup's key.
type Place = (usize, OwnKey);

/// Rows added up from entries.
type AddedRows = HashMap<(Place, Key), rollup::Row, foldhash::fast::RandomState>;

/// What to aggregate.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Bucket boundaries, ascending.
    pub boundaries: &'a [Timestamp],
    pub filter: &'a Filter,
    /// All organizations of the tenant, for what is independent of the filter.
    pub organizations: &'a [Organization],
    pub group: &'a GroupBy,
    pub needs: Needs,
}

/// Cells by bucket and group; empty buckets have none.
#[derive(Default)]
pub struct Cells {
    pub view: View,
    pub cells: HashMap<CellKey, Cell>,
    /// By bucket, the customers whose first order ever lies in it; empty unless needed.
    pub first_customers: Vec<RoaringBitmap>,
}

impl Cells {
    /// The customers whose first order lies in a bucket.
    pub fn first_customers(&self, bucket: usize) -> &RoaringBitmap {
        static NOBODY: LazyLock<RoaringBitmap> = LazyLock::new(RoaringBitmap::new);
        self.first_customers.get(bucket).unwrap_or(&NOBODY)
    }

    /// All cells merged into one bucket without grouping.
    pub fn whole(&self) -> Cells {
        let mut whole = Cell::default();
        self.cells.values().for_each(|cell| whole.merge(cell));
        let first_customers = match self.first_customers.as_slice() {
            [] => Vec::new(),
            some => vec![some.iter().fold(RoaringBitmap::new(), |all, some| all | some)],
        };
        Cells { view: self.view, cells: HashMap::from([((0, GroupKey::new()), whole)]), first_customers }
    }
}

impl Question<'_> {
    fn uses(&self, dimension: Dimension) -> bool {
        self.group.has(dimension) || self.filter.uses(dimension)
    }

    /// The source rows; order lines are used only where necessary.
    pub fn view(&self) -> View {
        let by_line = self.split().by_line();
        let has_visits = !by_line
            && !self.filter.uses(Dimension::CustomerSegment)
            && self.group.dimensions.iter().all(|dimension| dimension.has_visits());
        View { by_line, has_visits }
    }

    /// The dimensions rows must keep apart to answer.
    fn split(&self) -> Split {
        Split {
            channel: self.uses(Dimension::Channel),
            region: self.uses(Dimension::Region),
            segment: self.uses(Dimension::CustomerSegment) || self.needs.first_orders,
            category: self.uses(Dimension::ProductCategory),
            product: self.uses(Dimension::Product),
        }
    }

    /// Aggregates in the snapshot of `tx`.
    pub async fn cells(&self, tx: &TenantTx, facts: &Facts) -> Result<Cells> {
        let mut cells = Cells { view: self.view(), cells: HashMap::new(), first_customers: Vec::new() };
        let is_nothing = self.filter.lists().any(|(_, list)| list.is_empty());
        if !is_nothing {
            self.add_up(tx, facts, &mut cells.cells).await?;
            cells.cells.retain(|_, cell| !cell.is_void());
        }
        if self.needs.first_customers {
            cells.first_customers = self.first_customers(tx, facts).await?;
        }
        Ok(cells)
    }

    /// Aggregates entries alone. What they reverse must be among them.
    pub fn cells_of<'e>(&self, entries: impl Iterator<Item = &'e Entry> + Clone) -> Result<Cells> {
        let mut cells = Cells { view: self.view(), cells: HashMap::new(), first_customers: Vec::new() };
        let entries = entries.filter(|entry| self.holds(entry.at));
        self.add_entries(entries.clone(), &mut Sums::new(&mut cells.cells))?;
        cells.cells.retain(|_, cell| !cell.is_void());
        if self.needs.first_customers {
            let filter = Filter::first_orders(self.organizations);
            let mut found = HashMap::new();
            self.of_first_customers(&filter).add_entries(entries, &mut Sums::new(&mut found))?;
            cells.first_customers = self.customers_by_bucket(found);
        }
        Ok(cells)
    }

    /// Adds entries newer than `cells`. `false` if the cells must be recomputed instead: an order is removed from sets,
    /// which do not know multiplicities, or from lines, of which rollups of days count one per order and category, and
    /// others each.
    pub fn fold<'e>(&self, entries: impl Iterator<Item = &'e Entry> + Clone, cells: &mut Cells) -> Result<bool> {
        let entries = entries.filter(|entry| self.holds(entry.at));
        let has_sets = self.needs.customers || self.needs.first_customers;
        if (has_sets || cells.view.by_line) && entries.clone().any(takes_back) {
            return Ok(false);
        }
        for entry in entries.clone().filter(|entry| entry.kind == EntryKind::Order && entry.segment == Segment::New) {
            if let Some(first_customers) = cells.first_customers.get_mut(self.bucket_of(entry.at)) {
                first_customers.insert(member(entry.customer_no)?);
            }
        }
        self.add_new(entries.clone(), &mut Sums::new(&mut cells.cells), |_| self.quarter_level())?;
        // Also refunds can add up to nothing.
        if entries.into_iter().any(|entry| entry.sign < 0 || entry.kind != EntryKind::Order) {
            cells.cells.retain(|_, cell| !cell.is_void());
        }
        Ok(true)
    }

    /// First orders are determined without the filter: a customer who bought before in another channel is not new.
    async fn first_customers(&self, tx: &TenantTx, facts: &Facts) -> Result<Vec<RoaringBitmap>> {
        let filter = Filter::first_orders(self.organizations);
        let mut found = HashMap::new();
        Box::pin(self.of_first_customers(&filter).add_up(tx, facts, &mut found)).await?;
        Ok(self.customers_by_bucket(found))
    }

    fn of_first_customers<'a>(&'a self, filter: &'a Filter) -> Question<'a> {
        Question { filter, group: &UNGROUPED, needs: Needs { customers: true, ..Needs::default() }, ..*self }
    }

    fn customers_by_bucket(&self, mut found: HashMap<(usize, GroupKey), Cell>) -> Vec<RoaringBitmap> {
        let buckets = 0..self.boundaries.len().saturating_sub(1);
        let customers = |bucket| found.remove(&(bucket, Vec::new())).map(|cell: Cell| cell.customers);
        buckets.map(customers).map(Option::unwrap_or_default).collect()
    }

    async fn add_up(&self, tx: &TenantTx, facts: &Facts, cells: &mut HashMap<CellKey, Cell>) -> Result<()> {
        let newest = match facts {
            Facts::Newest(newest) if self.group.is_rolled_up() => newest,
            Facts::Newest(_) => return self.add_whole(tx, i64::MAX, &mut Sums::new(cells)).await,
            Facts::AsOf(position) => return self.add_whole(tx, *position, &mut Sums::new(cells)).await,
            Facts::Entries(entries) => {
                let asked = entries.iter().map(|(_, entry)| entry).filter(|entry| self.holds(entry.at));
                return self.add_entries(asked, &mut Sums::new(cells));
            }
        };
        let day_level = Level::of_days(self.split());
        let may_use_days = |of: &Organization| day_level.is_some() && self.group.keeps_days(of);
        let boundaries = newest.padded(self.boundaries);
        let ranges = ranges(&boundaries, &self.filter.organizations, may_use_days);
        let is_whole = |entry: &&Entry| self.holds(entry.at) && !ranges.cut.iter().any(|span| span.holds(entry.at));
        let newer = || newest.tail.entries().filter(is_whole);
        let mut sums = Sums::before(cells, newer())?;
        if let Some(level) = day_level {
            self.add_days(tx, newest, &ranges, level, &mut sums).await?;
        }
        self.add_base(tx, &ranges, &mut sums).await?;
        for span in &ranges.cut {
            self.add_cut(tx, *span, i64::MAX, &mut sums).await?;
        }
        let quarter_level = self.quarter_level();
        // Lines are counted as in the rollup that their order is in.
        let level_of = |entry: &Entry| match day_level {
            Some(level) if level.by_line() && self.is_by_day(&ranges, entry) => level,
            _ => quarter_level,
        };
        self.add_new(newer(), &mut sums, level_of)?;
        sums.finish();
        Ok(())
    }

    /// Whether an entry is in a rollup of a day, rather than of a quarter of an hour.
    fn is_by_day(&self, ranges: &Ranges, entry: &Entry) -> bool {
        self.organization(entry.org_no)
            .is_ok_and(|organization| ranges.has_day(entry.org_no, day_of(entry.at, organization.timezone)))
    }

    fn holds(&self, at: Timestamp) -> bool {
        self.boundaries.first().is_some_and(|start| *start <= at) && self.boundaries.last().is_some_and(|end| at < *end)
    }

    fn quarter_level(&self) -> Level {
        if self.view().by_line { Level::QuarterLine } else { Level::Quarter }
    }

    /// Adds day rollups.
    async fn add_days(
        &self,
        tx: &TenantTx,
        newest: &Newest,
        ranges: &Ranges,
        level: Level,
        sums: &mut Sums<'_>,
    ) -> Result<()> {
        if ranges.days().next().is_none() {
            return Ok(());
        }
        if !self.needs.sets(level.by_line())
            && let Some(rows) = newest.days(tx, level, ranges).await?
        {
            return self.add_rows_of_days(&rows, sums);
        }
        let statement = DayStatement::new(self, ranges, level);
        for row in tx.query_by_keys_after(&statement.sql, statement.values.clone(), &statement.ranges).await? {
            let (day, mut index) = if statement.has_slot {
                (Some(slot_start(self.organization(get(&row, 0)?)?, true, get(&row, 1)?)), 2)
            } else {
                (None, 0)
            };
            let (bucket, own) = day.map_or_else(Place::default, |day| self.place(day));
            let mut key = GroupKey::with_capacity(self.group.dimensions.len());
            for dimension in &self.group.dimensions {
                if let Some(number) = own.number(*dimension) {
                    key.push(number);
                    continue;
                }
                key.push(match dimension {
                    Dimension::Product => get(&row, index)?,
                    _ => get::<i32>(&row, index)?.into(),
                });
                index += 1;
            }
            days::add_row(sums, (bucket, key), &row, index, &statement)?;
        }
        Ok(())
    }

    fn add_rows_of_days(&self, rows: &DayRows, sums: &mut Sums<'_>) -> Result<()> {
        let (mut day, mut place) = (None, Place::default());
        for (key, row) in rows.iter().filter(|(key, _)| self.fits(key)) {
            if day != Some((key.org_no, key.slot)) {
                day = Some((key.org_no, key.slot));
                place = self.place(slot_start(self.organization(key.org_no)?, true, key.slot));
            }
            self.add_folded(place, key, row, sums);
        }
        Ok(())
    }

    /// Adds base slots.
    async fn add_base(&self, tx: &TenantTx, ranges: &Ranges, sums: &mut Sums<'_>) -> Result<()> {
        if ranges.quarters().next().is_none() {
            return Ok(());
        }
        let level = self.quarter_level();
        let has_sets = self.needs.sets(level.by_line());
        let (packed_sums, packed_sets) =
            if level.by_line() { ("m.lines", "m.line_sets") } else { ("m.orders", "m.order_sets") };
        let sql = format!(
            "SELECT m.org_no, m.slot, {packed_sums}, {} FROM {{keys}} {{each sales_metrics_base m: {IN_RANGE}}}",
            if has_sets { packed_sets } else { "NULL" }
        );
        for row in tx.query_by_keys(&sql, &range_table(ranges.quarters())).await? {
            let (org_no, slot): (i32, i32) = (get(&row, 0)?, get(&row, 1)?);
            let place = self.place(slot_start(self.organization(org_no)?, false, slot));
            let (packed_sums, packed_sets): (Vec<u8>, Option<Vec<u8>>) = (get(&row, 2)?, get(&row, 3)?);
            for cell in packed::Cells::new(level, org_no, slot, &packed_sums, packed_sets.as_deref()) {
                let (key, row) = cell?;
                if self.fits(&key) {
                    self.add_folded(place, &key, &row, sums);
                }
            }
        }
        Ok(())
    }

    fn organization(&self, org_no: i32) -> Result<&Organization> {
        let found = self.filter.organizations.iter().find(|o| o.org_no == org_no);
        found.ok_or_else(|| Error::internal("a row of an organization that was not asked for"))
    }

    /// Of a rollup.
    fn place(&self, at: Timestamp) -> Place {
        (self.bucket_of(at), self.group.time_key(at))
    }

    fn place_of(&self, entry: &Entry) -> Place {
        (self.bucket_of(entry.at), self.group.own_key(entry))
    }

    fn bucket_of(&self, at: Timestamp) -> usize {
        let last = self.boundaries.len().saturating_sub(2);
        self.boundaries.partition_point(|boundary| *boundary <= at).saturating_sub(1).min(last)
    }

    /// Adds all entries up to a position.
    async fn add_whole(&self, tx: &TenantTx, position_max: i64, sums: &mut Sums<'_>) -> Result<()> {
        let (Some(start), Some(end)) = (self.boundaries.first(), self.boundaries.last()) else { return Ok(()) };
        self.add_cut(tx, Span { start: *start, end: *end }, position_max, sums).await
    }

    /// Adds the entries of `span` up to a position, page by page. A reversal has the same time as its entry, so it
    /// follows in order of time and position.
    async fn add_cut(&self, tx: &TenantTx, span: Span, position_max: i64, sums: &mut Sums<'_>) -> Result<()> {
        let (wanted, mut left) = match self.group.is_rolled_up() {
            true => (String::new(), usize::MAX),
            false => (self.counted_if_unrolled(), UNROLLED_MAX),
        };
        let sql = format!(
            "SELECT {ENTRY_COLUMNS}, e.entry_no FROM ledger_entries e WHERE e.tenant_id = $1 AND e.at >= $2 AND e.at < $3 \
             AND e.position <= $4 AND (e.at, e.position, e.entry_no) > ($2, $5, $6){wanted} \
             ORDER BY e.at, e.position, e.entry_no LIMIT {PAGE}"
        );
        let mut added = AddedRows::default();
        let mut after = (span.start.0, -1_i64, -1_i32);
        loop {
            let (at, position, entry_no) = after;
            let values: [Value; 5] =
                [at.into(), span.end.0.into(), position_max.into(), position.into(), entry_no.into()];
            let rows = tx.query(&sql, values).await?;
            left = left.checked_sub(rows.len()).ok_or_else(|| {
                let message = format!(
                    "there are more than {UNROLLED_MAX} orders and refunds, too many to be told by customer; choose a shorter period"
                );
                Error::bad_input("by", message)
            })?;
            for row in &rows {
                let (position, entry) = entry_from(row)?;
                after = (entry.at.0, position, get(row, 16)?);
                self.add_entry(&entry, &mut added)?;
            }
            if rows.len() < PAGE {
                break;
            }
        }
        self.add_rows(added, sums);
        Ok(())
    }

    /// A condition for the entries that count towards [`UNROLLED_MAX`].
    fn counted_if_unrolled(&self) -> String {
        let organizations: Vec<String> = self.filter.organizations.iter().map(|o| o.org_no.to_string()).collect();
        let (visits, organizations) = (EntryKind::Visits as i32, organizations.join(", "));
        format!(" AND e.kind <> {visits} AND e.org_no IN ({organizations})")
    }

    /// Adds the entries that match the filter. What they reverse must be among them.
    fn add_entries<'e>(&self, entries: impl Iterator<Item = &'e Entry>, sums: &mut Sums<'_>) -> Result<()> {
        let mut added = AddedRows::default();
        for entry in entries {
            self.add_entry(entry, &mut added)?;
        }
        self.add_rows(added, sums);
        Ok(())
    }

    fn add_entry(&self, entry: &Entry, added: &mut AddedRows) -> Result<()> {
        let (level, place) = (self.quarter_level(), self.place_of(entry));
        for (key, part) in self.fitting_parts(entry, level) {
            added.entry((place, key)).or_default().add(entry, part, level)?;
        }
        Ok(())
    }

    fn add_rows(&self, added: AddedRows, sums: &mut Sums<'_>) {
        for ((place, key), row) in added {
            self.add_folded(place, &key, &row, sums);
        }
    }

    /// Adds entries that match the filter, by parts of the given levels, to `sums` that were made for them.
    fn add_new<'e>(
        &self,
        entries: impl Iterator<Item = &'e Entry>,
        sums: &mut Sums<'_>,
        level_of: impl Fn(&Entry) -> Level,
    ) -> Result<()> {
        for entry in entries {
            let ((bucket, own), level) = (self.place_of(entry), level_of(entry));
            for (key, part) in self.fitting_parts(entry, level) {
                sums.add_part((bucket, self.group.key(own, &key)), entry, part, level.by_line(), self.needs)?;
            }
        }
        Ok(())
    }

    fn fitting_parts(&self, entry: &Entry, level: Level) -> impl Iterator<Item = (Key, RollupDelta)> {
        // Visits are nobody's.
        let is_told = self.group.is_rolled_up() || entry.kind != EntryKind::Visits;
        let is_asked = is_told && self.filter.organizations.iter().any(|o| o.org_no == entry.org_no);
        let parts = is_asked.then(|| rollup::parts(entry, level, Slots::default()));
        parts.into_iter().flatten().filter(|(key, _)| self.fits(key))
    }

    fn add_folded(&self, (bucket, own): Place, key: &Key, row: &rollup::Row, sums: &mut Sums<'_>) {
        sums.add_row((bucket, self.group.key(own, key)), row, key.segment == Segment::New as i32);
    }

    fn fits(&self, key: &Key) -> bool {
        self.filter.fits(|dimension| dimension.of_key(key))
    }
}
