//! The linear algebra that the solver needs. Matrices are row-major; of symmetric ones only the lower triangle is used.

/// The dot product, in four lanes to allow vectorization; the order of summation is fixed.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_lanes, a_rest) = a.as_chunks::<4>();
    let (b_lanes, b_rest) = b.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// `to += factor * x`.
pub fn add_scaled(to: &mut [f64], factor: f64, x: &[f64]) {
    for (to, x) in to.iter_mut().zip(x) {
        *to += factor * x;
    }
}

/// Sums of pairwise products, such as `rows' rows`.
pub struct Gram {
    sums: Vec<f64>,
    order: usize,
}

impl Gram {
    pub fn new(order: usize) -> Gram {
        Gram { sums: vec![0.0; order * order], order }
    }

    /// Adds the products of a row.
    pub fn add(&mut self, row: &[f64]) {
        for ((i, x), line) in row.iter().enumerate().zip(self.sums.chunks_exact_mut(self.order)) {
            add_scaled(&mut line[..=i], *x, &row[..=i]);
        }
    }

    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.sums[i.max(j) * self.order + i.min(j)]
    }
}

/// Eliminates the first unknowns of `matrix x = rhs`, a positive definite system of order `rhs.len()`, in place. The
/// rest of the matrix and of `rhs` becomes the system of the other unknowns (Schur complement); the preceding rows and
/// columns become those of the Cholesky factor, for [`substitute`]. `None` if the matrix is not positive definite.
pub fn eliminate(matrix: &mut [f64], rhs: &mut [f64], first: usize) -> Option<()> {
    let p = rhs.len();
    for i in 0..p {
        let (above, row) = matrix.split_at_mut(i * p);
        let eliminated = i.min(first);
        for j in 0..eliminated {
            let upper = &above[j * p..=j * p + j];
            row[j] = (row[j] - dot(&row[..j], &upper[..j])) / upper[j];
        }
        let (known, rest) = row.split_at_mut(eliminated);
        rhs[i] -= dot(known, &rhs[..eliminated]);
        for (j, x) in rest[..i - eliminated].iter_mut().enumerate() {
            *x -= dot(known, &above[(first + j) * p..][..first]);
        }
        let pivot = &mut rest[i - eliminated];
        *pivot -= dot(known, known);
        if i < first {
            if !(*pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            *pivot = pivot.sqrt();
            rhs[i] /= *pivot;
        }
    }
    Some(())
}

/// Solves for the eliminated unknowns, given the others in `rhs`.
pub fn substitute(matrix: &[f64], rhs: &mut [f64], first: usize) {
    let p = rhs.len();
    for i in (0..p).rev() {
        if i < first {
            rhs[i] /= matrix[i * p + i];
        }
        let (solved, eliminated) = (rhs[i], i.min(first));
        add_scaled(&mut rhs[..eliminated], -solved, &matrix[i * p..][..eliminated]);
    }
}

/// Solves `matrix x = rhs` for a positive definite matrix, in place: `rhs` becomes the solution. `None` if the matrix
/// is not positive definite.
pub fn solve(matrix: &mut [f64], rhs: &mut [f64]) -> Option<()> {
    let p = rhs.len();
    eliminate(matrix, rhs, p)?;
    substitute(matrix, rhs, p);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        // (4 2; 2 3) (1, 2) = (8, 8).
        let (mut matrix, mut rhs) = (vec![4.0, 0.0, 2.0, 3.0], vec![8.0, 8.0]);
        assert_eq!(solve(&mut matrix, &mut rhs), Some(()));
        assert!((rhs[0] - 1.0).abs() < 1e-15 && (rhs[1] - 2.0).abs() < 1e-15);
        assert_eq!(solve(&mut [1.0, 0.0, 2.0, 1.0], &mut [1.0, 1.0]), None);
    }

    #[test]
    fn a_system_is_solved_in_two_parts() {
        // (4 2 1; 2 3 0; 1 0 2) (1, 2, 3) = (11, 8, 7).
        let matrix = [4.0, 0.0, 0.0, 2.0, 3.0, 0.0, 1.0, 0.0, 2.0];
        for first in 0..=3 {
            let (mut matrix, mut rhs) = (matrix.to_vec(), vec![11.0, 8.0, 7.0]);
            assert_eq!(eliminate(&mut matrix, &mut rhs, first), Some(()));
            let mut rest: Vec<f64> = (first..3).flat_map(|i| matrix[i * 3 + first..(i + 1) * 3].to_vec()).collect();
            assert_eq!(solve(&mut rest, &mut rhs[first..]), Some(()));
            substitute(&matrix, &mut rhs, first);
            assert!(
                rhs.iter().zip([1.0, 2.0, 3.0]).all(|(x, expected)| (x - expected).abs() < 1e-12),
                "{first}: {rhs:?}"
            );
        }
    }

    #[test]
    fn columns_are_multiplied() {
        // Columns (1, 3) and (2, 4).
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 2.0]);
        gram.add(&[3.0, 4.0]);
        assert_eq!((gram.at(0, 0), gram.at(0, 1), gram.at(1, 0), gram.at(1, 1)), (10.0, 14.0, 14.0, 20.0));
    }

    #[test]
    fn a_long_dot_product_uses_all_its_terms() {
        let ones = [1.0; 11];
        assert_eq!(dot(&ones, &[2.0; 11]), 22.0);
    }
}
