//! Transactional outbox for e-mail and webhooks: a delivery is written in the same transaction as its cause, and sent
//! afterwards until it has arrived or is given up.
//!
//! Each delivery is sent at least once. Its id is the same in every attempt, so that receivers can deduplicate.

pub mod graphql;
mod mail;
mod relay;
pub mod store;
mod webhook;

pub use relay::{Senders, relay, relay_once};
pub use webhook::{check_secret, signing_key};

use std::time::Duration;

use async_graphql::Enum;
use uuid::Uuid;

use crate::error::{Error, Result};

/// Maximum number of recipients per rule.
pub const RECIPIENTS_MAX: usize = 10;
const TARGET_CHARS_MAX: usize = 2000;
const SECRET_CHARS: std::ops::RangeInclusive<usize> = 24..=200;

/// Settings of outgoing deliveries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// SMTP server, such as `smtp://user:password@host:587?tls=required`; without it no mail is sent.
    pub smtp_url: Option<String>,
    /// The sender's address.
    pub mail_from: Option<String>,
    /// Whether webhooks may go to private addresses and without encryption.
    pub allows_private: bool,
    /// How long an attempt may take.
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { smtp_url: None, mail_from: None, allows_private: false, wait: relay::SEND_WAIT }
    }
}

/// How a recipient is notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotificationChannel {
    /// By e-mail.
    Email,
    /// By POST to a URL.
    Webhook,
}

impl NotificationChannel {
    /// The name of the channel.
    pub fn as_str(self) -> &'static str {
        match self {
            NotificationChannel::Email => "email",
            NotificationChannel::Webhook => "webhook",
        }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recipient {
    pub channel: NotificationChannel,
    /// The address or URL.
    pub target: String,
    /// Signs webhooks.
    pub secret: Option<String>,
}

impl Recipient {
    /// Error: BAD_USER_INPUT.
    pub fn check(&self) -> Result<()> {
        let bad_target = |message: &str| Err(Error::bad_input("target", message));
        let bad_secret = |message: &str| Err(Error::bad_input("secret", message));
        if self.target.chars().count() > TARGET_CHARS_MAX {
            return bad_target("is too long");
        }
        if self.target.contains('\0') {
            return bad_target("a NUL in it");
        }
        if self.secret.as_ref().is_some_and(|secret| secret.contains('\0')) {
            return bad_secret("a NUL in it");
        }
        match self.channel {
            NotificationChannel::Email if self.target.parse::<lettre::Address>().is_err() => {
                bad_target("not an e-mail address")
            }
            NotificationChannel::Email if self.secret.is_some() => bad_secret("only webhooks have a secret"),
            NotificationChannel::Email => Ok(()),
            NotificationChannel::Webhook => {
                let url = reqwest::Url::parse(&self.target);
                let is_good = url.is_ok_and(|url| {
                    ["http", "https"].contains(&url.scheme()) && url.has_host() && url.username().is_empty()
                });
                if !is_good {
                    return bad_target("must be an http or https URL without a user name");
                }
                match &self.secret {
                    Some(secret) if SECRET_CHARS.contains(&secret.chars().count()) => {
                        check_secret(secret).or_else(bad_secret)
                    }
                    _ => bad_secret("a webhook must have a secret of 24 to 200 characters"),
                }
            }
        }
    }
}

/// The content of a delivery.
pub struct Message {
    /// The alert it is about, if any.
    pub alert_no: Option<i64>,
    /// One line.
    pub subject: String,
    /// For people.
    pub text: String,
    /// For programs: JSON.
    pub body: String,
}

/// One attempt of a delivery to one recipient.
pub struct Attempt {
    pub id: Uuid,
    pub recipient: Recipient,
    pub subject: String,
    pub text: String,
    pub body: String,
    /// 1-based.
    pub number: i32,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Temporary failure.
    #[error("{0}")]
    Failed(String),
    /// Permanent failure.
    #[error("{0}")]
    Refused(String),
}
