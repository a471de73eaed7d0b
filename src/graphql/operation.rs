//! How an operation runs, the same for every transport: parsed once, with loaders of its own, and every error with a
//! code.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::{ExecutableDocument, OperationType};
use async_graphql::{Data, Executor, Name, Request, Response};
use futures_util::stream::{BoxStream, StreamExt};

use super::answers::Freshness;
use super::errors;
use super::reads::Reads;
use crate::schema::Schema;

/// Runs operations of the schema.
#[derive(Clone)]
pub struct Operations(pub Schema);

/// What lives as long as one operation: what it reads from, its data loaders, and what its answer depends on.
#[derive(Default)]
pub struct Operation {
    reads: Arc<Reads>,
    loaders: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    dated: Mutex<Vec<Freshness>>,
}

impl Operation {
    /// The selected operation of a document.
    fn of(document: &ExecutableDocument, name: Option<&str>) -> Self {
        let mut selected =
            document.operations.iter().filter(|(other, _)| name.is_none() || other.map(Name::as_str) == name);
        let is_query = selected.all(|(_, operation)| operation.node.ty == OperationType::Query);
        let reads = Arc::new(if is_query { Reads::of_one_snapshot() } else { Reads::default() });
        Operation { reads, ..Operation::default() }
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
    /// Runs a query or mutation; also tells what its answer depends on, if that is known.
    pub async fn run(&self, request: Request) -> (Response, Option<Freshness>) {
        match Self::prepare(request) {
            Ok((request, operation)) => {
                let response = with_codes(self.0.execute(request).await);
                let freshness = operation.freshness(&response);
                (response, freshness)
            }
            Err(response) => (*response, None),
        }
    }

    fn prepare(mut request: Request) -> Result<(Request, Arc<Operation>), Box<Response>> {
        match async_graphql::parser::parse_query(&request.query) {
            Ok(document) => {
                let operation = Arc::new(Operation::of(&document, request.operation_name.as_deref()));
                request.set_parsed_query(document);
                Ok((request.data(Arc::clone(&operation)), operation))
            }
            Err(error) => {
                let message = match error.positions().next() {
                    Some(at) => format!("syntax error at line {}, column {}", at.line, at.column),
                    None => "syntax error".to_owned(),
                };
                Err(Box::new(Response::from_errors(vec![errors::plain("GRAPHQL_PARSE_FAILED", &message)])))
            }
        }
    }
}

#[async_trait::async_trait]
impl Executor for Operations {
    async fn execute(&self, request: Request) -> Response {
        self.run(request).await.0
    }

    fn execute_stream(&self, request: Request, session_data: Option<Arc<Data>>) -> BoxStream<'static, Response> {
        match Self::prepare(request) {
            Ok((request, _)) => Executor::execute_stream(&self.0, request, session_data).map(with_codes).boxed(),
            Err(response) => futures_util::stream::iter([*response]).boxed(),
        }
    }
}

fn with_codes(mut response: Response) -> Response {
    response.errors.iter_mut().for_each(errors::add_code);
    response
}
