//! The cells of one base slot in two values: sums and, separately, sets, which most queries do not need. A slot is
//! written as a whole, so events within the same 15 minutes share a row.

use super::set::CountedSet;
use super::sketch::Sketch;
use super::varint::{BadBytes, read_bytes, read_signed, write_bytes, write_signed};
use super::{Key, Level, Row};

/// Sums and sets of the cells of one slot and level.
#[derive(Default)]
pub struct Packed {
    /// For each cell, its dimensions, then its sums.
    pub sums: Vec<u8>,
    /// For each cell, in the same order, its customers, then its orders or order values.
    pub sets: Vec<u8>,
}

impl Packed {
    /// Appends a cell; cells must be pushed in key order.
    pub fn push(&mut self, key: &Key, row: &Row) {
        for number in [key.channel_no, key.region_no, key.segment, key.category_no] {
            write_signed(number.into(), &mut self.sums);
        }
        for number in [
            key.product_no,
            row.orders,
            row.gross,
            row.discount,
            row.units,
            row.refunds,
            row.refunds_by_order,
            row.visits,
        ] {
            write_signed(number, &mut self.sums);
        }
        write_bytes(&row.customers.to_bytes(), &mut self.sets);
        let second = if key.level.by_line() { row.order_set.to_bytes() } else { row.order_values.to_bytes() };
        write_bytes(&second, &mut self.sets);
    }
}

/// Iterates over the cells of a slot; without `sets` their sets are left empty.
pub struct Cells<'a> {
    level: Level,
    org_no: i32,
    slot: i32,
    sums: &'a [u8],
    sets: Option<&'a [u8]>,
}

impl<'a> Cells<'a> {
    pub fn new(level: Level, org_no: i32, slot: i32, sums: &'a [u8], sets: Option<&'a [u8]>) -> Self {
        Cells { level, org_no, slot, sums, sets }
    }

    fn read(&mut self) -> Result<(Key, Row), BadBytes> {
        let mut number = || read_signed(&mut self.sums);
        let mut dimension = || number().and_then(|number| i32::try_from(number).map_err(|_| BadBytes));
        let key = Key {
            level: self.level,
            org_no: self.org_no,
            slot: self.slot,
            channel_no: dimension()?,
            region_no: dimension()?,
            segment: dimension()?,
            category_no: dimension()?,
            product_no: number()?,
        };
        let mut row = Row {
            orders: number()?,
            gross: number()?,
            discount: number()?,
            units: number()?,
            refunds: number()?,
            refunds_by_order: number()?,
            visits: number()?,
            ..Row::default()
        };
        if let Some(sets) = &mut self.sets {
            row.customers = CountedSet::from_bytes(read_bytes(sets)?)?;
            let second = read_bytes(sets)?;
            if self.level.by_line() {
                row.order_set = CountedSet::from_bytes(second)?;
            } else {
                row.order_values = Sketch::from_bytes(second)?;
            }
        }
        Ok((key, row))
    }
}

impl Iterator for Cells<'_> {
    type Item = Result<(Key, Row), BadBytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.sums.is_empty() {
            return None;
        }
        let cell = self.read();
        if cell.is_err() {
            self.sums = &[];
        }
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_is_read(cells in prop::collection::btree_map((any::<i32>(), any::<i64>()), (any::<i64>(), any::<i64>(), prop::collection::vec(any::<u32>(), 0..5)), 0..9)) {
            for level in [Level::Quarter, Level::QuarterLine] {
                let cells: Vec<(Key, Row)> = cells.iter().map(|((channel_no, product_no), (gross, visits, members))| {
                    let key = Key { level, org_no: 1, slot: -7, channel_no: *channel_no, region_no: 2, segment: 1, category_no: 3, product_no: *product_no };
                    let mut row = Row { gross: *gross, visits: *visits, ..Row::default() };
                    for member in members { assert!(row.customers.add(*member, 1)); }
                    (key, row)
                }).collect();
                let mut packed = Packed::default();
                cells.iter().for_each(|(key, row)| packed.push(key, row));
                let read: Result<Vec<_>, _> = Cells::new(level, 1, -7, &packed.sums, Some(&packed.sets)).collect();
                prop_assert_eq!(read.expect("readable"), cells);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(sums in prop::collection::vec(any::<u8>(), 0..64), sets in prop::collection::vec(any::<u8>(), 0..64)) {
            for level in [Level::Quarter, Level::QuarterLine] {
                let _ = Cells::new(level, 1, 1, &sums, Some(&sets)).count();
            }
        }
    }
}
