//! Where and when everything happens: organizations with their zones and currencies, around a change of a clock.

use std::collections::BTreeSet;

use chrono::{NaiveDateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use proptest::prelude::*;
use proptest::sample::Index;
use salespulse::clock::{DAY, Timestamp};
use salespulse::metrics::input::Weekday;
use salespulse::money::Money;
use serde_json::json;

use super::{ORGANIZATIONS, define};
use crate::support::{TestApp, TestTenant, at};

/// The currency of some sales, which no organization has.
pub const FOREIGN: &str = "USD";
/// What it is worth in every other one, until the UTC day of the change, and from then on.
const RATES: [Money; 2] = [Money(12_500), Money(8_000)];

pub const WEEKDAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

#[derive(Clone, Copy, Debug)]
pub struct World {
    /// Those of the [`ORGANIZATIONS`].
    pub zones: [Tz; 2],
    currencies: [&'static str; 2],
    /// The UTC day of a change of the clock in one of the zones, if it ever changes.
    change: Timestamp,
}

impl World {
    /// Two days before the change.
    pub fn start(&self) -> i64 {
        self.change.0 - 2 * DAY
    }

    /// Of the default organization if none is given.
    pub fn zone_of(&self, organization: Option<&str>) -> Tz {
        self.zones[usize::from(organization == Some(ORGANIZATIONS[1]))]
    }

    /// Whether the organizations have different currencies.
    pub fn is_mixed(&self) -> bool {
        self.currencies[0] != self.currencies[1]
    }

    /// An amount in the organization's currency.
    pub fn converted(&self, amount: Money, currency: Option<&str>, at: Timestamp) -> Money {
        let rate = RATES[usize::from(at >= self.change)];
        if currency.is_none() { amount } else { amount.convert(rate.0, 4).expect("small") }
    }

    pub async fn tenant<'a>(&self, test: &'a TestApp, slug: &str) -> TestTenant<'a> {
        let tenant = test.tenant_in(slug, self.zones[0], self.currencies[0]).await;
        tenant.organization(ORGANIZATIONS[1], self.zones[1], self.currencies[1]).await;
        tenant.rename_default(ORGANIZATIONS[0]).await;
        let day = utc(self.change.0).date().to_string();
        let mut rates = Vec::new();
        for to in BTreeSet::from(self.currencies) {
            for (from_day, rate) in ["1970-01-01", &day].into_iter().zip(RATES) {
                rates.push(json!({ "from": FOREIGN, "to": to, "validFrom": from_day, "rate": rate.to_string() }));
            }
        }
        let set = "mutation ($rates: [ExchangeRateInput!]!) { setExchangeRates(rates: $rates) }";
        tenant.admin().query_with(set, json!({ "rates": rates })).await;
        define(&tenant).await;
        tenant
    }
}

/// The UTC days on which the zone's clock changes, up to the present.
fn changes(zone: Tz) -> Vec<Timestamp> {
    let (start, end) = (at("1975-01-01T00:00:00Z").0, at("2026-06-01T00:00:00Z").0);
    let days: Vec<i64> = (start..end).step_by(usize::try_from(DAY).expect("fits")).collect();
    let ahead: Vec<_> = days.iter().map(|day| zone.offset_from_utc_datetime(&utc(*day)).fix()).collect();
    let pairs = days.iter().zip(ahead.windows(2));
    pairs.filter(|(_, ahead)| ahead[0] != ahead[1]).map(|(day, _)| Timestamp(*day)).collect()
}

fn utc(at: i64) -> NaiveDateTime {
    Timestamp(at).to_utc().expect("a time").naive_utc()
}

pub fn any_zone() -> impl Strategy<Value = Tz> {
    prop::sample::select(&TZ_VARIANTS[..])
}

/// A zone of all that are known, and another one beside it.
pub fn world() -> impl Strategy<Value = World> {
    let beside = prop::sample::select(vec![Tz::Europe__London, Tz::America__St_Johns, Tz::Asia__Kathmandu]);
    let currencies = prop_oneof![3 => Just(["GBP", "GBP"]), 1 => Just(["GBP", "EUR"])];
    (any_zone(), any::<Index>(), beside, any::<bool>(), currencies).prop_map(
        |(zone, nth, beside, is_default, currencies)| {
            let changes = changes(zone);
            let change = if changes.is_empty() { at("2026-03-29T00:00:00Z") } else { *nth.get(&changes) };
            let zones = if is_default { [zone, beside] } else { [beside, zone] };
            World { zones, currencies, change }
        },
    )
}
