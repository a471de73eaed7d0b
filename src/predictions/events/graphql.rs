//! A tenant's calendar.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::{CalendarEvent, Days, logged};
use crate::audit::{Entry, change};
use crate::auth::Permission;
use crate::graphql::context::{Requires, parse_id, read};
use crate::graphql::scalars::Date;

#[derive(Default)]
pub struct CalendarQuery;

#[Object]
impl CalendarQuery {
    /// The tenant's calendar of special days such as holidays and sales, sorted by name; at most 50. Forecasts learn from it.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn calendar_events(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<CalendarEventObject>> {
        Ok(super::list(read(ctx).await?.as_ref()).await?.into_iter().map(CalendarEventObject::from).collect())
    }
}

#[derive(Default)]
pub struct CalendarMutation;

#[Object]
impl CalendarMutation {
    /// Adds an event to the calendar, or replaces the one with the same name. Needs ANALYTICS_ADVANCED. Errors: BAD_USER_INPUT, CONFLICT (more than 50 events, or 1000 dates in all).
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn set_calendar_event(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The event.")] input: CalendarEventInput,
    ) -> async_graphql::Result<CalendarEventObject> {
        let days =
            input.days.into_iter().map(|days| Days { first: days.first.0, last: days.last.unwrap_or(days.first).0 });
        let event = CalendarEvent::new(&input.name, days.collect())?;
        let change = change(ctx).await?;
        let before = change.see(&logged("name"), event.name.clone()).await?;
        let event = super::set(&change, event).await?;
        let after = change.see(&logged("id"), event.id).await?;
        change.commit_if_changed(Entry::of("calendar-event.set", event.id).before(before).after(after)).await?;
        Ok(event.into())
    }

    /// Deletes a calendar event and returns its id. Needs ANALYTICS_ADVANCED. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn delete_calendar_event(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The event's id.")] id: ID,
    ) -> async_graphql::Result<ID> {
        let event_id = parse_id(&id, "event")?;
        let change = change(ctx).await?;
        let before = change.see(&logged("id"), event_id).await?;
        super::delete(&change, event_id).await?;
        change.commit(Entry::of("calendar-event.delete", event_id).before(before)).await?;
        Ok(id)
    }
}

/// A kind of event, such as a holiday or a sale, with all its dates, past and future.
#[derive(SimpleObject)]
#[graphql(name = "CalendarEvent")]
struct CalendarEventObject {
    /// The event's id.
    id: ID,
    /// Its name.
    name: String,
    /// Its dates, in order.
    days: Vec<CalendarDays>,
}

/// Consecutive days of an organization's calendar.
#[derive(SimpleObject)]
struct CalendarDays {
    /// The first day.
    first: Date,
    /// The last day.
    last: Date,
}

impl From<CalendarEvent> for CalendarEventObject {
    fn from(event: CalendarEvent) -> Self {
        let days = event.days.into_iter().map(|days| CalendarDays { first: Date(days.first), last: Date(days.last) });
        CalendarEventObject { id: event.id.into(), name: event.name, days: days.collect() }
    }
}

/// A calendar event to be added or replaced.
#[derive(InputObject)]
struct CalendarEventInput {
    /// Its name, 1 to 100 characters.
    name: String,
    /// Its dates: past ones to learn from, and future ones. At least one entry, each of at most 92 days, none overlapping another.
    days: Vec<CalendarDaysInput>,
}

/// Consecutive days.
#[derive(InputObject)]
struct CalendarDaysInput {
    /// The first day.
    first: Date,
    /// The last day; omit if it is the same as the first.
    last: Option<Date>,
}
