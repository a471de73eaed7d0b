//! Derivative-free minimization: the simplex search of Nelder and Mead (1965) with the coefficients of Gao and Han,
//! "Implementing the Nelder-Mead simplex algorithm with adaptive parameters" (2012).

/// A variable: its start, first step, and bounds.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub start: f64,
    pub step: f64,
    pub min: f64,
    pub max: f64,
}

/// Maximum number of steps per variable, each of one or two evaluations.
const STEPS_PER_VARIABLE: usize = 60;

/// The best point found for one or more variables. The search ends when the values at the corners of its simplex differ
/// by less than `tolerance`.
pub fn minimize(variables: &[Variable], tolerance: f64, mut function: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let n = variables.len();
    // With one variable, the coefficients for two are used.
    let dimension = n.max(2) as f64;
    let (expand, contract, shrink) = (1.0 + 2.0 / dimension, 0.75 - 0.5 / dimension, 1.0 - 1.0 / dimension);
    let mut corner = |mut point: Vec<f64>| {
        for (x, variable) in point.iter_mut().zip(variables) {
            *x = x.clamp(variable.min, variable.max);
        }
        let value = function(&point);
        Corner { value: if value.is_nan() { f64::INFINITY } else { value }, point }
    };
    let mut simplex: Vec<Corner> = first_points(variables).into_iter().map(&mut corner).collect();
    for _ in 0..STEPS_PER_VARIABLE * n {
        simplex.sort_by(|a, b| a.value.total_cmp(&b.value));
        let (best, second_worst, worst) = (simplex[0].value, simplex[n - 1].value, simplex[n].value);
        if worst - best < tolerance {
            break;
        }
        let away_from_worst = |factor: f64| {
            let centre = |i: usize| simplex[..n].iter().map(|corner| corner.point[i]).sum::<f64>() / n as f64;
            let moved = |(i, worst): (usize, &f64)| {
                let centre = centre(i);
                centre + factor * (centre - worst)
            };
            simplex[n].point.iter().enumerate().map(moved).collect()
        };
        let reflected = corner(away_from_worst(1.0));
        let next = if reflected.value < best {
            let expanded = corner(away_from_worst(expand));
            if expanded.value < reflected.value { expanded } else { reflected }
        } else if reflected.value < second_worst {
            reflected
        } else {
            corner(away_from_worst(if reflected.value < worst { contract } else { -contract }))
        };
        if next.value < worst {
            simplex[n] = next;
        } else {
            let nearest = simplex[0].point.clone();
            for far in &mut simplex[1..] {
                *far = corner(far.point.iter().zip(&nearest).map(|(x, near)| near + shrink * (x - near)).collect());
            }
        }
    }
    simplex.sort_by(|a, b| a.value.total_cmp(&b.value));
    simplex.swap_remove(0).point
}

struct Corner {
    value: f64,
    point: Vec<f64>,
}

/// The start, and one step along each variable.
fn first_points(variables: &[Variable]) -> Vec<Vec<f64>> {
    let start: Vec<f64> = variables.iter().map(|variable| variable.start).collect();
    let mut points = vec![start; variables.len() + 1];
    for (i, (point, variable)) in points[1..].iter_mut().zip(variables).enumerate() {
        // Away from a bound, otherwise the corner would be clamped to the start.
        let step = if point[i] + variable.step <= variable.max { variable.step } else { -variable.step };
        point[i] += step;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Variable = Variable { start: -1.2, step: 0.5, min: f64::NEG_INFINITY, max: f64::INFINITY };

    #[test]
    fn the_bottom_of_a_curved_valley_is_found() {
        let rosenbrock = |x: &[f64]| (1.0 - x[0]).powi(2) + 100.0 * (x[1] - x[0] * x[0]).powi(2);
        let found = minimize(&[FREE, FREE], 1e-12, rosenbrock);
        assert!((found[0] - 1.0).abs() < 1e-4 && (found[1] - 1.0).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn limits_hold() {
        let limited = Variable { min: -2.0, max: -0.5, ..FREE };
        let found = minimize(&[limited, FREE], 1e-12, |x: &[f64]| x.iter().map(|x| x * x).sum());
        assert!(found[0] == -0.5 && found[1].abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn a_function_without_a_value_anywhere_leaves_the_start() {
        assert_eq!(minimize(&[FREE, FREE], 1e-6, |_: &[f64]| f64::NAN), [-1.2, -1.2]);
    }
}
