//! KPIs that name each other.

#![expect(clippy::panic, reason = "a test that fails")]

use std::collections::BTreeMap;

use models::kpis::{ErrorCode, Formula, Kpis, SALES, SaveError};

fn formula(text: &str) -> Formula {
    Formula::parse(text).expect(text)
}

fn kpis(formulas: &[(&str, &str)]) -> Kpis {
    formulas
        .iter()
        .fold(Kpis::new(SALES, BTreeMap::new()), |kpis, (name, text)| kpis.with(name, formula(text)).expect(name))
}

/// The KPI in whose formula the mistake is, its code, column, length and message.
fn refused(kpis: &Kpis, name: &str, text: &str) -> (String, ErrorCode, usize, usize, String) {
    match kpis.with(name, formula(text)).map(|_| ()) {
        Err(SaveError::Formula { kpi, error }) => (kpi, error.code, error.column, error.length, error.message),
        other => panic!("{name} = {text}: {other:?}"),
    }
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let kpis =
        kpis(&[("cost", "refunds + discounts"), ("margin", "totalRevenue - cost"), ("share", "margin / totalRevenue")]);
    let message = "KPIs name each other in a circle: cost -> share -> margin -> cost";
    let expected = ("cost".to_owned(), ErrorCode::Cycle, 11, 5, message.to_owned());
    assert_eq!(refused(&kpis, "cost", "refunds * share"), expected);
    let (kpi, _, column, _, message) = refused(&kpis, "own", "1 - own");
    assert_eq!((kpi.as_str(), column, message.as_str()), ("own", 5, "KPIs name each other in a circle: own -> own"));
    assert_eq!(kpis.find("cost").map(Formula::text), Some("refunds + discounts"), "what is refused changes nothing");
}

#[test]
fn a_change_is_refused_where_others_would_break() {
    let kpis = kpis(&[("cost", "refunds"), ("margin", "totalRevenue - cost"), ("share", "margin / totalRevenue")]);
    let message = "a count cannot be subtracted from money";
    let expected = ("margin".to_owned(), ErrorCode::UnitMismatch, 16, 4, message.to_owned());
    assert_eq!(refused(&kpis, "cost", "ordersCount"), expected);
    assert!(kpis.with("cost", formula("refunds / 2")).is_ok());
}

#[test]
fn a_change_is_checked_through_kpis_that_stay_right() {
    let kpis = kpis(&[("cost", "refunds"), ("half", "cost / 2"), ("margin", "totalRevenue - half")]);
    assert_eq!(refused(&kpis, "cost", "ordersCount").0, "margin");
}

#[test]
fn a_kpi_is_found_wherever_it_is_named() {
    for text in [
        "own",
        "-own",
        "own + 1",
        "1 / own",
        "own > 1 ? 1 : 2",
        "1 > own ? 1 : 2",
        "1 > 2 ? own : 1",
        "1 > 2 ? 1 : own",
        "max(1, own)",
        "prev(own)",
        "growth(own, 1y)",
        "own filter channel = \"online\"",
    ] {
        assert_eq!(refused(&kpis(&[]), "own", text).1, ErrorCode::Cycle, "{text}");
    }
}

#[test]
fn a_broken_kpi_hinders_only_those_that_name_it() {
    let stored = [("broken", "visits + refunds"), ("fine", "visits")];
    let stored = stored.map(|(name, text)| (name.to_owned(), formula(text)));
    let kpis = Kpis::new(SALES, BTreeMap::from(stored));
    assert!(kpis.with("new", formula("fine * 2")).is_ok());
    let (kpi, code, column, length, message) = refused(&kpis, "new", "fine + broken");
    assert_eq!((kpi.as_str(), code, column, length), ("new", ErrorCode::UnitMismatch, 8, 6));
    assert_eq!(message, "in `broken`: money cannot be added to a count");
    assert!(kpis.with("broken", formula("visits")).is_ok());
}

#[test]
fn users_are_those_that_name_it_themselves() {
    let kpis = kpis(&[("cost", "refunds"), ("margin", "totalRevenue - cost"), ("share", "margin / totalRevenue")]);
    assert_eq!(kpis.users("cost").collect::<Vec<_>>(), ["margin"]);
    assert_eq!(kpis.users("share").count(), 0);
}
