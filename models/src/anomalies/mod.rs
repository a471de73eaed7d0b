//! Anomalies: buckets whose metrics are not what was to be expected, and what made them so. Pure functions; the same input
//! gives the same answer.
//!
//! What is expected of a metric follows from its season and trend: for a history from both sides of a bucket ([`detect`]),
//! for alerts from the past alone ([`Detector`]). How far the value is from it, in robust standard deviations, is its score.
//! Metrics are judged together by the Mahalanobis distance of their scores, which knows what usually moves together. The most
//! unusual buckets of a year are anomalies, how many is the sensitivity; an isolation forest gives a second opinion on each;
//! neighbours are one group; and [`contributions`] says which channel, region or category was behind one.

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
pub use contributions::{Contribution, contributions, member_expected, member_history};
pub use detect::{Detection, detect};
pub use detector::{Detector, Score, Verdict, replay, score_last};
pub use error::{AnomalyError, Result};
pub use forest::IsolationForest;
pub use grouping::{Group, Silence};
pub use seasonal::Baseline;
pub use settings::{Sensitivity, Settings};
