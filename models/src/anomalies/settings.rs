//! Detection settings.

use super::error::{AnomalyError, Result};

/// How many buckets are reported. Selects the most unusual of the trailing year, because deviations of sales have far
/// heavier tails than the normal distribution: of the days beyond 3.5 standard deviations six in seven were nothing
/// special.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensitivity {
    /// Two days a year.
    Low,
    /// Four days a year.
    #[default]
    Medium,
    /// Eleven days a year.
    High,
}

impl Sensitivity {
    /// The maximum share of anomalous buckets.
    pub fn share(self) -> f64 {
        match self {
            Sensitivity::Low => 0.003,
            Sensitivity::Medium => 0.01,
            Sensitivity::High => 0.03,
        }
    }

    /// The maximum number of anomalies among `buckets`; at least one.
    pub fn count_of(self, buckets: usize) -> usize {
        ((buckets as f64 * self.share()).ceil() as usize).max(1)
    }
}

/// The kind of buckets, and the sensitivity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The seasonal period in buckets: 7 for days, 168 for hours; 1 for none.
    pub season_buckets: usize,
    /// The length of the trailing year, in buckets, over which normality is measured.
    pub year_buckets: usize,
    /// The silence after an alert, in buckets, in which only something worse alerts again.
    pub silence_buckets: usize,
    pub sensitivity: Sensitivity,
}

impl Settings {
    /// Days with a weekly pattern; a week of silence.
    pub const DAILY: Settings =
        Settings { season_buckets: 7, year_buckets: 365, silence_buckets: 7, sensitivity: Sensitivity::Medium };

    /// Rejects a season or year of zero buckets.
    pub fn check(&self) -> Result<()> {
        for (setting, buckets) in [("season_buckets", self.season_buckets), ("year_buckets", self.year_buckets)] {
            if buckets == 0 {
                return Err(AnomalyError::NoBuckets { setting });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_year_is_rounded_up() {
        // 365 * .003 = 1.095, 365 * .01 = 3.65, 365 * .03 = 10.95.
        let counts = [Sensitivity::Low, Sensitivity::Medium, Sensitivity::High].map(|s| s.count_of(365));
        assert_eq!(counts, [2, 4, 11]);
        assert_eq!(Sensitivity::Low.count_of(0), 1);
    }

    #[test]
    fn a_season_without_buckets_is_refused() {
        let settings = Settings { season_buckets: 0, ..Settings::DAILY };
        assert_eq!(settings.check(), Err(AnomalyError::NoBuckets { setting: "season_buckets" }));
    }
}
