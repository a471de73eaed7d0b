//! Time shifts of metrics.

use std::fmt;

/// The maximum shift: ten years, and as many periods as ten years have months.
const DAYS_BACK_MAX: u32 = 3660;
const PERIODS_BACK_MAX: u32 = 120;

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

/// A step into the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepBack {
    /// By calendar months, clamped to the last day of the month (29 February becomes the 28th).
    Months(u32),
    Days(u32),
    /// To the preceding period, so many times.
    Periods(u32),
}

/// A shift into the past, step by step: that of x in `prev(prev(x, 1w))` is to the preceding period, then by a week.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shift(Vec<StepBack>);

impl Shift {
    /// In the order in which they are taken.
    pub fn steps(&self) -> &[StepBack] {
        &self.0
    }

    /// The number of steps to a preceding period.
    pub fn periods(&self) -> u32 {
        self.0.iter().map(|step| if let StepBack::Periods(count) = step { *count } else { 0 }).sum()
    }

    /// Then further back by `length`, or by one period; `None` beyond the maximum.
    pub fn back(&self, length: Option<Length>) -> Option<Shift> {
        let step = match length {
            None => StepBack::Periods(1),
            Some(Length { count, unit }) => match unit {
                CalendarUnit::Day => StepBack::Days(count),
                CalendarUnit::Week => StepBack::Days(count.checked_mul(7)?),
                CalendarUnit::Month => StepBack::Months(count),
                CalendarUnit::Quarter => StepBack::Months(count.checked_mul(3)?),
                CalendarUnit::Year => StepBack::Months(count.checked_mul(12)?),
            },
        };
        let mut steps = self.0.clone();
        // Months are not added up: a month before the 28th of February is not two before the 31st of March.
        match (steps.last_mut(), step) {
            (Some(StepBack::Days(last)), StepBack::Days(count))
            | (Some(StepBack::Periods(last)), StepBack::Periods(count)) => *last = last.checked_add(count)?,
            _ => steps.push(step),
        }
        let shift = Shift(steps);
        (shift.half_days() <= 2 * u64::from(DAYS_BACK_MAX) && shift.periods() <= PERIODS_BACK_MAX).then_some(shift)
    }

    /// Its days and months, of 30.5 days each.
    fn half_days(&self) -> u64 {
        let of = |step: &StepBack| match step {
            StepBack::Months(count) => 61 * u64::from(*count),
            StepBack::Days(count) => 2 * u64::from(*count),
            StepBack::Periods(_) => 0,
        };
        self.0.iter().map(of).sum()
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
        let year = now.back(length(1, CalendarUnit::Year)).expect("a year");
        assert_eq!(Some(&year), now.back(length(4, CalendarUnit::Quarter)).as_ref());
        assert_eq!(year.steps(), [StepBack::Months(12)]);
        assert_eq!(now.back(length(2, CalendarUnit::Week)).expect("weeks").steps(), [StepBack::Days(14)]);
    }

    #[test]
    fn steps_keep_their_order() {
        let back = |lengths: &[Option<Length>]| {
            lengths.iter().try_fold(Shift::default(), |shift, length| shift.back(*length)).expect("a shift").0
        };
        let (week, month) = (length(1, CalendarUnit::Week), length(1, CalendarUnit::Month));
        assert_eq!(back(&[None, week]), [StepBack::Periods(1), StepBack::Days(7)]);
        assert_eq!(back(&[week, None, None]), [StepBack::Days(7), StepBack::Periods(2)]);
        assert_eq!(back(&[week, week, month, month]), [StepBack::Days(14), StepBack::Months(1), StepBack::Months(1)]);
    }

    #[test]
    fn ten_years_are_the_farthest() {
        let (day, month) = (length(1, CalendarUnit::Day), length(1, CalendarUnit::Month));
        let ten = Shift::default().back(length(10, CalendarUnit::Year)).expect("ten years");
        assert_eq!((ten.back(month), ten.back(day)), (None, None));
        let days = Shift::default().back(length(DAYS_BACK_MAX, CalendarUnit::Day)).expect("as many days");
        assert_eq!((days.back(month), days.back(day)), (None, None));
        let periods = (0..PERIODS_BACK_MAX).try_fold(Shift::default(), |shift, _| shift.back(None)).expect("periods");
        assert_eq!(periods.back(None), None);
        assert_eq!(Shift::default().back(length(u32::MAX, CalendarUnit::Week)), None);
        assert_eq!(Shift::default().back(length(u32::MAX, CalendarUnit::Day)), None);
    }
}
