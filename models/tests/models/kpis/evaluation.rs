//! What formulas are worth, by hand.

use std::collections::BTreeMap;

use models::kpis::{Absent, Filter, Formula, Kpis, Number, Plan, Question, SALES, Shift, StepBack, Unit, Values};

fn plan(text: &str) -> Plan {
    let kpis = [("margin", "(totalRevenue - discounts) / totalRevenue"), ("goal", "1000")];
    let kpis = kpis.map(|(name, text)| (name.to_owned(), Formula::parse(text).expect(text)));
    let formula = Formula::parse(text).expect(text);
    Kpis::new(SALES, BTreeMap::from(kpis)).plan(&formula).expect(text)
}

/// A shop's numbers. By question: now 3 orders of 100.00 together, 10 visits, 20.00 refunded; before and a year ago less;
/// online 75.00.
fn answer(question: &Question) -> Option<Number> {
    let is_now = question.shift == Shift::default();
    let is_online = question.filter != Filter::default();
    match (question.metric, is_now, is_online) {
        ("totalRevenue", true, true) => Some(Number::money(750_000)),
        ("totalRevenue", true, false) => Some(Number::money(1_000_000)),
        ("totalRevenue", false, _) if question.shift.steps() == [StepBack::Months(12)] => Some(Number::money(0)),
        ("totalRevenue", false, _) => Some(Number::money(800_000)),
        ("ordersCount", ..) => Some(Number::count(3)),
        ("visits", true, _) => Some(Number::count(10)),
        ("refunds", ..) => Some(Number::money(200_000)),
        ("discounts", ..) => Some(Number::money(50_000)),
        ("uniqueCustomers", ..) => Some(Number::count(0)),
        _ => None,
    }
}

fn value(text: &str) -> Result<Number, Absent> {
    let plan = plan(text);
    let answers: Vec<_> = plan.questions().iter().map(answer).collect();
    plan.evaluate(&answers)
}

fn exactly(numerator: i64, denominator: i64) -> Result<Number, Absent> {
    Ok(Number::ratio(numerator, denominator).expect("a denominator"))
}

#[test]
fn formulas_are_worth_what_a_hand_finds() {
    for (text, numerator, denominator) in [
        // 100 - 20
        ("totalRevenue - refunds", 80, 1),
        // (100 - 20) / 3
        ("(totalRevenue - refunds) / ordersCount", 80, 3),
        // 100 - 20 / 2 * 3 - -5
        ("totalRevenue - refunds / 2 * 3 - -discounts", 75, 1),
        ("sum(net) filter channel = \"online\" / sum(net)", 3, 4),
        ("visits > 0 ? ordersCount / visits : 0", 3, 10),
        ("visits <= 0 ? 1 : visits != 10 ? 2 : 3", 3, 1),
        ("ordersCount / visits = 0.3 ? 1 : 2", 1, 1),
        // (100 - 80) / 80
        ("growth(totalRevenue)", 1, 4),
        ("prev(totalRevenue)", 80, 1),
        // (100 - 5) / 100
        ("margin", 95, 100),
        // (75 - 5) / 75: the filter goes into the KPI
        ("margin filter channel = \"online\"", 70, 75),
        ("totalRevenue / goal", 1, 10),
        ("min(totalRevenue, refunds, 50)", 20, 1),
        ("max(totalRevenue, refunds, 50)", 100, 1),
        ("abs(refunds - totalRevenue)", 80, 1),
        ("coalesce(prev(visits), newCustomers, visits)", 10, 1),
        ("coalesce(totalRevenue / uniqueCustomers, 7)", 7, 1),
        ("nullif(visits, 0)", 10, 1),
        ("nullif(visits, prev(visits))", 10, 1),
        ("60 * 60 * 24", 86_400, 1),
    ] {
        assert_eq!(value(text), exactly(numerator, denominator), "{text}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    for (text, why) in [
        ("totalRevenue / uniqueCustomers", Absent::DivisionByZero),
        ("totalRevenue / nullif(uniqueCustomers, 0)", Absent::NoValue),
        ("growth(totalRevenue, 1y)", Absent::DivisionByZero),
        ("1 + prev(visits)", Absent::NoValue),
        ("prev(visits) > 0 ? 1 : 2", Absent::NoValue),
        ("min(visits, prev(visits))", Absent::NoValue),
        ("nullif(visits, 10)", Absent::NoValue),
        ("nullif(totalRevenue / uniqueCustomers, refunds / uniqueCustomers)", Absent::DivisionByZero),
        ("nullif(prev(visits), 10)", Absent::NoValue),
        ("coalesce(avgOrderValue, totalRevenue / uniqueCustomers)", Absent::DivisionByZero),
    ] {
        assert_eq!(value(text), Err(why), "{text}");
    }
    assert_eq!(plan("visits").evaluate(&[]), Err(Absent::NoValue));
}

#[test]
fn a_choice_does_not_look_at_what_it_does_not_take() {
    assert_eq!(value("uniqueCustomers > 0 ? refunds / uniqueCustomers : 0"), exactly(0, 1));
}

#[test]
fn units_follow_from_the_metrics() {
    for (text, unit) in [
        ("totalRevenue - refunds + 1", Unit::Money),
        ("avgOrderValue * ordersCount", Unit::Money),
        ("totalRevenue / visits * 1000", Unit::Money),
        ("unitsSold / 2", Unit::Count),
        ("visits * conversionRate", Unit::Count),
        ("unitsSold / ordersCount", Unit::Ratio),
        ("refunds / totalRevenue", Unit::Ratio),
        ("growth(totalRevenue)", Unit::Ratio),
        ("coalesce(0, refunds)", Unit::Money),
        ("visits > 10 ? 0 : refunds", Unit::Money),
        ("42", Unit::Ratio),
    ] {
        assert_eq!(plan(text).unit(), unit, "{text}");
    }
}

#[test]
fn each_question_is_asked_once() {
    let text = "growth(sum(net)) + prev(totalRevenue, 12mo) / prev(totalRevenue, 1y) \
                + (totalRevenue filter channel in (\"a\", \"b\") / totalRevenue filter channel in (\"b\", \"a\", \"b\")) \
                + (totalRevenue filter region = \"EU\" and channel = \"a\" / (totalRevenue filter channel = \"a\") filter region = \"EU\")";
    let shifts: Vec<_> = plan(text).questions().iter().map(|question| question.shift.steps().to_vec()).collect();
    assert_eq!(shifts, [vec![], vec![StepBack::Periods(1)], vec![StepBack::Months(12)], vec![], vec![]]);
}

#[test]
fn filters_and_looks_back_go_down_to_the_metrics() {
    let plan = plan("prev(prev(margin filter region != \"EU\", 2w), 1q) filter channel = \"online\"");
    let by_dimension: Vec<_> = plan.questions().iter().flat_map(|question| question.filter.by_dimension()).collect();
    let (online, elsewhere) = (Values::Only(["online".to_owned()].into()), Values::AllBut(["EU".to_owned()].into()));
    let both = [(models::kpis::Dimension::Channel, &online), (models::kpis::Dimension::Region, &elsewhere)];
    assert_eq!(by_dimension, [both, both].concat());
    let steps = [StepBack::Months(3), StepBack::Days(14)];
    assert!(plan.questions().iter().all(|question| question.shift.steps() == steps));
    assert_eq!(
        plan.questions().iter().map(|question| question.metric).collect::<Vec<_>>(),
        ["totalRevenue", "discounts"]
    );
}
