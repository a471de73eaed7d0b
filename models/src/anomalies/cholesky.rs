//! The Cholesky factor of a correlation matrix, and the linear systems it solves.

/// The lower triangle L of a matrix LLᵀ, row by row.
pub struct Cholesky {
    rows: Vec<Vec<f64>>,
}

impl Cholesky {
    /// Factorizes a symmetric matrix, given by its rows.
    pub fn of(matrix: &[Vec<f64>]) -> Self {
        /// Rounding must not make a pivot zero or negative.
        const PIVOT_MIN: f64 = 1e-6;
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
        for row in matrix {
            let mut entries = Vec::with_capacity(rows.len() + 1);
            for (above, value) in rows.iter().zip(row) {
                let pivot = above.last().copied().unwrap_or(1.0);
                entries.push((value - dot(&entries, above)) / pivot);
            }
            let own = row.get(rows.len()).copied().unwrap_or(1.0);
            entries.push((own - dot(&entries, &entries)).max(PIVOT_MIN).sqrt());
            rows.push(entries);
        }
        Cholesky { rows }
    }

    /// Solves Lx = b.
    pub fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x = Vec::with_capacity(b.len());
        for (row, value) in self.rows.iter().zip(b) {
            let pivot = row.last().copied().unwrap_or(1.0);
            x.push((value - dot(&x, row)) / pivot);
        }
        x
    }

    /// Solves Lᵀx = b.
    pub fn backward(&self, mut b: Vec<f64>) -> Vec<f64> {
        for (index, row) in self.rows.iter().enumerate().rev() {
            let (above, below) = b.split_at_mut(index);
            if let (Some(value), Some((pivot, entries))) = (below.first_mut(), row.split_last()) {
                *value /= pivot;
                above.iter_mut().zip(entries).for_each(|(other, entry)| *other -= entry * *value);
            }
        }
        b
    }
}

/// The dot product over the common length.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_steps_solve_the_system() {
        // L = [[2], [1, 1], [0, 3, 2]], LLᵀ as below; for x = (1, -1, 2) b = LLᵀx.
        let matrix = [vec![4.0, 2.0, 0.0], vec![2.0, 2.0, 3.0], vec![0.0, 3.0, 13.0]];
        let cholesky = Cholesky::of(&matrix);
        assert_eq!(cholesky.rows, [vec![2.0], vec![1.0, 1.0], vec![0.0, 3.0, 2.0]]);
        assert_eq!(cholesky.backward(cholesky.forward(&[2.0, 6.0, 23.0])), [1.0, -1.0, 2.0]);
    }

    #[test]
    fn a_matrix_without_an_inverse_gives_numbers() {
        let cholesky = Cholesky::of(&[vec![1.0, 1.0], vec![1.0, 1.0]]);
        assert!(cholesky.backward(cholesky.forward(&[1.0, 2.0])).iter().all(|value| value.is_finite()));
    }
}
