//! Linear regression line.

use super::series::mean;

#[derive(Clone, Copy, Debug)]
pub struct Line {
    start: f64,
    slope: f64,
}

impl Line {
    /// Fits values at 0, 1, 2...
    pub fn through(values: &[f64]) -> Line {
        let (middle, level) = ((values.len() as f64 - 1.0) / 2.0, mean(values));
        let from_middle = |t: usize| t as f64 - middle;
        let covariance: f64 = values.iter().enumerate().map(|(t, value)| from_middle(t) * (value - level)).sum();
        let spread: f64 = (0..values.len()).map(|t| from_middle(t).powi(2)).sum();
        let slope = if spread > 0.0 { covariance / spread } else { 0.0 };
        Line { start: level - slope * middle, slope }
    }

    pub fn at(&self, t: f64) -> f64 {
        self.start + self.slope * t
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_three_points() {
        // Mean 3, slope ((-1)(1) + (1)(4)) / 2 = 1.5.
        let line = Line::through(&[1.0, 4.0, 4.0]);
        assert_eq!((line.at(1.0), line.at(3.0)), (3.0, 6.0));
        assert_eq!(Line::through(&[7.0]).at(5.0), 7.0);
    }
}
