//! Sends deliveries that are due.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::mail::Mailer;
use super::store::{self, DeliveryState, Due};
use super::{Attempt, NotificationChannel, SendError, Settings, webhook};
use crate::app::App;
use crate::clock::{SECOND, Timestamp};
use crate::error::Result;
use crate::telemetry::metrics::METRICS;

const INTERVAL: Duration = Duration::from_secs(1);
/// Deliveries per poll that are sent concurrently.
const AT_ONCE: usize = 64;
/// Deliveries per tenant and poll, so that none delays others.
const ROWS_MAX: i64 = 8;
/// Limit of an attempt on any channel: well below the lease, after which another one would be made.
pub(super) const SEND_WAIT: Duration = Duration::from_secs(30);
/// Polls that may be in progress while their receivers are slow: more than begin within [`SEND_WAIT`], so that the next
/// one never waits for them.
const LOOKS_MAX: usize = 40;

/// Seconds between attempts; after the last one the delivery is given up.
const PAUSES_SECS: [i64; 11] = [1, 5, 30, 120, 600, 1800, 3600, 3600, 3600, 3600, 3600];

/// The senders for all channels.
#[derive(Clone)]
pub struct Senders {
    mailer: Option<Mailer>,
    allows_private: bool,
    wait: Duration,
}

impl Default for Senders {
    fn default() -> Self {
        Senders { mailer: None, allows_private: false, wait: SEND_WAIT }
    }
}

impl Senders {
    /// Error: the configured URL or address is invalid.
    pub fn new(settings: &Settings) -> Result<Senders, SendError> {
        let mailer = match (&settings.smtp_url, &settings.mail_from) {
            (Some(url), Some(from)) => Some(Mailer::new(url, from)?),
            _ => None,
        };
        Ok(Senders { mailer, allows_private: settings.allows_private, wait: settings.wait })
    }

    /// Whether a mail server is configured.
    pub fn sends_mail(&self) -> bool {
        self.mailer.is_some()
    }

    async fn send(&self, attempt: &Attempt, now: Timestamp) -> Result<(), SendError> {
        let sent = async {
            match (attempt.recipient.channel, &self.mailer) {
                (NotificationChannel::Webhook, _) => webhook::send(attempt, self.allows_private, now).await,
                (NotificationChannel::Email, Some(mailer)) => mailer.send(attempt).await,
                (NotificationChannel::Email, None) => {
                    Err(SendError::Refused("no mail server is configured".to_owned()))
                }
            }
        };
        let late = |_| SendError::Failed("no answer in time".to_owned());
        tokio::time::timeout(self.wait, sent).await.map_err(late)?
    }
}

/// Runs until dropped.
pub async fn relay(app: App, senders: Senders) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (senders, mut looks) = (Arc::new(senders), JoinSet::new());
    loop {
        ticks.tick().await;
        while looks.try_join_next().is_some() {}
        if looks.len() < LOOKS_MAX {
            let (app, senders) = (app.clone(), Arc::clone(&senders));
            looks.spawn(async move {
                if let Err(error) = relay_once(&app, &senders).await {
                    tracing::warn!(source = error.cause(), "looking for due deliveries failed");
                }
            });
        }
    }
}

/// Makes one attempt for each delivery that is due.
pub async fn relay_once(app: &App, senders: &Senders) -> Result<()> {
    let due = store::list_due(&app.db, app.clock.now(), ROWS_MAX).await?;
    METRICS.set_due("deliveries", due.len());
    let attempts = futures_util::stream::iter(due).map(|due| async move {
        if let Err(error) = deliver(app, senders, &due).await {
            tracing::warn!(tenant = %due.tenant.0, delivery = %due.id, source = error.cause(), "delivery not noted");
        }
    });
    attempts.buffer_unordered(AT_ONCE).collect::<()>().await;
    Ok(())
}

async fn deliver(app: &App, senders: &Senders, due: &Due) -> Result<()> {
    let tx = app.db.write(due.tenant).await?;
    let Some(attempt) = store::claim(&tx, due, app.clock.now()).await? else { return Ok(()) };
    tx.commit().await?;
    let sent = senders.send(&attempt, app.clock.now()).await;
    let now = app.clock.now();
    let again = usize::try_from(attempt.number - 1).ok().and_then(|n| PAUSES_SECS.get(n));
    let (state, error, next_at) = match (sent, again) {
        (Ok(()), _) => (DeliveryState::Delivered, None, None),
        (Err(SendError::Failed(why)), Some(pause)) => {
            (DeliveryState::Pending, Some(why), Some(Timestamp(now.0 + pause * SECOND)))
        }
        (Err(error), _) => {
            // The reason is shown to the tenant.
            tracing::warn!(tenant = %due.tenant.0, delivery = %due.id, "delivery given up");
            (DeliveryState::Dead, Some(error.to_string()), None)
        }
    };
    METRICS.deliveries.with_label_values(&[attempt.recipient.channel.as_str(), state.as_result()]).inc();
    let tx = app.db.write(due.tenant).await?;
    store::finish(&tx, &attempt, state, error, next_at, now).await?;
    tx.commit().await
}
