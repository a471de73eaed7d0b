//! Whether an outlying bucket is alone: an isolation forest over the decorrelated deviations is a second opinion on
//! what the Mahalanobis distance found. Days of a recurring promotion are outlying too, but in company.

use super::error::Result;
use super::forest::IsolationForest;
use super::random::SplitMix64;

/// The fixed seed of the forest, so that results are deterministic.
const SEED: u64 = 0;

/// Width of the uniform noise, in standard deviations, added to the points that the forest is grown from. Identical
/// buckets cannot be split, and a bucket elsewhere would be taken for one of them.
const DITHER_SDS: f64 = 0.1;

/// The buckets among which a bucket is judged.
pub struct Company {
    /// `None` with fewer than two buckets.
    forest: Option<IsolationForest>,
}

impl Company {
    /// Builds from `buckets`: concatenated rows of that many uncorrelated deviations each.
    pub fn of(buckets: &[f64], metrics: usize) -> Result<Self> {
        if buckets.len() < 2 * metrics {
            return Ok(Company { forest: None });
        }
        let mut random = SplitMix64::new(SEED);
        let dithered: Vec<f64> = buckets.iter().map(|value| value + DITHER_SDS * (random.unit() - 0.5)).collect();
        Ok(Company { forest: Some(IsolationForest::fit(&dithered, metrics, SEED)?) })
    }

    /// How isolated a bucket is, between 0 and 1: usual ones have less than one half; 1 where there are no others.
    pub fn isolation(&self, bucket: &[f64]) -> Result<f64> {
        self.forest.as_ref().map_or(Ok(1.0), |forest| forest.score(bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Isolation of a bucket with deviations (8, -6), with `others` equal ones among 400 usual ones.
    fn isolation_with(others: usize) -> f64 {
        let mut random = SplitMix64::new(9);
        let mut usual = || (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        let mut buckets: Vec<f64> = (0..800).map(|_| usual()).collect();
        buckets.extend((0..others).flat_map(|_| [8.0 + usual(), -6.0 + usual()]));
        buckets.extend([8.0, -6.0]);
        Company::of(&buckets, 2).expect("buckets").isolation(&[8.0, -6.0]).expect("a bucket")
    }

    #[test]
    fn those_that_are_far_out_together_are_not_alone() {
        assert!(isolation_with(0) > 0.7, "{}", isolation_with(0));
        assert!(isolation_with(200) < 0.5, "{}", isolation_with(200));
    }

    #[test]
    fn nobody_is_in_the_company_of_those_who_are_all_alike() {
        let company = Company::of(&[0.0; 10_000], 1).expect("buckets");
        assert!(company.isolation(&[5.0]).expect("a bucket") > 0.6);
        assert!(company.isolation(&[0.0]).expect("a bucket") < 0.5);
    }

    #[test]
    fn where_nobody_is_one_is_alone() {
        assert_eq!(Company::of(&[3.0], 1).expect("a bucket").isolation(&[3.0]), Ok(1.0));
    }
}
