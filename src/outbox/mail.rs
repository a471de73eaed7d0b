//! Mail over SMTP.

use std::time::Duration;

use lettre::message::{Mailbox, header::ContentType};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::{Attempt, SendError};

const ANSWER_WAIT: Duration = Duration::from_secs(10);

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
        Ok(Mailer { transport: transport.timeout(Some(ANSWER_WAIT)).build(), from })
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
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(refused("the mail server refused it".to_owned())),
            Err(error) if error.is_timeout() => Err(SendError::Failed("no answer in time".to_owned())),
            Err(_) => Err(SendError::Failed("the mail server did not accept it".to_owned())),
        }
    }
}
