//! Intervals that cover what they promise: split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018) over the
//! errors of a backtest, each in units of the deviation that the model expected.

use super::normal::central_quantile;

/// So many scores weigh as much as the normal distribution, to which the factor is shrunk.
const PRIOR_SCORES: f64 = 12.0;

/// The deviations on each side of a forecast that hold a share `level` of values: the quantile of the scores with the rank
/// `(n + 1) level`, shrunk to that of the normal distribution.
pub fn factor(mut scores: Vec<f64>, level: f64) -> f64 {
    let normal = central_quantile(level);
    scores.sort_by(f64::total_cmp);
    let n = scores.len() as f64;
    let rank = ((n + 1.0) * level).ceil().min(n) as usize;
    match rank.checked_sub(1).and_then(|below| scores.get(below)) {
        Some(quantile) => (n * quantile + PRIOR_SCORES * normal) / (n + PRIOR_SCORES),
        None => normal,
    }
}

/// The share of values that lay in the intervals, each origin's with the factor of the other origins. `None` without values.
pub fn coverage(scores: &[Vec<f64>], level: f64) -> Option<f64> {
    let mut inside = 0;
    for (origin, own) in scores.iter().enumerate() {
        let others = scores.iter().enumerate().filter(|(other, _)| *other != origin).flat_map(|(_, scores)| scores);
        let factor = factor(others.copied().collect(), level);
        inside += own.iter().filter(|score| **score <= factor).count();
    }
    let all = scores.iter().map(Vec::len).sum::<usize>();
    (all > 0).then(|| inside as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_lies_between_the_scores_and_the_normal_distribution() {
        // Rank (9 + 1) x .8 = 8 of 9; (9 x 8 + 12 x 1.28155) / 21.
        let scores: Vec<f64> = (1..=9).rev().map(f64::from).collect();
        assert!((factor(scores, 0.8) - (72.0 + 12.0 * 1.281_551_565_5) / 21.0).abs() < 1e-9);
        assert!((factor(Vec::new(), 0.8) - 1.281_551_565_5).abs() < 1e-9);
    }

    #[test]
    fn an_origin_is_judged_by_the_others() {
        // The first by the normal factor shrunk to (1 x 9 + 12 x 1.2816) / 13 = 1.875, the second by (1 x 1 + ...) / 13 = 1.26.
        assert_eq!(coverage(&[vec![1.0], vec![9.0]], 0.8), Some(0.5));
        assert_eq!(coverage(&[vec![]], 0.8), None);
    }
}
