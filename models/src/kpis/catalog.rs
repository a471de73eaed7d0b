//! The metrics available to formulas.

use super::filter::Dimension;
use super::unit::Unit;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct MetricDef {
    /// Its name in formulas and in [`super::Question`].
    pub name: &'static str,
    pub unit: Unit,
    /// The aggregate notation: `sum(net)`.
    pub aggregate: Option<(Aggregate, &'static str)>,
    /// Dimensions that its facts do not have, so that filtering by them would leave it without a value.
    pub not_by: &'static [Dimension],
}

/// An aggregation of a field of the facts.
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

/// The metrics that formulas can use.
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

    /// The fields that support `aggregate`.
    pub fn fields(self, aggregate: Aggregate) -> impl Iterator<Item = &'static str> {
        let own = move |metric: &MetricDef| metric.aggregate.filter(|(of, _)| *of == aggregate).map(|(_, field)| field);
        self.0.iter().filter_map(own)
    }
}
