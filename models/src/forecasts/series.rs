//! The input: a series of buckets, and the part of it that models learn from.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::decompose::{Seasonality, decompose};
use super::event::Event;
use super::prophet::{self, Prophecy};
use super::refusal::Refusal;
use super::request::Training;
use super::{HORIZON_MAX, SEASON_MAX, TRAINING_MIN, VALUE_MAX, WINDOW_MAX};

/// A metric by bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The start of each bucket in seconds since 1970, including those of the horizon and the end of the last one: at
    /// least `values.len() + horizon + 1`. Buckets are of about the same length (days, months).
    pub starts: Vec<i64>,
    /// The value of each past bucket; `None` where unknown.
    pub values: Vec<Option<f64>>,
    /// The seasonal period in buckets: 7 for days, 12 for months; 1 for a series without.
    pub season: usize,
}

/// 1900-01-01 and 2200-01-01.
const STARTS: std::ops::Range<i64> = -2_208_988_800..7_258_118_400;

/// The training part of a series: at most [`WINDOW_MAX`] buckets, the first and the last of which are known.
#[derive(Debug)]
pub struct Window<'a> {
    /// Starts of the window's buckets and all later ones.
    pub starts: &'a [i64],
    /// Values divided by `scale`, so that they lie in -1..=1.
    pub values: Vec<Option<f64>>,
    pub season: usize,
    pub scale: f64,
    /// Number of buckets to forecast after the last one: trailing unknown ones plus the horizon.
    pub ahead: usize,
}

/// What is known at one point in time: the buckets before it.
#[derive(Debug)]
pub struct History<'a> {
    /// Starts of its buckets and all later ones.
    pub starts: &'a [i64],
    pub known: Cow<'a, [Option<f64>]>,
    /// The values with gaps filled.
    pub values: Vec<f64>,
    pub season: usize,
    /// Computed lazily: not every model needs it.
    pub seasonality: OnceCell<Option<Seasonality>>,
    /// Computed lazily; a history is always used with the same events and horizon.
    pub prophecy: OnceCell<Option<Prophecy>>,
}

/// Known values required to learn a season of this length: two seasons, and no fewer than [`TRAINING_MIN`].
pub fn training_min(season: usize) -> usize {
    if season > 1 { TRAINING_MIN.max(2 * season) } else { TRAINING_MIN }
}

impl Series {
    fn check(&self, horizon: usize) -> Result<(), Refusal> {
        if !(1..=SEASON_MAX).contains(&self.season) {
            return Err(Refusal::SeasonOutOfRange { season: self.season });
        }
        if self.values.is_empty() {
            return Err(Refusal::Empty);
        }
        if let Some(value) = self.values.iter().flatten().find(|value| !(-VALUE_MAX..=VALUE_MAX).contains(*value)) {
            return Err(Refusal::ValueOutOfRange { value: *value });
        }
        let rise = self.starts.windows(2).all(|pair| pair[0] < pair[1]);
        let lie_within = self.starts.iter().all(|start| STARTS.contains(start));
        if !rise || !lie_within || self.starts.len() <= self.values.len() + horizon {
            return Err(Refusal::InvalidStarts);
        }
        Ok(())
    }
}

impl<'a> Window<'a> {
    /// The most recent part of a series. Trailing buckets without a value are dropped.
    pub fn of(series: &'a Series, horizon: usize) -> Result<Window<'a>, Refusal> {
        series.check(horizon)?;
        let end = series.values.iter().rposition(Option::is_some).ok_or(Refusal::AllGaps)? + 1;
        let unknown = series.values.len() - end;
        let ahead = horizon + unknown;
        if ahead > HORIZON_MAX {
            return Err(Refusal::TooOld { unknown });
        }
        let recent = end.saturating_sub(WINDOW_MAX);
        let first = recent + series.values[recent..end].iter().take_while(|value| value.is_none()).count();
        let values = &series.values[first..end];
        let (known, needed) = (values.iter().flatten().count(), training_min(series.season) + ahead);
        if known < needed {
            return Err(Refusal::TooShort { known, needed });
        }
        let largest = values.iter().flatten().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest } else { 1.0 };
        let values = values.iter().map(|value| value.map(|value| value / scale)).collect();
        Ok(Window { starts: &series.starts[first..], values, season: series.season, scale, ahead })
    }

    /// What was known of the window before its bucket `end`, which must be after its first.
    pub fn before(&self, end: usize) -> History<'_> {
        History::new(self.starts, Cow::Borrowed(&self.values[..end]), self.season)
    }

    /// An error relative to the mean difference of values one season apart (MASE; Hyndman and Koehler 2006); `None` if
    /// each season repeats the last.
    pub fn relative(&self, error: f64) -> Option<f64> {
        let pairs = self.values.iter().zip(self.values.iter().skip(self.season));
        let distances: Vec<f64> = pairs.filter_map(|(a, b)| Some((a.as_ref()? - b.as_ref()?).abs())).collect();
        Some(error / mean(&distances)).filter(|relative| relative.is_finite())
    }

    pub fn training(&self) -> Training {
        let buckets = self.values.len();
        let start = |bucket: usize| self.starts.get(bucket).copied().unwrap_or_default();
        Training { start: start(0), end: start(buckets), buckets, known: self.values.iter().flatten().count() }
    }
}

impl<'a> History<'a> {
    fn new(starts: &'a [i64], known: Cow<'a, [Option<f64>]>, season: usize) -> History<'a> {
        let values = fill(&known, season);
        History { starts, known, values, season, seasonality: OnceCell::new(), prophecy: OnceCell::new() }
    }

    /// The history with `effects` subtracted from its buckets.
    pub fn without(&self, effects: &[f64]) -> History<'a> {
        let known = self.known.iter().zip(effects).map(|(value, effect)| value.map(|value| value - effect));
        History::new(self.starts, known.collect(), self.season)
    }

    /// Prophet's results for the history; `None` if it fails.
    pub fn prophecy(&self, events: &[Event], horizon: usize) -> Option<&Prophecy> {
        self.prophecy.get_or_init(|| prophet::forecast(self, events, horizon)).as_ref()
    }

    /// The starts of some buckets; `None` if one has none.
    pub fn times(&self, buckets: &[usize]) -> Option<Vec<i64>> {
        buckets.iter().map(|bucket| self.starts.get(*bucket).copied()).collect()
    }

    /// `None` for a history without a season.
    pub fn seasonality(&self) -> Option<&Seasonality> {
        self.seasonality.get_or_init(|| decompose(&self.values, self.season)).as_ref()
    }

    /// The value of a constant history.
    pub fn constant(&self) -> Option<f64> {
        let first = *self.values.first()?;
        self.values.iter().all(|value| *value == first).then_some(first)
    }
}

/// Fills each gap with the mean of the nearest known values at the same position of an earlier and a later season;
/// without any, with the preceding value. The first value must be known.
fn fill(known: &[Option<f64>], season: usize) -> Vec<f64> {
    let mut filled: Vec<f64> = Vec::with_capacity(known.len());
    for (at, value) in known.iter().enumerate() {
        let value = value.unwrap_or_else(|| {
            // Earlier gaps are filled already.
            let before = at.checked_sub(season).map(|earlier| filled[earlier]);
            let after = known[at..].iter().step_by(season).flatten().next().copied();
            match (before, after) {
                (Some(before), Some(after)) => (before + after) / 2.0,
                (one, other) => one.or(other).or(filled.last().copied()).unwrap_or_default(),
            }
        });
        filled.push(value);
    }
    filled
}

/// The mean; zero for an empty input.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: Vec<Option<f64>>, season: usize) -> Series {
        Series { starts: (0..values.len() as i64 + 3).map(|day| day * 86_400).collect(), values, season }
    }

    #[test]
    fn gaps_are_filled_from_the_same_place_of_the_season() {
        let filled = fill(&[Some(1.0), Some(10.0), None, Some(12.0), Some(3.0), None], 2);
        // (1 + 3) / 2 between two seasons; 12 again after the last.
        assert_eq!(filled, [1.0, 10.0, 2.0, 12.0, 3.0, 12.0]);
        assert_eq!(fill(&[Some(5.0), None, None], 7), [5.0; 3]);
    }

    #[test]
    fn a_window_begins_and_ends_with_a_known_value() {
        let mut values = vec![None, None];
        values.extend((0..12).map(|n| Some(f64::from(n) - 8.0)));
        values.push(None);
        let series = series(values, 1);
        assert_eq!(Window::of(&series, 2).err(), Some(Refusal::TooShort { known: 12, needed: 13 }));
        let window = Window::of(&series, 1).expect("twelve values");
        assert_eq!((window.values.len(), window.starts[0], window.scale), (12, 2 * 86_400, 8.0));
        assert_eq!(window.ahead, 2, "the last bucket and one more");
        assert_eq!((window.values[0], window.values[11]), (Some(-1.0), Some(3.0 / 8.0)));
        // Steps of 1/8.
        assert_eq!(window.relative(0.25), Some(2.0));
    }

    #[test]
    fn a_long_series_gives_its_most_recent_part() {
        let series = series((0..5_000).map(|n| Some(f64::from(n))).collect(), 7);
        let window = Window::of(&series, 2).expect("long enough");
        assert_eq!((window.values.len(), window.starts[0]), (WINDOW_MAX, (5_000 - WINDOW_MAX as i64) * 86_400));
    }
}
