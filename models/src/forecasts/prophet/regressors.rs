//! Events as regressors: the share of each bucket that an event covers.

use std::collections::HashMap;

use super::super::event::Event;

/// A column for each event with an occurrence in the past.
pub struct Regressors {
    pub past: HashMap<String, Vec<f64>>,
    pub all: HashMap<String, Vec<f64>>,
}

impl Regressors {
    /// The columns over the training buckets and over all buckets, given their starts; `None` if one has no end.
    pub fn of(starts: &[i64], events: &[Event], past: &[usize], all: &[usize]) -> Option<Regressors> {
        let mut columns = Regressors { past: HashMap::new(), all: HashMap::new() };
        for (number, event) in events.iter().enumerate() {
            // Names are not necessarily unique.
            let key = format!("event {number} {}", event.name);
            let share = |bucket: &usize| Some(event.share(*starts.get(*bucket)?..*starts.get(bucket + 1)?));
            let shares = |buckets: &[usize]| buckets.iter().map(share).collect::<Option<Vec<f64>>>();
            let seen = shares(past)?;
            if seen.iter().any(|share| *share > 0.0) {
                columns.past.insert(key.clone(), seen);
                columns.all.insert(key, shares(all)?);
            }
        }
        Some(columns)
    }
}
