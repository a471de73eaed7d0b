//! Attribution of a bucket's deviation to the members of a dimension: the channel, region or category behind an
//! anomaly.

use super::error::{Result, check_values};
use super::robust::median;
use super::trailing::MEDIAN_OF_MIN;

/// Number of earlier buckets of the same phase whose median is a member's expected value.
pub const MEMBER_SEASONS: usize = 8;

/// A member's contribution to a deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// The index of the member in the input.
    pub member: usize,
    pub expected: f64,
    pub actual: f64,
    /// The member's share of the total deviation: shares add up to 1, and a member that moved against the total has a
    /// negative one. `None` where the deviations of all members cancel out.
    pub share: Option<f64>,
}

impl Contribution {
    /// The member's deviation from its expected value; in the metric's unit.
    pub fn deviation(&self) -> f64 {
        self.actual - self.expected
    }
}

/// The contributions of members, given as expected and actual value, largest deviation first.
///
/// Only for metrics that are the sum over their members: revenue, orders, units, visits, refunds. Error: a value that
/// is not finite.
pub fn contributions(members: &[(f64, f64)]) -> Result<Vec<Contribution>> {
    check_values(members.iter().flat_map(|(expected, actual)| [*expected, *actual]))?;
    let total: f64 = members.iter().map(|(expected, actual)| actual - expected).sum();
    let moved: f64 = members.iter().map(|(expected, actual)| (actual - expected).abs()).sum();
    // The remainder of a sum whose terms cancel out is rounding error.
    let cancels = total.abs() <= moved * f64::EPSILON * members.len() as f64;
    let mut contributions: Vec<Contribution> = members
        .iter()
        .enumerate()
        .map(|(member, (expected, actual))| {
            let share = (!cancels).then(|| (actual - expected) / total);
            Contribution { member, expected: *expected, actual: *actual, share }
        })
        .collect();
    contributions.sort_by(|a, b| b.deviation().abs().total_cmp(&a.deviation().abs()));
    Ok(contributions)
}

/// The reference buckets for a member's expected value in bucket `at`: the last eight of the same phase, or the most
/// recent ones where there are fewer than three.
pub fn member_history(at: usize, season_buckets: usize) -> Vec<usize> {
    let last = |step: usize| -> Vec<usize> {
        (1..=MEMBER_SEASONS).map_while(|season| at.checked_sub(season * step)).collect()
    };
    let same_phase = last(season_buckets.max(1));
    if same_phase.len() < MEDIAN_OF_MIN { last(1) } else { same_phase }
}

/// A member's expected value, given its values in the buckets of [`member_history`]: the median; 0 without any.
pub fn member_expected(history: Vec<f64>) -> f64 {
    median(history).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_signed_and_add_up() {
        // Deviations -60, +10, -30: total -80.
        let found = contributions(&[(100.0, 40.0), (50.0, 60.0), (30.0, 0.0)]).expect("numbers");
        let shares: Vec<(usize, Option<f64>)> = found.iter().map(|c| (c.member, c.share)).collect();
        assert_eq!(shares, [(0, Some(0.75)), (2, Some(0.375)), (1, Some(-0.125))]);
    }

    #[test]
    fn deviations_that_cancel_out_have_no_shares() {
        // In binary, .3 - .1 - .2 is not zero.
        let found = contributions(&[(0.0, 0.3), (0.1, 0.0), (0.2, 0.0)]).expect("numbers");
        assert!(found.iter().all(|c| c.share.is_none()));
        assert!(contributions(&[(5.0, 5.0)]).expect("numbers")[0].share.is_none());
    }

    #[test]
    fn a_member_is_expected_to_do_as_on_the_same_days_before() {
        assert_eq!(member_history(30, 7), [23, 16, 9, 2]);
        assert_eq!(member_history(100, 7), [93, 86, 79, 72, 65, 58, 51, 44]);
        // Two of the same weekday are too few.
        assert_eq!(member_history(20, 7), [19, 18, 17, 16, 15, 14, 13, 12]);
        assert_eq!(member_expected(vec![3.0, 9.0, 1.0]), 3.0);
    }

    #[test]
    fn a_new_member_is_not_expected() {
        assert_eq!(member_history(0, 7), []);
        assert_eq!(member_expected(Vec::new()), 0.0);
    }
}
