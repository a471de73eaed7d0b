//! A tenant's event calendar: holidays, sales and other unusual days, past and future. Forecasts learn the effect of
//! each event and expect it again.

pub mod graphql;

use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use models::forecasts::{EVENT_WINDOWS_MAX, EVENTS_MAX, Event};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::{AuditedTable, Shown};
use crate::db::{TenantId, TenantTx, get};
use crate::error::{Code, Error, Result};
use crate::graphql::text;
use crate::guard::Guard;
use crate::ledger::store::{begin_policy_epoch, read_head};

const NAME_CHARS_MAX: usize = 100;
/// Maximum length of one occurrence of an event, in days.
const DAYS_MAX: i64 = 92;
/// Maximum number of tenants whose calendars a process caches.
const REMEMBERED_MAX: u64 = 10_000;

/// A kind of event and the days of all its occurrences.
#[derive(Clone, Debug, PartialEq)]
pub struct CalendarEvent {
    pub id: Uuid,
    pub name: String,
    pub days: Vec<Days>,
}

/// From the first day to the last, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Days {
    pub first: NaiveDate,
    pub last: NaiveDate,
}

impl CalendarEvent {
    /// Error: BAD_USER_INPUT (name, days).
    pub fn new(name: &str, days: Vec<Days>) -> Result<Self> {
        let name = text::name("name", name, NAME_CHARS_MAX)?;
        if days.is_empty() {
            return Err(Error::bad_input("days", "give at least one range of days"));
        }
        let is_good = |days: &Days| (0..DAYS_MAX).contains(&days.last.signed_duration_since(days.first).num_days());
        if let Some(index) = days.iter().position(|days| !is_good(days)) {
            return Err(Error::bad_input("last", format!("must give 1 to {DAYS_MAX} days")).of_element("days", index));
        }
        let mut sorted: Vec<(Days, usize)> = days.into_iter().zip(0..).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[1].0.first <= pair[0].0.last) {
            return Err(Error::bad_input("first", "overlaps another range of days").of_element("days", pair[1].1));
        }
        Ok(CalendarEvent { id: Uuid::now_v7(), name, days: sorted.into_iter().map(|(days, _)| days).collect() })
    }

    /// The event for models, in local clock time.
    pub fn on_the_clock(&self) -> Event {
        let start = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc().timestamp();
        let window = |days: &Days| start(days.first)..start(days.last.succ_opt().unwrap_or(days.last));
        Event { name: self.name.clone(), windows: self.days.iter().map(window).collect() }
    }
}

/// Audited columns of an event identified by its `id` or `name`.
pub const fn logged(key: &'static str) -> AuditedTable {
    let columns = &[("name", "name", Shown::Text), ("days", "days", Shown::Document)];
    AuditedTable { table: "calendar_events", key, columns, members: None }
}

/// All events by name.
pub async fn list(tx: &TenantTx) -> Result<Vec<CalendarEvent>> {
    let sql = "SELECT id, name, days FROM calendar_events WHERE tenant_id = $1 ORDER BY name";
    let rows = tx.query(sql, []).await?;
    let event = |row| {
        let days: serde_json::Value = get(row, 2)?;
        Ok(CalendarEvent { id: get(row, 0)?, name: get(row, 1)?, days: serde_json::from_value(days)? })
    };
    rows.iter().map(event).collect()
}

/// Adds an event, or replaces the one with the same name, taking over its id. Error: CONFLICT (too many).
pub async fn set(tx: &TenantTx, mut event: CalendarEvent) -> Result<CalendarEvent> {
    begin_policy_epoch(tx).await?;
    let (same, others): (Vec<CalendarEvent>, Vec<CalendarEvent>) =
        list(tx).await?.into_iter().partition(|other| other.name == event.name);
    if others.len() >= EVENTS_MAX {
        return Err(Error::new(Code::Conflict, format!("there are {EVENTS_MAX} events already")));
    }
    if others.iter().chain([&event]).map(|event| event.days.len()).sum::<usize>() > EVENT_WINDOWS_MAX {
        return Err(Error::new(
            Code::Conflict,
            format!("all events have more than {EVENT_WINDOWS_MAX} ranges of days together"),
        ));
    }
    if let Some(same) = same.first() {
        event.id = same.id;
    }
    let days = serde_json::to_value(&event.days)?;
    let sql = "INSERT INTO calendar_events (tenant_id, id, name, days) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (tenant_id, id) DO UPDATE SET days = excluded.days";
    tx.execute(sql, [event.id.into(), event.name.clone().into(), days.into()]).await?;
    Ok(event)
}

/// Error: NOT_FOUND.
pub async fn delete(tx: &TenantTx, id: Uuid) -> Result<()> {
    begin_policy_epoch(tx).await?;
    let deleted = tx.execute("DELETE FROM calendar_events WHERE tenant_id = $1 AND id = $2", [id.into()]).await?;
    if deleted == 0 { Err(Error::not_found("event")) } else { Ok(()) }
}

/// Calendars by tenant, each as of a policy epoch. Cheap to clone.
#[derive(Clone)]
pub struct Calendars(Cache<TenantId, (i64, Arc<Vec<CalendarEvent>>)>);

impl Default for Calendars {
    fn default() -> Self {
        Calendars(Cache::new(REMEMBERED_MAX))
    }
}

impl Calendars {
    /// The tenant's calendar as of an epoch, if cached.
    pub fn find(&self, tenant: TenantId, policy_epoch: i64) -> Option<Arc<Vec<CalendarEvent>>> {
        self.0
            .get(&tenant.at(Guard::Calendars))
            .filter(|(epoch, _)| *epoch == policy_epoch)
            .map(|(_, calendar)| calendar)
    }

    /// The calendar in the snapshot of `tx`, which is cached.
    pub async fn read(&self, tx: &TenantTx) -> Result<Arc<Vec<CalendarEvent>>> {
        let (head, calendar) = (read_head(tx).await?, Arc::new(list(tx).await?));
        self.0.insert(tx.tenant().at(Guard::Calendars), (head.policy_epoch, Arc::clone(&calendar)));
        Ok(calendar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(first: &str, last: &str) -> Days {
        Days { first: first.parse().expect("a day"), last: last.parse().expect("a day") }
    }

    #[test]
    fn days_are_those_of_the_clock() {
        let sale = CalendarEvent::new(" Sale ", vec![days("2026-03-28", "2026-03-29")]).expect("an event");
        let windows: Vec<_> = sale.on_the_clock().windows.iter().map(|w| (w.start, w.end)).collect();
        assert_eq!((sale.name.as_str(), windows), ("Sale", vec![(1_774_656_000, 1_774_828_800)]));
    }

    #[test]
    fn times_are_of_some_days_each_and_do_not_overlap() {
        let refused = |name, days| CalendarEvent::new(name, days).expect_err("refused").argument;
        let good = days("2026-05-01", "2026-05-01");
        for (bad, argument) in [
            (vec![], "days"),
            (vec![good, days("2026-03-28", "2026-03-27")], "days.1.last"),
            (vec![days("2026-01-01", "2026-04-03")], "days.0.last"),
            (vec![days("2026-03-28", "2026-03-30"), good, days("2026-03-01", "2026-03-28")], "days.0.first"),
        ] {
            assert_eq!(refused("Sale", bad).as_deref(), Some(argument));
        }
        assert_eq!(refused("\n", vec![good]).as_deref(), Some("name"));
    }
}
