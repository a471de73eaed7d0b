//! Minimization of a smooth function of a few variables: BFGS on the inverse Hessian, with a line search for the weak
//! Wolfe conditions by doubling and bisection (Nocedal & Wright, Numerical Optimization, 2006, ch. 6; Lewis & Overton,
//! Nonsmooth optimization via quasi-Newton methods, 2013).

/// A function's value and its gradient.
pub type Valued<const N: usize> = (f64, [f64; N]);

const ITERATIONS_MAX: usize = 300;
const STEPS_MAX: usize = 40;
/// Gradient norm of a mean log-likelihood below which its parameters are exact to six digits and more.
const SLOPE_MIN: f64 = 1e-8;
/// Gradient norm below which a search stopped early by rounding has found the minimum for every practical purpose.
const SLOPE_CONVERGED: f64 = 1e-6;
/// The usual constants of the Wolfe conditions: sufficient decrease and curvature.
const DESCENT: f64 = 1e-4;
const FLATTER: f64 = 0.9;
/// Relative rounding error of a value, being a mean of tens of thousands of terms: next to the minimum only the
/// gradient is informative (Hager & Zhang, A new conjugate gradient method with guaranteed descent, 2005).
const ROUNDING: f64 = 1e-13;

/// Minimizes from `start`. `limits` (lower and upper, per variable) are soft walls: free inside, with a quadratic
/// penalty outside, so that a likelihood that is flat towards infinity still has a minimum.
///
/// `None` where no minimum was found.
pub fn minimize<const N: usize>(
    f: impl Fn(&[f64; N]) -> Valued<N>,
    start: [f64; N],
    limits: &[(f64, f64); N],
) -> Option<[f64; N]> {
    let walled = |point: &[f64; N]| within(limits, point, f(point));
    let mut point = start;
    let mut valued = walled(&point);
    let mut inverse_hessian = identity();
    for iteration in 0..ITERATIONS_MAX {
        if norm(&valued.1) <= SLOPE_MIN {
            break;
        }
        let direction = times(&inverse_hessian, &valued.1).map(|component| -component);
        let Some((next, next_valued)) = descend(&walled, &point, &valued, &direction) else { break };
        let step = combine(&next, -1.0, &point);
        let bend = combine(&next_valued.1, -1.0, &valued.1);
        if iteration == 0 {
            // Before the first step the scale of the function is unknown.
            inverse_hessian = scaled_identity(dot(&step, &bend) / dot(&bend, &bend));
        }
        update(&mut inverse_hessian, &step, &bend);
        (point, valued) = (next, next_valued);
    }
    (norm(&valued.1) <= SLOPE_CONVERGED).then_some(point)
}

/// Adds the wall penalties to a value and its gradient.
fn within<const N: usize>(limits: &[(f64, f64); N], point: &[f64; N], (value, gradient): Valued<N>) -> Valued<N> {
    let outside: [f64; N] = std::array::from_fn(|i| point[i] - point[i].clamp(limits[i].0, limits[i].1));
    (value + dot(&outside, &outside), combine(&gradient, 2.0, &outside))
}

/// Line search: a point in `direction` with sufficient decrease and curvature.
fn descend<const N: usize>(
    f: &impl Fn(&[f64; N]) -> Valued<N>,
    point: &[f64; N],
    (value, gradient): &Valued<N>,
    direction: &[f64; N],
) -> Option<([f64; N], Valued<N>)> {
    let slope = dot(gradient, direction);
    let (mut near, mut far) = (0.0, f64::INFINITY);
    // The full step, but no longer than 1: far from the minimum the curvature is unreliable.
    let mut length = (1.0 / norm(direction)).min(1.0);
    for _ in 0..STEPS_MAX {
        let next = combine(point, length, direction);
        let valued = f(&next);
        let enough = value + DESCENT * length * slope + ROUNDING * value.abs();
        // Phrased so that NaN counts as too far.
        let is_lower = valued.0 <= enough;
        if !is_lower {
            far = length;
        } else if dot(&valued.1, direction) < FLATTER * slope {
            near = length;
        } else {
            return Some((next, valued));
        }
        length = if far.is_finite() { f64::midpoint(near, far) } else { 2.0 * near };
    }
    None
}

/// The BFGS update: (1 - ρ s yᵀ) H (1 - ρ y sᵀ) + ρ s sᵀ for the step s and the change y of the gradient, ρ = 1 / sᵀy,
/// which the line search keeps positive.
fn update<const N: usize>(inverse_hessian: &mut [[f64; N]; N], step: &[f64; N], bend: &[f64; N]) {
    let curvature = dot(step, bend);
    let bent = times(inverse_hessian, bend);
    let stretch = (1.0 + dot(bend, &bent) / curvature) / curvature;
    for (i, row) in inverse_hessian.iter_mut().enumerate() {
        for (j, entry) in row.iter_mut().enumerate() {
            *entry += stretch * step[i] * step[j] - (bent[i] * step[j] + step[i] * bent[j]) / curvature;
        }
    }
}

fn identity<const N: usize>() -> [[f64; N]; N] {
    scaled_identity(1.0)
}

fn scaled_identity<const N: usize>(scale: f64) -> [[f64; N]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| if i == j { scale } else { 0.0 }))
}

fn dot<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times<const N: usize>(matrix: &[[f64; N]; N], vector: &[f64; N]) -> [f64; N] {
    matrix.map(|row| dot(&row, vector))
}

/// `a` + `factor` · `b`.
fn combine<const N: usize>(a: &[f64; N], factor: f64, b: &[f64; N]) -> [f64; N] {
    std::array::from_fn(|i| a[i] + factor * b[i])
}

/// The norm of a vector; NaN if a component is.
fn norm<const N: usize>(vector: &[f64; N]) -> f64 {
    dot(vector, vector).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: (f64, f64) = (-100.0, 100.0);

    /// Rosenbrock's function, whose minimum is at (1, 1).
    fn valley(&[x, y]: &[f64; 2]) -> Valued<2> {
        let across = y - x * x;
        let value = (1.0 - x).powi(2) + 100.0 * across.powi(2);
        (value, [-2.0 * (1.0 - x) - 400.0 * x * across, 200.0 * across])
    }

    #[track_caller]
    fn assert_end_of_valley(found: Option<[f64; 2]>) {
        let [x, y] = found.expect("a minimum");
        assert!((x - 1.0).abs() < 1e-7 && (y - 1.0).abs() < 1e-7, "{x} {y}");
    }

    #[test]
    fn valley_is_followed_to_its_end() {
        assert_end_of_valley(minimize(valley, [-1.2, 1.0], &[FREE; 2]));
    }

    #[test]
    fn inexact_values_do_not_end_the_search() {
        // Noise of 1e-14 of the value, which hides the last decreases.
        let noisy = |point: &[f64; 2]| {
            let (value, gradient) = valley(point);
            (1e6 + value + 1e-8 * (1e9 * point[0]).sin(), gradient)
        };
        assert_end_of_valley(minimize(noisy, [-1.2, 1.0], &[FREE; 2]));
    }

    #[test]
    fn slope_without_end_stops_at_the_wall() {
        // e^-x decreases forever; beyond the wall at 3 the excess w has e^-(3 + w) = 2 w, so w is a little below .025.
        let falling = |&[x]: &[f64; 1]| ((-x).exp(), [-(-x).exp()]);
        let [x] = minimize(falling, [0.0], &[(-3.0, 3.0)]).expect("a minimum");
        assert!((3.02..3.025).contains(&x), "{x}");
    }

    #[test]
    fn edge_is_no_minimum() {
        assert_eq!(minimize(|&[x]| (x.abs(), [x.signum()]), [0.7], &[FREE]), None);
    }

    #[test]
    fn function_without_numbers_has_no_minimum() {
        assert_eq!(minimize(|_: &[f64; 1]| (f64::NAN, [f64::NAN]), [0.0], &[FREE]), None);
    }
}
