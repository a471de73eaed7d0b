//! Order values for quantiles: a DDSketch (Masson, Rim, Lee: "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
//! Relative-Error Guarantees", VLDB 2019) with 1 % relative accuracy.
//!
//! Bin `i` counts values in `(γ^(i-1), γ^i]` ten-thousandths with γ = 1.01/0.99; bin 0 counts zeros. The edges are
//! integers computed once, so that adding and removing a value hit the same bin.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::varint::{BadBytes, read_signed, read_unsigned, write_signed, write_unsigned};
use crate::money::Money;

/// Counts by bin. Merged by adding, reversed by subtracting.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sketch {
    bins: BTreeMap<u16, i64>,
}

/// Upper edges of the bins from 1 on, ascending, the last one `i64::MAX`.
static EDGES: LazyLock<Vec<i64>> = LazyLock::new(|| {
    let gamma: f64 = 1.01 / 0.99;
    let mut edges = Vec::new();
    let mut edge = 1.0f64;
    while edge < 9e18 {
        let whole = edge.floor() as i64;
        if edges.last() != Some(&whole) {
            edges.push(whole);
        }
        edge *= gamma;
    }
    edges.push(i64::MAX);
    edges
});

impl Sketch {
    /// Counts `value` `times` times (negative: removes it). Negative values count as zero.
    pub fn add(&mut self, value: Money, times: i64) {
        let bin = if value.0 <= 0 { 0 } else { 1 + EDGES.partition_point(|edge| *edge < value.0) as u16 };
        self.add_bin(bin, times);
    }

    pub fn merge(&mut self, other: &Sketch) {
        for (bin, count) in &other.bins {
            self.add_bin(*bin, *count);
        }
    }

    fn add_bin(&mut self, bin: u16, times: i64) {
        let count = self.bins.entry(bin).or_insert(0);
        *count += times;
        if *count == 0 {
            self.bins.remove(&bin);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    /// The value at `percent` (0 to 100), the lower one where it falls between two; within 1 %.
    pub fn quantile(&self, percent: i64) -> Option<Money> {
        let total: i64 = self.bins.values().sum();
        if total <= 0 {
            return None;
        }
        let rank = (total - 1) * percent / 100;
        let mut seen = 0;
        for (bin, count) in &self.bins {
            seen += count;
            if seen > rank {
                return Some(middle(*bin));
            }
        }
        None
    }

    /// `(varint bin, varint count zigzag)…`; empty when there are none.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bins.len() * 3);
        for (bin, count) in &self.bins {
            write_unsigned(u64::from(*bin), &mut bytes);
            write_signed(*count, &mut bytes);
        }
        bytes
    }

    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, BadBytes> {
        let mut bins = BTreeMap::new();
        while !bytes.is_empty() {
            let bin = u16::try_from(read_unsigned(&mut bytes)?).map_err(|_| BadBytes)?;
            bins.insert(bin, read_signed(&mut bytes)?);
        }
        Ok(Sketch { bins })
    }
}

/// The value within 1 % of both edges of a bin.
fn middle(bin: u16) -> Money {
    if bin == 0 {
        return Money::ZERO;
    }
    let index = usize::from(bin) - 1;
    let upper = EDGES.get(index).copied().unwrap_or(i64::MAX);
    let lower = if index == 0 { 0 } else { EDGES.get(index - 1).copied().unwrap_or(upper) };
    if upper - lower <= 1 {
        return Money(upper);
    }
    // 2ab / (a + b), the harmonic mean: equal relative distance to both.
    let (a, b) = (i128::from(lower + 1), i128::from(upper));
    Money::from_sum(2 * a * b / (a + b)).unwrap_or(Money(upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Sketch::default().quantile(50), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent(mut values in prop::collection::vec(0i64..1_000_000_000_000, 1..200), percent in 0i64..=100) {
            let mut sketch = Sketch::default();
            for v in &values { sketch.add(Money(*v), 1); }
            values.sort_unstable();
            let exact = values[((values.len() as i64 - 1) * percent / 100) as usize];
            let found = sketch.quantile(percent).expect("not empty").0;
            prop_assert!((found - exact).abs() * 100 <= exact + 100, "{found} for {exact}");
        }

        #[test]
        fn sketch_is_reversible_and_readable(values in prop::collection::vec(0i64..1_000_000_000, 0..50)) {
            let mut sketch = Sketch::default();
            for v in &values { sketch.add(Money(*v), 1); }
            prop_assert_eq!(&Sketch::from_bytes(&sketch.to_bytes()).expect("readable"), &sketch);
            for v in &values { sketch.add(Money(*v), -1); }
            prop_assert!(sketch.is_empty());
        }
    }
}
