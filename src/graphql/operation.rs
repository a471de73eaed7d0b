//! Execution of operations, the same for every transport: a document is scanned before it is parsed, parsed once,
//! measured, and run with its own loaders; every error has a code.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType, Selection};
use async_graphql::{Name, PathSegment, Request, Response, SelectionField, ServerError};
use async_graphql_value::{ConstValue, Value};
use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use sha2::{Digest, Sha256};
use tracing::{Instrument, Span};

use super::cohorts::{After, Cohorts, Key};
use super::completion::{Plan, Types};
use super::documents::Documents;
use super::endpoint::Requester;
use super::errors::{self, Refusal};
use super::params::Params;
use super::payload::Payload;
use super::reads::Reads;
use super::response_cache::Freshness;
use super::size::Size;
use super::{scan, shape, variables};
use crate::auth::Caller;
use crate::auth::cursor::{Cursors, Mark};
use crate::error::{Code, Error};
use crate::guard::Guard;
use crate::schema::{PUBLIC, STATES, Schema};
use crate::telemetry::metrics::METRICS;
use crate::telemetry::requests::operation_span;

/// Timeout of a query; the database's is slightly shorter.
const QUERY_WAIT: Duration = Duration::from_secs(10);

/// Executes operations of the schema. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    schema: Schema,
    types: &'static Types,
    documents: Documents,
    cursors: Cursors,
    cohorts: Cohorts,
}

/// A validated operation of bounded size.
pub struct Prepared {
    request: Request,
    kind: OperationType,
    name: Option<String>,
    /// Fields, each counted as often as it is selected.
    fields: usize,
    /// Whether it needs no token.
    is_public: bool,
    subscribed: Option<Subscribed>,
    /// The form of its response.
    plan: Plan,
    /// The document, stored under its hash once somebody is allowed to run it.
    to_keep: Option<(String, Arc<str>)>,
}

/// What identifies a subscription.
struct Subscribed {
    /// The root field.
    field: String,
    /// Hash of the operation and its variables, excluding the cursor.
    hash: [u8; 32],
    /// The client's cursor.
    after: Option<String>,
}

impl Prepared {
    pub fn kind(&self) -> OperationType {
        self.kind
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn fields(&self) -> usize {
        self.fields
    }

    pub fn is_public(&self) -> bool {
        self.is_public
    }
}

/// State that lives as long as one operation: its snapshot, its data loaders, and what its response depends on.
#[derive(Default)]
pub struct Operation {
    reads: Arc<Reads>,
    loaders: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// What root fields depend on, by response key; `None` unless it is known for every resolved occurrence.
    dated: Mutex<HashMap<String, Option<Freshness>>>,
    /// A field below a root depends on more than the root states.
    is_undated: AtomicBool,
    /// Some of the response was encrypted.
    is_personal: AtomicBool,
    size: Arc<Size>,
    /// What the subscriber has already seen.
    after: Option<Mark>,
    /// The position of a subscription's next answer.
    mark: Mutex<Option<Mark>>,
}

impl Operation {
    fn of(kind: OperationType, size: Arc<Size>) -> Self {
        let reads = if kind == OperationType::Query { Reads::of_one_snapshot() } else { Reads::default() };
        Operation { reads: Arc::new(reads), size, ..Operation::default() }
    }

    pub fn reads(&self) -> &Arc<Reads> {
        &self.reads
    }

    /// The operation's loader of type `L`, created on first use.
    pub fn loader<L: Any + Send + Sync>(&self, make: impl FnOnce() -> L) -> Arc<L> {
        let mut loaders = self.loaders.lock().unwrap_or_else(PoisonError::into_inner);
        let loader = loaders.entry(TypeId::of::<L>()).or_insert_with(|| Arc::new(make()) as Arc<dyn Any + Send + Sync>);
        match Arc::clone(loader).downcast() {
            Ok(loader) => loader,
            Err(_) => unreachable!("entries are keyed by their type"),
        }
    }

    /// Records that a root field depends only on what `freshness` states; `None` where it depends on more. Fields of
    /// one key are resolved separately, and the key is only as fresh as all of them.
    pub fn depends_on(&self, field: SelectionField<'_>, freshness: Option<Freshness>) {
        let key = field.alias().unwrap_or_else(|| field.name());
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let all = dated.get(key).map_or(freshness, |before| before.zip(freshness).and_then(|(a, b)| a.and(b)));
        dated.insert(key.to_owned(), all);
    }

    /// Records that a field below a root depends on more than the root states.
    pub fn depends_on_more(&self) {
        self.is_undated.store(true, Ordering::Relaxed);
    }

    /// Records that the response contains personal data that was encrypted.
    pub fn has_personal_data(&self) {
        self.is_personal.store(true, Ordering::Relaxed);
    }

    /// Accumulated size of series and breakdowns, across all operations of the request.
    pub fn size(&self) -> &Arc<Size> {
        &self.size
    }

    /// The subscriber's position, for a log that can be resumed.
    pub fn after(&self) -> Option<Mark> {
        self.after
    }

    /// Records the position of a subscription's next answer.
    pub fn stands_at(&self, mark: Mark) {
        *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark);
    }

    fn take_mark(&self) -> Option<Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the whole response depends on; `None` unless every root field's freshness is known, all from the same head.
    fn freshness(&self, response: &Response) -> Option<Freshness> {
        let dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let async_graphql::Value::Object(fields) = &response.data else { return None };
        if !response.errors.is_empty() || self.is_undated.load(Ordering::Relaxed) {
            return None;
        }
        let mut each = fields.keys().map(|key| dated.get(key.as_str()).copied().flatten());
        let first = each.next()??;
        let all = each.try_fold(first, |all, one| all.and(one?))?;
        Some(Freshness { is_personal: self.is_personal.load(Ordering::Relaxed), ..all })
    }
}

impl Operations {
    pub fn new(schema: Schema, cursors: Cursors, documents: Documents) -> Self {
        // The schema is the same for each instance.
        static TYPES: OnceLock<Types> = OnceLock::new();
        let types = TYPES.get_or_init(|| Types::of(&schema.sdl()));
        Operations { schema, types, documents, cursors, cohorts: Cohorts::default() }
    }

    /// The subscription cohorts, for metrics.
    pub fn cohorts(&self) -> &Cohorts {
        &self.cohorts
    }

    /// Checks everything that can be checked without executing: the document, the selected operation, its variables.
    pub fn prepare(&self, mut params: Params) -> Result<Prepared, Refusal> {
        let (text, hash) = self.documents.text_of(params.query.take(), &params.extensions)?;
        self.prepare_text(text, hash, params)
    }

    /// Prepares one of this server's own documents with a client's variables, regardless of trusted documents.
    pub fn prepare_own(&self, document: &'static str, params: Params) -> Result<Prepared, Refusal> {
        self.prepare_text(document.into(), None, params)
    }

    fn prepare_text(&self, text: Arc<str>, hash: Option<String>, mut params: Params) -> Result<Prepared, Refusal> {
        scan::scan(&text)?;
        let document = async_graphql::parser::parse_query(text.as_ref()).map_err(|error| parse_error(&error))?;
        let (name, operation) = select(&document, params.operation_name.as_deref())?;
        variables::complete(&operation.variable_definitions, &mut params.variables)?;
        let fields = shape::check(&document, &params.variables)?;
        let plan = self.types.plan(&document, operation, &params.variables);
        let (kind, name) = (operation.ty, name.map(ToString::to_string));
        // Without a token, only a document that consists of the operation alone is allowed.
        let is_alone = document.operations.iter().count() == 1 && document.fragments.is_empty();
        let is_public = kind == OperationType::Mutation && is_alone && is_public(operation);
        let subscribed = match kind {
            OperationType::Subscription => Some(subscribed(&text, &document, operation, &mut params)?),
            _ => None,
        };
        let document =
            if kind == OperationType::Subscription { shape::without_root_fragments(document) } else { document };
        let mut request = Request::new(text.as_ref()).variables(params.variables);
        request.operation_name = params.operation_name;
        request.set_parsed_query(document);
        let to_keep = hash.map(|hash| (hash, text));
        Ok(Prepared { request, kind, name, fields, is_public, subscribed, plan, to_keep })
    }

    /// Runs a query or mutation; also returns what its response depends on, if known.
    pub async fn run(&self, prepared: Prepared, requester: Requester) -> (Response, Option<Freshness>) {
        self.keep(&prepared);
        let kind = prepared.kind.to_string();
        let tenant = requester.caller.as_ref().map(|caller| caller.tenant.0);
        let span = operation_span(&kind, prepared.name.as_deref(), tenant);
        let _timer = METRICS.operation_duration.with_label_values(&[&kind]).start_timer();
        let operation = Arc::new(Operation::of(prepared.kind, Arc::clone(&requester.size)));
        let request = with_requester(prepared.request, requester).data(Arc::clone(&operation));
        let executed = AssertUnwindSafe(self.schema.execute(request)).catch_unwind();
        // A write is not interrupted.
        let wait = if prepared.kind == OperationType::Query { QUERY_WAIT } else { Duration::MAX };
        let executed = tokio::time::timeout(wait, executed).instrument(span.clone()).await;
        let response = span.in_scope(|| match executed {
            Ok(Ok(response)) => finished(response, &prepared.plan),
            Ok(Err(_)) => given_up(Error::internal("a resolver panicked"), &prepared.plan),
            Err(_) => given_up(Error::new(Code::QueryTimeout, "the query takes too long"), &prepared.plan),
        });
        let freshness = operation.freshness(&response);
        (response, freshness)
    }

    /// Runs an operation of any kind as a stream of responses; a query or mutation yields one.
    pub fn stream(&self, mut prepared: Prepared, requester: Requester) -> BoxStream<'static, Payload> {
        let size = Arc::clone(&requester.size);
        let (Some(Subscribed { field, hash, after }), Some(caller)) = (prepared.subscribed.take(), &requester.caller)
        else {
            let operations = self.clone();
            let run = async move { Payload::plain(operations.run(prepared, requester).await.0) };
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
        let tenant = caller.tenant;
        let operation = Arc::new(Operation { after, ..Operation::of(prepared.kind, size) });
        let cursors = self.cursors.clone();
        let request = prepared.request.data(caller).data(Arc::clone(&operation));
        let mut has_begun = false;
        let plan = prepared.plan;
        let answers = self.schema.execute_stream(request).map(move |response| {
            let is_nothing = response.data == async_graphql::Value::Null;
            let mut response = finished(response, &plan);
            let is_first = !std::mem::replace(&mut has_begun, true);
            match operation.take_mark() {
                Some(mark) => Payload::live(response, mark, &cursors.write(tenant, &scope, mark)),
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

/// The selected operation and its name.
fn select<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<(Option<&'a Name>, &'a OperationDefinition), Refusal> {
    let mut fitting = document.operations.iter().filter(|(other, _)| match name {
        Some(name) => other.is_some_and(|other| other.as_str() == name),
        None => true,
    });
    match (fitting.next(), fitting.next()) {
        (Some((name, operation)), None) => Ok((name, &operation.node)),
        (None, _) if name.is_some() => {
            Err(Refusal::new("OPERATION_RESOLUTION_FAILURE", "the document has no operation of this operationName"))
        }
        (None, _) => Err(Refusal::new("OPERATION_RESOLUTION_FAILURE", "the document has no operation")),
        (Some(_), Some(_)) => {
            Err(Refusal::new("OPERATION_RESOLUTION_FAILURE", "the document has several operations; name one"))
        }
    }
}

/// Identifies a subscription. A cursor given as a variable is removed from the variables: the same subscription resumed
/// from another position is still the same.
fn subscribed(
    text: &str,
    document: &ExecutableDocument,
    operation: &OperationDefinition,
    params: &mut Params,
) -> Result<Subscribed, Refusal> {
    let (field, _) = shape::only_field(document, &operation.selection_set.node)?;
    let field = &field.node;
    let argument = field.arguments.iter().find(|(name, _)| name.node == "after").map(|(_, value)| &value.node);
    let mut variables = params.variables.clone();
    let after = match argument {
        Some(Value::Variable(name)) => {
            // It stays in the request's variables, which may require one, but with a blank value.
            let given = params.variables.get_mut(name);
            variables.remove(name);
            given.map(|value| std::mem::replace(value, ConstValue::String(String::new())))
        }
        Some(Value::String(cursor)) => Some(ConstValue::String(cursor.clone())),
        _ => None,
    };
    let after = match after {
        Some(ConstValue::String(cursor)) => Some(cursor),
        _ => params.last_event_id.take(),
    };
    let variables = serde_json::to_string(&variables).unwrap_or_default();
    let name = params.operation_name.as_deref().unwrap_or_default();
    let hash = Sha256::new().chain_update(text).chain_update([0]).chain_update(name).chain_update([0]);
    let hash = hash.chain_update(variables).finalize().into();
    Ok(Subscribed { field: field.name.node.to_string(), hash, after })
}

/// Whether an operation consists only of fields that need no token.
fn is_public(operation: &OperationDefinition) -> bool {
    operation.selection_set.node.items.iter().all(|selection| match &selection.node {
        Selection::Field(field) => PUBLIC.contains(&field.node.name.node.as_str()),
        Selection::InlineFragment(_) | Selection::FragmentSpread(_) => false,
    })
}

fn with_requester(request: Request, Requester { caller, client, .. }: Requester) -> Request {
    let request = request.data(client);
    match caller {
        Some(caller) => request.data(caller),
        None => request,
    }
}

fn parse_error(error: &async_graphql::parser::Error) -> Refusal {
    let message = match error.positions().next() {
        Some(at) => format!("syntax error at line {}, column {}", at.line, at.column),
        None => "syntax error".to_owned(),
    };
    Refusal::new("GRAPHQL_PARSE_FAILED", message)
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
