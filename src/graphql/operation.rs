//! How an operation runs, the same for every transport: its document is looked at before it is parsed, parsed once,
//! measured, and run with loaders of its own; every error has a code.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType};
use async_graphql::{Request, Response};
use futures_util::stream::{BoxStream, StreamExt};

use super::answers::Freshness;
use super::documents::Documents;
use super::errors::{self, Refusal};
use super::params::Params;
use super::reads::Reads;
use super::{scan, shape, variables};
use crate::auth::Caller;
use crate::schema::Schema;

/// Runs operations of the schema. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    schema: Schema,
    documents: Documents,
}

/// An operation that may run: of good form and bounded size.
pub struct Prepared {
    request: Request,
    kind: OperationType,
}

impl Prepared {
    pub fn kind(&self) -> OperationType {
        self.kind
    }
}

/// What lives as long as one operation: what it reads from, its data loaders, and what its answer depends on.
#[derive(Default)]
pub struct Operation {
    reads: Arc<Reads>,
    loaders: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    dated: Mutex<Vec<Freshness>>,
}

impl Operation {
    fn of(kind: OperationType) -> Self {
        let reads = if kind == OperationType::Query { Reads::of_one_snapshot() } else { Reads::default() };
        Operation { reads: Arc::new(reads), ..Operation::default() }
    }

    pub fn reads(&self) -> &Arc<Reads> {
        &self.reads
    }

    /// The operation's loader of type `L`, made when it is first asked for.
    pub fn loader<L: Any + Send + Sync>(&self, make: impl FnOnce() -> L) -> Arc<L> {
        let mut loaders = self.loaders.lock().unwrap_or_else(PoisonError::into_inner);
        let loader = loaders.entry(TypeId::of::<L>()).or_insert_with(|| Arc::new(make()) as Arc<dyn Any + Send + Sync>);
        match Arc::clone(loader).downcast() {
            Ok(loader) => loader,
            Err(_) => unreachable!("entries are keyed by their type"),
        }
    }

    /// Notes that one field of the root depends on nothing but what `freshness` says.
    pub fn is_dated(&self, freshness: Freshness) {
        self.dated.lock().unwrap_or_else(PoisonError::into_inner).push(freshness);
    }

    /// What the whole answer depends on; `None` unless every field of the root is dated, all by one head.
    fn freshness(&self, response: &Response) -> Option<Freshness> {
        let dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let async_graphql::Value::Object(fields) = &response.data else { return None };
        if !response.errors.is_empty() || dated.len() != fields.len() {
            return None;
        }
        dated.iter().skip(1).try_fold(*dated.first()?, |all, one| all.and(*one))
    }
}

impl Operations {
    pub fn new(schema: Schema) -> Self {
        Operations { schema, documents: Documents::default() }
    }

    /// Checks all that can be checked without running: the document, which operation is meant, its variables.
    pub fn prepare(&self, params: Params) -> Result<Prepared, Refusal> {
        let (text, hash) = self.documents.text_of(params.query, &params.extensions)?;
        scan::scan(&text)?;
        let document = async_graphql::parser::parse_query(text.as_ref()).map_err(|error| parse_error(&error))?;
        shape::check(&document)?;
        let operation = select(&document, params.operation_name.as_deref())?;
        variables::check(&operation.variable_definitions, &params.variables)?;
        let kind = operation.ty;
        if let Some(hash) = hash {
            self.documents.keep(hash, &text);
        }
        let mut request = Request::new(text.as_ref()).variables(params.variables);
        request.operation_name = params.operation_name;
        request.set_parsed_query(document);
        Ok(Prepared { request, kind })
    }

    /// Runs a query or mutation; also tells what its answer depends on, if that is known.
    pub async fn run(&self, prepared: Prepared, caller: Arc<Caller>) -> (Response, Option<Freshness>) {
        let operation = Arc::new(Operation::of(prepared.kind));
        let request = prepared.request.data(caller).data(Arc::clone(&operation));
        let response = with_codes(self.schema.execute(request).await);
        let freshness = operation.freshness(&response);
        (response, freshness)
    }

    /// Runs an operation of any kind as a stream of answers; a query or mutation gives one.
    pub fn stream(&self, prepared: Prepared, caller: Arc<Caller>) -> BoxStream<'static, Response> {
        if prepared.kind != OperationType::Subscription {
            let operations = self.clone();
            return futures_util::stream::once(async move { operations.run(prepared, caller).await.0 }).boxed();
        }
        let request = prepared.request.data(caller).data(Arc::new(Operation::of(prepared.kind)));
        self.schema.execute_stream(request).map(with_codes).boxed()
    }
}

/// Whether a response says that nothing was run.
pub fn is_request_error(response: &Response) -> bool {
    response.data == async_graphql::Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty())
}

/// A response as JSON, its fields in the order of the selection, and without `data` when nothing was run.
pub fn to_json(response: &Response) -> String {
    if is_request_error(response) {
        return errors::only(&response.errors);
    }
    serde_json::to_string(response).unwrap_or_else(|error| {
        let error = async_graphql::Error::from(crate::error::Error::internal(error));
        errors::only(&[error.into_server_error(async_graphql::Pos::default())])
    })
}

/// The operation that is meant.
fn select<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Result<&'a OperationDefinition, Refusal> {
    let mut fitting = document.operations.iter().filter(|(other, _)| match name {
        Some(name) => other.is_some_and(|other| other.as_str() == name),
        None => true,
    });
    match (fitting.next(), fitting.next()) {
        (Some((_, operation)), None) => Ok(&operation.node),
        (None, _) if name.is_some() => {
            Err(Refusal::new("OPERATION_RESOLUTION_FAILURE", "the document has no operation of this operationName"))
        }
        (None, _) => Err(Refusal::new("OPERATION_RESOLUTION_FAILURE", "the document has no operation")),
        (Some(_), Some(_)) => {
            Err(Refusal::new("OPERATION_RESOLUTION_FAILURE", "the document has several operations; name one"))
        }
    }
}

fn parse_error(error: &async_graphql::parser::Error) -> Refusal {
    let message = match error.positions().next() {
        Some(at) => format!("syntax error at line {}, column {}", at.line, at.column),
        None => "syntax error".to_owned(),
    };
    Refusal::new("GRAPHQL_PARSE_FAILED", message)
}

fn with_codes(mut response: Response) -> Response {
    response.errors.iter_mut().for_each(errors::add_code);
    response
}
