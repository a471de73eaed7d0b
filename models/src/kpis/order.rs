//! Topological order of KPIs: each comes after those it references.

use std::collections::{BTreeMap, HashMap};

use super::ast::Spanned;
use super::error::{ErrorCode, Fault, FormulaError, Span};
use super::formula::Formula;

/// A reference cycle: the formula of one of its KPIs, and where it references the next.
#[derive(Debug, PartialEq)]
pub(super) struct Cycle {
    pub(super) kpi: String,
    pub(super) error: FormulaError,
}

/// `first`, after those it references, and then all others. A cycle that contains `first` is reported in its formula.
///
/// An iterative depth-first search, so that a long chain of KPIs needs no deep stack.
pub(super) fn dependencies_first<'a>(
    formulas: &'a BTreeMap<String, Formula>,
    first: &str,
) -> Result<Vec<&'a str>, Cycle> {
    let mut order = Vec::with_capacity(formulas.len());
    // Those on the current path are not done yet.
    let mut is_done: HashMap<&str, bool> = HashMap::new();
    for (kpi, formula) in formulas.get_key_value(first).into_iter().chain(formulas) {
        if is_done.contains_key(kpi.as_str()) {
            continue;
        }
        let mut path = vec![Visit::of(kpi, formula)];
        is_done.insert(kpi, false);
        while let Some(visit) = path.last_mut() {
            let named = visit.names.find_map(|name| Some((name.span, formulas.get_key_value(name.value)?)));
            let Some((span, (kpi, formula))) = named else {
                is_done.insert(visit.kpi, true);
                order.push(visit.kpi);
                path.pop();
                continue;
            };
            visit.left_at = span;
            let was_done = is_done.get(kpi.as_str()).copied();
            if was_done == Some(false)
                && let Some(cycle) = cycle(&path, kpi)
            {
                return Err(cycle);
            }
            if was_done.is_none() {
                is_done.insert(kpi, false);
                path.push(Visit::of(kpi, formula));
            }
        }
    }
    Ok(order)
}

/// A KPI on the current path.
struct Visit<'a> {
    kpi: &'a str,
    formula: &'a Formula,
    /// The references still to be visited.
    names: std::vec::IntoIter<Spanned<&'a str>>,
    /// Where it references the next KPI on the path.
    left_at: Span,
}

impl<'a> Visit<'a> {
    fn of(kpi: &'a str, formula: &'a Formula) -> Self {
        Visit { kpi, formula, names: formula.names().into_iter(), left_at: Span::default() }
    }
}

/// The cycle closed by the end of the path referencing `kpi`, which is on it.
fn cycle(path: &[Visit<'_>], kpi: &str) -> Option<Cycle> {
    let circle = path.iter().skip_while(|visit| visit.kpi != kpi);
    let names: Vec<&str> = circle.clone().map(|visit| visit.kpi).chain([kpi]).collect();
    let message = format!("KPIs name each other in a circle: {}", names.join(" -> "));
    let first = circle.into_iter().next()?;
    let error = first.formula.locate(Fault::new(ErrorCode::Cycle, first.left_at, message));
    Some(Cycle { kpi: first.kpi.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formulas(texts: &[(&str, &str)]) -> BTreeMap<String, Formula> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), Formula::parse(text).expect(text))).collect()
    }

    /// The KPI, the column and the names of the cycle.
    fn circle(formulas: &BTreeMap<String, Formula>, first: &str) -> (String, usize, String) {
        let Cycle { kpi, error } = dependencies_first(formulas, first).expect_err("a cycle");
        let names = error.message.rsplit(": ").next().expect("names").to_owned();
        (kpi, error.column, names)
    }

    #[test]
    fn what_is_named_comes_first() {
        let all = formulas(&[("a", "b + c"), ("b", "c"), ("c", "visits"), ("d", "a + b")]);
        assert_eq!(dependencies_first(&all, "a"), Ok(vec!["c", "b", "a", "d"]));
        assert_eq!(dependencies_first(&all, "c"), Ok(vec!["c", "b", "a", "d"]));
    }

    #[test]
    fn a_cycle_begins_where_it_was_closed() {
        let all = formulas(&[("a", "b"), ("b", "visits + c"), ("c", "1 - a"), ("d", "d")]);
        assert_eq!(circle(&all, "c"), ("c".to_owned(), 5, "c -> a -> b -> c".to_owned()));
        assert_eq!(circle(&all, "b"), ("b".to_owned(), 10, "b -> c -> a -> b".to_owned()));
        assert_eq!(circle(&all, "d"), ("d".to_owned(), 1, "d -> d".to_owned()));
        let behind = formulas(&[("x", "a"), ("a", "b"), ("b", "a")]);
        assert_eq!(circle(&behind, "x"), ("a".to_owned(), 1, "a -> b -> a".to_owned()));
    }

    #[test]
    fn a_long_line_of_kpis_is_no_deep_stack() {
        let name = |i: u32| format!("k{i:06}");
        let mut all: BTreeMap<_, _> =
            (0..100_000).map(|i| (name(i), Formula::parse(&name(i + 1)).expect("a name"))).collect();
        let order = dependencies_first(&all, "k000000").expect("no cycle").len();
        assert_eq!(order, 100_000);
        all.insert(name(99_999), Formula::parse("k000000").expect("a name"));
        assert_eq!(circle(&all, "k000000").2.matches("->").count(), 100_000);
    }
}
