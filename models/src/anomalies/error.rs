//! Errors of anomaly detection.

/// The result type of this module.
pub type Result<T> = std::result::Result<T, AnomalyError>;

/// The largest valid absolute value: far beyond any sales, and its square is still finite.
pub const VALUE_MAX: f64 = 1e30;

/// Why anomalies cannot be determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnomalyError {
    #[error("{found} values where {expected} belong")]
    Shape { expected: usize, found: usize },
    #[error("value {index} is not a number within ±10^30")]
    NotAValue { index: usize },
    #[error("{found} values are too few, {needed} are needed")]
    TooShort { needed: usize, found: usize },
    #[error("{setting} must be at least one bucket")]
    NoBuckets { setting: &'static str },
}

/// Rejects values that are not finite or too large.
pub fn check_values(values: impl IntoIterator<Item = f64>) -> Result<()> {
    let bad = values.into_iter().position(|value| value.is_nan() || value.abs() > VALUE_MAX);
    bad.map_or(Ok(()), |index| Err(AnomalyError::NotAValue { index }))
}

/// Rejects a row of different length.
pub fn check_len(expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(AnomalyError::Shape { expected, found }) }
}
