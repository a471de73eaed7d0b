//! The standard normal distribution.

use std::f64::consts::TAU;

/// The z for which a standard normal variable lies in `[-z, z]` with probability `level` (0 < level < 1).
///
/// Newton's method on the series of Marsaglia, "Evaluating the Normal Distribution" (2004):
/// `P(|Z| < z) = 2 phi(z) (z + z^3/3 + z^5/15 + ...)`. The probability is concave in z, so the iterates increase from
/// zero to the root.
pub fn central_quantile(level: f64) -> f64 {
    let mut z = 0.0;
    for _ in 0..STEPS_MAX {
        let density = 2.0 * (-z * z / 2.0_f64).exp() / TAU.sqrt();
        let step = (level - density * series(z)) / density;
        z += step;
        if step.abs() < 1e-12 {
            break;
        }
    }
    z
}

const STEPS_MAX: usize = 50;

fn series(z: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    while term > sum * f64::EPSILON {
        odd += 2.0;
        term *= z * z / odd;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (level, z) in [(0.5, 0.674_489_750), (0.8, 1.281_551_566), (0.95, 1.959_963_985), (0.99, 2.575_829_304)] {
            assert!((central_quantile(level) - z).abs() < 1e-9, "{level}");
        }
    }
}
