//! Execution of operations, the same for every transport: each runs with its own loaders; every error has a code.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{PathSegment, Request, Response, ServerError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use tracing::{Instrument, Span};

use super::cohorts::{After, Cohorts, Key};
use super::completion::{Plan, Types};
use super::documents::Documents;
use super::endpoint::Requester;
use super::errors::{self, Refusal};
use super::operation::{Operation, Subscriber};
use super::params::Params;
use super::payload::Payload;
use super::prepared::{Prepared, Subscribed};
use super::response_cache::Freshness;
use super::size::Size;
use crate::auth::Caller;
use crate::auth::cursor::{Cursors, Mark};
use crate::error::{Code, Error};
use crate::guard::Guard;
use crate::schema::{STATES, Schema};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::requests::operation_span;

/// Timeout of a query; the database's is slightly shorter.
const QUERY_WAIT: Duration = Duration::from_secs(10);

/// Executes operations of the schema. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    schema: Schema,
    types: &'static Types,
    documents: Documents,
    cursors: Cursors,
    cohorts: Cohorts,
    query_wait: Duration,
}

impl Executor {
    pub fn new(schema: Schema, cursors: Cursors, documents: Documents) -> Self {
        // The schema is the same for each instance.
        static TYPES: OnceLock<Types> = OnceLock::new();
        let types = TYPES.get_or_init(|| Types::of(&schema.sdl()));
        Executor { schema, types, documents, cursors, cohorts: Cohorts::default(), query_wait: QUERY_WAIT }
    }

    /// With another timeout of queries.
    #[must_use]
    pub fn with_query_wait(self, query_wait: Duration) -> Self {
        Executor { query_wait, ..self }
    }

    /// The subscription cohorts, for metrics.
    pub fn cohorts(&self) -> &Cohorts {
        &self.cohorts
    }

    /// Checks everything that can be checked without executing: the document, the selected operation, the permissions
    /// of the caller for its root fields, its variables.
    pub fn prepare(&self, mut params: Params, caller: Option<&Caller>) -> Result<Prepared, Refusal> {
        let (text, hash) = self.documents.text_of(params.query.take(), &params.extensions)?;
        Prepared::of(text, hash, params, self.types, caller)
    }

    /// Prepares one of this server's own documents with a client's variables, regardless of trusted documents.
    pub fn prepare_own(
        &self,
        document: &'static str,
        params: Params,
        caller: Option<&Caller>,
    ) -> Result<Prepared, Refusal> {
        Prepared::of(document.into(), None, params, self.types, caller)
    }

    /// Runs a query or mutation; also returns what its response depends on, if known.
    pub async fn run(&self, prepared: Prepared, requester: Requester) -> (Response, Option<Freshness>) {
        self.keep(&prepared);
        let kind = prepared.kind.to_string();
        let tenant = requester.caller.as_ref().map(|caller| caller.tenant.0);
        let span = operation_span(&kind, prepared.name.as_deref(), tenant);
        let _timer = METRICS.operation_duration.with_label_values(&[&kind]).start_timer();
        let operation =
            Arc::new(Operation::of(prepared.kind, prepared.plan.keys().count(), Arc::clone(&requester.size)));
        let request = with_requester(prepared.request, requester).data(Arc::clone(&operation));
        let executed = async { if prepared.is_executed { self.execute(request).await } else { Response::default() } };
        let executed = AssertUnwindSafe(executed).catch_unwind();
        // A write has no time-out; a client that leaves does abort it.
        let wait = if prepared.kind == OperationType::Query { self.query_wait } else { Duration::MAX };
        let executed = tokio::time::timeout(wait, executed).instrument(span.clone()).await;
        let response = span.in_scope(|| match executed {
            Ok(Ok(mut response)) => {
                if !is_request_error(&response) {
                    response.errors.extend(prepared.forbidden);
                }
                finished(response, &prepared.plan)
            }
            Ok(Err(_)) => given_up(Error::internal("a resolver panicked"), &prepared.plan),
            Err(_) => given_up(Error::new(Code::QueryTimeout, "the query takes too long"), &prepared.plan),
        });
        let freshness = operation.freshness(&response);
        (response, freshness)
    }

    /// Boxed, so that the resolvers' futures of the whole schema are compiled here alone, not with all who wait for them.
    fn execute(&self, request: Request) -> BoxFuture<'_, Response> {
        self.schema.execute(request).boxed()
    }

    /// Runs an operation of any kind as a stream of responses; a query or mutation yields one.
    pub fn stream(&self, mut prepared: Prepared, requester: Requester) -> BoxStream<'static, Payload> {
        let size = Arc::clone(&requester.size);
        let (Some(Subscribed { field, hash, after }), Some(caller)) = (prepared.subscribed.take(), &requester.caller)
        else {
            let executor = self.clone();
            let run = async move { Payload::plain(executor.run(prepared, requester).await.0) };
            return futures_util::stream::once(run.in_current_span()).boxed();
        };
        METRICS.subscriptions.inc();
        let caller = Arc::clone(caller);
        self.keep(&prepared);
        let tenant = caller.tenant;
        if STATES.contains(&field.as_str()) {
            let after = match after {
                Some(cursor) => self.cursors.read(tenant, &hash, &cursor).map_or(After::Unknown, After::Mark),
                None => After::Nothing,
            };
            let permissions = caller.permissions.clone();
            let key = Key { tenant: tenant.at(Guard::Cohorts), permissions, operation: hash };
            // Its values are of all members, so none of them is charged for them.
            let size = Arc::default();
            let member = self.cohorts.join(key, after, || self.live(prepared, caller, size, hash.to_vec(), None));
            return futures_util::stream::unfold(member, async |mut member| Some((member.next().await?, member)))
                .boxed();
        }
        let scope = field.into_bytes();
        match after.map(|cursor| self.cursors.read(tenant, &scope, &cursor)) {
            Some(None) => {
                let refusal =
                    Refusal::new("RESUME_GAP", "the cursor does not belong to this subscription; begin without one");
                futures_util::stream::once(std::future::ready(Payload::refused(refusal.to_error()))).boxed()
            }
            // The task that polls the answers is not in the operation's span.
            after => in_current_span(self.live(prepared, caller, size, scope, after.flatten())),
        }
    }

    fn keep(&self, prepared: &Prepared) {
        if let Some((hash, text)) = &prepared.to_keep {
            self.documents.keep(hash.clone(), text);
        }
    }

    /// The answers of a subscription, each with its cursor.
    fn live(
        &self,
        prepared: Prepared,
        caller: Arc<Caller>,
        size: Arc<Size>,
        scope: Vec<u8>,
        after: Option<Mark>,
    ) -> BoxStream<'static, Payload> {
        let subscriber = Subscriber { cursors: self.cursors.clone(), tenant: caller.tenant, scope, after };
        let operation = Arc::new(Operation::subscription(subscriber, size));
        let request = prepared.request.data(caller).data(Arc::clone(&operation));
        let mut has_begun = false;
        let plan = prepared.plan;
        let answers = self.schema.execute_stream(request).map(move |response| {
            let is_nothing = response.data == async_graphql::Value::Null;
            let mut response = finished(response, &plan);
            let is_first = !std::mem::replace(&mut has_begun, true);
            match operation.take_stand() {
                Some((mark, cursor)) => Payload::live(response, mark, cursor),
                None => {
                    // What prevents a subscription from starting is a request error.
                    if is_first && is_nothing {
                        response.errors.iter_mut().for_each(|error| error.path.clear());
                    }
                    Payload::plain(response)
                }
            }
        });
        answers.boxed()
    }
}

/// Polls `answers` in the span that was current when they were created.
fn in_current_span(answers: BoxStream<'static, Payload>) -> BoxStream<'static, Payload> {
    let next = async |(mut answers, span): (BoxStream<'static, Payload>, Span)| {
        let answer = answers.next().instrument(span.clone()).await?;
        Some((answer, (answers, span)))
    };
    futures_util::stream::unfold((answers, Span::current()), next).boxed()
}

/// Whether a response states that nothing was executed.
pub fn is_request_error(response: &Response) -> bool {
    response.data == async_graphql::Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// A response as JSON, its fields in selection order, and without `data` when nothing was executed.
pub fn to_json(response: &Response) -> String {
    if is_request_error(response) {
        return errors::only(&response.errors);
    }
    serde_json::to_string(response)
        .unwrap_or_else(|error| errors::only(&[errors::unplaced(crate::error::Error::internal(error))]))
}

fn with_requester(request: Request, Requester { caller, client, .. }: Requester) -> Request {
    let request = request.data(client);
    match caller {
        Some(caller) => request.data(caller),
        None => request,
    }
}

/// The response to an operation that was aborted after it had begun.
fn given_up(error: Error, plan: &Plan) -> Response {
    let path = plan.keys().take(1).map(|key| PathSegment::Field(key.to_string())).collect();
    Response::from_errors(vec![ServerError { path, ..errors::unplaced(error) }])
}

/// The completed response, each error with a code.
fn finished(mut response: Response, plan: &Plan) -> Response {
    if is_request_error(&response) {
        errors::leave_out(&mut response.errors);
    }
    response.errors.iter_mut().for_each(errors::finish);
    plan.complete(&mut response);
    response
}
