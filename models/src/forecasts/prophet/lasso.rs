//! Lasso: least squares with an L1 penalty (Tibshirani, "Regression Shrinkage and Selection via the Lasso", 1996), by
//! an active set method (Osborne, Presnell and Turlach, "A new approach to variable selection in least squares
//! problems", 2000).

use super::linalg::solve;

/// Variables may enter and leave the active set; each is expected to do so a few times.
const STEPS_PER_UNKNOWN: usize = 10;
/// The share of the penalty by which a gradient must exceed it.
const TOLERANCE: f64 = 1e-9;

/// Moves x to the minimum of `x' matrix x / 2 - target' x + penalty sum |x|`, as near as floating point allows. Only
/// the lower triangle of the matrix is used.
pub fn minimize(matrix: &[f64], target: &[f64], penalty: f64, x: &mut [f64]) {
    let n = x.len();
    let at = |i: usize, j: usize| matrix[i.max(j) * n + i.min(j)];
    // Signs of the nonzero variables; as long as none changes, the problem is a linear system.
    let mut signs: Vec<f64> = x.iter().map(|x| if *x == 0.0 { 0.0 } else { x.signum() }).collect();
    for _ in 0..STEPS_PER_UNKNOWN * n {
        let active: Vec<usize> = (0..n).filter(|i| signs[*i] != 0.0).collect();
        let mut system: Vec<f64> = active.iter().flat_map(|i| active.iter().map(|j| at(*i, *j))).collect();
        let mut best: Vec<f64> = active.iter().map(|i| target[*i] - penalty * signs[*i]).collect();
        if solve(&mut system, &mut best).is_none() {
            return;
        }
        let crosses = |(i, best): (&usize, &f64)| (best * signs[*i] < 0.0).then(|| (x[*i] / (x[*i] - best), *i));
        let first = active.iter().zip(&best).filter_map(crosses).min_by(|a, b| a.0.total_cmp(&b.0));
        for (i, best) in active.iter().zip(best) {
            x[*i] += first.map_or(1.0, |(share, _)| share) * (best - x[*i]);
        }
        if let Some((_, i)) = first {
            (x[i], signs[i]) = (0.0, 0.0);
            continue;
        }
        let slope = |i: usize| target[i] - active.iter().map(|j| at(i, *j) * x[*j]).sum::<f64>();
        let others = (0..n).filter(|i| signs[*i] == 0.0).map(|i| (i, slope(i)));
        match others.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())) {
            Some((i, slope)) if slope.abs() > penalty * (1.0 + TOLERANCE) => signs[i] = slope.signum(),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknowns_that_do_not_depend_on_each_other_are_shrunk() {
        let mut x = [0.0, 5.0, -1.0];
        minimize(&[2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], &[4.0, -3.0, 0.5], 1.0, &mut x);
        // (4 - 1) / 2, -(3 - 1), nothing.
        assert!((x[0] - 1.5).abs() < 1e-12 && (x[1] + 2.0).abs() < 1e-12 && x[2] == 0.0, "{x:?}");
    }

    #[test]
    fn no_step_leads_lower() {
        // Nearly collinear columns, as hinges are.
        let column = |j: usize| (0..40).map(move |t| (t as f64 / 39.0 - j as f64 / 12.0).max(0.0));
        let product = |i: usize, j: usize| column(i).zip(column(j)).map(|(a, b)| a * b).sum::<f64>();
        let matrix: Vec<f64> = (0..100).map(|at| product(at / 10, at % 10)).collect();
        let target: Vec<f64> =
            (0..10).map(|j| column(j).enumerate().map(|(t, x)| x * [0.3, -0.1, 0.4, -0.7][t / 10]).sum()).collect();
        let value = |x: &[f64]| {
            let square: f64 = (0..100).map(|at| x[at / 10] * x[at % 10] * matrix[at]).sum();
            square / 2.0 + (0..10).map(|j| 0.05 * x[j].abs() - target[j] * x[j]).sum::<f64>()
        };
        let mut x = [0.0; 10];
        minimize(&matrix, &target, 0.05, &mut x);
        assert!(x.iter().filter(|x| **x != 0.0).count() > 1 && x.contains(&0.0), "{x:?}");
        for (i, step) in (0..10).flat_map(|i| [(i, 1e-4), (i, -1e-4)]) {
            let mut beside = x;
            beside[i] += step;
            assert!(value(&beside) >= value(&x), "{i}: {x:?}");
        }
    }

    #[test]
    fn equal_columns_are_no_obstacle() {
        let mut x = [0.0, 0.0];
        minimize(&[1.0, 0.0, 1.0, 1.0], &[3.0, 3.0], 1.0, &mut x);
        assert!((x[0] + x[1] - 2.0).abs() < 1e-12, "{x:?}");
    }
}
