//! What the rows of an answer are grouped by.

use chrono::{Datelike, Timelike};
use chrono_tz::Tz;

use super::dimension::Dimension;
use super::ranges::round_down;
use crate::calendar::{date_of, local_time};
use crate::clock::Timestamp;
use crate::ledger::entry::Entry;
use crate::ledger::organization::Organization;
use crate::ledger::rollup::Key;

/// Dimensions, in the requested order.
#[derive(Clone, Debug)]
pub struct GroupBy {
    pub dimensions: Vec<Dimension>,
    /// Time zone of hours and of days of the week.
    pub zone: Tz,
}

/// A combination of dimension values, by number, in the requested order.
pub type GroupKey = Vec<i64>;

/// What the keys of rollups do not have: the day of the week and the hour of the day, from 1, and the customer; 0 where they
/// do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnKey {
    day: u8,
    hour: u8,
    customer_no: i64,
}

/// All rows together.
pub static UNGROUPED: GroupBy = GroupBy { dimensions: Vec::new(), zone: Tz::UTC };

impl GroupBy {
    /// Whether groups depend on the time.
    pub fn by_time(&self) -> bool {
        self.has(Dimension::DayOfWeek) || self.has(Dimension::HourOfDay)
    }

    pub fn has(&self, dimension: Dimension) -> bool {
        self.dimensions.contains(&dimension)
    }

    /// Whether all of an organization's days are in one group each.
    pub fn keeps_days(&self, organization: &Organization) -> bool {
        !self.has(Dimension::HourOfDay) && (!self.has(Dimension::DayOfWeek) || organization.timezone == self.zone)
    }

    /// Whether rollups keep its groups apart.
    pub fn is_rolled_up(&self) -> bool {
        !self.has(Dimension::Customer)
    }

    /// What of an entry's group does not follow from a rollup's key.
    pub fn own_key(&self, entry: &Entry) -> OwnKey {
        let customer_no = if self.has(Dimension::Customer) { entry.customer_no } else { 0 };
        OwnKey { customer_no, ..self.time_key(entry.at) }
    }

    /// What of a group follows from the time. Quarters of an hour are kept together, also where a zone's hours begin
    /// within them.
    pub fn time_key(&self, at: Timestamp) -> OwnKey {
        let mut key = OwnKey::default();
        let slot = round_down(at);
        if self.has(Dimension::DayOfWeek) {
            key.day = u8::try_from(date_of(slot, self.zone).weekday().number_from_monday()).unwrap_or_default();
        }
        if self.has(Dimension::HourOfDay) {
            key.hour = u8::try_from(local_time(slot, self.zone).hour() + 1).unwrap_or_default();
        }
        key
    }

    pub fn key(&self, own: OwnKey, key: &Key) -> GroupKey {
        self.dimensions
            .iter()
            .map(|dimension| own.number(*dimension).unwrap_or_else(|| dimension.of_key(key)))
            .collect()
    }
}

impl OwnKey {
    /// Its number for a dimension; `None` if the keys of rollups have that.
    pub fn number(self, dimension: Dimension) -> Option<i64> {
        match dimension {
            Dimension::DayOfWeek => Some(self.day.into()),
            Dimension::HourOfDay => Some(self.hour.into()),
            Dimension::Customer => Some(self.customer_no),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MINUTE;

    #[test]
    fn days_and_hours_are_those_of_the_clock() {
        use chrono_tz::{America, Asia, Australia, Europe};
        let start = chrono::DateTime::parse_from_rfc3339("2025-01-01T00:00:00Z").expect("a time").to_utc();
        let zones = [
            Tz::UTC,
            Europe::London,
            America::St_Johns,
            Asia::Kathmandu,
            Australia::Lord_Howe,
            // Its clocks change at midnight.
            America::Santiago,
        ];
        for zone in zones {
            let group = GroupBy { dimensions: vec![Dimension::HourOfDay, Dimension::DayOfWeek], zone };
            for slot in 0..365 * 96 {
                let at = start + chrono::Duration::minutes(15 * slot) + chrono::Duration::seconds(slot % 900);
                let local = at.with_timezone(&zone);
                let time = group.time_key(at.into());
                let found = [Dimension::HourOfDay, Dimension::DayOfWeek].map(|dimension| time.number(dimension));
                let day = local.weekday().number_from_monday();
                assert_eq!(found, [Some(i64::from(local.hour()) + 1), Some(day.into())], "{local}");
            }
        }
    }

    #[test]
    fn what_does_not_matter_is_not_told_apart() {
        let by = |dimensions| GroupBy { dimensions, zone: chrono_tz::Asia::Tokyo };
        let [one, other] = [0, 30 * 60].map(|minutes| Timestamp(minutes * MINUTE));
        assert_eq!(by(vec![Dimension::Channel]).time_key(one), by(vec![Dimension::Channel]).time_key(other));
        let days = by(vec![Dimension::DayOfWeek]);
        assert_eq!(days.time_key(one), days.time_key(Timestamp(MINUTE)));
        assert_ne!(days.time_key(one), days.time_key(other));
    }
}
