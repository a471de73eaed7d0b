//! Anomaly detection: buckets whose metrics deviate from expectation, and what contributed to it. Pure and
//! deterministic functions.
//!
//! A metric's expectation follows from its season and trend: for a history from both sides of a bucket ([`detect`]),
//! for alerts from the past alone ([`Detector`]). The deviation from it, in robust standard deviations, is its score.
//! Metrics are judged jointly by the Mahalanobis distance of their scores, which accounts for their usual correlation.
//! The most unusual buckets of a year are anomalies, their number given by the sensitivity; an isolation forest gives a
//! second opinion on each; neighbours are grouped; and [`contributions`] attributes one to channels, regions or
//! categories.

mod anomaly;
mod cholesky;
mod company;
mod contributions;
mod correlation;
mod detect;
mod detector;
mod error;
mod forest;
mod grouping;
mod random;
mod robust;
mod seasonal;
mod settings;
mod trailing;

pub use anomaly::{Anomaly, Direction, Reading, SCORE_MIN};
pub use contributions::{Contribution, MEMBER_SEASONS, contributions, member_expected, member_history};
pub use detect::{Detection, detect};
pub use detector::{Detector, Score, Verdict, replay, score_last};
pub use error::{AnomalyError, Result};
pub use forest::IsolationForest;
pub use grouping::{Group, Silence};
pub use seasonal::Baseline;
pub use settings::{Sensitivity, Settings};
