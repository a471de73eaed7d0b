//! Events as regressors: the share of each bucket that an event covers.

use std::collections::HashMap;

use super::super::event::Event;

/// A column for each event with an occurrence in the past. Events that cannot be told apart there have one for all of
/// them: the effect of k equal columns, each with the prior N(0, s²), is that of one, times √k, with the same prior.
pub struct Regressors {
    pub past: HashMap<String, Vec<f64>>,
    pub all: HashMap<String, Vec<f64>>,
}

impl Regressors {
    /// The columns over the training buckets and over all buckets, given their starts; `None` if one has no end.
    pub fn of(starts: &[i64], events: &[Event], past: &[usize], all: &[usize]) -> Option<Regressors> {
        // What was seen, and the shares of each event that was.
        let mut alike: Vec<(Vec<f64>, Vec<Vec<f64>>)> = Vec::new();
        for event in events {
            let share = |bucket: &usize| Some(event.share(*starts.get(*bucket)?..*starts.get(bucket + 1)?));
            let shares = |buckets: &[usize]| buckets.iter().map(share).collect::<Option<Vec<f64>>>();
            let seen = shares(past)?;
            if seen.iter().all(|share| *share <= 0.0) {
                continue;
            }
            match alike.iter_mut().find(|(other, _)| *other == seen) {
                Some((_, events)) => events.push(shares(all)?),
                None => alike.push((seen, vec![shares(all)?])),
            }
        }
        let mut columns = Regressors { past: HashMap::new(), all: HashMap::new() };
        for (number, (seen, events)) in alike.into_iter().enumerate() {
            let root = (events.len() as f64).sqrt();
            let sum = |bucket: usize| events.iter().map(|shares| shares[bucket]).sum::<f64>();
            let key = format!("events {number}");
            columns.past.insert(key.clone(), seen.into_iter().map(|share| share * root).collect());
            columns.all.insert(key, (0..all.len()).map(|bucket| sum(bucket) / root).collect());
        }
        Some(columns)
    }
}
