//! Mail over SMTP.

use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Attempt, SendError};

/// For the connection only: what follows it is limited by the relay.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Replies that our access is not sufficient, to whatever command (RFC 4954, 6).
const OF_ACCESS: [&str; 4] = ["530", "534", "535", "538"];

#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Error: the URL or the address is invalid.
    pub fn new(url: &str, from: &str) -> Result<Mailer, SendError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|_| SendError::Refused("the URL of the mail server cannot be read".to_owned()))?;
        let from = from.parse().map_err(|_| SendError::Refused("the sender is not an e-mail address".to_owned()))?;
        Ok(Mailer { transport: transport.timeout(Some(CONNECT_WAIT)).build(), from })
    }

    pub async fn send(&self, attempt: &Attempt) -> Result<(), SendError> {
        let refused = |why: String| SendError::Refused(why);
        let to = attempt.recipient.target.parse().map_err(|_| refused("not an e-mail address".to_owned()))?;
        let domain = self.from.email.domain();
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&attempt.subject)
            .message_id(Some(format!("<{}@{domain}>", attempt.id)))
            .header(ContentType::TEXT_PLAIN)
            .body(attempt.text.clone())
            .map_err(|error| refused(error.to_string()))?;
        let Err(error) = self.transport.send(message).await else { return Ok(()) };
        let code = error.status().map(|code| code.to_string());
        tracing::warn!(delivery = %attempt.id, code, "mail not accepted");
        match code {
            Some(code) if self.is_of_mail(&error, &code).await => Err(refused("the mail server refused it".to_owned())),
            _ if error.is_timeout() => Err(SendError::Failed("no answer in time".to_owned())),
            _ => Err(SendError::Failed("the mail server did not accept it".to_owned())),
        }
    }

    /// Whether the server refused this mail for good, and not us: then it still lets us in.
    async fn is_of_mail(&self, error: &smtp::Error, code: &str) -> bool {
        error.is_permanent() && !OF_ACCESS.contains(&code) && self.transport.test_connection().await.is_ok()
    }
}
