//! Isolation Forest: points that random cuts isolate early are unlike the rest.
//!
//! Liu, Ting & Zhou 2008, "Isolation Forest" (ICDM). Each tree splits a small random sample, at a random value of a
//! random coordinate, until its points are isolated; the fewer cuts a point needs on average, the more isolated it is.

mod tree;

use super::error::{AnomalyError, Result, check_len, check_values};
use super::random::SplitMix64;
use tree::Tree;

/// Number of trees, and sample size per tree: as in the paper, which finds little benefit in more of either.
const TREES: usize = 100;
const SAMPLE_POINTS: usize = 256;

/// A fitted forest.
pub struct IsolationForest {
    dimension: usize,
    trees: Vec<Tree>,
    /// The mean path length, for which the score is one half.
    usual_path: f64,
}

impl IsolationForest {
    /// Fits a forest to `points`, row-major, each of `dimension` finite coordinates; at least two points.
    pub fn fit(points: &[f64], dimension: usize, seed: u64) -> Result<Self> {
        if dimension == 0 || !points.len().is_multiple_of(dimension) {
            return Err(AnomalyError::Shape { expected: dimension, found: points.len() });
        }
        check_values(points.iter().copied())?;
        let mut rows: Vec<&[f64]> = points.chunks_exact(dimension).collect();
        if rows.len() < 2 {
            return Err(AnomalyError::TooShort { needed: 2, found: rows.len() });
        }
        let sample = rows.len().min(SAMPLE_POINTS);
        let mut random = SplitMix64::new(seed);
        let trees = (0..TREES)
            .map(|_| {
                choose_first(&mut rows, sample, &mut random);
                let chosen = rows.get(..sample).unwrap_or_default();
                Tree::grow(chosen, &mut random)
            })
            .collect();
        Ok(IsolationForest { dimension, trees, usual_path: mean_path(sample) })
    }

    /// How isolated a point is, between 0 and 1: near 1 far from the others, one half or less among them.
    pub fn score(&self, point: &[f64]) -> Result<f64> {
        check_len(self.dimension, point.len())?;
        check_values(point.iter().copied())?;
        let path = self.trees.iter().map(|tree| tree.path(point)).sum::<f64>() / self.trees.len() as f64;
        Ok((-path / self.usual_path).exp2())
    }
}

/// Moves a random sample without replacement to the front: the first steps of a Fisher-Yates shuffle.
fn choose_first<T>(items: &mut [T], sample: usize, random: &mut SplitMix64) {
    for place in 0..sample {
        items.swap(place, place + random.below(items.len() - place));
    }
}

/// The mean path length of `n` points in a tree, c(n) of the paper: that of an unsuccessful search in a binary search
/// tree.
fn mean_path(n: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let others = (n - 1) as f64;
            2.0 * (others.ln() + EULER) - 2.0 * others / n as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points with two coordinates in the unit square.
    fn cloud(points: usize) -> Vec<f64> {
        let mut random = SplitMix64::new(7);
        (0..2 * points).map(|_| random.unit()).collect()
    }

    #[test]
    fn mean_paths_are_those_of_the_paper() {
        // 2 (ln 2 + .5772156649) - 4/3 = 1.207392358.
        for (n, path) in [(1, 0.0), (2, 1.0), (3, 1.207_392_358), (16, 4.695_531_732), (256, 10.244_770_920)] {
            assert!((mean_path(n) - path).abs() < 1e-9, "{n}: {}", mean_path(n));
        }
    }

    #[test]
    fn a_usual_path_scores_one_half() {
        // Two points are separated by one cut, and c(2) = 1; identical points end in the root with c(n).
        assert_eq!(IsolationForest::fit(&[0.0, 1.0], 1, 0).expect("points").score(&[0.0]), Ok(0.5));
        let alike = IsolationForest::fit(&[4.0; 60], 2, 0).expect("points").score(&[9.0, 9.0]).expect("a point");
        assert!((alike - 0.5).abs() < 1e-12, "{alike}");
    }

    #[test]
    fn the_farther_out_the_more_isolated() {
        let forest = IsolationForest::fit(&[cloud(500), vec![3.0, 3.0]].concat(), 2, 0).expect("points");
        let score = |x| forest.score(&[x, x]).expect("a point");
        assert!(score(0.5) < 0.5 && score(0.5) < score(1.1) && score(1.1) < score(3.0), "{}", score(3.0));
        assert!(score(3.0) > 0.7 && score(3.0) < 1.0);
    }

    #[test]
    fn every_coordinate_is_cut() {
        let forest = IsolationForest::fit(&cloud(500), 2, 0).expect("points");
        let usual = forest.score(&[0.5, 0.5]).expect("a point");
        for beyond in [[3.0, 0.5], [0.5, 3.0]] {
            assert!(forest.score(&beyond).expect("a point") > usual + 0.05);
        }
    }

    #[test]
    fn the_seed_alone_decides() {
        let score = |seed| IsolationForest::fit(&cloud(300), 2, seed).expect("points").score(&[0.9, 0.1]);
        assert_eq!(score(1), score(1));
        assert_ne!(score(1), score(2));
    }

    #[test]
    fn a_sample_repeats_no_point() {
        let mut items: Vec<usize> = (0..50).collect();
        choose_first(&mut items, 20, &mut SplitMix64::new(3));
        assert!(items[..20] != *(0..20).collect::<Vec<_>>(), "{items:?}");
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn what_are_no_points_is_refused() {
        let error = |points: &[f64], dimension| IsolationForest::fit(points, dimension, 0).err();
        assert_eq!(error(&[1.0, 2.0, 3.0], 2), Some(AnomalyError::Shape { expected: 2, found: 3 }));
        assert_eq!(error(&[], 0), Some(AnomalyError::Shape { expected: 0, found: 0 }));
        assert_eq!(error(&[1.0, f64::NAN], 1), Some(AnomalyError::NotAValue { index: 1 }));
        assert_eq!(error(&[1.0, 2.0], 2), Some(AnomalyError::TooShort { needed: 2, found: 1 }));
    }
}
