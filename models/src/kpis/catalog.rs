//! What formulas may name.

use super::filter::Dimension;
use super::unit::Unit;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricDef {
    /// Its name in formulas and in [`super::Question`].
    pub name: &'static str,
    pub unit: Unit,
    /// The other way to write it: `sum(net)`.
    pub aggregate: Option<(Aggregate, &'static str)>,
    /// By what its facts cannot be told apart, so that a filter would leave it without a value.
    pub not_by: &'static [Dimension],
}

/// What is made of a field of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Count,
    Distinct,
}

impl Aggregate {
    pub const ALL: [Aggregate; 3] = [Aggregate::Sum, Aggregate::Count, Aggregate::Distinct];

    pub fn name(self) -> &'static str {
        match self {
            Aggregate::Sum => "sum",
            Aggregate::Count => "count",
            Aggregate::Distinct => "distinct",
        }
    }
}

/// The metrics that formulas are made of.
#[derive(Clone, Copy, Debug)]
pub struct Catalog(pub &'static [MetricDef]);

impl Catalog {
    pub fn find(self, name: &str) -> Option<&'static MetricDef> {
        self.0.iter().find(|metric| metric.name == name)
    }

    pub fn find_aggregate(self, aggregate: Aggregate, field: &str) -> Option<&'static MetricDef> {
        self.0.iter().find(|metric| metric.aggregate == Some((aggregate, field)))
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|metric| metric.name)
    }

    /// The fields that `aggregate` can be made of.
    pub fn fields(self, aggregate: Aggregate) -> impl Iterator<Item = &'static str> {
        let own = move |metric: &MetricDef| metric.aggregate.filter(|(of, _)| *of == aggregate).map(|(_, field)| field);
        self.0.iter().filter_map(own)
    }
}
