//! Time shifts of metrics.

use std::fmt;

/// The maximum shift: ten years, or as many periods as ten years have months.
pub const DAYS_BACK_MAX: u32 = 3660;
pub const MONTHS_BACK_MAX: u32 = 120;
pub const PERIODS_BACK_MAX: u32 = 120;

/// A calendar unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarUnit {
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl CalendarUnit {
    pub const ALL: [CalendarUnit; 5] =
        [CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month, CalendarUnit::Quarter, CalendarUnit::Year];

    /// Its suffix after a number.
    pub fn symbol(self) -> &'static str {
        match self {
            CalendarUnit::Day => "d",
            CalendarUnit::Week => "w",
            CalendarUnit::Month => "mo",
            CalendarUnit::Quarter => "q",
            CalendarUnit::Year => "y",
        }
    }
}

/// A duration as written: `1y`, `28d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    pub count: u32,
    pub unit: CalendarUnit,
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.count, self.unit.symbol())
    }
}

/// A shift into the past: first by calendar months, clamped to the last day of the month (29 February becomes the
/// 28th), then by days, then repeatedly to the preceding period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shift {
    pub months: u32,
    pub days: u32,
    pub periods: u32,
}

impl Shift {
    /// Shifted further back by `length`, or by one period; `None` beyond the maximum.
    pub fn back(self, length: Option<Length>) -> Option<Shift> {
        let step = match length {
            None => Shift { periods: 1, ..Shift::default() },
            Some(Length { count, unit }) => match unit {
                CalendarUnit::Day => Shift { days: count, ..Shift::default() },
                CalendarUnit::Week => Shift { days: count.checked_mul(7)?, ..Shift::default() },
                CalendarUnit::Month => Shift { months: count, ..Shift::default() },
                CalendarUnit::Quarter => Shift { months: count.checked_mul(3)?, ..Shift::default() },
                CalendarUnit::Year => Shift { months: count.checked_mul(12)?, ..Shift::default() },
            },
        };
        let sum = |a: u32, b: u32, max: u32| a.checked_add(b).filter(|sum| *sum <= max);
        Some(Shift {
            months: sum(self.months, step.months, MONTHS_BACK_MAX)?,
            days: sum(self.days, step.days, DAYS_BACK_MAX)?,
            periods: sum(self.periods, step.periods, PERIODS_BACK_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(count: u32, unit: CalendarUnit) -> Option<Length> {
        Some(Length { count, unit })
    }

    #[test]
    fn equal_lengths_are_equal_shifts() {
        let now = Shift::default();
        let year = now.back(length(1, CalendarUnit::Year));
        assert_eq!(year, now.back(length(4, CalendarUnit::Quarter)));
        assert_eq!(year, Some(Shift { months: 12, ..now }));
        assert_eq!(now.back(length(2, CalendarUnit::Week)), Some(Shift { days: 14, ..now }));
        let before_the_year = year.and_then(|year| year.back(None));
        assert_eq!(before_the_year, Some(Shift { months: 12, days: 0, periods: 1 }));
    }

    #[test]
    fn ten_years_are_the_farthest() {
        let ten = Shift::default().back(length(10, CalendarUnit::Year)).expect("ten years");
        assert_eq!(ten.back(length(1, CalendarUnit::Month)), None);
        assert_eq!(Shift::default().back(length(u32::MAX, CalendarUnit::Week)), None);
    }
}
