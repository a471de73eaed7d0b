//! Conformal prediction intervals: split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018) over the
//! backtest errors, each in units of the deviation that the model expected.

use super::normal::central_quantile;

/// Prior weight, in scores, of the normal distribution towards which the factor is shrunk.
const PRIOR_SCORES: f64 = 12.0;
/// Half-life of the scores' weight, in origins: older errors are less exchangeable with future ones (Barber, Candès,
/// Ramdas and Tibshirani, "Conformal prediction beyond exchangeability", 2023).
const HALF_LIFE: f64 = 4.0;

/// The half-width of the interval with coverage `level`, in deviations, from the scores of each origin, latest first:
/// their quantile with the rank `(n + 1) level`, shrunk towards that of the normal distribution.
pub fn factor(scores: &[Vec<f64>], level: f64) -> f64 {
    factor_without(scores, level, None)
}

/// Empirical coverage of the intervals, each origin's with the factor of the other origins. `None` without values.
pub fn coverage(scores: &[Vec<f64>], level: f64) -> Option<f64> {
    let mut inside = 0;
    for (origin, own) in scores.iter().enumerate() {
        let factor = factor_without(scores, level, Some(origin));
        inside += own.iter().filter(|score| **score <= factor).count();
    }
    let all = scores.iter().map(Vec::len).sum::<usize>();
    (all > 0).then(|| inside as f64 / all as f64)
}

fn factor_without(scores: &[Vec<f64>], level: f64, without: Option<usize>) -> f64 {
    let normal = central_quantile(level);
    let weight = |age: usize| 0.5_f64.powf(age as f64 / HALF_LIFE);
    let counted = scores.iter().enumerate().filter(|(age, _)| Some(*age) != without);
    let mut weighted: Vec<(f64, f64)> =
        counted.flat_map(|(age, scores)| scores.iter().map(move |score| (*score, weight(age)))).collect();
    weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let rank = (n + 1.0) * level;
    let mut below = 0.0;
    let reaches = |(_, weight): &&(f64, f64)| {
        below += weight;
        below >= rank
    };
    // The largest, if the rank exceeds them all.
    match weighted.iter().find(reaches).or(weighted.last()) {
        Some((quantile, _)) => (n * quantile + PRIOR_SCORES * normal) / (n + PRIOR_SCORES),
        None => normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_lies_between_the_scores_and_the_normal_distribution() {
        // Rank (9 + 1) x .8 = 8 of 9; (9 x 8 + 12 x 1.28155) / 21.
        let scores: Vec<f64> = (1..=9).rev().map(f64::from).collect();
        assert!((factor(&[scores], 0.8) - (72.0 + 12.0 * 1.281_551_565_5) / 21.0).abs() < 1e-9);
        assert!((factor(&[], 0.8) - 1.281_551_565_5).abs() < 1e-9);
    }

    #[test]
    fn scores_of_four_origins_ago_weigh_half() {
        // 2 x 1 + 4 x .5 = 4, so the rank is 5 x .5 = 2.5: the two of 1, and one of 3.
        let scores = [vec![1.0, 1.0], vec![], vec![], vec![], vec![3.0, 3.0, 3.0, 3.0]];
        let expected = (4.0 * 3.0 + 12.0 * central_quantile(0.5)) / 16.0;
        assert!((factor(&scores, 0.5) - expected).abs() < 1e-9);
    }

    #[test]
    fn an_origin_is_judged_by_the_others() {
        // The first by (.84 x 9 + 12 x 1.2816) / 12.84 = 1.79, the second by (1 x 1 + 12 x 1.2816) / 13 = 1.26.
        assert_eq!(coverage(&[vec![1.0], vec![9.0]], 0.8), Some(0.5));
        assert_eq!(coverage(&[vec![]], 0.8), None);
    }
}
