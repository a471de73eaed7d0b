//! HTTP requests to providers: encrypted, and bounded in time and length.

use std::pin::Pin;
use std::time::Duration;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::{Client, Request, redirect};

use super::settings::is_private_way;

/// Timeout of a request to a provider.
pub const ANSWER_WAIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Why a request to a provider failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("an unencrypted URL")]
    OpenWay,
    #[error("no answer: {0}")]
    NoAnswer(#[from] reqwest::Error),
    #[error("an answer that is too long")]
    TooLong,
}

pub struct Fetch(Client);

impl Fetch {
    /// Redirects are not followed: their target is unchecked.
    pub fn new() -> reqwest::Result<Self> {
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(ANSWER_WAIT).no_proxy();
        Ok(Fetch(client.build()?))
    }

    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let request = Request::try_from(request)?;
        if !is_private_way(request.url()) {
            return Err(FetchError::OpenWay);
        }
        let mut answer = self.0.execute(request).await?;
        let mut response = HttpResponse::new(Vec::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        while let Some(chunk) = answer.chunk().await? {
            if response.body().len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(FetchError::TooLong);
            }
            response.body_mut().extend(&chunk);
        }
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Fetch {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.fetch(request))
    }
}
