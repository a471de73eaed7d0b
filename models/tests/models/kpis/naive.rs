//! Plans are worth what a walk over the tree finds in the facts themselves.
//!
//! The walk knows nothing of plans: it keeps the conditions and lengths that it met on its way, looks at every fact, and
//! calculates with fractions of its own.

#![expect(clippy::panic, reason = "a test that meets what it does not generate")]

use std::collections::BTreeMap;

use models::kpis::ast::{Comparison, Condition, Expr, ExprKind, Function, Operator, Test};
use models::kpis::{
    Aggregate, CalendarUnit, Dimension, Formula, Kpis, Length, Number, Question, SALES, StepBack, Values,
};
use proptest::prelude::*;

/// One order, or one visit where the amount is `None`.
#[derive(Clone, Debug)]
struct Fact {
    /// How long ago: any length of time back makes another moment, and there are three.
    ago: u32,
    channel: usize,
    region: usize,
    amount: Option<i64>,
}

const CHANNELS: [&str; 3] = ["", "online", "store"];
const REGIONS: [&str; 3] = ["", "EU", "US"];

impl Fact {
    fn value(&self, dimension: Dimension) -> &'static str {
        if dimension == Dimension::Channel { CHANNELS[self.channel] } else { REGIONS[self.region] }
    }
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = (0..3u32, 0..3usize, 0..3usize, proptest::option::of(-2000..5000i64));
    let fact = fact.prop_map(|(ago, channel, region, amount)| Fact { ago, channel, region, amount });
    proptest::collection::vec(fact, 0..30)
}

/// A fraction without common factors, both parts below 2^60: numbers that the product calculates exactly with, too.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Fraction(i128, i128);

/// `Err` where a number grew beyond what is compared here.
type Found = Result<Option<Fraction>, TooLarge>;

#[derive(Debug)]
struct TooLarge;

fn fraction(numerator: i128, denominator: i128) -> Found {
    if denominator == 0 {
        return Ok(None);
    }
    let (mut a, mut b) = (numerator.abs(), denominator.abs());
    while b > 0 {
        (a, b) = (b, a % b);
    }
    let divisor = a * denominator.signum();
    let reduced = Fraction(numerator / divisor, denominator / divisor);
    if reduced.0.abs().max(reduced.1) < 1 << 60 { Ok(Some(reduced)) } else { Err(TooLarge) }
}

fn calculate(operator: Operator, Fraction(a, b): Fraction, Fraction(c, d): Fraction) -> Found {
    match operator {
        Operator::Add => fraction(a * d + c * b, b * d),
        Operator::Subtract => fraction(a * d - c * b, b * d),
        Operator::Multiply => fraction(a * c, b * d),
        Operator::Divide => fraction(a * d, b * c),
    }
}

fn is_less(Fraction(a, b): Fraction, Fraction(c, d): Fraction) -> bool {
    a * d < c * b
}

/// A metric of the facts that fit. Visits of two moments ago are not known.
fn measure<'f>(metric: &str, ago: u32, fitting: impl Iterator<Item = &'f Fact> + Clone) -> Found {
    let amounts = fitting.clone().filter_map(|fact| fact.amount);
    let orders = amounts.clone().count() as i128;
    match metric {
        "totalRevenue" => fraction(amounts.map(i128::from).sum(), 10_000),
        "refunds" => fraction(amounts.filter(|amount| *amount < 0).map(i128::from).sum::<i128>().abs(), 10_000),
        "ordersCount" => fraction(orders, 1),
        "visits" if ago == 2 => Ok(None),
        "visits" => fraction(fitting.count() as i128 - orders, 1),
        other => panic!("{other} is not generated"),
    }
}

struct Walk<'a> {
    facts: &'a [Fact],
    kpis: &'a BTreeMap<String, Formula>,
}

impl Walk<'_> {
    fn value(&self, expr: &Expr, conditions: &[&Condition], ago: u32) -> Found {
        let value = |expr: &Expr| self.value(expr, conditions, ago);
        match &expr.value {
            ExprKind::Number(number) => {
                let (whole, decimals) = number.to_string().split_once('.').map_or_else(
                    || (number.to_string(), String::new()),
                    |(whole, decimals)| (whole.to_owned(), decimals.to_owned()),
                );
                fraction(format!("{whole}{decimals}").parse().expect("digits"), 10i128.pow(decimals.len() as u32))
            }
            ExprKind::Name(name) => match self.kpis.get(name) {
                Some(formula) => value(formula.root()),
                None => self.metric(name, conditions, ago),
            },
            ExprKind::Aggregate(Aggregate::Sum, _) => self.metric("totalRevenue", conditions, ago),
            ExprKind::Aggregate(..) => self.metric("ordersCount", conditions, ago),
            ExprKind::Negate(of) => value(of)?.map_or(Ok(None), |Fraction(a, b)| fraction(-a, b)),
            ExprKind::Chain(first, rest) => rest.iter().try_fold(value(first)?, |left, (operator, right)| {
                let (Some(left), Some(right)) = (left, value(right)?) else { return Ok(None) };
                calculate(*operator, left, right)
            }),
            ExprKind::Choose(choice) => {
                let ExprKind::Compare(comparison, left, right) = &choice.condition.value else { panic!("checked") };
                let (Some(left), Some(right)) = (value(left)?, value(right)?) else { return Ok(None) };
                let holds = match comparison {
                    Comparison::Equal => left == right,
                    Comparison::NotEqual => left != right,
                    Comparison::Less => is_less(left, right),
                    Comparison::LessOrEqual => !is_less(right, left),
                    Comparison::Greater => is_less(right, left),
                    Comparison::GreaterOrEqual => !is_less(left, right),
                };
                if holds { value(&choice.then) } else { value(&choice.otherwise) }
            }
            ExprKind::Call(function, arguments) => {
                let values = arguments.iter().map(value).collect::<Result<Vec<_>, _>>()?;
                let known: Vec<_> = values.iter().copied().flatten().collect();
                let all_known = known.len() == values.len();
                Ok(match function {
                    Function::Abs => known.first().map(|Fraction(a, b)| Fraction(a.abs(), *b)),
                    Function::Coalesce => known.first().copied(),
                    Function::NullIf => values[0].filter(|value| values[1] != Some(*value)),
                    Function::Min if all_known => known.into_iter().reduce(|a, b| if is_less(b, a) { b } else { a }),
                    Function::Max if all_known => known.into_iter().reduce(|a, b| if is_less(a, b) { b } else { a }),
                    Function::Min | Function::Max => None,
                })
            }
            ExprKind::Previous(of, length) => self.value(of, conditions, ago + back(*length)),
            ExprKind::Growth(of, length) => {
                let (now, before) = (value(of)?, self.value(of, conditions, ago + back(*length))?);
                let (Some(now), Some(before)) = (now, before) else { return Ok(None) };
                let Some(change) = calculate(Operator::Subtract, now, before)? else { return Ok(None) };
                calculate(Operator::Divide, change, before)
            }
            ExprKind::Filtered(of, more) => {
                let all: Vec<_> = conditions.iter().copied().chain(more.iter().map(|one| &one.value)).collect();
                self.value(of, &all, ago)
            }
            ExprKind::Compare(..) => panic!("stands in a choice only"),
        }
    }

    fn metric(&self, metric: &str, conditions: &[&Condition], ago: u32) -> Found {
        let fits = |fact: &&Fact| {
            fact.ago == ago % 3
                && conditions.iter().all(|condition| {
                    let is_named = condition.values.iter().any(|value| value.value == fact.value(condition.dimension));
                    is_named == (condition.test != Test::IsNot)
                })
        };
        measure(metric, ago % 3, self.facts.iter().filter(fits))
    }
}

fn back(length: Option<Length>) -> u32 {
    length.map_or(1, |Length { count, unit }| match unit {
        CalendarUnit::Day | CalendarUnit::Month => count,
        CalendarUnit::Week => 7 * count,
        CalendarUnit::Quarter => 3 * count,
        CalendarUnit::Year => 12 * count,
    })
}

/// The answer to a plan's question, from the same facts.
fn answer(question: &Question, facts: &[Fact]) -> Found {
    let counts = question.shift.steps().iter().map(|step| match step {
        StepBack::Months(count) | StepBack::Days(count) | StepBack::Periods(count) => count,
    });
    let ago = counts.sum::<u32>() % 3;
    let fits = |fact: &&Fact| {
        fact.ago == ago
            && question.filter.by_dimension().all(|(dimension, values)| match values {
                Values::Only(kept) => kept.contains(fact.value(dimension)),
                Values::AllBut(dropped) => !dropped.contains(fact.value(dimension)),
            })
    };
    measure(question.metric, ago, facts.iter().filter(fits))
}

/// Writes a formula of a wanted unit by choices taken from `choices`.
struct Writer {
    choices: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Money,
    Count,
    Ratio,
}

const UNITS: [Unit; 3] = [Unit::Money, Unit::Count, Unit::Ratio];

impl Writer {
    fn pick(&mut self, of: u8) -> u8 {
        self.choices.pop().unwrap_or(0) % of
    }

    fn one(&mut self, of: &[&str]) -> String {
        of[usize::from(self.pick(of.len() as u8))].to_owned()
    }

    fn leaf(&mut self, unit: Unit) -> String {
        match unit {
            Unit::Money => self.one(&["totalRevenue", "sum(net)", "refunds", "lost", "12.5", "0"]),
            Unit::Count => self.one(&["ordersCount", "count(orders)", "visits", "both", "3", "0"]),
            Unit::Ratio => self.one(&["0.75", "share", "2", "0"]),
        }
    }

    fn formula(&mut self, unit: Unit, depth: u32) -> String {
        if depth == 0 {
            return self.leaf(unit);
        }
        let form = self.pick(16);
        let any_unit = UNITS[usize::from(self.pick(3))];
        let mut part = |unit| self.formula(unit, depth - 1);
        match form {
            0 => format!("({} + {})", part(unit), part(unit)),
            1 => format!("({} - {} + {})", part(unit), part(unit), part(unit)),
            2 => format!("-{}", part(unit)),
            3 => format!("{} * {}", part(unit), part(Unit::Ratio)),
            4 => format!("{} / {}", part(unit), part(Unit::Ratio)),
            5 | 6 if unit == Unit::Ratio => format!("({} / {})", part(any_unit), part(any_unit)),
            5 | 6 if unit == Unit::Money => format!("({} * {})", part(Unit::Count), part(Unit::Money)),
            7 if unit == Unit::Ratio => format!("growth({}{})", part(any_unit), self.length()),
            8 | 9 => format!("prev({}{})", part(unit), self.length()),
            10 | 11 => format!("({}) filter {}", part(unit), self.filter()),
            12 => {
                let (left, right) = (part(any_unit), part(any_unit));
                let (then, otherwise) = (part(unit), part(unit));
                let comparison = self.one(&["=", "!=", "<", "<=", ">", ">="]);
                format!("({left} {comparison} {right} ? {then} : {otherwise})")
            }
            13 => format!("coalesce({}, {})", part(unit), part(unit)),
            14 => format!("nullif({}, {})", part(unit), part(unit)),
            15 => format!("max({}, min({}, {}))", part(unit), part(unit), part(unit)),
            _ => format!("abs({})", part(unit)),
        }
    }

    fn length(&mut self) -> String {
        self.one(&["", ", 1y", ", 2d", ", 1w", ", 1q", ", 1mo"])
    }

    fn filter(&mut self) -> String {
        self.one(&[
            "channel = \"online\"",
            "channel != \"store\" and region = \"EU\"",
            "region in (\"EU\", \"\") and channel != \"\"",
            "region != \"US\"",
        ])
    }
}

fn kpis() -> BTreeMap<String, Formula> {
    let formulas = [
        ("share", "sum(net) filter channel = \"online\" / sum(net)"),
        ("lost", "refunds + prev(refunds)"),
        ("both", "ordersCount + visits filter region != \"EU\""),
    ];
    formulas.map(|(name, text)| (name.to_owned(), Formula::parse(text).expect(text))).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_plan_is_worth_what_the_tree_is(
        choices in proptest::collection::vec(any::<u8>(), 0..200),
        unit in proptest::sample::select(UNITS.to_vec()),
        facts in facts(),
    ) {
        let text = Writer { choices }.formula(unit, 4);
        let kpis = kpis();
        let Ok(formula) = Formula::parse(&text) else { return Err(TestCaseError::fail(text)) };
        let plan = match Kpis::new(SALES, kpis.clone()).plan(&formula) {
            Ok(plan) => plan,
            // Filters that leave nothing, and units that plain numbers take on.
            Err(error) => return Err(TestCaseError::reject(format!("{error}"))),
        };
        let Ok(expected) = (Walk { facts: &facts, kpis: &kpis }).value(formula.root(), &[], 0) else { return Ok(()) };
        let answers = plan.questions().iter().map(|question| answer(question, &facts)).collect::<Result<Vec<_>, _>>();
        let answers: Vec<_> = answers.expect("small").into_iter().map(|found| found.map(number)).collect();
        prop_assert_eq!(plan.evaluate(&answers).ok(), expected.map(number), "{}", text);
    }
}

fn number(Fraction(numerator, denominator): Fraction) -> Number {
    let small = |part: i128| i64::try_from(part).expect("below 2^60");
    Number::ratio(small(numerator), small(denominator)).expect("a denominator")
}
