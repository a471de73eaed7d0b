//! Every metric, filter, grain, zone and split equals a computation over the plain events, whatever order they arrive
//! in, around the transitions of every time zone.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use models::kpis::Number;
use proptest::prelude::*;
use salespulse::calendar::{Step, date_of, first_day, instant, local_time, start_of_day};
use salespulse::clock::{DAY, Timestamp};
use salespulse::db::{LazyTx, TenantId};
use salespulse::graphql::scalars::DateTime;
use salespulse::graphql::size::Size;
use salespulse::ledger::event::{
    Customer, Event, Fact, Line, OrderCancelled, OrderPlaced, Outcome, RefundIssued, VisitsCounted,
};
use salespulse::ledger::memory::Memory;
use salespulse::ledger::rollup::days::DaySums;
use salespulse::metrics::answer::{Answer, ComparedValues, Comparison, answer, remembered_answer};
use salespulse::metrics::catalog::{Metric, Needs};
use salespulse::metrics::cell::Values;
use salespulse::metrics::dimension::Dimension;
use salespulse::metrics::filter::{CustomerSegment, MetricsFilters};
use salespulse::metrics::input::{
    BreakdownSort, ComparedValue, ComparisonPeriod, ComparisonSort, DateRange, Grain, SortDirection, Weekday,
};
use salespulse::metrics::measured::Measured;
use salespulse::metrics::period::{Span, previous, whole_days};
use salespulse::metrics::plan::{
    BreakdownArgs, BreakdownPlan, ComparisonArgs, ComparisonPlan, Plan, SeriesArgs, SeriesPlan,
};
use salespulse::metrics::state::State;
use salespulse::money::Money;
use salespulse::stream::ListenerEvent;

use self::world::{FOREIGN, WEEKDAYS, World, any_zone, world};
use crate::support::{NOW, TestApp, TestTenant, at};

const CHANNELS: [&str; 3] = ["", "shop", "web"];
const REGIONS: [&str; 3] = ["", "North", "South"];
const PRODUCTS: [(&str, &str); 4] = [("tea", "drinks"), ("cola", "drinks"), ("bread", "food"), ("nail", "")];
const CUSTOMERS: [&str; 4] = ["", "ann", "bob", "cid"];
const ORGANIZATIONS: [&str; 2] = ["acme", "other"];

/// One event as numbers, so that content is a function of them: two events of one order and version are equal.
#[derive(Clone, Copy, Debug)]
enum Seed {
    Order { order: u8, version: u8 },
    Cancel { order: u8, version: u8 },
    Refund { refund: u8 },
    Visits { visit: u8 },
}

fn seed() -> impl Strategy<Value = Seed> {
    prop_oneof![
        6 => (0u8..12, 0u8..3).prop_map(|(order, n)| Seed::Order { order, version: 2 * n + 1 }),
        1 => (0u8..12, 1u8..3).prop_map(|(order, n)| Seed::Cancel { order, version: 2 * n }),
        3 => (0u8..10).prop_map(|refund| Seed::Refund { refund }),
        1 => (0u8..5).prop_map(|visit| Seed::Visits { visit }),
    ]
}

/// A fixed, scattered number from small ones.
fn mixed(kind: u64, id: u8, version: u8) -> u64 {
    let mut x = kind << 32 | u64::from(id) << 8 | u64::from(version);
    x = (x ^ (x >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

/// Times lie around the change of the clock, some on the edges of days and quarters.
fn time(number: u64, world: &World) -> Timestamp {
    let minutes = (number % 600) * 11;
    let odd = if number.is_multiple_of(3) { 0 } else { number % 60_000_000 };
    Timestamp(world.start() + i64::try_from(minutes * 60_000_000 + odd).expect("small"))
}

fn text(from: &[&str], number: u64) -> Option<String> {
    let text = from[usize::try_from(number).expect("small") % from.len()];
    (!text.is_empty()).then(|| text.to_owned())
}

fn lines(number: u64) -> Vec<Line> {
    (0..number % 4)
        .map(|i| {
            let (product, category) = PRODUCTS[usize::try_from((number >> (3 * i)) % 4).expect("small")];
            Line {
                product_id: product.into(),
                category: (!category.is_empty()).then(|| category.into()),
                quantity: i64::try_from((number >> 5) % 5).expect("small"),
                amount: Money(i64::try_from((number >> (7 + i)) % 900_001).expect("small")),
                discount: Money(i64::try_from((number >> 11) % 5_001).expect("small")),
                ..Line::default()
            }
        })
        .collect()
}

fn event(seed: Seed, world: &World) -> Event {
    let foreign = |n: u64| (n >> 33).is_multiple_of(3).then(|| FOREIGN.to_owned());
    match seed {
        Seed::Order { order, version } => {
            let n = mixed(1, order, version);
            let lines = lines(n);
            let amount = Money(i64::try_from(n % 2_000_003).expect("small"));
            let customer = text(&CUSTOMERS, n >> 17).map(|id| Customer { id, ..Customer::default() });
            let fact = Fact::OrderPlaced(OrderPlaced {
                order_id: format!("o{order}"),
                version: version.into(),
                currency: foreign(n),
                amount: (lines.is_empty() || n.is_multiple_of(2)).then_some(amount),
                channel: text(&CHANNELS, n >> 21),
                region: text(&REGIONS, n >> 23),
                customer,
                lines,
                ..OrderPlaced::default()
            });
            made(format!("order-{order}-{version}"), n, fact, world)
        }
        Seed::Cancel { order, version } => {
            let fact = Fact::OrderCancelled(OrderCancelled { order_id: format!("o{order}"), version: version.into() });
            made(format!("cancel-{order}-{version}"), mixed(2, order, version), fact, world)
        }
        Seed::Refund { refund } => {
            let n = mixed(3, refund, 0);
            let lines = lines(n);
            let fact = Fact::RefundIssued(RefundIssued {
                refund_id: Some(format!("r{refund}")),
                order_id: (!n.is_multiple_of(4)).then(|| format!("o{}", n % 14)),
                currency: foreign(n),
                // Some give nothing back.
                amount: lines.is_empty().then_some(Money(i64::try_from(n % 5 * (n % 200_001)).expect("small"))),
                channel: text(&CHANNELS, n >> 13),
                lines,
                ..RefundIssued::default()
            });
            made(format!("refund-{refund}"), n, fact, world)
        }
        Seed::Visits { visit } => {
            let n = mixed(4, visit, 0);
            let count = i64::try_from(n % 50 + 1).expect("small");
            let fact = Fact::VisitsCounted(VisitsCounted { count, channel: text(&CHANNELS, n >> 9), region: None });
            made(format!("visits-{visit}"), n, fact, world)
        }
    }
}

fn made(event_id: String, number: u64, fact: Fact, world: &World) -> Event {
    let organization = Some(ORGANIZATIONS[usize::try_from(number >> 40).expect("small") % 2].to_owned());
    Event { event_id, occurred_at: time(number >> 3, world), organization, fact }
}

/// What counts in the end, computed from the plain events.
#[derive(Default)]
struct Truth {
    orders: Vec<Sale>,
    refunds: Vec<Back>,
    visits: Vec<(Timestamp, Where, i64)>,
    /// Each customer's first counting order.
    firsts: BTreeMap<String, Timestamp>,
}

#[derive(Clone, Debug, Default)]
struct Where {
    organization: String,
    channel: Option<String>,
    region: Option<String>,
    segment: Option<CustomerSegment>,
    customer: Option<String>,
}

struct Sale {
    at: Timestamp,
    place: Where,
    id: String,
    amount: i64,
    discount: i64,
    units: i64,
    lines: Vec<Line>,
}

struct Back {
    at: Timestamp,
    at_order: Timestamp,
    place: Where,
    amount: i64,
    lines: Vec<Line>,
}

fn truth(events: &[Event], world: &World) -> Truth {
    // An event may have come more than once.
    let events: BTreeMap<&str, &Event> = events.iter().map(|event| (event.event_id.as_str(), event)).collect();
    let mut newest: BTreeMap<&str, (i64, &Event)> = BTreeMap::new();
    for event in events.values().copied() {
        let (id, version) = match &event.fact {
            Fact::OrderPlaced(o) => (o.order_id.as_str(), o.version),
            Fact::OrderCancelled(c) => (c.order_id.as_str(), c.version),
            _ => continue,
        };
        let entry = newest.entry(id).or_insert((version, event));
        if version > entry.0 {
            *entry = (version, event);
        }
    }
    let mut truth = Truth::default();
    let mut by_customer: BTreeMap<&str, BTreeSet<(Timestamp, &str)>> = BTreeMap::new();
    for (id, (_, event)) in &newest {
        if let Fact::OrderPlaced(OrderPlaced { customer: Some(customer), .. }) = &event.fact {
            by_customer.entry(&customer.id).or_default().insert((event.occurred_at, id));
        }
    }
    for (customer, orders) in &by_customer {
        truth.firsts.insert((*customer).to_owned(), orders.first().expect("not empty").0);
    }
    let sum = |lines: &[Line], of: fn(&Line) -> i64| lines.iter().map(of).sum::<i64>();
    let lines_of = |lines: &[Line], currency: Option<&str>, at: Timestamp| -> Vec<Line> {
        let converted = |line: &Line| Line {
            amount: world.converted(line.amount, currency, at),
            discount: world.converted(line.discount, currency, at),
            ..line.clone()
        };
        lines.iter().map(converted).collect()
    };
    let place_of = |event: &Event, order: &OrderPlaced| Where {
        organization: event.organization.clone().expect("given"),
        channel: order.channel.clone(),
        region: order.region.clone(),
        segment: order.customer.as_ref().map(|customer| {
            let first = by_customer[customer.id.as_str()].first().expect("not empty").1;
            if first == order.order_id { CustomerSegment::New } else { CustomerSegment::Returning }
        }),
        customer: order.customer.as_ref().map(|customer| customer.id.clone()),
    };
    for (_, event) in newest.values() {
        let Fact::OrderPlaced(order) = &event.fact else { continue };
        let (at, currency) = (event.occurred_at, order.currency.as_deref());
        let converted = |amount: i64| world.converted(Money(amount), currency, at).0;
        truth.orders.push(Sale {
            at,
            place: place_of(event, order),
            id: order.order_id.clone(),
            amount: converted(order.amount.map_or_else(|| sum(&order.lines, |l| l.amount.0), |a| a.0)),
            discount: converted(sum(&order.lines, |l| l.discount.0)),
            units: sum(&order.lines, |l| l.quantity),
            lines: lines_of(&order.lines, currency, at),
        });
    }
    for event in events.values().copied() {
        match &event.fact {
            Fact::RefundIssued(refund) => {
                let order = refund.order_id.as_deref().and_then(|id| newest.get(id)).map(|(_, event)| *event);
                let mut place = Where {
                    organization: event.organization.clone().expect("given"),
                    channel: refund.channel.clone(),
                    ..Where::default()
                };
                let mut at_order = event.occurred_at;
                match order.map(|event| (event, &event.fact)) {
                    Some((_, Fact::OrderCancelled(_))) => continue,
                    Some((order_event, Fact::OrderPlaced(order))) => {
                        let of_order = place_of(order_event, order);
                        place.channel = place.channel.or(of_order.channel);
                        place.region = of_order.region;
                        place.segment = of_order.segment;
                        place.customer = of_order.customer;
                        at_order = order_event.occurred_at;
                    }
                    _ => {}
                }
                let (at, currency) = (event.occurred_at, refund.currency.as_deref());
                let amount = refund.amount.map_or_else(|| sum(&refund.lines, |l| l.amount.0), |a| a.0);
                truth.refunds.push(Back {
                    at,
                    at_order,
                    place,
                    amount: world.converted(Money(amount), currency, at).0,
                    lines: lines_of(&refund.lines, currency, at),
                });
            }
            Fact::VisitsCounted(visits) => {
                let place = Where {
                    organization: event.organization.clone().expect("given"),
                    channel: visits.channel.clone(),
                    ..Where::default()
                };
                truth.visits.push((event.occurred_at, place, visits.count));
            }
            _ => {}
        }
    }
    truth
}

/// What is counted: a period, a filter, and one value for some dimensions.
struct Cut<'a> {
    start: Timestamp,
    end: Timestamp,
    filters: &'a MetricsFilters,
    key: Vec<(Dimension, Option<String>)>,
    /// That of hours and days of the week.
    zone: chrono_tz::Tz,
}

impl Cut<'_> {
    fn has(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether something then is in the period and, if the key has them, of the hour and the day of the week.
    fn has_time(&self, at: Timestamp) -> bool {
        let (day, local) = (date_of(at, self.zone), local_time(at, self.zone));
        self.has(at)
            && self.key.iter().all(|(dimension, value)| match dimension {
                Dimension::DayOfWeek => value.as_deref() == Some(&day.format("%A").to_string().to_uppercase()),
                Dimension::HourOfDay => value.as_deref() == Some(&local.format("%H").to_string()),
                _ => true,
            })
    }

    fn by_line(&self) -> bool {
        let of_lines = |d: &Dimension| matches!(d, Dimension::ProductCategory | Dimension::Product);
        self.filters.product_categories.is_some()
            || self.filters.products.is_some()
            || self.key.iter().any(|(d, _)| of_lines(d))
    }

    fn fits(&self, place: &Where) -> bool {
        let listed = |list: &Option<Vec<String>>, value: &Option<String>| {
            list.as_ref().is_none_or(|list| list.contains(&value.clone().unwrap_or_default()))
        };
        self.filters.organization_id.as_ref().is_none_or(|id| id.as_str() == place.organization)
            && listed(&self.filters.channels, &place.channel)
            && listed(&self.filters.regions, &place.region)
            && self.filters.customer_segment.is_none_or(|segment| place.segment == Some(segment))
            && self.key.iter().all(|(dimension, value)| match dimension {
                Dimension::Organization => value.as_deref() == Some(place.organization.as_str()),
                Dimension::Channel => *value == place.channel,
                Dimension::Region => *value == place.region,
                Dimension::CustomerSegment => *value == segment_text(place.segment),
                Dimension::Customer => *value == place.customer,
                _ => true,
            })
    }

    fn fits_line(&self, line: &Line) -> bool {
        let category = line.category.clone().unwrap_or_default();
        self.filters.product_categories.as_ref().is_none_or(|list| list.contains(&category))
            && self.filters.products.as_ref().is_none_or(|list| list.contains(&line.product_id))
            && self.key.iter().all(|(dimension, value)| match dimension {
                Dimension::ProductCategory => *value == line.category,
                Dimension::Product => value.as_deref() == Some(line.product_id.as_str()),
                _ => true,
            })
    }

    fn amount(&self, whole: i64, lines: &[Line], of: fn(&Line) -> i64) -> i64 {
        if self.by_line() { lines.iter().filter(|l| self.fits_line(l)).map(of).sum() } else { whole }
    }

    fn values(&self, truth: &Truth) -> Values {
        let sales: Vec<&Sale> = truth
            .orders
            .iter()
            .filter(|s| self.has_time(s.at) && self.fits(&s.place))
            .filter(|s| !self.by_line() || s.lines.iter().any(|l| self.fits_line(l)))
            .collect();
        let sum = |of: fn(&Sale) -> i64, of_line: fn(&Line) -> i64| -> i64 {
            sales.iter().map(|s| self.amount(of(s), &s.lines, of_line)).sum()
        };
        let backs = |at: fn(&Back) -> Timestamp| -> i64 {
            let fitting = truth.refunds.iter().filter(|r| self.has_time(at(r)) && self.fits(&r.place));
            fitting.map(|r| self.amount(r.amount, &r.lines, |l| l.amount.0)).sum()
        };
        let customers: BTreeSet<&String> = sales.iter().filter_map(|s| s.place.customer.as_ref()).collect();
        let orders: BTreeSet<&String> = sales.iter().map(|s| &s.id).collect();
        let has_visits = !self.by_line()
            && self.filters.customer_segment.is_none()
            && !self.key.iter().any(|(d, _)| matches!(d, Dimension::CustomerSegment | Dimension::Customer));
        let visits =
            truth.visits.iter().filter(|(at, place, _)| self.has_time(*at) && self.fits(place)).map(|v| v.2).sum();
        let mut amounts: Vec<i64> = sales.iter().map(|s| s.amount).collect();
        amounts.sort_unstable();
        let quantile = |percent: usize| {
            let rank = amounts.len().checked_sub(1)? * percent / 100;
            (!self.by_line()).then(|| Money(amounts[rank]))
        };
        let (gross, refunds, refunds_by_order) =
            (sum(|s| s.amount, |l| l.amount.0), backs(|r| r.at), backs(|r| r.at_order));
        let count = |n: usize| i64::try_from(n).expect("small");
        Values {
            total_revenue: Money(gross - refunds),
            gross: Money(gross),
            refunds: Money(refunds),
            refunds_by_order: Money(refunds_by_order),
            discounts: Money(sum(|s| s.discount, |l| l.discount.0)),
            orders: count(orders.len()),
            units: sum(|s| s.units, |l| l.quantity),
            visits: has_visits.then_some(visits),
            new_customers: count(sales.iter().filter(|s| s.place.segment == Some(CustomerSegment::New)).count()),
            unique_customers: count(customers.len()),
            returning_customers: count(customers.iter().filter(|c| !self.has(truth.firsts[**c])).count()),
            order_value_p50: quantile(50),
            order_value_p95: quantile(95),
            kpis: Vec::new(),
        }
    }

    /// The same of another time.
    fn at(&self, span: Span) -> Cut<'_> {
        Cut { start: span.start, end: span.end, key: self.key.clone(), ..*self }
    }

    /// The same of some channels alone.
    fn of_channels(&self, truth: &Truth, fits: impl Fn(&str) -> bool) -> Values {
        let all = || CHANNELS.iter().map(|channel| (*channel).to_owned()).collect();
        let mut channels: Vec<String> = self.filters.channels.clone().unwrap_or_else(all);
        channels.retain(|channel| fits(channel));
        let filters = MetricsFilters { channels: Some(channels), ..self.filters.clone() };
        Cut { filters: &filters, key: self.key.clone(), ..*self }.values(truth)
    }
}

/// KPIs and their formulas.
const KPIS: [(&str, &str); 9] = [
    ("refund_share", "refunds / grossRevenue"),
    ("order_value", "grossRevenue / ordersCount"),
    ("conversion", "ordersCount / visits"),
    ("net", "grossRevenue - refunds"),
    ("net_web", r#"totalRevenue filter channel = "web""#),
    ("elsewhere", r#"uniqueCustomers filter channel != "web""#),
    ("before", "prev(totalRevenue)"),
    ("day_before", "prev(ordersCount, 1d)"),
    ("month_before", "prev(ordersCount, 1mo)"),
];

async fn define(tenant: &TestTenant<'_>) {
    let create =
        "mutation ($name: String!, $formula: String!) { createKpi(name: $name, input: {formula: $formula}) { unit } }";
    for (name, formula) in KPIS {
        tenant.admin().query_with(create, serde_json::json!({ "name": name, "formula": formula })).await;
    }
}

/// The same dates one month before, of whole months the whole ones.
fn month_before(span: Span, zone: chrono_tz::Tz) -> Span {
    use chrono::{Datelike, NaiveDate};
    let earlier = |day: NaiveDate| {
        let (year, month) = if day.month() == 1 { (day.year() - 1, 12) } else { (day.year(), day.month() - 1) };
        (1..=day.day()).rev().find_map(|day| NaiveDate::from_ymd_opt(year, month, day)).expect("a day")
    };
    match whole_days(span, zone) {
        Some((first, end)) if first.day() == 1 && end.day() == 1 => {
            Span { start: start_of_day(earlier(first), zone), end: start_of_day(earlier(end), zone) }
        }
        _ => date_by_date(span, zone, earlier),
    }
}

/// Where a day begins it is the day that is meant, as the first one or the one after the last; else what the clock shows. A
/// span in which the clock is set back so far that it shows no progress keeps its length.
fn date_by_date(span: Span, zone: chrono_tz::Tz, earlier: impl Fn(chrono::NaiveDate) -> chrono::NaiveDate) -> Span {
    let day = |at| date_of(at, zone);
    let begins = |at| start_of_day(day(at), zone) == at;
    let clock = |at| instant(earlier(day(at)).and_time(local_time(at, zone).time()), zone);
    let start = if begins(span.start) { start_of_day(earlier(day(span.start)), zone) } else { clock(span.start) };
    if local_time(span.end, zone) <= local_time(span.start, zone) {
        return Span { start, end: Timestamp(start.0 + span.end.0 - span.start.0) };
    }
    let end = if begins(span.end) {
        let last = day(span.end).pred_opt().expect("a day");
        start_of_day(earlier(last).succ_opt().expect("a day"), zone)
    } else {
        clock(span.end)
    };
    Span { start, end: end.max(start) }
}

/// Of the bucket before `whole` what `part` is of `whole`: from the same day and time of the clock on to the same, where both
/// are of whole days.
fn before(part: Span, whole: Span, zone: chrono_tz::Tz) -> Span {
    let earlier = previous(whole, zone);
    if part == whole {
        return earlier;
    }
    let by_days = whole_days(Span { start: whole.start, ..earlier }, zone).and(whole_days(earlier, zone)).is_some();
    let place = |at: Timestamp| {
        let place = if by_days {
            let days = date_of(at, zone) - date_of(whole.start, zone);
            instant((date_of(earlier.start, zone) + days).and_time(local_time(at, zone).time()), zone)
        } else {
            Timestamp(earlier.start.0 + at.0 - whole.start.0)
        };
        place.min(earlier.end)
    };
    Span { start: place(part.start), end: place(part.end) }
}

/// The KPIs that were asked for are what brute force says of the cut, which is a part of `whole`; `zone` is that of its days.
fn assert_kpis(found: &Values, cut: &Cut<'_>, (whole, zone): (Span, chrono_tz::Tz), truth: &Truth, what: &str) {
    let exact = cut.values(truth);
    let span = Span { start: cut.start, end: cut.end };
    let day_before = date_by_date(span, zone, |day| day.pred_opt().expect("a day"));
    for kpi in &found.kpis {
        let expected = match &*kpi.name {
            "refund_share" => Metric::RefundRate.value(&exact),
            "order_value" => Metric::AvgOrderValue.value(&exact),
            "conversion" => Metric::ConversionRate.value(&exact),
            "net" => Metric::TotalRevenue.value(&exact),
            "net_web" => Metric::TotalRevenue.value(&cut.of_channels(truth, |channel| channel == "web")),
            "elsewhere" => Metric::UniqueCustomers.value(&cut.of_channels(truth, |channel| channel != "web")),
            "before" => Metric::TotalRevenue.value(&cut.at(before(span, whole, zone)).values(truth)),
            "month_before" => Metric::OrdersCount.value(&cut.at(month_before(span, zone)).values(truth)),
            _ => Metric::OrdersCount.value(&cut.at(day_before).values(truth)),
        };
        assert_eq!(kpi.value(), expected, "{} of {what}", kpi.name);
    }
}

fn segment_text(segment: Option<CustomerSegment>) -> Option<String> {
    segment.map(|s| if s == CustomerSegment::New { "NEW".to_owned() } else { "RETURNING".to_owned() })
}

/// Equal to the last digit, quantiles within one percent.
fn assert_equal(found: &Values, exact: &Values, what: &str) {
    for (found, exact) in
        [(found.order_value_p50, exact.order_value_p50), (found.order_value_p95, exact.order_value_p95)]
    {
        let (found, exact) = (found.map(|m| m.0), exact.map(|m| m.0));
        let is_near = found.zip(exact).map_or(found == exact, |(f, e)| (f - e).abs() * 100 <= e + 100);
        assert!(is_near, "{what}: quantile {found:?} for {exact:?}");
    }
    let without =
        |values: &Values| Values { order_value_p50: None, order_value_p95: None, kpis: Vec::new(), ..values.clone() };
    assert_eq!(without(found), without(exact), "{what}");
}

#[derive(Clone, Debug)]
struct Asked {
    start: Timestamp,
    end: Timestamp,
    filters: MetricsFilters,
    grain: Grain,
    zone: chrono_tz::Tz,
    week_start: Weekday,
    world: World,
    by: Option<Dimension>,
    breakdown: Vec<Dimension>,
    order: Metric,
    /// Which of two compared values the rows are ordered by.
    order_of: ComparedValue,
    first: usize,
    has_kpis: bool,
}

impl Asked {
    /// The zone of days where none is given.
    fn default_zone(&self) -> chrono_tz::Tz {
        self.world.zone_of(self.filters.organization_id.as_ref().map(|id| id.as_str()))
    }

    fn cut(&self, span: Span, key: Vec<(Dimension, Option<String>)>) -> Cut<'_> {
        Cut { start: span.start, end: span.end, filters: &self.filters, key, zone: self.default_zone() }
    }
}

fn list(values: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<String>>> {
    let some = prop::sample::subsequence(values, 0..=values.len());
    prop_oneof![3 => Just(None), 1 => some.prop_map(|list| Some(list.into_iter().map(str::to_owned).collect()))]
}

const DIMENSIONS: [Dimension; 9] = [
    Dimension::Organization,
    Dimension::Channel,
    Dimension::Region,
    Dimension::CustomerSegment,
    Dimension::ProductCategory,
    Dimension::Product,
    Dimension::Customer,
    Dimension::DayOfWeek,
    Dimension::HourOfDay,
];

const COMPARED: [ComparedValue; 4] =
    [ComparedValue::Current, ComparedValue::Previous, ComparedValue::AbsoluteChange, ComparedValue::RelativeChange];

fn asked(world: World) -> impl Strategy<Value = Asked> {
    let [one, two] = world.zones;
    let near = vec![one, two, chrono_tz::UTC, chrono_tz::Asia::Kathmandu, chrono_tz::Australia::Lord_Howe];
    let grains =
        vec![Grain::QuarterHour, Grain::Hour, Grain::Day, Grain::Week, Grain::Month, Grain::Quarter, Grain::Year];
    let organization = prop::sample::select(&ORGANIZATIONS).prop_map(|id| Some(id.into()));
    let organization = if world.is_mixed() {
        // Two currencies are not added.
        organization.boxed()
    } else {
        prop_oneof![2 => Just(None), 1 => organization].boxed()
    };
    let filters = (
        organization,
        list(&CHANNELS),
        list(&REGIONS),
        list(&["drinks", "food", "unknown"]),
        list(&["tea", "bread", "nail", "unknown"]),
        prop::option::weighted(0.2, prop::sample::select(&[CustomerSegment::New, CustomerSegment::Returning])),
    )
        .prop_map(|(organization_id, channels, regions, product_categories, products, customer_segment)| {
            MetricsFilters { organization_id, channels, regions, product_categories, products, customer_segment }
        });
    let day_of = move |at: i64| date_of(Timestamp(at), one);
    // Half of the periods are whole days of the first organization, others begin and end anywhere.
    let edge = |hours: std::ops::Range<i64>| {
        (hours, any::<bool>(), 0..3_600_000_000i64).prop_map(move |(hour, whole, micros)| {
            let hour = world.start() - DAY + hour * 3_600_000_000;
            if whole { start_of_day(day_of(hour), one) } else { Timestamp(hour + micros) }
        })
    };
    // Some are whole months.
    let first = first_day(day_of(world.start()), Step::Months(1));
    let month = move |after: u32| start_of_day(first + chrono::Months::new(after), one);
    let months =
        prop::sample::select(vec![(0, 1), (1, 2), (0, 2)]).prop_map(move |(start, end)| (month(start), month(end)));
    (
        prop_oneof![5 => (edge(0..72), edge(73..240)), 1 => months],
        filters,
        (
            prop::sample::select(grains),
            prop_oneof![4 => prop::sample::select(near), 1 => any_zone()],
            prop::sample::select(&WEEKDAYS),
            prop::option::of(prop::sample::select(&DIMENSIONS)),
        ),
        prop::sample::subsequence(&DIMENSIONS, 1..=3),
        (prop::sample::select(&Metric::ALL), prop::sample::select(&COMPARED)),
        (1usize..5, any::<bool>()),
    )
        .prop_map(
            move |(
                (start, end),
                filters,
                (grain, zone, week_start, by),
                breakdown,
                (order, order_of),
                (first, has_kpis),
            )| Asked {
                start,
                end,
                filters,
                grain,
                zone,
                week_start,
                world,
                by,
                breakdown,
                order,
                order_of,
                first,
                has_kpis,
            },
        )
        .prop_filter("at most 10000 buckets and a period", |asked| asked.start < asked.end)
}

/// A world and what is asked in it.
fn asked_somewhere(questions: usize) -> impl Strategy<Value = (World, Vec<Asked>)> {
    world().prop_flat_map(move |world| (Just(world), prop::collection::vec(asked(world), questions)))
}

fn plan(asked: &Asked) -> Plan {
    let needs = Needs::of(Metric::ALL);
    let args = SeriesArgs { grain: asked.grain, timezone: Some(asked.zone), week_start: asked.week_start, by: None };
    let kpis: BTreeSet<String> = KPIS.iter().filter(|_| asked.has_kpis).map(|(name, _)| (*name).to_owned()).collect();
    let order = BreakdownSort { metric: asked.order, kpi: None, direction: SortDirection::Desc };
    let first = i32::try_from(asked.first).expect("small");
    let breakdown = BreakdownArgs::new(asked.breakdown.clone(), Some(order), first).expect("good");
    let compared = ComparisonArgs::new(Some(ComparisonPeriod::PreviousPeriod), None).expect("good");
    let order = ComparisonSort { metric: asked.order, kpi: None, of: asked.order_of, direction: SortDirection::Desc };
    let compared_breakdown = BreakdownArgs::new(asked.breakdown.clone(), Some(order), first).expect("good");
    let rows =
        |args| BreakdownPlan { field: String::new(), args, needs, kpis: kpis.clone(), has_other: true, fields: 1 };
    let split = asked.by.map(|by| SeriesPlan {
        field: String::new(),
        args: SeriesArgs { by: Some(by), ..args },
        needs,
        kpis: kpis.clone(),
        fields: 1,
    });
    Plan {
        period: DateRange {
            start: Some(DateTime(asked.start)),
            end: Some(DateTime(asked.end)),
            ..DateRange::default()
        },
        filters: asked.filters.clone(),
        totals: Some(needs),
        kpis: kpis.clone(),
        series: [SeriesPlan { field: String::new(), args, needs, kpis: kpis.clone(), fields: 1 }]
            .into_iter()
            .chain(split)
            .collect(),
        breakdowns: vec![rows(breakdown)],
        comparisons: vec![ComparisonPlan {
            field: String::new(),
            args: compared,
            needs,
            kpis: kpis.clone(),
            breakdowns: vec![rows(compared_breakdown)],
        }],
        ..Plan::default()
    }
}

/// The period as a whole and by bucket, with nothing but these needs.
fn narrowed(plan: &Plan, needs: Needs) -> Plan {
    let series = plan.series.iter();
    let series =
        series.map(|s| SeriesPlan { field: String::new(), args: s.args, needs, kpis: BTreeSet::new(), fields: 1 });
    Plan {
        totals: Some(needs),
        kpis: BTreeSet::new(),
        series: series.collect(),
        breakdowns: Vec::new(),
        comparisons: Vec::new(),
        ..plan.clone()
    }
}

/// The answer, after sums have been found to be the same however they are added up.
async fn ask(test: &TestApp, tenant: TenantId, plan: &Plan) -> Answer {
    let (db, memory, now) = (&test.app.db, &test.app.memory, crate::support::NOW);
    let tx = db.read(tenant).await.expect("a snapshot");
    let by =
        async |memory: &Memory, plan: &Plan| answer(&tx, memory, plan, now, &Size::default()).await.expect("an answer");
    let sums = narrowed(plan, Needs::of([Metric::TotalRevenue, Metric::UnitsSold, Metric::Visits]));
    let by_process = by(memory, &sums).await;
    let by_database = by(&Memory { days: DaySums::limited(1), ..memory.clone() }, &sums).await;
    assert_eq!(by_process, by_database);
    let remembered = remembered_answer((db, tenant), memory, &sums, now, &Arc::default()).await.expect("an answer");
    if let Some(remembered) = remembered {
        assert_eq!(by_process, remembered);
    }
    by(memory, plan).await
}

fn check(asked: &Asked, found: &Answer, truth: &Truth) {
    let cut = |start, end, key| Cut { start, end, filters: &asked.filters, key, zone: asked.zone };
    let whole = cut(asked.start, asked.end, Vec::new());
    assert_equal(&found.totals, &whole.values(truth), "totals");
    let period = (Span { start: asked.start, end: asked.end }, asked.default_zone());
    assert_kpis(&found.totals, &whole, period, truth, "totals");

    let buckets = &found.series[0].1;
    let mut end = asked.start;
    for bucket in buckets {
        assert_eq!(bucket.span.start, end, "buckets follow each other");
        end = bucket.span.end;
        let what = format!("bucket {:?}", bucket.span);
        let of_bucket = cut(bucket.span.start, bucket.span.end, Vec::new());
        assert_equal(&bucket.values, &of_bucket.values(truth), &what);
        assert_kpis(&bucket.values, &of_bucket, (whole_bucket(asked, bucket.span), asked.zone), truth, &what);
    }
    assert_eq!(end, asked.end, "buckets fill the period");
    for bucket in buckets.iter().skip(1) {
        check_start(asked, bucket.span.start);
    }

    let empty = Values { visits: Some(0), ..Values::default() };
    let is_empty = |values: &Values| Values { visits: Some(values.visits.unwrap_or(0)), ..values.clone() } == empty;
    if let Some((args, split)) = found.series.get(1) {
        let by = args.by.expect("split");
        for bucket in split {
            let key = vec![(by, bucket.key.clone().expect("a key").value)];
            let of_bucket = cut(bucket.span.start, bucket.span.end, key.clone());
            let what = format!("bucket {:?} of {key:?}", bucket.span);
            assert_equal(&bucket.values, &of_bucket.values(truth), &what);
            assert_kpis(&bucket.values, &of_bucket, (whole_bucket(asked, bucket.span), asked.zone), truth, &what);
        }
        for bucket in buckets {
            for value in values_of(by, truth) {
                let exact = cut(bucket.span.start, bucket.span.end, vec![(by, value.clone())]).values(truth);
                let is_there =
                    split.iter().any(|b| b.span == bucket.span && b.key.as_ref().is_some_and(|key| key.value == value));
                assert!(is_there || is_empty(&exact), "bucket {:?} lacks {value:?}: {exact:?}", bucket.span);
            }
        }
    }
    check_breakdown(asked, found, truth);
    check_comparison(asked, &found.comparisons[0].1, truth);
}

fn check_comparison(asked: &Asked, comparison: &Comparison, truth: &Truth) {
    let check = |values: &ComparedValues, key: &[(Dimension, Option<String>)]| {
        for (span, values) in [(comparison.current_span, &values.current), (comparison.previous_span, &values.previous)]
        {
            let compared = asked.cut(span, key.to_vec());
            let what = format!("a comparison of {key:?}");
            assert_equal(values, &compared.values(truth), &what);
            assert_kpis(values, &compared, (span, asked.default_zone()), truth, &what);
        }
    };
    check(&comparison.whole, &[]);
    let breakdown = &comparison.breakdowns[0].1;
    let mut last: Option<f64> = None;
    for (index, (names, values)) in breakdown.rows.iter().enumerate() {
        let key: Vec<_> = names.iter().map(|name| (name.dimension, name.value.clone())).collect();
        check(values, &key);
        let value = values.exact(&Measured::Metric(asked.order), asked.order_of).map(Number::to_f64);
        assert!(index == 0 || last >= value, "rows are ordered by {:?} of {:?}", asked.order_of, asked.order);
        last = value;
    }
    assert_eq!(breakdown.rows.len(), breakdown.rows_count.min(asked.first));
    assert_eq!(breakdown.other.is_some(), breakdown.rows_count > asked.first);
    if let ([by], true) = (asked.breakdown.as_slice(), breakdown.other.is_none()) {
        let empty = Values { visits: None, ..Values::default() };
        for value in values_of(*by, truth) {
            let exact = [comparison.current_span, comparison.previous_span].map(|span| {
                let key = vec![(*by, value.clone())];
                asked.cut(span, key).values(truth)
            });
            let is_empty = |values: &Values| Values { visits: None, ..values.clone() } == empty;
            let has_facts = exact.iter().any(|values| !is_empty(values) || values.visits.is_some_and(|n| n > 0));
            let is_there = breakdown.rows.iter().any(|(names, _)| names[0].value == value);
            assert!(is_there || !has_facts, "a comparison lacks {value:?}");
        }
    }
}

/// The bucket that holds `part`, of which the period may have left out something.
fn whole_bucket(asked: &Asked, part: Span) -> Span {
    // Cuts of a wider period, but for its own ends.
    let reach = if matches!(asked.grain, Grain::QuarterHour | Grain::Hour) { 2 * DAY } else { 800 * DAY };
    let step = asked.grain.step(asked.week_start);
    let (start, end) = (Timestamp(part.start.0 - reach), Timestamp(part.end.0 + reach));
    let cuts = salespulse::calendar::boundaries(start, end, step, asked.zone, 10_000).expect("not too many");
    let last = cuts.partition_point(|cut| *cut <= part.start);
    Span { start: cuts[last - 1], end: cuts[last] }
}

/// A bucket begins where the zone's clock and calendar begin one.
fn check_start(asked: &Asked, start: Timestamp) {
    use chrono::{Datelike, Offset, Timelike};
    let local = start.to_utc().expect("a time").with_timezone(&asked.zone);
    let before = Timestamp(start.0 - 1).to_utc().expect("a time").with_timezone(&asked.zone);
    if before.offset().fix() != local.offset().fix() {
        // A change of the clock begins a bucket, too, also of half an hour, at midnight, or of a whole day.
        return;
    }
    let minutes = if asked.grain == Grain::QuarterHour { 15 } else { 60 };
    assert!(local.minute().is_multiple_of(minutes) && local.second() == 0, "{local}");
    let begins = match asked.grain {
        Grain::QuarterHour | Grain::Hour => true,
        Grain::Day => local.hour() == 0,
        Grain::Week => local.hour() == 0 && chrono::Weekday::from(asked.week_start) == local.weekday(),
        Grain::Month => local.hour() == 0 && local.day() == 1,
        Grain::Quarter => local.hour() == 0 && local.day() == 1 && local.month0().is_multiple_of(3),
        Grain::Year => local.hour() == 0 && local.ordinal() == 1,
    };
    assert!(begins, "{local} begins no {:?}", asked.grain);
}

/// All values that a dimension has in some fact.
fn values_of(dimension: Dimension, truth: &Truth) -> BTreeSet<Option<String>> {
    let places = truth.orders.iter().map(|o| &o.place).chain(truth.refunds.iter().map(|r| &r.place));
    let places = places.chain(truth.visits.iter().map(|v| &v.1));
    let lines = truth.orders.iter().flat_map(|o| &o.lines).chain(truth.refunds.iter().flat_map(|r| &r.lines));
    match dimension {
        Dimension::Organization => places.map(|p| Some(p.organization.clone())).collect(),
        Dimension::Channel => places.map(|p| p.channel.clone()).collect(),
        Dimension::Region => places.map(|p| p.region.clone()).collect(),
        Dimension::CustomerSegment => places.map(|p| segment_text(p.segment)).collect(),
        Dimension::ProductCategory => lines.map(|l| l.category.clone()).collect(),
        Dimension::Product => lines.map(|l| Some(l.product_id.clone())).collect(),
        Dimension::DayOfWeek => {
            let monday = at("2026-03-30T00:00:00Z").to_utc().expect("a time");
            let days = (0..7).map(|day| (monday + chrono::Days::new(day)).format("%A").to_string());
            days.map(|day| Some(day.to_uppercase())).collect()
        }
        Dimension::Customer => places.map(|p| p.customer.clone()).collect(),
        Dimension::HourOfDay => (0..24).map(|hour| Some(format!("{hour:02}"))).collect(),
    }
}

fn check_breakdown(asked: &Asked, found: &Answer, truth: &Truth) {
    let span = Span { start: asked.start, end: asked.end };
    let cut = |key| asked.cut(span, key);
    let period = (span, asked.default_zone());
    let breakdown = &found.breakdowns[0].1;
    let mut last: Option<Option<Money>> = None;
    for (names, values) in &breakdown.rows {
        let key: Vec<_> = names.iter().map(|name| (name.dimension, name.value.clone())).collect();
        assert_equal(values, &cut(key.clone()).values(truth), &format!("row {key:?}"));
        assert_kpis(values, &cut(key.clone()), period, truth, &format!("row {key:?}"));
        let value = asked.order.value(values);
        // None sorts below every value, so rows without one come last.
        assert!(last.is_none_or(|last| last >= value), "rows are ordered by {:?}", asked.order);
        last = Some(value);
    }
    assert_eq!(breakdown.rows.len(), breakdown.rows_count.min(asked.first));
    assert_eq!(breakdown.other.is_some(), breakdown.rows_count > asked.first);
    // Sums of all rows are those of the whole, but where one order has several lines or a line's facts differ.
    let view = cut(asked.breakdown.iter().map(|d| (*d, None)).collect());
    if !view.by_line() || asked.filters.product_categories.is_some() || asked.filters.products.is_some() {
        let sum = |of: fn(&Values) -> i64| -> i64 {
            breakdown.rows.iter().map(|(_, values)| values).chain(&breakdown.other).map(of).sum()
        };
        assert_eq!(sum(|v| v.gross.0), found.totals.gross.0);
        assert_eq!(sum(|v| v.refunds.0), found.totals.refunds.0);
    }
}

async fn record(tenant: &TestTenant<'_>, events: &[Event], sizes: &[usize]) {
    let mut rest = events;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*size).min(rest.len()));
        for outcome in tenant.record(now.to_vec()).await.outcomes {
            assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        rest = later;
    }
}

/// Of the events, the first `folded` are in rollups before the others come.
async fn run(seeds: &[Seed], sizes: &[usize], folded: usize, shuffled: &[Seed], (world, asked): (World, &[Asked])) {
    let test = TestApp::start().await;
    let (one, two) = (world.tenant(&test, "acme").await, world.tenant(&test, "second").await);
    let event = |seed: &Seed| event(*seed, &world);
    let events: Vec<Event> = seeds.iter().map(event).collect();
    let (first, later) = events.split_at(folded.min(events.len()));
    record(&one, first, sizes).await;
    one.fold().await;
    record(&one, later, sizes).await;
    record(&two, &shuffled.iter().map(event).collect::<Vec<_>>(), &[3, 1]).await;
    one.verified_as_is().await;
    two.verified().await;
    let truth = truth(&events, &world);
    for asked in asked {
        let plan = plan(asked);
        let found = ask(&test, one.id(), &plan).await;
        check(asked, &found, &truth);
        let other = ask(&test, two.id(), &plan).await;
        assert_eq!(found.totals, other.totals, "the order of arrival does not matter");
        assert_eq!(found.series, other.series);
        assert_eq!(found.breakdowns, other.breakdowns);
    }
    for asked in asked {
        let plan = plan(asked);
        let found = ask(&test, one.id(), &plan).await;
        // One repeated event moves nothing; as of the former position all stays the same.
        let position = found.as_of.position;
        let late = Event { event_id: format!("late-{position}"), ..event(&Seed::Order { order: 200, version: 1 }) };
        one.record(vec![late]).await;
        let again = ask(&test, one.id(), &Plan { as_of: Some(position), ..plan.clone() }).await;
        assert_eq!(
            (&found.totals, &found.series, &found.breakdowns),
            (&again.totals, &again.series, &again.breakdowns)
        );
        let cancel = Event { event_id: format!("undo-{position}"), ..event(&Seed::Cancel { order: 200, version: 2 }) };
        one.record(vec![cancel]).await;
    }
    one.verified().await;
}

/// Clears the values of an answer that were not needed: they are not filled, or are.
type Keep = fn(&mut Answer);

/// Clears all values but sums.
fn keep_sums(answer: &mut Answer) {
    let buckets = answer.series.iter_mut().flat_map(|(_, buckets)| buckets);
    for values in buckets.map(|bucket| &mut bucket.values).chain([&mut answer.totals]) {
        (values.unique_customers, values.returning_customers) = (0, 0);
        (values.order_value_p50, values.order_value_p95) = (None, None);
    }
}

/// Clears all values but amounts, units and visits.
fn keep_amounts(answer: &mut Answer) {
    keep_sums(answer);
    let buckets = answer.series.iter_mut().flat_map(|(_, buckets)| buckets);
    for values in buckets.map(|bucket| &mut bucket.values).chain([&mut answer.totals]) {
        (values.orders, values.new_customers) = (0, 0);
    }
}

/// Follows each question from batch to batch, as subscriptions do. Of the events, the first `folded` are in rollups
/// before the others come.
async fn follow(seeds: &[Seed], sizes: &[usize], folded: usize, (world, asked): (World, &[Asked])) {
    let test = TestApp::start().await;
    let tenant = world.tenant(&test, "acme").await;
    let (db, memory) = (&test.app.db, &test.app.memory);
    let read = async |plan: &Plan| {
        let tx = db.read(tenant.id()).await.expect("a snapshot");
        State::read(&tx, memory, plan, NOW, &Size::default()).await.expect("a state")
    };
    let events: Vec<Event> = seeds.iter().map(|seed| event(*seed, &world)).collect();
    let (first, mut rest) = events.split_at(folded.min(events.len()));
    if !first.is_empty() {
        tenant.record(first.to_vec()).await;
        tenant.fold().await;
    }
    let (mut batches, _) = test.app.feeds.follow(tenant.id()).await.expect("followed");
    let mut followed: Vec<(Plan, State, Keep)> = Vec::new();
    for asked in asked {
        let all = plan(asked);
        // Sums can be carried on whatever is taken back, apart from those of lines.
        let sums = narrowed(&all, Needs::of([Metric::OrdersCount, Metric::NewCustomers]));
        let amounts = narrowed(&all, Needs::of([Metric::TotalRevenue, Metric::UnitsSold]));
        for (plan, keep) in [(all, (|_| {}) as Keep), (sums, keep_sums), (amounts, keep_amounts)] {
            let state = read(&plan).await;
            followed.push((plan, state, keep));
        }
    }
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at((*size).min(rest.len()));
        rest = later;
        let position = tenant.record(now.to_vec()).await.position;
        while followed[0].1.head().position < position {
            let Some(ListenerEvent::CommittedBatch(batch)) = batches.next().await else { panic!("a batch was missed") };
            for (plan, state, _) in &mut followed {
                if !state.fold(&batch, NOW).expect("sums fit") {
                    *state = read(plan).await;
                }
            }
        }
        for (plan, state, keep) in &mut followed {
            let mut found = state.answer(&LazyTx::later(db, tenant.id()), memory, NOW).await.expect("an answer");
            let mut exact = ask(&test, tenant.id(), plan).await;
            [&mut found, &mut exact].into_iter().for_each(*keep);
            assert_eq!(found, exact, "{plan:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn metrics_equal_brute_force(
        (seeds, shuffled) in prop::collection::vec(seed(), 1..40).prop_flat_map(|seeds| (Just(seeds.clone()), Just(seeds).prop_shuffle())),
        sizes in prop::collection::vec(1usize..9, 1..5),
        folded in 0usize..40,
        (world, asked) in asked_somewhere(6),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(run(&seeds, &sizes, folded, &shuffled, (world, &asked)));
    }

    #[test]
    fn metrics_carried_on_with_batches_equal_those_read_anew(
        seeds in prop::collection::vec(seed(), 8..40),
        sizes in prop::collection::vec(1usize..5, 1..5),
        folded in 0usize..30,
        (world, asked) in asked_somewhere(4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(follow(&seeds, &sizes, folded, (world, &asked)));
    }
}
