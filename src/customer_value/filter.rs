//! Filters customers by their predictions.

use std::collections::BTreeSet;

use async_graphql::InputObject;
use models::value::Segment;

use super::forecasts::RfmSegment;
use crate::db::word_text;
use crate::error::{Error, Result};
use crate::graphql::page::Matching;
use crate::graphql::scalars::Decimal;

/// Which customers to list by their predictions; all fields given must match. Customers without predictions never match.
#[derive(InputObject)]
#[graphql(name = "CustomerPredictionFilter")]
pub struct PredictionFilter {
    /// In one of these RFM segments.
    pub segments: Option<Vec<RfmSegment>>,
    /// The lowest 90-day churn, 0 to 1.
    pub churn_min: Option<f64>,
    /// The highest 90-day churn, 0 to 1.
    pub churn_max: Option<f64>,
    /// The lowest lifetime value, over 36 months at a discount rate of 10% a year.
    pub lifetime_value_min: Option<Decimal>,
    /// The highest lifetime value, over 36 months at a discount rate of 10% a year.
    pub lifetime_value_max: Option<Decimal>,
}

impl PredictionFilter {
    /// Only customers whose predictions `p` satisfy it. Error: BAD_USER_INPUT.
    pub fn narrow(&self, matching: &mut Matching) -> Result<()> {
        if let Some(segments) = &self.segments {
            let words = segments.iter().map(|segment| word_text(Segment::from(*segment)));
            let words = words.collect::<Result<BTreeSet<_>>>()?;
            let words: Vec<String> = words.into_iter().map(|word| matching.bind(word)).collect();
            // An empty list matches nothing.
            let list = if words.is_empty() { "NULL".to_owned() } else { words.join(", ") };
            matching.from.push_str(&format!(" AND p.segment IN ({list})"));
        }
        for (argument, condition, churn) in
            [("filter.churnMin", "p.churn >=", self.churn_min), ("filter.churnMax", "p.churn <=", self.churn_max)]
        {
            let Some(churn) = churn else { continue };
            if !(0.0..=1.0).contains(&churn) {
                return Err(Error::bad_input(argument, "must be from 0 to 1"));
            }
            let millionths = (churn * 1e6).round_ties_even() as i64;
            matching.and(condition, millionths);
        }
        for (condition, value) in
            [("p.lifetime_value >=", self.lifetime_value_min), ("p.lifetime_value <=", self.lifetime_value_max)]
        {
            if let Some(Decimal(value)) = value {
                matching.and(condition, value);
            }
        }
        Ok(())
    }
}
