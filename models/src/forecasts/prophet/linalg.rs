//! The little linear algebra that the solver needs. Matrices are stored row by row; of symmetric ones only the lower triangle
//! counts.

/// The sum of products, in four lanes so that the compiler may use vector instructions; the order of the sums is fixed.
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

/// The products of the columns of a matrix with each other: `rows' rows`, of order `p`.
pub fn gram(rows: &[f64], p: usize) -> Vec<f64> {
    let mut gram = vec![0.0; p * p];
    for row in rows.chunks_exact(p) {
        for ((i, x), line) in row.iter().enumerate().zip(gram.chunks_exact_mut(p)) {
            // Most hinges of a trend are still zero in most rows.
            if *x != 0.0 {
                add_scaled(&mut line[..=i], *x, &row[..=i]);
            }
        }
    }
    gram
}

/// Solves `matrix x = rhs` for a positive definite matrix of order `rhs.len()`, in place: the matrix becomes its Cholesky
/// factor and `rhs` the solution. `None` if the matrix is not positive definite.
pub fn solve(matrix: &mut [f64], rhs: &mut [f64]) -> Option<()> {
    let p = rhs.len();
    for i in 0..p {
        let (above, row) = matrix.split_at_mut(i * p);
        for j in 0..i {
            let upper = &above[j * p..=j * p + j];
            row[j] = (row[j] - dot(&row[..j], &upper[..j])) / upper[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        row[i] = pivot.sqrt();
        rhs[i] = (rhs[i] - dot(&row[..i], &rhs[..i])) / row[i];
    }
    for i in (0..p).rev() {
        let row = &matrix[i * p..=i * p + i];
        rhs[i] /= row[i];
        let solved = rhs[i];
        add_scaled(&mut rhs[..i], -solved, &row[..i]);
    }
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
    fn columns_are_multiplied() {
        // Columns (1, 3) and (2, 4).
        let gram = gram(&[1.0, 2.0, 3.0, 4.0], 2);
        assert_eq!((gram[0], gram[2], gram[3]), (10.0, 14.0, 20.0));
    }

    #[test]
    fn a_long_dot_product_uses_all_its_terms() {
        let ones = [1.0; 11];
        assert_eq!(dot(&ones, &[2.0; 11]), 22.0);
    }
}
