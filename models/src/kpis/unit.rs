//! Units of numbers, and their compatibility.

use std::fmt;

/// The unit of a metric or a KPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// An amount in the organization's currency.
    Money,
    /// A number of orders, pieces, visits or customers.
    Count,
    /// A plain number: a share, a rate, a factor; 0.05 is 5 %.
    Ratio,
    /// A length of time in seconds.
    Duration,
}

/// The unit of an expression. Literals have none of their own: next to money they are money, next to a count a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Plain,
    Has(Unit),
}

impl Type {
    /// The unit for display.
    pub(super) fn unit(self) -> Unit {
        match self {
            Type::Plain => Unit::Ratio,
            Type::Has(unit) => unit,
        }
    }

    /// The unit of sums, comparisons and choices; `None` if the two are incompatible.
    pub(super) fn joined(self, other: Type) -> Option<Type> {
        match (self, other) {
            (Type::Plain, of) | (of, Type::Plain) => Some(of),
            (a, b) => (a == b).then_some(a),
        }
    }

    pub(super) fn times(self, other: Type) -> Option<Type> {
        use Unit::{Count, Duration, Money, Ratio};
        match (self, other) {
            (Type::Plain, of) | (of, Type::Plain) => Some(of),
            (Type::Has(Ratio), of) | (of, Type::Has(Ratio)) => Some(of),
            (Type::Has(Count), Type::Has(of @ (Money | Duration))) => Some(Type::Has(of)),
            (Type::Has(of @ (Money | Duration)), Type::Has(Count)) => Some(Type::Has(of)),
            _ => None,
        }
    }

    pub(super) fn per(self, other: Type) -> Option<Type> {
        use Unit::{Count, Duration, Money, Ratio};
        match (self, other) {
            (of, Type::Plain) => Some(of),
            (Type::Plain, Type::Has(Ratio)) => Some(Type::Has(Ratio)),
            (Type::Plain, Type::Has(_)) => None,
            (of, Type::Has(Ratio)) => Some(of),
            (Type::Has(of @ (Money | Duration)), Type::Has(Count)) => Some(Type::Has(of)),
            (a, b) => (a == b).then_some(Type::Has(Ratio)),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Money => "money",
            Unit::Count => "a count",
            Unit::Ratio => "a ratio",
            Unit::Duration => "a duration",
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Plain => f.write_str("a plain number"),
            Type::Has(unit) => unit.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Type; 5] = [
        Type::Plain,
        Type::Has(Unit::Money),
        Type::Has(Unit::Count),
        Type::Has(Unit::Ratio),
        Type::Has(Unit::Duration),
    ];

    fn letter(of: Option<Type>) -> char {
        match of {
            None => '.',
            Some(Type::Plain) => 'p',
            Some(Type::Has(Unit::Money)) => 'm',
            Some(Type::Has(Unit::Count)) => 'c',
            Some(Type::Has(Unit::Ratio)) => 'r',
            Some(Type::Has(Unit::Duration)) => 'd',
        }
    }

    /// One word per left side, one letter per right side, both in the order plain, money, count, ratio, duration.
    fn table(rule: fn(Type, Type) -> Option<Type>) -> Vec<String> {
        ALL.map(|left| ALL.map(|right| letter(rule(left, right))).iter().collect()).to_vec()
    }

    #[test]
    fn units_follow_the_tables() {
        assert_eq!(table(Type::joined), ["pmcrd", "mm...", "c.c..", "r..r.", "d...d"]);
        assert_eq!(table(Type::times), ["pmcrd", "m.mm.", "cm.cd", "rmcrd", "d.dd."]);
        assert_eq!(table(Type::per), ["p..r.", "mrmm.", "c.rc.", "r..r.", "d.ddr"]);
    }
}
