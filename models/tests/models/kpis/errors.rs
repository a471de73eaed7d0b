//! What is said of each mistake, and where.

use std::collections::{BTreeMap, BTreeSet};

use models::kpis::ErrorCode::{self, *};
use models::kpis::{Formula, FormulaError, Kpis, SALES, SaveError};

fn kpis() -> Kpis {
    let formulas =
        [("net_margin", "(totalRevenue - discounts) / totalRevenue"), ("goal", "1000"), ("stale", "visits + profit")];
    let formulas = formulas.map(|(name, text)| (name.to_owned(), Formula::parse(text).expect(text)));
    Kpis::new(SALES, BTreeMap::from(formulas))
}

fn error(text: &str) -> FormulaError {
    let plan = Formula::parse(text).and_then(|formula| kpis().plan(&formula));
    plan.expect_err(text)
}

/// A formula, the wrong part between brackets; code and message.
const MISTAKES: &[(&str, ErrorCode, &str)] = &[
    ("[]", UnexpectedToken, "expected a value, found the end"),
    ("visits +[]", UnexpectedToken, "expected a value, found the end"),
    ("visits + [*] refunds", UnexpectedToken, "expected a value, found `*`"),
    ("(visits[]", UnexpectedToken, "expected `)`, found the end"),
    ("visits[)]", UnexpectedToken, "expected an operator or the end, found `)`"),
    (
        "visits [fliter] channel = \"web\"",
        UnexpectedToken,
        "expected an operator or the end, found `fliter`; did you mean `filter`?",
    ),
    ("[filter]", UnexpectedToken, "expected a value, found `filter`"),
    ("visits filter [=] \"web\"", UnexpectedToken, "expected a dimension, found `=`"),
    ("visits filter channel [\"web\"]", UnexpectedToken, "expected `=`, `!=` or `in`, found a text"),
    ("visits filter channel = [web]", UnexpectedToken, "expected a text in double quotes, found `web`"),
    ("visits filter channel in ([)]", UnexpectedToken, "expected a text in double quotes, found `)`"),
    ("sum([2])", UnexpectedToken, "expected the name of a field, found `2`"),
    ("sum(net [-] refunds)", UnexpectedToken, "expected `)`, found `-`"),
    ("growth(refunds, [12])", UnexpectedToken, "expected a length of time such as `1y` or `28d`, found `12`"),
    ("refunds + [1y]", UnexpectedToken, "expected a value, found `1y`"),
    ("visits > 0 ? 1[]", UnexpectedToken, "expected `:`, found the end"),
    ("refunds [×] 2", UnexpectedCharacter, "`×` means nothing in a formula; did you mean `*`?"),
    ("visits [==] 0 ? 1 : 2", UnexpectedCharacter, "`==` means nothing in a formula; did you mean `=`?"),
    ("refunds [%]", UnexpectedCharacter, "`%` means nothing in a formula"),
    ("refunds [\0]", UnexpectedCharacter, "`\\0` means nothing in a formula"),
    ("Ums[ä]tze", UnexpectedCharacter, "`ä` means nothing in a formula"),
    ("visits filter channel = [\"web]", BadText, "the text has no closing double quote"),
    ("visits filter channel = \"w[\t]b\"", BadText, "a text has no line breaks or control characters"),
    ("visits filter channel = \"[\\]w\"", BadText, "a backslash stands before a double quote or a backslash only"),
    ("[1234567890123456789]", BadNumber, "a number has 18 digits at most"),
    ("growth(refunds, [1m])", BadLength, "`m` is no unit of the calendar; there are d, w, mo, q, y"),
    ("growth(refunds, [0y])", BadLength, "a length of time is a whole number of units, one at least"),
    ("refunds * [1e5]", BadLength, "`e5` is no unit of the calendar; there are d, w, mo, q, y"),
    ("[abs()]", WrongArguments, "`abs` takes one argument, not 0"),
    ("[nullif(visits)]", WrongArguments, "`nullif` takes two arguments, not 1"),
    ("2 * [max(visits)]", WrongArguments, "`max` takes two arguments or more, not 1"),
    ("[coalese](refunds, 0)", UnknownFunction, "there is no function `coalese`; did you mean `coalesce`?"),
    ("[if](refunds)", UnknownFunction, "there is no function `if`"),
    ("[total_revenu]", UnknownName, "there is no metric or KPI `total_revenu`; did you mean `totalRevenue`?"),
    ("1 - [netMargin]", UnknownName, "there is no metric or KPI `netMargin`; did you mean `net_margin`?"),
    ("[profit]", UnknownName, "there is no metric or KPI `profit`"),
    ("2 * [stale]", UnknownName, "in `stale`: there is no metric or KPI `profit`"),
    (
        "distinct([customers])",
        UnknownField,
        "there is no distinct of `customers`; there is one of customer; did you mean `customer`?",
    ),
    (
        "visits filter [chanel] = \"web\"",
        UnknownDimension,
        "there is no dimension `chanel`; there are channel, region, category, product, segment; did you mean `channel`?",
    ),
    (
        "ordersCount filter segment in (\"NEW\", [\"returning\"])",
        UnknownSegment,
        "there is no segment \"returning\"; there are \"NEW\" and \"RETURNING\"; did you mean `RETURNING`?",
    ),
    ("totalRevenue + [visits]", UnitMismatch, "a count cannot be added to money"),
    ("1 - visits - [refunds / 2]", UnitMismatch, "money cannot be subtracted from a count"),
    ("totalRevenue * [(refunds)]", UnitMismatch, "money cannot be multiplied by money"),
    ("visits * [visits]", UnitMismatch, "a count cannot be multiplied by a count"),
    ("visits / [refunds]", UnitMismatch, "a count cannot be divided by money"),
    ("refunds > [visits] ? 1 : 0", UnitMismatch, "money cannot be compared with a count"),
    (
        "visits > goal ? refunds : [refundRate]",
        UnitMismatch,
        "both results of `?` must have the same unit, not money and a ratio",
    ),
    (
        "min(1, visits, [refunds])",
        UnitMismatch,
        "the arguments of `min` must have the same unit, not a count and money",
    ),
    ("[visits] ? 1 : 0", ConditionExpected, "what stands before `?` must be a comparison such as `visits > 0`"),
    (
        "1 + [(visits > 0)]",
        MisplacedComparison,
        "a comparison stands before `?` only: `condition ? value : other value`",
    ),
    (
        "[0 < visits] < 9 ? 1 : 0",
        MisplacedComparison,
        "a comparison stands before `?` only: `condition ? value : other value`",
    ),
    ("(ordersCount / [visits]) filter product = \"A\"", NotFilterable, "`visits` cannot be filtered by product"),
    (
        "(refunds filter [region = \"EU\"]) filter region in (\"US\", \"EU\") and region != \"EU\"",
        NothingFits,
        "no fact can fit this and the other conditions on the same dimension",
    ),
    ("[prev(refunds, 11y)]", TooFarBack, "a formula looks back ten years or 120 periods at most"),
];

#[test]
fn each_mistake_is_named_and_marked() {
    for (marked, code, message) in MISTAKES {
        let (before, rest) = marked.split_once('[').expect("a mark");
        let (part, after) = rest.split_once(']').expect("its end");
        let found = error(&format!("{before}{part}{after}"));
        assert_eq!((found.code, found.message.as_str()), (*code, *message), "{marked}");
        let place = (1, before.chars().count() + 1, part.chars().count().max(1));
        assert_eq!((found.line, found.column, found.length), place, "{marked}");
    }
}

#[test]
fn each_code_is_explained_and_met_by_a_test() {
    let elsewhere = ["TEXT_TOO_LONG", "TOO_DEEP", "TOO_MANY_OPERATIONS", "CYCLE"];
    let met: BTreeSet<_> = MISTAKES.iter().map(|(_, code, _)| code.as_str()).chain(elsewhere).collect();
    let page = include_str!("../../../../docs/kpis-language.md");
    let (_, table) = page.split_once("| code |").expect("the table of codes");
    let explained = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(met, explained);
}

#[test]
fn the_place_is_counted_in_lines_and_characters() {
    let text = "coalesce(\n  totalRevenue filter channel = \"Müller & Söhne\" - visits,\n  0)";
    let found = error(text);
    assert_eq!((found.line, found.column, found.length), (2, 52, 6));
    assert_eq!(found.to_string(), "line 2, column 52: a count cannot be subtracted from money");
    let line = "  totalRevenue filter channel = \"Müller & Söhne\" - visits,";
    assert_eq!(found.marked(text), format!("{line}\n{}^^^^^^", " ".repeat(51)));
}

#[test]
fn what_spans_lines_is_marked_in_the_first() {
    let found = error("1 + (visits\n > 0)");
    assert_eq!((found.line, found.column, found.length), (1, 5, 7));
}

#[test]
fn a_suggestion_can_be_taken_by_programs() {
    assert_eq!(error("refnds").suggestion.as_deref(), Some("refunds"));
    assert_eq!(error("profit").suggestion, None);
    assert_eq!(error("2 * stale").suggestion, None);
}

#[test]
fn names_of_kpis_are_checked() {
    let save = |name: &str| kpis().with(name, Formula::parse("visits").expect("a formula")).err();
    assert_eq!(save("visits"), Some(SaveError::MetricName("visits".to_owned())));
    assert_eq!(save("growth"), Some(SaveError::ReservedName("growth".to_owned())));
    for malformed in ["", "1st", "a b", "größe", "a-b", "x\0", &"n".repeat(65)] {
        assert_eq!(save(malformed), Some(SaveError::MalformedName), "{malformed:?}");
    }
    assert_eq!(save(&"n".repeat(64)), None);
}
