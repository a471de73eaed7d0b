//! A formula that is printed reads as the same formula.

use models::kpis::ast::{Choice, Comparison, Condition, Expr, ExprKind, Function, Operator, Spanned, Test, chained};
use models::kpis::{Aggregate, CalendarUnit, Decimal, Dimension, Formula, Length, Span};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn at<T>(value: T) -> Spanned<T> {
    Spanned { value, span: Span::default() }
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z_][a-zA-Z0-9_]{0,5}".prop_filter("a keyword", |name| !["filter", "and", "in"].contains(&name.as_str()))
}

fn leaf() -> impl Strategy<Value = ExprKind> {
    let number = "[0-9]{1,9}(\\.[0-9]{1,9})?".prop_map(|text| Decimal::parse(&text).expect("a number"));
    prop_oneof![
        number.prop_map(ExprKind::Number),
        name().prop_map(ExprKind::Name),
        (select(Aggregate::ALL.to_vec()), name())
            .prop_map(|(aggregate, field)| ExprKind::Aggregate(aggregate, at(field))),
    ]
}

fn length() -> impl Strategy<Value = Option<Length>> {
    proptest::option::of((1u32.., select(CalendarUnit::ALL.to_vec())).prop_map(|(count, unit)| Length { count, unit }))
}

fn condition() -> impl Strategy<Value = Spanned<Condition>> {
    let values = (select(vec![Test::Is, Test::IsNot, Test::In]), vec("[a-z\"\\\\ é漢]{0,4}", 1..4));
    (select(Dimension::ALL.to_vec()), values).prop_map(|(dimension, (test, mut values))| {
        values.truncate(if test == Test::In { 3 } else { 1 });
        at(Condition { dimension, test, values: values.into_iter().map(at).collect() })
    })
}

fn expr() -> impl Strategy<Value = Expr> {
    let operators = vec![Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide];
    leaf().prop_map(at).prop_recursive(6, 40, 4, move |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let chain = (inner.clone(), select(operators.clone()), inner.clone());
        let choice = (inner.clone(), inner.clone(), inner.clone());
        prop_oneof![
            boxed().prop_map(|of| at(ExprKind::Negate(of))),
            chain.prop_map(|(left, operator, right)| chained(left, operator, right)),
            (select(Comparison::ALL.to_vec()), boxed(), boxed())
                .prop_map(|(comparison, left, right)| at(ExprKind::Compare(comparison, left, right))),
            choice.prop_map(|(condition, then, otherwise)| {
                at(ExprKind::Choose(Box::new(Choice { condition, then, otherwise })))
            }),
            (select(Function::ALL.to_vec()), vec(inner.clone(), 0..4))
                .prop_map(|(function, arguments)| at(ExprKind::Call(function, arguments))),
            (boxed(), length()).prop_map(|(of, length)| at(ExprKind::Previous(of, length))),
            (boxed(), length()).prop_map(|(of, length)| at(ExprKind::Growth(of, length))),
            (boxed(), vec(condition(), 1..4)).prop_map(|(of, conditions)| at(ExprKind::Filtered(of, conditions))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn printing_and_reading_gives_the_same_tree(expr in expr()) {
        let printed = expr.to_string();
        let read = Formula::parse(&printed).map_err(|error| TestCaseError::fail(format!("{error} in {printed}")))?;
        prop_assert_eq!(read.root(), &expr, "{}", printed);
        prop_assert_eq!(read.to_string(), printed);
    }
}

#[test]
fn the_canonical_form_has_no_needless_parentheses() {
    for (text, printed) in [
        (
            "((totalRevenue)-(refunds))/nullif( uniqueCustomers,0 )",
            "(totalRevenue - refunds) / nullif(uniqueCustomers, 0)",
        ),
        ("(a+b)+(c+d)", "a + b + (c + d)"),
        ("a-(b*c)/d-(-e)", "a - b * c / d - -e"),
        ("a/(b/c)", "a / (b / c)"),
        ("-(a+b)*-(c)", "-(a + b) * -c"),
        ("--a", "--a"),
        ("(a>0)?(b):(c>0?d:e)", "a > 0 ? b : c > 0 ? d : e"),
        ("(a>0?b:c)/d", "(a > 0 ? b : c) / d"),
        (
            "(sum(net))filter channel=\"on\\\"line\"and region in(\"EU\",\"US\")",
            "sum(net) filter channel = \"on\\\"line\" and region in (\"EU\", \"US\")",
        ),
        ("sum(net) filter channel != \"online\" / sum(net)", "sum(net) filter channel != \"online\" / sum(net)"),
        ("(a-b)filter region=\"\"", "(a - b) filter region = \"\""),
        ("prev(a)-growth( a,01y )", "prev(a) - growth(a, 1y)"),
        ("007.500", "7.5"),
    ] {
        assert_eq!(Formula::parse(text).expect(text).to_string(), printed);
    }
}
