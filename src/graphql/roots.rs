//! The root fields of an operation in the form that async-graphql executes as the specification says: it runs a field
//! once for each time it is selected, mutations too, and finds the field of a subscription only outside of fragments.
//!
//! Fields that the caller may not use are left out, since async-graphql would check their arguments first.

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    Directive, DocumentOperations, ExecutableDocument, Field, FragmentDefinition, InlineFragment, OperationDefinition,
    OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, PathSegment, Positioned, ServerError, Variables};
use async_graphql_value::Value;

use super::completion::is_asked;
use super::context::check_may;
use super::errors::Refusal;
use crate::auth::Caller;
use crate::error::Error;
use crate::schema::permission_of;

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// The single root field of a subscription. Error: GRAPHQL_VALIDATION_FAILED, when there is not exactly one, or it is
/// conditional.
pub fn only_field<'a>(
    document: &'a ExecutableDocument,
    root: &'a SelectionSet,
) -> Result<&'a Positioned<Field>, Refusal> {
    let refusal = || Refusal::new("GRAPHQL_VALIDATION_FAILED", "a subscription has one field at its root");
    let mut selections = root;
    loop {
        let [only] = selections.items.as_slice() else { return Err(refusal()) };
        if only.node.directives().iter().any(|of| ["skip", "include"].contains(&of.node.name.node.as_str())) {
            let message = "the root field of a subscription cannot have @skip or @include";
            return Err(Refusal::new("GRAPHQL_VALIDATION_FAILED", message));
        }
        selections = match &only.node {
            Selection::Field(field) => return Ok(field),
            Selection::InlineFragment(fragment) => &fragment.node.selection_set.node,
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                &document.fragments.get(name).ok_or_else(refusal)?.node.selection_set.node
            }
        };
    }
}

/// Whether the caller may use a root field. Error: FORBIDDEN.
pub fn check_field(field: &str, caller: &Caller) -> Result<(), Error> {
    permission_of(field).map_or(Ok(()), |needed| check_may(caller, needed))
}

/// A document as it is executed.
pub struct Selected {
    pub document: ExecutableDocument,
    /// An error for each root field that is left out.
    pub forbidden: Vec<ServerError>,
    /// Whether there are others.
    pub is_executed: bool,
}

/// Selects each root field of the operation `name` once, with all that is selected of it, and that of a subscription
/// outside of fragments; leaves out the fields of queries and mutations that the caller may not use. Whatever has this
/// form already is left as it is. The document's size and conflicts between fields of one key have been checked.
pub fn select(
    mut document: ExecutableDocument,
    name: Option<&Name>,
    variables: &Variables,
    caller: Option<&Caller>,
) -> Selected {
    let before = Uses::of(&document, name);
    let as_it_is = |document| Selected { document, forbidden: Vec::new(), is_executed: true };
    let Some(operation) = operation_of(&mut document.operations, name) else { return as_it_is(document) };
    let mut root = operation.selection_set.node.clone();
    let kind = operation.ty;
    let mut forbidden = Vec::new();
    if kind == OperationType::Subscription {
        let Ok(field) = only_field(&document, &root) else { return as_it_is(document) };
        root.items = vec![Positioned::new(Selection::Field(field.clone()), field.pos)];
    } else {
        inline(&mut root, &document.fragments);
        if let Some(caller) = caller {
            leave_out(&mut root, variables, caller, &mut forbidden);
        }
        let mut fields = HashMap::new();
        collect(&root, variables, &mut fields);
        if forbidden.is_empty() && fields.values().all(|selected| selected.len() == 1) {
            return as_it_is(document);
        }
        let merged = |selected: Vec<&SelectionSet>| selected.into_iter().flat_map(|set| set.items.clone()).collect();
        let mut fields = fields.into_iter().map(|(key, selected)| (key, merged(selected))).collect();
        merge(&mut root, variables, &mut fields);
    }
    let is_executed = !root.items.is_empty();
    if let Some(operation) = operation_of(&mut document.operations, name) {
        operation.selection_set.node = root;
    }
    // What nothing uses is invalid, unless the client has sent it so.
    let after = Uses::of(&document, name);
    document.fragments.retain(|name, _| after.fragments.contains(name) || !before.fragments.contains(name));
    if let Some(operation) = operation_of(&mut document.operations, name) {
        let is_used = |name: &Name| after.variables.contains(name) || !before.variables.contains(name);
        operation.variable_definitions.retain(|variable| is_used(&variable.node.name.node));
    }
    Selected { document, forbidden, is_executed }
}

fn operation_of<'a>(
    operations: &'a mut DocumentOperations,
    name: Option<&Name>,
) -> Option<&'a mut OperationDefinition> {
    match (operations, name) {
        (DocumentOperations::Single(operation), _) => Some(&mut operation.node),
        (DocumentOperations::Multiple(all), Some(name)) => all.get_mut(name).map(|operation| &mut operation.node),
        (DocumentOperations::Multiple(_), None) => None,
    }
}

/// Replaces the fragments spread at the root by inline ones, which keep their conditions.
fn inline(set: &mut SelectionSet, fragments: &Fragments) {
    for selection in &mut set.items {
        if let Selection::FragmentSpread(spread) = &selection.node
            && let Some(fragment) = fragments.get(&spread.node.fragment_name.node)
        {
            let inline = InlineFragment {
                type_condition: Some(fragment.node.type_condition.clone()),
                directives: spread.node.directives.clone(),
                selection_set: fragment.node.selection_set.clone(),
            };
            selection.node = Selection::InlineFragment(Positioned::new(inline, spread.pos));
        }
        if let Selection::InlineFragment(fragment) = &mut selection.node {
            inline(&mut fragment.node.selection_set.node, fragments);
        }
    }
}

/// Removes the fields that the caller may not use, with an error for each of their keys.
fn leave_out(set: &mut SelectionSet, variables: &Variables, caller: &Caller, errors: &mut Vec<ServerError>) {
    set.items.retain_mut(|selection| {
        if !is_asked(&selection.node, variables) {
            return true;
        }
        match &mut selection.node {
            Selection::Field(field) => match check_field(&field.node.name.node, caller) {
                Ok(()) => return true,
                Err(error) => {
                    let path = vec![PathSegment::Field(field.node.response_key().node.to_string())];
                    if errors.iter().all(|other| other.path != path) {
                        let error = async_graphql::Error::from(error).into_server_error(field.pos);
                        errors.push(ServerError { path, ..error });
                    }
                    return false;
                }
            },
            Selection::InlineFragment(fragment) => {
                let within = &mut fragment.node.selection_set.node;
                leave_out(within, variables, caller, errors);
                return !within.items.is_empty();
            }
            Selection::FragmentSpread(_) => {}
        }
        true
    });
}

/// What is selected of each root field, by response key.
fn collect<'a>(set: &'a SelectionSet, variables: &Variables, fields: &mut HashMap<Name, Vec<&'a SelectionSet>>) {
    for selection in set.items.iter().map(|selection| &selection.node) {
        match selection {
            _ if !is_asked(selection, variables) => {}
            Selection::Field(field) => {
                let selected = fields.entry(field.node.response_key().node.clone()).or_default();
                selected.push(&field.node.selection_set.node);
            }
            Selection::InlineFragment(fragment) => collect(&fragment.node.selection_set.node, variables, fields),
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Gives the first field of each key all that is selected of it, and removes the others.
fn merge(set: &mut SelectionSet, variables: &Variables, fields: &mut HashMap<Name, Vec<Positioned<Selection>>>) {
    set.items.retain_mut(|selection| {
        if !is_asked(&selection.node, variables) {
            return true;
        }
        match &mut selection.node {
            Selection::Field(field) => match fields.remove(&field.node.response_key().node) {
                Some(items) => field.node.selection_set.node.items = items,
                None => return false,
            },
            Selection::InlineFragment(fragment) => {
                let within = &mut fragment.node.selection_set.node;
                merge(within, variables, fields);
                return !within.items.is_empty();
            }
            Selection::FragmentSpread(_) => {}
        }
        true
    });
}

/// What operations use, also within fragments.
#[derive(Default)]
struct Uses {
    /// By any operation.
    fragments: HashSet<Name>,
    /// By one.
    variables: HashSet<Name>,
}

impl Uses {
    fn of(document: &ExecutableDocument, name: Option<&Name>) -> Uses {
        let (ours, others): (Vec<_>, Vec<_>) = document.operations.iter().partition(|(other, _)| *other == name);
        let mut uses = Uses::default();
        for (_, operation) in ours {
            uses.add_directives(&operation.node.directives);
            uses.add(document, &operation.node.selection_set.node);
        }
        let variables = uses.variables.clone();
        others.iter().for_each(|(_, operation)| uses.add(document, &operation.node.selection_set.node));
        Uses { variables, ..uses }
    }

    fn add(&mut self, document: &ExecutableDocument, set: &SelectionSet) {
        for selection in &set.items {
            self.add_directives(selection.node.directives());
            match &selection.node {
                Selection::Field(field) => {
                    field.node.arguments.iter().for_each(|(_, value)| self.add_value(&value.node));
                    self.add(document, &field.node.selection_set.node);
                }
                Selection::InlineFragment(fragment) => self.add(document, &fragment.node.selection_set.node),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if self.fragments.insert(name.clone())
                        && let Some(fragment) = document.fragments.get(name)
                    {
                        self.add_directives(&fragment.node.directives);
                        self.add(document, &fragment.node.selection_set.node);
                    }
                }
            }
        }
    }

    fn add_directives(&mut self, directives: &[Positioned<Directive>]) {
        let arguments = directives.iter().flat_map(|directive| &directive.node.arguments);
        arguments.for_each(|(_, value)| self.add_value(&value.node));
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Variable(name) => drop(self.variables.insert(name.clone())),
            Value::List(items) => items.iter().for_each(|item| self.add_value(item)),
            Value::Object(members) => members.values().for_each(|member| self.add_value(member)),
            _ => {}
        }
    }
}
