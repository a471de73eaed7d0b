//! Unusual days: holidays, sales, openings.

use std::ops::Range;

/// A kind of event with all its past and future occurrences. Its effect is learned from the past ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    /// Its occurrences, in seconds since 1970, with exclusive end.
    pub windows: Vec<Range<i64>>,
}

impl Event {
    /// The share of a bucket that the event covers, 0 to 1.
    pub fn share(&self, bucket: Range<i64>) -> f64 {
        let covered = |window: &Range<i64>| window.end.min(bucket.end).saturating_sub(window.start.max(bucket.start));
        let covered: f64 = self.windows.iter().map(|window| covered(window).max(0) as f64).sum();
        (covered / (bucket.end - bucket.start) as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_covered_in_part() {
        let sale = Event { name: "sale".into(), windows: vec![10..20, 90..1_000, 30..30] };
        assert_eq!(sale.share(0..100), 0.2);
        assert_eq!(sale.share(100..200), 1.0);
        assert_eq!(sale.share(1_000..1_100), 0.0);
    }
}
