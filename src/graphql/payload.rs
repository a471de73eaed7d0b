//! A response as sent to clients: JSON that is serialized once, however many clients receive it.

use std::sync::Arc;

use async_graphql::{Response, ServerError};

use super::errors;
use super::executor::{is_request_error, to_json};
use crate::auth::cursor::Mark;

/// A response. Cheap to clone.
#[derive(Clone)]
pub struct Payload {
    /// The response.
    pub json: Arc<str>,
    /// Why nothing was executed, if so.
    pub refused: Option<Arc<[ServerError]>>,
    /// The position of a live answer.
    pub mark: Option<Mark>,
    /// The position as a cursor for clients.
    pub cursor: Option<Arc<str>>,
}

impl Payload {
    /// A response that is not live.
    pub fn plain(response: Response) -> Self {
        let json = to_json(&response).into();
        let refused = is_request_error(&response).then(|| response.errors.into());
        Payload { json, refused, mark: None, cursor: None }
    }

    pub fn refused(error: ServerError) -> Self {
        let errors = [error];
        Payload { json: errors::only(&errors).into(), refused: Some(errors.into()), mark: None, cursor: None }
    }

    /// A live answer, whose cursor goes into `extensions`.
    pub fn live(response: Response, mark: Mark, cursor: Arc<str>) -> Self {
        let plain = Payload::plain(response);
        let json = with_extensions(&plain.json, &format!(r#""cursor":"{cursor}""#));
        Payload { json, mark: Some(mark), cursor: Some(cursor), ..plain }
    }

    /// Adds how many earlier answers the client missed.
    #[must_use]
    pub fn with_skipped(&self, skipped: u64) -> Self {
        if skipped == 0 { self.clone() } else { self.with(&format!(r#""skipped":{skipped}"#)) }
    }

    /// Adds that it does not continue from the client's previous state.
    #[must_use]
    pub fn with_reset(&self) -> Self {
        self.with(r#""reset":true"#)
    }

    fn with(&self, extension: &str) -> Self {
        let Some(cursor) = &self.cursor else { return self.clone() };
        let start = format!(r#""cursor":"{cursor}""#);
        let json = match self.json.strip_suffix(&format!("{start}}}}}")) {
            Some(before) => format!("{before}{start},{extension}}}}}").into(),
            None => Arc::clone(&self.json),
        };
        Payload { json, ..self.clone() }
    }
}

/// Appends `extensions` to a response that has none.
fn with_extensions(json: &str, extensions: &str) -> Arc<str> {
    match json.strip_suffix('}') {
        Some(open) => format!(r#"{open},"extensions":{{{extensions}}}}}"#).into(),
        None => json.into(),
    }
}
