//! Maps buckets to rollup slots.
//!
//! A bucket consists of whole days in the organization's zone where possible, 15-minute slots at its edges, and, where
//! a boundary cuts such a slot, the ledger's entries in that part.

use super::period::Span;
use crate::calendar::{date_of, day_from_number, day_number, start_of_day};
use crate::clock::Timestamp;
use crate::ledger::organization::Organization;
use crate::ledger::rollup::{QUARTER_HOUR, SlotRange, quarter_slot};

/// Everything to read for some buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranges {
    pub slots: Vec<SlotRange>,
    /// Parts of 15-minute slots.
    pub cut: Vec<Span>,
}

impl Ranges {
    /// The ranges of days.
    pub fn days(&self) -> impl Iterator<Item = &SlotRange> + Clone {
        self.slots.iter().filter(|range| range.by_day)
    }

    /// The ranges of 15-minute slots.
    pub fn quarters(&self) -> impl Iterator<Item = &SlotRange> + Clone {
        self.slots.iter().filter(|range| !range.by_day)
    }

    /// Whether an organization's day is read as a whole.
    pub fn has_day(&self, org_no: i32, day: i32) -> bool {
        self.days().any(|range| range.org_no == org_no && range.from <= day && day < range.to)
    }
}

/// The slots of the buckets between `boundaries`; day slots only of the organizations that `may_use_days` is true for.
pub fn ranges(
    boundaries: &[Timestamp],
    organizations: &[Organization],
    may_use_days: impl Fn(&Organization) -> bool,
) -> Ranges {
    let mut ranges = Ranges { slots: Vec::new(), cut: cut_parts(boundaries) };
    for organization in organizations {
        let may_use_days = may_use_days(organization);
        for pair in boundaries.windows(2) {
            add_bucket(&mut ranges.slots, organization, pair[0], pair[1], may_use_days);
        }
    }
    ranges
}

/// The parts of slots cut by a boundary, bucket by bucket.
fn cut_parts(boundaries: &[Timestamp]) -> Vec<Span> {
    let mut parts = Vec::new();
    for pair in boundaries.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let (up, down) = (round_up(start), round_down(end));
        if up > down {
            // Within one slot.
            parts.push(Span { start, end });
            continue;
        }
        if start < up {
            parts.push(Span { start, end: up });
        }
        if down < end {
            parts.push(Span { start: down, end });
        }
    }
    parts
}

/// Rounds up to the start of a 15-minute slot.
pub fn round_up(at: Timestamp) -> Timestamp {
    Timestamp(-(-at.0).div_euclid(QUARTER_HOUR) * QUARTER_HOUR)
}

/// Rounds down to the start of a 15-minute slot.
pub fn round_down(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(QUARTER_HOUR) * QUARTER_HOUR)
}

fn add_bucket(
    slots: &mut Vec<SlotRange>,
    organization: &Organization,
    start: Timestamp,
    end: Timestamp,
    may_use_days: bool,
) {
    let (start, end) = (round_up(start), round_down(end));
    if start >= end {
        return;
    }
    let zone = organization.timezone;
    let mut first = date_of(start, zone);
    if start_of_day(first, zone) < start {
        first = first.succ_opt().unwrap_or(first);
    }
    let last = date_of(end, zone);
    let (days_start, days_end) = (start_of_day(first, zone), start_of_day(last, zone));
    let whole_slots = |at: Timestamp| at.0 % QUARTER_HOUR == 0;
    if may_use_days && days_start < days_end && whole_slots(days_start) && whole_slots(days_end) {
        push(slots, organization.org_no, false, quarter_slot(start), quarter_slot(days_start));
        push(slots, organization.org_no, true, day_number(first), day_number(last));
        push(slots, organization.org_no, false, quarter_slot(days_end), quarter_slot(end));
    } else {
        push(slots, organization.org_no, false, quarter_slot(start), quarter_slot(end));
    }
}

/// Appends a range, extending the last one if contiguous.
fn push(slots: &mut Vec<SlotRange>, org_no: i32, by_day: bool, from: i32, to: i32) {
    if from >= to {
        return;
    }
    match slots.last_mut() {
        Some(last) if last.org_no == org_no && last.by_day == by_day && last.to == from => last.to = to,
        _ => slots.push(SlotRange { org_no, by_day, from, to }),
    }
}

/// The first instant of a slot.
pub fn slot_start(organization: &Organization, by_day: bool, slot: i32) -> Timestamp {
    if by_day {
        start_of_day(day_from_number(slot), organization.timezone)
    } else {
        Timestamp(i64::from(slot) * QUARTER_HOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into()
    }

    fn london() -> Organization {
        Organization {
            id: Uuid::nil(),
            org_no: 1,
            slug: "x".into(),
            name: "x".into(),
            timezone: chrono_tz::Europe::London,
            currency: "GBP".into(),
            is_default: true,
        }
    }

    #[test]
    fn local_days_are_read_as_one_range_of_days() {
        let boundaries: Vec<_> = (1..=4).map(|d| at(&format!("2026-06-0{d}T00:00:00+01:00"))).collect();
        let found = ranges(&boundaries, &[london()], |_| true);
        assert_eq!(found.slots.len(), 1);
        assert!(found.slots[0].by_day && found.slots[0].to - found.slots[0].from == 3 && found.cut.is_empty());
    }

    #[test]
    fn edges_are_quarters_and_parts_of_quarters() {
        let boundaries = [at("2026-06-01T10:07:00Z"), at("2026-06-03T09:20:00Z")];
        let found = ranges(&boundaries, &[london()], |_| true);
        let kinds: Vec<bool> = found.slots.iter().map(|range| range.by_day).collect();
        assert_eq!(kinds, [false, true, false]);
        let parts =
            [("2026-06-01T10:07:00Z", "2026-06-01T10:15:00Z"), ("2026-06-03T09:15:00Z", "2026-06-03T09:20:00Z")];
        assert_eq!(found.cut, parts.map(|(start, end)| Span { start: at(start), end: at(end) }));
    }

    #[test]
    fn a_period_within_one_slot_is_read_from_entries_alone() {
        let found = ranges(&[at("2026-06-01T10:01:00Z"), at("2026-06-01T10:02:00Z")], &[london()], |_| true);
        assert!(found.slots.is_empty() && found.cut.len() == 1);
    }
}
