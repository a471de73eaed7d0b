//! Filters on the facts of one metric in a formula.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Dimensions that formulas can filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dimension {
    Channel,
    Region,
    Category,
    Product,
    Segment,
}

/// The values of [`Dimension::Segment`]: first orders, and later orders, of known customers.
pub const SEGMENTS: [&str; 2] = ["NEW", "RETURNING"];

impl Dimension {
    pub const ALL: [Dimension; 5] =
        [Dimension::Channel, Dimension::Region, Dimension::Category, Dimension::Product, Dimension::Segment];

    pub fn name(self) -> &'static str {
        match self {
            Dimension::Channel => "channel",
            Dimension::Region => "region",
            Dimension::Category => "category",
            Dimension::Product => "product",
            Dimension::Segment => "segment",
        }
    }

    pub fn of_name(name: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|dimension| dimension.name() == name)
    }
}

/// The accepted values of one dimension. The empty text stands for facts without a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Values {
    Only(BTreeSet<String>),
    AllBut(BTreeSet<String>),
}

impl Values {
    fn and(&self, other: &Values) -> Values {
        match (self, other) {
            (Values::Only(a), Values::Only(b)) => Values::Only(a & b),
            (Values::Only(kept), Values::AllBut(dropped)) | (Values::AllBut(dropped), Values::Only(kept)) => {
                Values::Only(kept - dropped)
            }
            (Values::AllBut(a), Values::AllBut(b)) => Values::AllBut(a | b),
        }
    }
}

/// A conjunction of conditions on facts, in a normal form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter(BTreeMap<Dimension, Values>);

impl Filter {
    pub fn by_dimension(&self) -> impl Iterator<Item = (Dimension, &Values)> {
        self.0.iter().map(|(dimension, values)| (*dimension, values))
    }

    /// This filter and one more condition; `None` if no fact could satisfy both.
    pub fn and(&self, dimension: Dimension, values: &Values) -> Option<Filter> {
        let both = self.0.get(&dimension).map_or_else(|| values.clone(), |before| before.and(values));
        if matches!(&both, Values::Only(kept) if kept.is_empty()) {
            return None;
        }
        let mut filter = self.clone();
        filter.0.insert(dimension, both);
        Some(filter)
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(values: &[&str]) -> Values {
        Values::Only(values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn all_but(values: &[&str]) -> Values {
        Values::AllBut(values.iter().map(|value| (*value).to_owned()).collect())
    }

    fn channels(conditions: &[Values]) -> Option<Values> {
        let filter =
            conditions.iter().try_fold(Filter::default(), |filter, values| filter.and(Dimension::Channel, values));
        filter.and_then(|filter| filter.by_dimension().next().map(|(_, values)| values.clone()))
    }

    #[test]
    fn conditions_on_one_dimension_are_made_one() {
        assert_eq!(channels(&[only(&["a", "b", "c"]), only(&["b", "c", "d"])]), Some(only(&["b", "c"])));
        assert_eq!(channels(&[only(&["a", "b"]), all_but(&["b"])]), Some(only(&["a"])));
        assert_eq!(channels(&[all_but(&["b"]), only(&["a", "b"])]), Some(only(&["a"])));
        assert_eq!(channels(&[all_but(&["a"]), all_but(&["b"])]), Some(all_but(&["a", "b"])));
    }

    #[test]
    fn what_excludes_itself_is_no_filter() {
        assert_eq!(channels(&[only(&["a"]), only(&["b"])]), None);
        assert_eq!(channels(&[only(&["a"]), all_but(&["a"])]), None);
    }
}
