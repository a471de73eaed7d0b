//! The order of a breakdown's rows.

use std::cmp::Ordering;

use models::kpis::Number;

use super::answer::Breakdown;
use super::group::GroupKey;
use super::input::SortDirection;
use super::labels::Labels;
use super::plan::BreakdownArgs;

/// The rows of a breakdown in the requested order, ties unresolved.
pub struct Ranked<'a, V> {
    rows: Vec<(Rank, &'a GroupKey, V)>,
    /// Rows to name. Names break ties, so beyond the rows shown only those tied with the last one need names.
    named: usize,
}

impl<'a, V> Ranked<'a, V> {
    /// Sorts `rows` by what `value` returns.
    pub fn new(
        rows: Vec<(&'a GroupKey, V)>,
        args: &BreakdownArgs,
        value: impl Fn(&V) -> Option<Number>,
    ) -> Ranked<'a, V> {
        let rank = |values: &V| Rank { value: value(values), direction: args.order.direction };
        let mut rows: Vec<_> = rows.into_iter().map(|(key, values)| (rank(&values), key, values)).collect();
        rows.sort_by_key(|(rank, ..)| *rank);
        let named = match rows.get(args.first.min(rows.len()).saturating_sub(1)) {
            Some((last, ..)) => rows.partition_point(|(rank, ..)| rank <= last),
            None => 0,
        };
        Ranked { rows, named }
    }

    pub fn named(&self) -> impl Iterator<Item = &'a GroupKey> + Clone {
        self.rows[..self.named].iter().map(|(_, key, _)| *key)
    }

    /// The first rows with their names, and the groups of the others.
    pub fn breakdown(mut self, args: &BreakdownArgs, labels: &Labels) -> (Breakdown<V>, Vec<&'a GroupKey>) {
        let rows_count = self.rows.len();
        let mut rows: Vec<_> = self
            .rows
            .drain(..self.named)
            .map(|(rank, key, values)| (rank, labels.names(&args.by, key), key, values))
            .collect();
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut rest: Vec<&GroupKey> = self.rows.into_iter().map(|(_, key, _)| key).collect();
        rest.extend(rows.drain(args.first.min(rows.len())..).map(|(_, _, key, _)| key));
        let rows = rows.into_iter().map(|(_, names, _, values)| (names, values)).collect();
        (Breakdown { rows, other: None, rows_count }, rest)
    }
}

/// Sort key of a row: its exact value in the requested direction, rows without one last.
#[derive(Clone, Copy)]
struct Rank {
    value: Option<Number>,
    direction: SortDirection,
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        match (self.value, other.value) {
            (Some(one), Some(other)) if self.direction == SortDirection::Asc => one.compare(other),
            (Some(one), Some(other)) => other.compare(one),
            (one, other) => one.is_none().cmp(&other.is_none()),
        }
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Rank) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}
