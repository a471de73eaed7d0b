//! Texts made to do harm get an error soon.

use std::collections::BTreeMap;

use models::kpis::{ErrorCode, Formula, FormulaError, Kpis, OPERATIONS_MAX, SALES, SaveError, TEXT_BYTES_MAX};
use proptest::prelude::*;

fn kpis(formulas: &[(&str, &str)]) -> Kpis {
    let formulas = formulas.iter().map(|(name, text)| ((*name).to_owned(), Formula::parse(text).expect(text)));
    Kpis::new(SALES, formulas.collect())
}

fn compile(text: &str) -> Result<models::kpis::Plan, FormulaError> {
    kpis(&[]).plan(&Formula::parse(text)?)
}

fn code(text: &str) -> Option<ErrorCode> {
    compile(text).err().map(|error| error.code)
}

#[test]
fn long_texts_are_not_looked_at() {
    let texts =
        ["(".repeat(200_000), "1+".repeat(100_000), "-".repeat(100_000), "é".repeat(100_000), "\0".repeat(5000)];
    for text in texts {
        let error = Formula::parse(&text).expect_err("too long");
        assert_eq!(error.code, ErrorCode::TextTooLong);
        assert_eq!(error.message, format!("a formula has 4096 bytes at most, this one has {}", text.len()));
    }
}

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| format!("{}visits{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(code(&nested(63)), None);
    assert_eq!(code(&nested(64)), Some(ErrorCode::TooDeep));
    for text in ["(".repeat(4000), "-".repeat(4000), "abs(".repeat(1000), "1-(".repeat(1000), "1>0?".repeat(1000)] {
        assert_eq!(code(&text), Some(ErrorCode::TooDeep));
    }
    let otherwise = format!("{}1", "1 > 0 ? 1 : ".repeat(100));
    assert_eq!(code(&otherwise), Some(ErrorCode::TooDeep));
    let error = compile(&nested(64)).expect_err("too deep");
    assert_eq!((error.message.as_str(), error.column), ("more than 64 expressions stand in each other", 65));
}

#[test]
fn a_long_sum_is_not_deep_but_has_its_limit() {
    let sum = |operands: usize| vec!["1"; operands].join("+");
    // 512 numbers and 511 times `+`.
    assert_eq!(code(&sum(OPERATIONS_MAX / 2)), None);
    let error = compile(&sum(OPERATIONS_MAX / 2 + 1)).expect_err("too many");
    assert_eq!(error.code, ErrorCode::TooManyOperations);
    assert_eq!(error.message, "more than 1024 numbers, names and operations, with those of the KPIs named");
    assert_eq!(code(&sum(TEXT_BYTES_MAX / 2)), Some(ErrorCode::TooManyOperations));
    assert_eq!(code(&format!("min({})", vec!["1"; 1500].join(","))), Some(ErrorCode::TooManyOperations));
}

#[test]
fn growth_of_growth_does_not_double_for_ever() {
    let text = format!("{}visits{}", "growth(".repeat(50), ")".repeat(50));
    assert_eq!(code(&text), Some(ErrorCode::TooManyOperations));
}

#[test]
fn kpis_that_double_each_other_are_refused() {
    let mut all = kpis(&[("k0", "visits")]);
    for level in 1..=8 {
        let formula = Formula::parse(&format!("k{0} + k{0}", level - 1)).expect("a sum");
        all = all.with(&format!("k{level}"), formula).expect("2^8 leaves");
    }
    let ninth = all.with("k9", Formula::parse("k8 + k8").expect("a sum"));
    let Err(SaveError::Formula { kpi, error }) = ninth else { panic!("2^9 leaves and as many sums") };
    assert_eq!((kpi.as_str(), error.code, error.column), ("k9", ErrorCode::TooManyOperations, 6));
}

#[test]
fn a_long_line_of_kpis_is_too_deep() {
    let name = |i: u32| format!("k{i}");
    let formula = |text: String| Formula::parse(&text).expect("a name");
    let line: BTreeMap<_, _> = (0..100_000).map(|i| (name(i), formula(name(i + 1)))).collect();
    let all = Kpis::new(SALES, line);
    let error = all.plan(&formula(name(0))).expect_err("too deep");
    assert_eq!((error.code, error.column, error.length), (ErrorCode::TooDeep, 1, 2));
    assert_eq!(error.message, "more than 64 expressions stand in each other, with those of the KPIs named");
}

#[test]
fn large_numbers_are_numbers() {
    let nines = "9".repeat(18);
    let text = vec![nines.as_str(); 50].join("*");
    let plan = compile(&text).expect("a product");
    assert_eq!(plan.evaluate(&[]), Err(models::kpis::Absent::Overflow));
    let rest = compile(&format!("{text} - {text}")).expect("a difference");
    assert_eq!(rest.evaluate(&[]), Err(models::kpis::Absent::Overflow), "never NaN");
    let small = compile(&vec!["0.000000000000000001"; 30].join("*")).expect("a product");
    assert_eq!(small.evaluate(&[]).map(|number| number.to_f64()), Ok(0.0), "1e-540");
}

/// Words and signs of the language in any order.
fn soup() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("("),
        Just(")"),
        Just(","),
        Just("?"),
        Just(":"),
        Just("+"),
        Just("-"),
        Just("*"),
        Just("/"),
        Just("="),
        Just("!="),
        Just("<"),
        Just("filter"),
        Just("in"),
        Just("and"),
        Just("channel"),
        Just("\"x\""),
        Just("\""),
        Just("visits"),
        Just("refunds"),
        Just("sum("),
        Just("growth("),
        Just("1y"),
        Just("2.5"),
        Just("min("),
        Just("é"),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_a_formula_or_an_error_within_it(text in prop_oneof![any::<String>(), "[ -~é\\n\\x00]{0,200}", soup()]) {
        if let Err(error) = compile(&text) {
            let line = text.split('\n').nth(error.line - 1).expect("the line");
            let length = line.chars().count();
            prop_assert!(error.column >= 1 && error.length >= 1);
            // The end is one behind the last character.
            prop_assert!(error.column + error.length - 1 <= length + 1, "{error:?} of {text:?}");
            prop_assert!(!error.marked(&text).is_empty());
        }
    }
}
