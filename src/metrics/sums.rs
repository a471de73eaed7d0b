//! Cells while rollups and entries are added to them.
//!
//! Sets of cells have no multiplicities, so they cannot tell whether a customer or order is gone once an order is
//! reversed. Of those that the ledger's tail reverses, which are few, the multiplicities are added up beside the cells.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use super::catalog::Needs;
use super::cell::{Cell, member};
use super::group::GroupKey;
use crate::error::Result;
use crate::ledger::entry::{Entry, EntryKind, Segment};
use crate::ledger::rollup::set::CountedSet;
use crate::ledger::rollup::{RollupDelta, Row};
use crate::ledger::tail::takes_back;

/// A bucket and a group.
pub type CellKey = (usize, GroupKey);

pub struct Sums<'c> {
    cells: &'c mut HashMap<CellKey, Cell>,
    /// Customers and orders that entries still to be added reverse.
    reversed_customers: RoaringBitmap,
    reversed_orders: RoaringBitmap,
    multiplicities: HashMap<CellKey, Multiplicities>,
}

/// How often reversed members are in a cell's sets.
#[derive(Default)]
struct Multiplicities {
    customers: BTreeMap<u32, i64>,
    orders: BTreeMap<u32, i64>,
    first_orders: BTreeMap<u32, i64>,
}

impl<'c> Sums<'c> {
    /// To add what reverses nothing that sets contain.
    pub fn new(cells: &'c mut HashMap<CellKey, Cell>) -> Self {
        Sums {
            cells,
            reversed_customers: RoaringBitmap::new(),
            reversed_orders: RoaringBitmap::new(),
            multiplicities: HashMap::new(),
        }
    }

    /// To add `entries` after everything that they reverse.
    pub fn before<'e>(cells: &'c mut HashMap<CellKey, Cell>, entries: impl Iterator<Item = &'e Entry>) -> Result<Self> {
        let mut sums = Sums::new(cells);
        for entry in entries.filter(|entry| takes_back(entry)) {
            if entry.customer_no != 0 {
                sums.reversed_customers.insert(member(entry.customer_no)?);
            }
            sums.reversed_orders.insert(member(entry.order_no)?);
        }
        Ok(sums)
    }

    /// Whether sets must be added with their multiplicities.
    pub fn counts(&self) -> bool {
        !self.reversed_orders.is_empty()
    }

    pub fn cell(&mut self, key: CellKey) -> &mut Cell {
        self.cells.entry(key).or_default()
    }

    /// Adds a row folded from entries, of either first orders or others.
    pub fn add_row(&mut self, key: CellKey, row: &Row, is_first: bool) {
        self.count_sets(&key, &row.customers, &row.order_set, is_first);
        self.cell(key).add_row(row, is_first);
    }

    /// Counts the members of sets that are added to a cell.
    pub fn count_sets(&mut self, key: &CellKey, customers: &CountedSet, orders: &CountedSet, is_first: bool) {
        if !self.counts() {
            return;
        }
        let customers = customers.times_of(&self.reversed_customers);
        let orders = orders.times_of(&self.reversed_orders);
        self.count(key, customers, orders, is_first);
    }

    /// Adds a part of an entry; only the sets that are needed.
    pub fn add_part(
        &mut self,
        key: CellKey,
        entry: &Entry,
        part: RollupDelta,
        by_line: bool,
        needs: Needs,
    ) -> Result<()> {
        if self.counts() && entry.kind == EntryKind::Order {
            let times = |number: i64, reversed: &RoaringBitmap| -> Result<Vec<(u32, i64)>> {
                let member = member(number)?;
                Ok(reversed.contains(member).then(|| (member, entry.sign.into())).into_iter().collect())
            };
            let customers = times(entry.customer_no, &self.reversed_customers)?;
            let orders = times(entry.order_no, &self.reversed_orders)?;
            self.count(&key, customers, orders, entry.segment == Segment::New);
        }
        self.cell(key).add_part(entry, part, by_line, needs)
    }

    fn count(&mut self, key: &CellKey, customers: Vec<(u32, i64)>, orders: Vec<(u32, i64)>, is_first: bool) {
        if customers.is_empty() && orders.is_empty() {
            return;
        }
        if !self.multiplicities.contains_key(key) {
            self.multiplicities.insert(key.clone(), Multiplicities::default());
        }
        let Some(counted) = self.multiplicities.get_mut(key) else { return };
        for (member, times) in customers {
            *counted.customers.entry(member).or_default() += times;
        }
        for (member, times) in orders {
            *counted.orders.entry(member).or_default() += times;
            if is_first {
                *counted.first_orders.entry(member).or_default() += times;
            }
        }
    }

    /// Removes from the sets what has been reversed as often as it was added.
    pub fn finish(self) {
        for (key, counted) in self.multiplicities {
            let Some(cell) = self.cells.get_mut(&key) else { continue };
            remove_gone(&mut cell.customers, &counted.customers);
            remove_gone(&mut cell.order_set, &counted.orders);
            remove_gone(&mut cell.first_order_set, &counted.first_orders);
        }
    }
}

fn remove_gone(set: &mut RoaringBitmap, counted: &BTreeMap<u32, i64>) {
    for (member, _) in counted.iter().filter(|(_, times)| **times <= 0) {
        set.remove(*member);
    }
}
