//! Rejects mapping entries that would have no effect, before anything is read.

use super::mapping::{ConditionSpec, FactKind, FeedSpec, FileSpec, Mapping};
use super::source::is_stdin;

/// Number of decimals in amounts.
const ROUND_MAX: u32 = 4;

const ORDERS: &[FactKind] = &[FactKind::Order];
const REFUNDS: &[FactKind] = &[FactKind::Refund];
const SALES: &[FactKind] = &[FactKind::Order, FactKind::Refund];
const VISITS: &[FactKind] = &[FactKind::Visits];

/// Error: the feed or table, the key, and why it is wrong.
pub fn check(mapping: &Mapping) -> Result<(), String> {
    for (name, lookup) in &mapping.lookups {
        check_file(&lookup.file).map_err(|what| format!("lookup {name}: {what}"))?;
    }
    for feed in &mapping.feeds {
        check_feed(feed).map_err(|what| format!("feed {}: {what}", feed.name))?;
    }
    let files = mapping.lookups.values().map(|lookup| &lookup.file).chain(mapping.feeds.iter().map(|feed| &feed.file));
    if files.filter(|file| is_stdin(&file.path)).count() > 1 {
        return Err("the standard input can be read only once".into());
    }
    Ok(())
}

fn check_file(file: &FileSpec) -> Result<(), String> {
    if file.header && !file.columns.is_empty() {
        return Err("`columns` has no effect where the file has a header (set `header = false`)".into());
    }
    if file.separator == "blank" && file.quote.is_some() {
        return Err("`quote` has no effect where the separator is `blank`".into());
    }
    Ok(())
}

fn check_feed(feed: &FeedSpec) -> Result<(), String> {
    check_file(&feed.file)?;
    let is_of_numbers = |c: char| c.is_ascii_digit() || "+-()".contains(c);
    if feed.currency_sign.as_ref().is_some_and(|sign| sign.trim().is_empty() || sign.contains(is_of_numbers)) {
        return Err("`currency_sign` must be a sign such as \"$\" or \"kr.\"".into());
    }
    let customer = [
        ("customer_name", &feed.customer_name),
        ("customer_email", &feed.customer_email),
        ("customer_phone", &feed.customer_phone),
        ("customer_address", &feed.customer_address),
    ];
    let customer = customer.map(|(key, text)| (key, text.is_some()));
    let others = [
        ("customer", feed.customer.is_some(), ORDERS),
        ("version", feed.version.is_some(), ORDERS),
        ("discount", feed.discount.is_some(), ORDERS),
        ("order", feed.order.is_some(), REFUNDS),
        ("reversals", feed.reversals, REFUNDS),
        ("count", feed.count.is_some(), VISITS),
        ("amount", feed.amount.is_some(), SALES),
        ("currency", feed.currency.is_some(), SALES),
        ("line", feed.line.is_some(), SALES),
        ("round", feed.round.is_some(), SALES),
    ];
    for (key, is_given, kinds) in customer.iter().map(|(key, is_given)| (*key, *is_given, ORDERS)).chain(others) {
        if is_given && !kinds.contains(&feed.fact) {
            return Err(format!("`{key}` has no effect on {}", feed.fact.plural()));
        }
    }
    if let Some((key, _)) = customer.iter().find(|(_, is_given)| *is_given)
        && feed.customer.is_none()
    {
        return Err(format!("`{key}` has no effect without `customer`"));
    }
    if feed.round.is_some_and(|decimals| decimals > ROUND_MAX) {
        return Err(format!("`round` must be from 0 to {ROUND_MAX}: amounts have no more decimals"));
    }
    if feed.when.iter().any(|condition| !has_test(condition)) {
        return Err("a condition of `when` has no test, such as `is` or `above`".into());
    }
    Ok(())
}

fn has_test(condition: &ConditionSpec) -> bool {
    let ConditionSpec { value: _, is, is_not, starts_with, starts_not_with, above, below } = condition;
    [is, is_not, starts_with, starts_not_with].iter().any(|text| text.is_some()) || above.is_some() || below.is_some()
}

impl FactKind {
    fn plural(self) -> &'static str {
        match self {
            FactKind::Order => "orders",
            FactKind::Refund => "refunds",
            FactKind::Visits => "visits",
        }
    }
}
