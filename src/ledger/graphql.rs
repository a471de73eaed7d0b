//! `recordEvents` and its types.

use async_graphql::{Context, Enum, ID, Object, SimpleObject};
use serde::Serialize;

use super::Answer;
use super::event::Outcome;
use super::input::SalesEventInput;
use crate::audit::By;
use crate::auth::Permission;
use crate::graphql::context::{Requires, app, caller, client};
use crate::graphql::scalars::Position;

#[derive(Default)]
pub struct LedgerMutation;

#[Object]
impl LedgerMutation {
    /// Records a batch of up to 1000 events; each gets its own result, in the order given. A value of the wrong type refuses the request before anything is recorded: BAD_USER_INPUT, with the path of the value as `argument`, such as `events.3.orderPlaced.amount`. (`POST /v1/events` refuses that event alone.) Who recorded them is in `recordings`. Needs SALES_EDIT. Errors: BAD_USER_INPUT (batch empty or too large), SERVICE_UNAVAILABLE (the batch has customers in it and the tenant's encryption keys cannot be reached).
    #[graphql(guard = "Requires(Permission::SalesEdit)")]
    async fn record_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The events, each carrying exactly one fact.")] events: Vec<SalesEventInput>,
        #[graphql(
            desc = "Set for historical data: the events count, but do not trigger alerts.",
            default_with = "Some(false)"
        )]
        backfill: Option<bool>,
    ) -> async_graphql::Result<RecordEventsResult> {
        let ids = events.iter().map(|event| event.event_id.clone()).collect();
        let given = events.into_iter().map(SalesEventInput::into_event).collect();
        let (app, caller) = (app(ctx)?, caller(ctx)?);
        let by = By::caller(caller, client(ctx)?);
        let answer = app.ledger.record_given(caller.tenant, by, given, backfill.unwrap_or(false)).await?;
        Ok(RecordEventsResult::new(ids, answer))
    }
}

/// The results of a batch of events.
#[derive(SimpleObject, Serialize)]
pub(super) struct RecordEventsResult {
    /// One result per event, in the order given.
    results: Vec<RecordedEvent>,
    /// The ledger's position after the batch.
    position: Position,
}

impl RecordEventsResult {
    /// Of events with these ids.
    pub fn new(ids: Vec<ID>, Answer { outcomes, position }: Answer) -> Self {
        let results = ids.into_iter().zip(outcomes).map(|(id, outcome)| RecordedEvent::new(id, outcome)).collect();
        RecordEventsResult { results, position: Position(position) }
    }
}

/// The result for one event.
#[derive(SimpleObject, Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordedEvent {
    /// The event's id.
    event_id: ID,
    /// What happened to it.
    outcome: RecordOutcome,
    /// Its position in the ledger; null if it was refused.
    position: Option<Position>,
    /// Why it was refused, as a stable code: BAD_USER_INPUT, BAD_CURRENCY, NO_EXCHANGE_RATE, IDEMPOTENCY_CONFLICT, NOT_FOUND, AMOUNT_OUT_OF_RANGE, TIME_OUT_OF_RANGE, ERASED. Null if it was not.
    code: Option<&'static str>,
    /// Why it was refused, in plain words; null if it was not.
    reason: Option<String>,
}

impl RecordedEvent {
    fn new(event_id: ID, outcome: Outcome) -> Self {
        let (kind, position, refusal) = match outcome {
            Outcome::Applied { position } => (RecordOutcome::Applied, Some(position), None),
            Outcome::Superseded { position } => (RecordOutcome::Superseded, Some(position), None),
            Outcome::Repeated { position } => (RecordOutcome::Repeated, Some(position), None),
            Outcome::Refused(refusal) => (RecordOutcome::Refused, None, Some(refusal)),
        };
        RecordedEvent {
            event_id,
            outcome: kind,
            position: position.map(Position),
            code: refusal.as_ref().map(|r| r.code.as_str()),
            reason: refusal.map(|r| r.reason),
        }
    }
}

/// What happened to an event.
#[derive(Clone, Copy, PartialEq, Eq, Enum, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum RecordOutcome {
    /// Stored.
    Applied,
    /// Stored, but a newer version was there already, so no number changed.
    Superseded,
    /// The same event was there already; nothing changed.
    Repeated,
    /// Not stored.
    Refused,
}
