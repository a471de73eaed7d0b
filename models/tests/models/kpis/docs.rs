//! What `docs/kpis-language.md` says is so.

use std::collections::BTreeMap;

use models::kpis::{Formula, FormulaError, Kpis, Plan, SALES};

const PAGE: &str = include_str!("../../../../docs/kpis-language.md");

/// The text of all blocks of this kind.
fn blocks(kind: &str) -> impl Iterator<Item = &'static str> {
    let starts_with_kind = move |block: &&str| block.split('\n').next() == Some(kind);
    let blocks = PAGE.split("```").skip(1).step_by(2).filter(starts_with_kind);
    blocks.filter_map(|block| block.split_once('\n')).map(|(_, text)| text.trim_end())
}

fn plan(text: &str) -> Result<Plan, FormulaError> {
    Kpis::new(SALES, BTreeMap::new()).plan(&Formula::parse(text)?)
}

#[test]
fn examples_are_formulas_of_the_unit_told() {
    let examples: Vec<_> = blocks("formula").flat_map(str::lines).collect();
    assert!(examples.len() >= 16);
    for line in examples {
        let (text, unit) = line.split_once('→').expect(line);
        let found = plan(text).expect(line).unit();
        assert_eq!(format!("{found:?}").to_lowercase(), unit.trim(), "{line}");
    }
}

#[test]
fn mistakes_are_told_as_shown() {
    let mistakes: Vec<_> = blocks("mistake").collect();
    assert!(mistakes.len() >= 3);
    for block in mistakes {
        let text = block.lines().next().expect("a formula");
        let error = plan(text).expect_err(text);
        assert_eq!(format!("{}\n{}: {}", error.marked(text), error.code.as_str(), error.message), block);
    }
}

#[test]
fn the_table_of_metrics_is_the_catalog() {
    let rows: Vec<_> =
        PAGE.lines().filter(|line| SALES.names().any(|name| line.starts_with(&format!("| `{name}` |")))).collect();
    let expected: Vec<_> = SALES
        .0
        .iter()
        .map(|metric| {
            let aggregate = metric.aggregate.map(|(aggregate, field)| format!("`{}({field})` ", aggregate.name()));
            let unit = format!("{:?}", metric.unit).to_lowercase();
            let not_by: Vec<_> = metric.not_by.iter().map(|dimension| dimension.name()).collect();
            let not_by = if not_by.is_empty() { String::new() } else { format!("{} ", not_by.join(", ")) };
            format!("| `{}` | {}| {unit} | {not_by}|", metric.name, aggregate.unwrap_or_default())
        })
        .collect();
    assert_eq!(rows, expected);
}
