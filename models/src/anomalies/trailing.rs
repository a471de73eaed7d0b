//! A causal expectation: what a bucket is expected to be, given those before it alone.
//!
//! The level is the median of the last two seasons; added to it is the median deviation of the last buckets of the same
//! phase (such as the same weekday) from their level at the time. So a growing shop is not compared with itself a month
//! ago.

use std::collections::VecDeque;

use super::robust::{Window, median};

/// Seasons that form the level: at least `LEVEL_BUCKETS` buckets, where seasons are short or there is none.
const LEVEL_SEASONS: usize = 2;
const LEVEL_BUCKETS: usize = 14;

/// Buckets remembered per phase: enough that three outliers do not move the median.
const PHASE_BUCKETS: usize = 8;

/// Minimum number of values for a median: of three, one may be an outlier.
pub const MEDIAN_OF_MIN: usize = 3;

/// The trailing expectation of one metric.
pub struct Trailing {
    level: Window,
    /// Per phase, the deviations of its last buckets from the level.
    phases: Vec<VecDeque<f64>>,
    /// The phase of the next bucket.
    phase: usize,
}

impl Trailing {
    pub fn new(season_buckets: usize) -> Self {
        let season = season_buckets.max(1);
        let level = Window::new((LEVEL_SEASONS * season).max(LEVEL_BUCKETS));
        Trailing { level, phases: vec![VecDeque::new(); season], phase: 0 }
    }

    /// The current level, regardless of phase.
    pub fn level(&self) -> Option<f64> {
        self.level.median().filter(|_| self.level.len() >= MEDIAN_OF_MIN)
    }

    /// The expected value of the next bucket; `None` before its phase is known: a first weekend is no anomaly.
    pub fn expected(&self) -> Option<f64> {
        let same_phase = self.phases.get(self.phase).filter(|phase| phase.len() >= MEDIAN_OF_MIN)?;
        Some(self.level()? + median(same_phase.iter().copied().collect())?)
    }

    /// Advances by one bucket; `None` where it has no value.
    pub fn push(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            let level = self.level();
            if let (Some(level), Some(phase)) = (level, self.phases.get_mut(self.phase)) {
                if phase.len() == PHASE_BUCKETS {
                    phase.pop_front();
                }
                phase.push_back(value - level);
            }
            self.level.push(Some(value));
        }
        self.phase = (self.phase + 1) % self.phases.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(season_buckets: usize, values: impl IntoIterator<Item = Option<f64>>) -> Trailing {
        let mut trailing = Trailing::new(season_buckets);
        values.into_iter().for_each(|value| trailing.push(value));
        trailing
    }

    #[test]
    fn nothing_is_expected_before_a_phase_is_known() {
        // Day 3 is the first with a level to compare with; it, day 10 and day 17 share the phase of day 24.
        let knows = |days| after(7, (0..days).map(|_| Some(5.0))).expected().is_some();
        assert_eq!([23, 24, 28].map(knows), [false, true, true]);
        assert_eq!(after(1, [Some(5.0), None, Some(7.0), Some(9.0)]).level(), Some(7.0));
    }

    #[test]
    fn a_weekly_pattern_is_expected_to_return() {
        let week = [10.0, 10.0, 10.0, 10.0, 10.0, 30.0, 20.0];
        let mut trailing = after(7, (0..42).map(|day| Some(week[day % 7])));
        for day in week {
            assert_eq!(trailing.expected(), Some(day));
            trailing.push(None);
        }
    }

    #[test]
    fn one_outlier_hardly_moves_the_expectation() {
        let series = |spike| (0..30).map(move |day| Some(if day == 25 { spike } else { f64::from(100 + day % 2) }));
        let expected = |spike| after(2, series(spike)).expected().expect("a history");
        assert!((expected(1e6) - expected(101.0)).abs() <= 1.0);
    }

    #[test]
    fn growth_does_not_leave_the_expectation_behind() {
        // Ten a day. The level, of days 86..=99, is 925; each day was 75 above its level at the time.
        assert_eq!(after(7, (0..100).map(|day| Some(f64::from(10 * day)))).expected(), Some(1000.0));
    }
}
