//! Expected values for each bucket of a whole series, from the buckets around it.
//!
//! Trend and season of an STL decomposition (Cleveland, Cleveland, McRae & Terpenning 1990) with robustness weights, so
//! that an anomaly does not distort its own expectation; medians where the history is too short for that.

use stlrs::StlParams;

use super::robust::{Window, median, scale};

/// Number of full seasons from which STL is used: with fewer, each phase has so few buckets that an anomaly becomes
/// part of the season.
const STL_SEASONS: usize = 4;

/// Number of full seasons from which a phase's median is robust to one outlier.
const PHASE_SEASONS: usize = 3;

/// Seasonal smoothing span, in seasons: the minimum that the authors of STL recommend.
const SEASONAL_SMOOTHER: usize = 7;

/// Standard deviations beyond which STL gives a bucket no weight: its six median deviations.
const NO_WEIGHT_SDS: f64 = 4.0;

/// Rounding error of STL, relative to its largest value, with a margin: not a deviation.
const ROUNDING: f64 = 1e-9;

/// Minimum reach, to each side, of the median that is a bucket's level: a season, or this where there is none or a
/// shorter one.
const LEVEL_REACH_MIN: usize = 7;

/// Minimum number of values for a history.
pub const VALUES_MIN: usize = 10;

/// How the expected values of a metric were determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Trend and season of an STL decomposition.
    Stl,
    /// Rolling median, plus the median deviation of the buckets of the same phase.
    PhaseMedian,
    /// Rolling median.
    Median,
}

/// The expected value of each bucket, including those without a value; `None` if there is too little history.
pub fn expected(values: &[Option<f64>], season_buckets: usize) -> Option<(Baseline, Vec<f64>)> {
    if values.iter().flatten().count() < VALUES_MIN {
        return None;
    }
    let seasons = if season_buckets < 2 { 0 } else { values.len() / season_buckets };
    let levels = levels(values, season_buckets.min(values.len()).max(LEVEL_REACH_MIN));
    if seasons < PHASE_SEASONS {
        return Some((Baseline::Median, levels));
    }
    let medians = with_phases(values, &levels, season_buckets);
    if seasons >= STL_SEASONS
        && let Some(fitted) = decompose(&bounded(values, &medians), season_buckets)
    {
        return Some((Baseline::Stl, fitted));
    }
    Some((Baseline::PhaseMedian, medians))
}

/// For each bucket the median of the values up to `reach` buckets away; across a longer gap, the preceding or following
/// one.
fn levels(values: &[Option<f64>], reach: usize) -> Vec<f64> {
    let mut window = Window::new(2 * reach + 1);
    let mut ahead = values.iter().copied().chain(std::iter::repeat_n(None, reach));
    ahead.by_ref().take(reach).for_each(|value| window.push(value));
    let mut level = values.iter().copied().flatten().next().unwrap_or_default();
    ahead
        .map(|value| {
            window.push(value);
            level = window.median().unwrap_or(level);
            level
        })
        .collect()
}

/// The levels plus, for each phase, the median deviation of its values from them.
fn with_phases(values: &[Option<f64>], levels: &[f64], season_buckets: usize) -> Vec<f64> {
    let offsets: Vec<Option<f64>> = values.iter().zip(levels).map(|(value, level)| value.map(|v| v - level)).collect();
    let of_phase = |phase: usize| offsets.iter().skip(phase).step_by(season_buckets).copied().flatten().collect();
    let phases: Vec<f64> = (0..season_buckets).map(|phase| median(of_phase(phase)).unwrap_or_default()).collect();
    levels.iter().zip(phases.iter().cycle()).map(|(level, offset)| level + offset).collect()
}

/// The series with gaps filled by the medians, and outliers clamped to where STL would give them no weight.
///
/// STL itself fails on large ones: they first distort their neighbours of the same phase so much that these lose all
/// their weight, and a bucket without weighted neighbours is fitted exactly, so that it is no outlier at all.
fn bounded(values: &[Option<f64>], medians: &[f64]) -> Vec<f64> {
    let sizes: Vec<f64> = values.iter().zip(medians).filter_map(|(value, m)| value.map(|v| (v - m).abs())).collect();
    let reach = NO_WEIGHT_SDS * scale(&sizes, 0.0).unwrap_or_default();
    let bound = |value: &Option<f64>, median: f64| value.map_or(median, |v| median + (v - median).clamp(-reach, reach));
    values.iter().zip(medians).map(|(value, median)| bound(value, *median)).collect()
}

/// Trend plus season; the value itself where they differ only by rounding.
fn decompose(series: &[f64], season_buckets: usize) -> Option<Vec<f64>> {
    let fit = StlParams::new().seasonal_length(SEASONAL_SMOOTHER).robust(true).fit(series, season_buckets).ok()?;
    let rounding = ROUNDING * series.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let exact = |(fitted, value): (f64, &f64)| if (fitted - value).abs() <= rounding { *value } else { fitted };
    let fitted = fit.trend().iter().zip(fit.seasonal()).map(|(trend, season)| trend + season);
    let expected: Vec<f64> = fitted.zip(series).map(exact).collect();
    expected.iter().all(|value| value.is_finite()).then_some(expected)
}

#[cfg(test)]
mod tests {
    use super::super::random::SplitMix64;
    use super::*;

    const WEEK: [f64; 7] = [10.0, 10.0, 10.0, 10.0, 10.0, 30.0, 20.0];

    /// Weeks that grow by one per week, with noise of standard deviation one: the sum of twelve uniform numbers.
    fn weeks(weeks: usize) -> Vec<Option<f64>> {
        let mut random = SplitMix64::new(1);
        let mut noise = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        (0..7 * weeks).map(|day| Some(WEEK[day % 7] + day as f64 / 7.0 + noise())).collect()
    }

    #[test]
    fn the_method_follows_the_length() {
        let of = |count, season| expected(&weeks(count), season).map(|(baseline, _)| baseline);
        assert_eq!(of(4, 7), Some(Baseline::Stl));
        assert_eq!(of(3, 7), Some(Baseline::PhaseMedian));
        assert_eq!(of(2, 7), Some(Baseline::Median));
        assert_eq!(of(10, 1), Some(Baseline::Median));
        assert_eq!(of(1, 7), None);
    }

    #[test]
    fn an_outlier_of_any_size_stays_one() {
        for (count, at) in [(4, 14), (20, 70), (52, 182), (52, 363)] {
            for size in [20.0, 1e3, 1e6, -1e9] {
                let mut values = weeks(count);
                values[at] = values[at].map(|value| value + size);
                let (_, expected) = expected(&values, 7).expect("a history");
                let residual = |day: usize| values[day].expect("a value") - expected[day];
                assert!((residual(at) - size).abs() < 5.0, "{count} weeks, {size}: {}", residual(at));
                let others = (0..values.len()).filter(|day| *day != at).map(|day| residual(day).abs());
                assert!(others.fold(0.0, f64::max) < 7.0, "{count} weeks, {size}: its neighbours are not blamed");
            }
        }
    }

    #[test]
    fn gaps_are_expected_to_be_as_usual() {
        let whole = weeks(20);
        let mut values = whole.clone();
        values[60..75].fill(None);
        let (_, expected) = expected(&values, 7).expect("a history");
        let off = (60..75).map(|day| (expected[day] - whole[day].expect("a value")).abs()).fold(0.0, f64::max);
        assert!(off < 5.0, "{off}");
    }

    #[test]
    fn levels_are_carried_across_what_is_missing() {
        let mut values = vec![None; 40];
        values[15] = Some(4.0);
        values[16] = Some(8.0);
        let levels = levels(&values, 2);
        assert_eq!([levels[0], levels[13], levels[14], levels[18], levels[39]], [4.0, 4.0, 6.0, 8.0, 8.0]);
    }
}
