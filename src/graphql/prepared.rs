//! Operations before they run: a document is scanned before it is parsed, parsed once, and measured; its variables are
//! completed.

use std::sync::Arc;

use async_graphql::parser::Error as ParseError;
use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType, Selection};
use async_graphql::{Name, Request, ServerError};
use async_graphql_value::{ConstValue, Value};
use sha2::{Digest, Sha256};

use super::completion::{Plan, Types};
use super::errors::Refusal;
use super::params::Params;
use super::roots::Selected;
use super::{roots, scan, shape, variables};
use crate::auth::Caller;
use crate::schema::PUBLIC;

/// A validated operation of bounded size.
pub struct Prepared {
    pub request: Request,
    pub kind: OperationType,
    pub name: Option<String>,
    /// Fields, each counted as often as it is selected.
    pub fields: usize,
    /// Whether it needs no token.
    pub is_public: bool,
    pub subscribed: Option<Subscribed>,
    /// The form of its response.
    pub plan: Plan,
    /// The errors of root fields that its caller may not use, which are not executed.
    pub forbidden: Vec<ServerError>,
    /// Whether there are others.
    pub is_executed: bool,
    /// The document, stored under its hash once somebody is allowed to run it.
    pub to_keep: Option<(String, Arc<str>)>,
}

/// What identifies a subscription.
pub struct Subscribed {
    /// The root field.
    pub field: String,
    /// Hash of the operation and its variables, excluding the cursor.
    pub hash: [u8; 32],
    /// The client's cursor.
    pub after: Option<String>,
}

impl Prepared {
    /// Checks everything that can be checked without executing `text`, the caller's permissions before its values;
    /// `hash` is that under which to store it.
    pub fn of(
        text: Arc<str>,
        hash: Option<String>,
        mut params: Params,
        types: &Types,
        caller: Option<&Caller>,
    ) -> Result<Prepared, Refusal> {
        scan::scan(&text)?;
        let document =
            async_graphql::parser::parse_query(scan::with_known_escapes(&text)).map_err(|error| parse_error(&error))?;
        let (name, operation) = select(&document, params.operation_name.as_deref())?;
        let completed = variables::complete(&operation.variable_definitions, &mut params.variables);
        let fields = shape::check(&document, &params.variables)?;
        let plan = types.plan(&document, operation, &params.variables)?;
        let (kind, name) = (operation.ty, name.cloned());
        // Without a token, only a document that consists of the operation alone is allowed.
        let is_alone = document.operations.iter().count() == 1 && document.fragments.is_empty();
        let is_public = kind == OperationType::Mutation && is_alone && is_public(operation);
        let subscribed = match kind {
            OperationType::Subscription => Some(subscribed(&text, &document, operation, &mut params, caller)?),
            _ => None,
        };
        let Selected { document, forbidden, is_executed } =
            roots::select(document, name.as_ref(), &params.variables, caller);
        if is_executed {
            completed?;
        }
        let name = name.map(|name| name.to_string());
        let mut request = Request::new(text.as_ref()).variables(params.variables);
        request.operation_name = params.operation_name;
        request.set_parsed_query(document);
        let to_keep = hash.map(|hash| (hash, text));
        Ok(Prepared { request, kind, name, fields, is_public, subscribed, plan, forbidden, is_executed, to_keep })
    }
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
    caller: Option<&Caller>,
) -> Result<Subscribed, Refusal> {
    let field = &roots::only_field(document, &operation.selection_set.node)?.node;
    if let Some(Err(error)) = caller.map(|caller| roots::check_field(&field.name.node, caller)) {
        return Err(Refusal::new(error.code.as_str(), error.message));
    }
    let argument = field.arguments.iter().find(|(name, _)| name.node == "after").map(|(_, value)| &value.node);
    let mut variables = params.variables.clone();
    let after = match argument {
        Some(Value::Variable(name)) => match params.variables.get_mut(name) {
            Some(ConstValue::String(cursor)) => {
                variables.remove(name);
                // It stays in the request's variables, which may require one, but with a blank value.
                Some(std::mem::take(cursor))
            }
            Some(ConstValue::Null) => {
                variables.remove(name);
                None
            }
            // What is no cursor is refused when the subscription begins.
            _ => None,
        },
        Some(Value::String(cursor)) => Some(cursor.clone()),
        _ => None,
    };
    // A client that reconnects repeats its request: what it has seen since is in the header.
    let after = params.last_event_id.take().or(after);
    let variables = serde_json::to_string(&variables)
        .map_err(|_| Refusal::new("BAD_USER_INPUT", "the variables cannot be written as JSON"))?;
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

fn parse_error(error: &ParseError) -> Refusal {
    let unresolved = |message: String| Refusal::new("OPERATION_RESOLUTION_FAILURE", message);
    match error {
        ParseError::MultipleOperations { .. } => unresolved("an operation beside others needs a name".to_owned()),
        ParseError::OperationDuplicated { operation, .. } => {
            unresolved(format!("two operations are named {operation}"))
        }
        ParseError::FragmentDuplicated { fragment, .. } => {
            Refusal::new("GRAPHQL_VALIDATION_FAILED", format!("two fragments are named {fragment}"))
        }
        error => {
            let message = match error.positions().next() {
                Some(at) => format!("syntax error at line {}, column {}", at.line, at.column),
                None => "syntax error".to_owned(),
            };
            Refusal::new("GRAPHQL_PARSE_FAILED", message)
        }
    }
}
