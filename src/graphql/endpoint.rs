//! State of the API endpoint that all transports share: who calls, what they have used, and which answers are cached.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response as HttpResponse;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::documents::Documents;
use super::errors::Refusal;
use super::executor::Executor;
use super::limits::{Limits, Usage};
use super::origin;
use super::prepared::Prepared;
use super::reply::Reply;
use super::response_cache::{Key, ResponseCache};
use super::size::Size;
use crate::app::App;
use crate::auth::opaque::{Kind, Opaque};
use crate::auth::sessions::Client;
use crate::auth::{Caller, token};
use crate::db::HEAD_WAIT;
use crate::error::{Code, Error};
use crate::schema::Schema;
use crate::telemetry::metrics::METRICS;
use crate::telemetry::requests;

/// Shutdown of open sockets and streams is spread over this much time for each, at most [`END_SPREAD_MAX`].
const END_EACH_MICROS: u32 = 500;
const END_SPREAD_MAX: Duration = Duration::from_secs(5);

/// Settings of the API endpoint.
#[derive(Clone, Default)]
pub struct Settings {
    /// Trusted reverse proxies, which forward the client's address.
    pub proxies: Vec<IpAddr>,
    /// Origins allowed for cross-origin requests.
    pub origins: Vec<HeaderValue>,
    pub limits: Limits,
    /// The documents that may be executed.
    pub documents: Documents,
}

/// State shared by the handlers. Cheap to clone, and small: each socket holds one.
#[derive(Clone)]
pub struct Endpoint(Arc<Parts>);

pub struct Parts {
    pub app: App,
    pub executor: Executor,
    /// Cancelled at shutdown; streams then break off and sockets close.
    pub stop: CancellationToken,
    /// Open sockets.
    pub sockets: TaskTracker,
    /// Open subscription streams.
    pub(super) streams: TaskTracker,
    /// Trusted reverse proxies.
    pub proxies: Vec<IpAddr>,
    /// Origins allowed to open sockets.
    pub origins: Vec<HeaderValue>,
    /// Usage accounting of callers.
    pub usage: Arc<Usage>,
    pub(super) response_cache: ResponseCache,
}

impl Deref for Endpoint {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Endpoint {
    pub fn new(app: App, schema: Schema, settings: &Settings, stop: CancellationToken) -> Self {
        Endpoint(Arc::new(Parts {
            response_cache: ResponseCache::default(),
            executor: Executor::new(schema, app.tokens.cursors(), settings.documents.clone()),
            sockets: TaskTracker::new(),
            streams: TaskTracker::new(),
            proxies: settings.proxies.clone(),
            origins: settings.origins.clone(),
            usage: Usage::new(settings.limits),
            stop,
            app,
        }))
    }

    /// The caller of an `Authorization` value, on every transport. Errors: UNAUTHENTICATED; RATE_LIMITED, for an
    /// address that sends too many invalid ones.
    pub async fn verify(&self, authorization: &str, client: &Client) -> crate::error::Result<Arc<Caller>> {
        let caller = self.find_caller(authorization, client).await;
        // A token that was valid until it expired does not count: its client must learn that, so that it refreshes it.
        let is_refused = caller.as_ref().is_err_and(|error| error.code == Code::Unauthenticated);
        if is_refused && !self.app.tokens.has_expired(authorization, self.app.clock.now()) {
            self.usage.take_stranger(client.address)?;
        }
        if let Ok(caller) = &caller {
            requests::note_tenant(caller.tenant.0);
        }
        caller
    }

    /// Whether a request that is refused has a token that was valid here until it expired.
    pub fn has_expired(&self, headers: &HeaderMap) -> bool {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        authorization.is_some_and(|authorization| self.app.tokens.has_expired(authorization, self.app.clock.now()))
    }

    /// Authenticates by an access token or an API key.
    async fn find_caller(&self, authorization: &str, client: &Client) -> crate::error::Result<Arc<Caller>> {
        let token = token::from_header(authorization).ok_or_else(Error::unauthenticated)?;
        if let Some(key) = Opaque::parse(Kind::ApiKey, token) {
            let tries = &self.app.tries;
            let caller = self.app.access_cache.caller_of(&key, || tries.check_stranger(client.address)).await;
            if caller.as_ref().is_err_and(|error| error.code == Code::Unauthenticated) {
                tries.count_stranger(client.address);
            }
            return caller;
        }
        let caller = self.app.tokens.verify(token, self.app.clock.now()).map_err(|_| Error::unauthenticated())?;
        self.app.access_cache.check(&caller).await?;
        Ok(caller)
    }

    /// Authenticates a request. Errors: UNAUTHENTICATED, where a token is invalid (a missing one is rejected later, by
    /// operations that need it); RATE_LIMITED, for an address that sends too many requests without a valid one.
    pub async fn authenticate(&self, parts: &RequestParts) -> crate::error::Result<Requester> {
        let client = Arc::new(origin::client_of(parts, &self.proxies));
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let caller = match (values.next(), values.next()) {
            (Some(value), None) => Some(self.verify(value.to_str().unwrap_or_default(), &client).await?),
            (None, _) => {
                self.usage.take_stranger(client.address)?;
                None
            }
            _ => {
                self.usage.take_stranger(client.address)?;
                return Err(Error::new(Code::Unauthenticated, "send only one token"));
            }
        };
        Ok(self.requester(caller, client))
    }

    /// A requester whose responses share one size limit and are charged by their values.
    pub fn requester(&self, caller: Option<Arc<Caller>>, client: Arc<Client>) -> Requester {
        let pay = caller.clone().map(|caller| {
            let usage = Arc::clone(&self.usage);
            move |values| usage.charge(&caller, values)
        });
        Requester { caller, client, size: Arc::new(pay.map_or_else(Size::default, Size::paid)) }
    }

    /// Charges an operation to its caller. Error: RATE_LIMITED.
    pub fn spend(&self, requester: &Requester, prepared: Prepared) -> Result<Prepared, Refusal> {
        if let Some(caller) = &requester.caller {
            self.usage.spend(caller, prepared.fields)?;
        }
        Ok(prepared)
    }

    /// Waits until the caller loses access: the token has expired, or its user has lost the role it states. Never
    /// resolves without a caller.
    pub async fn ended(&self, caller: Option<&Caller>) {
        let Some(caller) = caller else { return std::future::pending().await };
        tokio::select! {
            () = crate::clock::until(self.app.clock.as_ref(), caller.expires_at()) => {}
            () = self.app.access_cache.ended(caller) => {}
        }
    }

    /// Waits for shutdown, then for a random delay, so that clients do not all reconnect at once.
    pub async fn turn_to_end(&self) {
        self.stop.cancelled().await;
        let open = u32::try_from(self.sockets.len() + self.streams.len()).unwrap_or(u32::MAX);
        let spread = Duration::from_micros(open.saturating_mul(END_EACH_MICROS).into()).min(END_SPREAD_MAX);
        tokio::time::sleep(spread.mul_f64(rand::random::<f64>())).await;
    }

    /// The cached response to the same request, if it is still valid and the client accepts a single response.
    pub(super) async fn cached(&self, reply: &Reply, requester: &Requester, key: Option<&Key>) -> Option<HttpResponse> {
        if reply.stream_format().is_some() {
            return None;
        }
        let (caller, key) = (requester.caller.as_ref()?, key?);
        let cached = async {
            let cached = self.response_cache.get(key)?;
            // An unresponsive database is left to the query itself to report.
            let head = tokio::time::timeout(HEAD_WAIT, self.app.db.head(caller.tenant)).await.ok()?.ok()??;
            if !cached.0.holds(head, self.app.clock.now()) {
                return None;
            }
            if cached.0.is_personal && self.app.keys.find(caller.tenant).is_none() {
                return None;
            }
            // A cache hit is cheap, but not free.
            self.usage.spend(caller, 1).ok()?;
            Some(reply.json(StatusCode::OK, cached.1.clone()))
        };
        let cached = cached.await;
        METRICS.cache_was_asked("answers", cached.is_some());
        cached
    }
}

/// The requester: caller, client and accumulated response size.
#[derive(Clone)]
pub struct Requester {
    /// `None` without a token.
    pub caller: Option<Arc<Caller>>,
    pub client: Arc<Client>,
    /// Accumulated size of the responses.
    pub size: Arc<Size>,
}
