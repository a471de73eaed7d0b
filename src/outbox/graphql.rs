//! Deliveries, and retrying those that were given up.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::store::{self, DeliveryState};
use super::{NotificationChannel, Recipient};
use crate::audit::{Entry, change};
use crate::auth::Permission;
use crate::connection;
use crate::graphql::context::{Requires, app, parse_id, read};
use crate::graphql::page::Page;
use crate::graphql::scalars::DateTime;

/// Someone to be notified of alerts.
#[derive(Clone, InputObject)]
pub struct AlertRecipientInput {
    /// How to notify them.
    channel: NotificationChannel,
    /// The e-mail address, or the URL: https to a public address, unless the server allows others.
    target: String,
    /// For WEBHOOK, and only then: the secret that requests are signed with, 24 to 200 characters, either `whsec_` followed by base64, with or without padding, or any other text, which is used as it is. It is never shown again.
    secret: Option<String>,
}

impl From<AlertRecipientInput> for Recipient {
    fn from(input: AlertRecipientInput) -> Self {
        Recipient { channel: input.channel, target: input.target, secret: input.secret }
    }
}

/// Someone who is notified of alerts.
#[derive(SimpleObject)]
pub struct AlertRecipient {
    /// How they are notified.
    channel: NotificationChannel,
    /// The e-mail address, or the URL.
    target: String,
}

impl From<Recipient> for AlertRecipient {
    fn from(recipient: Recipient) -> Self {
        AlertRecipient { channel: recipient.channel, target: recipient.target }
    }
}

#[derive(Default)]
pub struct OutboxQuery;

#[Object]
impl OutboxQuery {
    /// The notifications sent to recipients of alerts, newest first. Needs ANALYTICS_ADVANCED.
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn alert_deliveries(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Return at most this many items from the start of the list, 0 to 100; defaults to 20 if neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Return only items after this cursor.")] after: Option<String>,
        #[graphql(
            desc = "Return at most this many items from the end of the list, 0 to 100; not together with `first`."
        )]
        last: Option<i32>,
        #[graphql(desc = "Return only items before this cursor.")] before: Option<String>,
        #[graphql(desc = "Only deliveries in this state.")] state: Option<DeliveryState>,
    ) -> async_graphql::Result<Option<AlertDeliveryConnection>> {
        let page = Page::new(first, after, last, before)?;
        let listed = store::list(read(ctx).await?.as_ref(), &page, state).await?;
        Ok(Some(AlertDeliveryConnection::new(&page, listed.map(AlertDelivery::from))))
    }
}

#[derive(Default)]
pub struct OutboxMutation;

#[Object]
impl OutboxMutation {
    /// Retries a delivery that was given up. Needs ANALYTICS_ADVANCED. Error: NOT_FOUND (also for a delivery that was not given up).
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn retry_alert_delivery(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The delivery's id.")] id: ID,
    ) -> async_graphql::Result<AlertDelivery> {
        let id = parse_id(&id, "delivery that was given up")?;
        let change = change(ctx).await?;
        let before = change.see(&store::LOGGED, id).await?;
        let delivery = store::retry(&change, id, app(ctx)?.clock.now()).await?;
        let after = change.see(&store::LOGGED, id).await?;
        change.commit(Entry::of("alert.delivery.retry", id).before(before).after(after)).await?;
        Ok(delivery.into())
    }
}

/// The notification of one recipient of one alert. All attempts have the same id.
#[derive(Clone, SimpleObject)]
pub struct AlertDelivery {
    /// The delivery's id.
    id: ID,
    /// How the recipient is notified.
    channel: NotificationChannel,
    /// The e-mail address or URL.
    target: String,
    /// What it is about, as in the subject of a mail: the rule and what happened.
    subject: String,
    /// Its state.
    state: DeliveryState,
    /// The number of attempts so far.
    attempts: i32,
    /// When it will be attempted next; null if it will not.
    next_at: Option<DateTime>,
    /// Why the last attempt failed; null if none did.
    last_error: Option<String>,
    /// When the alert was reported.
    created_at: DateTime,
    /// When it was delivered; null if it was not.
    delivered_at: Option<DateTime>,
}

impl From<store::Delivery> for AlertDelivery {
    fn from(delivery: store::Delivery) -> Self {
        AlertDelivery {
            id: delivery.id.into(),
            channel: delivery.channel,
            target: delivery.target,
            subject: delivery.subject,
            state: delivery.state,
            attempts: delivery.attempts,
            next_at: delivery.next_at.map(DateTime),
            last_error: delivery.last_error,
            created_at: DateTime(delivery.created_at),
            delivered_at: delivery.delivered_at.map(DateTime),
        }
    }
}

connection!(AlertDeliveryConnection, AlertDeliveryEdge, AlertDelivery, "alert deliveries");
