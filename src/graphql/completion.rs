//! Response completion, which async-graphql omits: fields in selection order, and null propagation from a failed field
//! to the nearest nullable parent. Follows "Executing Selection Sets" and "Handling Execution Errors" of the GraphQL
//! specification (September 2025).

use std::collections::HashMap;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::parse_schema;
use async_graphql::parser::types::{
    BaseType, ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet, Type, TypeKind,
    TypeSystemDefinition,
};
use async_graphql::{Name, PathSegment, Response, Value, Variables};
use async_graphql_value::Value as Given;

use super::errors::Refusal;

/// The type of each field of each object type.
#[derive(Debug, Default)]
pub struct Types(HashMap<Name, HashMap<Name, Type>>);

impl Types {
    /// Reads the types from a schema's SDL. For an SDL that does not parse there are none, and responses are left as
    /// they are.
    pub fn of(sdl: &str) -> Types {
        let definitions = match parse_schema(sdl) {
            Ok(document) => document.definitions,
            Err(error) => {
                tracing::error!(%error, "the schema cannot be read");
                Vec::new()
            }
        };
        let object = |definition| match definition {
            TypeSystemDefinition::Type(ty) => match ty.node.kind {
                TypeKind::Object(object) => {
                    let fields = object.fields.into_iter().map(|field| (field.node.name.node, field.node.ty.node));
                    Some((ty.node.name.node, fields.collect()))
                }
                _ => None,
            },
            _ => None,
        };
        Types(definitions.into_iter().filter_map(object).collect())
    }

    /// The expected form of an operation's response. The document is bounded in depth and fields ([`super::shape`]).
    /// Error: GRAPHQL_VALIDATION_FAILED, when fields of one response key differ in name or arguments.
    pub fn plan(
        &self,
        document: &ExecutableDocument,
        operation: &OperationDefinition,
        variables: &Variables,
    ) -> Result<Plan, Refusal> {
        let root = match operation.ty {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        Planner { types: self, document, variables }.plan(root, &[&operation.selection_set.node])
    }
}

/// The fields of an object in selection order.
#[derive(Debug, Default)]
pub struct Plan(Vec<Planned>);

#[derive(Debug)]
struct Planned {
    key: Name,
    /// `None` for what only async-graphql defines, such as `__schema`: left as it is.
    of: Option<Type>,
    /// `None` for a leaf.
    plan: Option<Plan>,
}

struct Planner<'a> {
    types: &'a Types,
    document: &'a ExecutableDocument,
    variables: &'a Variables,
}

/// Fields by response key: the first of each key, its type, and everything selected of it.
type Collected<'a> = IndexMap<&'a Name, (&'a Field, Option<&'a Type>, Vec<&'a SelectionSet>)>;

impl<'a> Planner<'a> {
    fn plan(&self, parent: &str, sets: &[&'a SelectionSet]) -> Result<Plan, Refusal> {
        let mut fields = Collected::new();
        for set in sets {
            self.collect(parent, set, &mut fields)?;
        }
        let mut planned = Vec::with_capacity(fields.len());
        for (key, (_, of, sets)) in fields {
            let is_leaf = sets.iter().all(|set| set.items.is_empty());
            let plan = of.filter(|_| !is_leaf).map(|of| self.plan(name_of(&of.base), &sets)).transpose()?;
            planned.push(Planned { key: key.clone(), of: of.cloned(), plan });
        }
        Ok(Plan(planned))
    }

    fn collect(&self, parent: &str, set: &'a SelectionSet, fields: &mut Collected<'a>) -> Result<(), Refusal> {
        for selection in set.items.iter().map(|selection| &selection.node) {
            match selection {
                _ if !is_asked(selection, self.variables) => {}
                Selection::Field(field) => {
                    let (field, key) = (&field.node, &field.node.response_key().node);
                    let of = self.types.0.get(parent).and_then(|of| of.get(&field.name.node));
                    let (first, _, sets) = fields.entry(key).or_insert((field, of, Vec::new()));
                    if !is_same(first, field) {
                        let message = format!("the fields `{key}` differ in name or arguments; give them aliases");
                        return Err(Refusal::new("GRAPHQL_VALIDATION_FAILED", message));
                    }
                    sets.push(&field.selection_set.node);
                }
                // No type of the schema is abstract, so a fragment has the type of its parent.
                Selection::InlineFragment(fragment) => {
                    self.collect(parent, &fragment.node.selection_set.node, fields)?;
                }
                Selection::FragmentSpread(spread) => {
                    if let Some(fragment) = self.document.fragments.get(&spread.node.fragment_name.node) {
                        self.collect(parent, &fragment.node.selection_set.node, fields)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether two fields have the same name and arguments, in whatever order.
fn is_same(one: &Field, other: &Field) -> bool {
    let has_all = |one: &Field, other: &Field| {
        one.arguments.iter().all(|(name, value)| other.get_argument(&name.node).is_some_and(|of| of.node == value.node))
    };
    one.name.node == other.name.node && has_all(one, other) && has_all(other, one)
}

/// Evaluates `@skip` and `@include`.
pub fn is_asked(selection: &Selection, variables: &Variables) -> bool {
    selection.directives().iter().map(|directive| &directive.node).all(|directive| {
        let condition = directive.get_argument("if").is_some_and(|condition| match &condition.node {
            Given::Variable(name) => variables.get(name) == Some(&Value::Boolean(true)),
            given => *given == Given::Boolean(true),
        });
        match directive.name.node.as_str() {
            "skip" => !condition,
            "include" => condition,
            _ => true,
        }
    })
}

fn name_of(base: &BaseType) -> &str {
    match base {
        BaseType::Named(name) => name,
        BaseType::List(inner) => name_of(&inner.base),
    }
}

impl Plan {
    /// The response keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().map(|field| &field.key)
    }

    /// Completes a response, unless nothing was executed.
    pub fn complete(&self, response: &mut Response) {
        let has_begun = response.errors.is_empty() || response.errors.iter().any(|error| !error.path.is_empty());
        if !has_begun {
            return;
        }
        let found = match std::mem::take(&mut response.data) {
            Value::Object(found) => found,
            _ => IndexMap::new(),
        };
        let mut failed: Vec<Vec<Step>> = response.errors.iter().map(|error| steps(&error.path)).collect();
        failed.sort_unstable();
        let mut walk = Walk { failed: &failed, path: Vec::new() };
        response.data = walk.object(self, found).unwrap_or_default();
    }
}

/// A path segment; unlike async-graphql's own, it is ordered.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step<'a> {
    Index(usize),
    Field(&'a str),
}

fn steps(path: &[PathSegment]) -> Vec<Step<'_>> {
    let step = |segment| match segment {
        &PathSegment::Index(index) => Step::Index(index),
        PathSegment::Field(name) => Step::Field(name),
    };
    path.iter().map(step).collect()
}

/// Traverses a response. `None` stands for a non-null value that failed.
struct Walk<'a> {
    /// Error paths, sorted, so that those below a path follow it.
    failed: &'a [Vec<Step<'a>>],
    path: Vec<Step<'a>>,
}

impl<'a> Walk<'a> {
    fn object(&mut self, plan: &'a Plan, mut found: IndexMap<Name, Value>) -> Option<Value> {
        if self.failed.is_empty() && found.keys().eq(plan.keys()) {
            for (field, value) in plan.0.iter().zip(found.values_mut()).filter(|(field, _)| field.plan.is_some()) {
                *value = self.field(field, std::mem::take(value))?;
            }
            return Some(Value::Object(found));
        }
        let mut object = IndexMap::with_capacity(found.len());
        for field in &plan.0 {
            self.path.push(Step::Field(&field.key));
            let value = found.swap_remove(&field.key).unwrap_or_default();
            let value = self.field(field, value);
            self.path.pop();
            object.insert(field.key.clone(), value?);
        }
        Some(Value::Object(object))
    }

    fn field(&mut self, field: &'a Planned, value: Value) -> Option<Value> {
        match &field.of {
            Some(of) => self.value(of, field.plan.as_ref(), value),
            None => Some(value),
        }
    }

    fn value(&mut self, of: &Type, plan: Option<&'a Plan>, value: Value) -> Option<Value> {
        let completed = match (&of.base, value, plan) {
            (BaseType::List(inner), Value::List(items), _) => {
                let items = items.into_iter().enumerate().map(|(index, item)| {
                    self.path.push(Step::Index(index));
                    let item = self.value(inner, plan, item);
                    self.path.pop();
                    item
                });
                items.collect::<Option<_>>().map(Value::List)
            }
            (BaseType::Named(_), Value::Object(found), Some(plan)) => self.object(plan, found),
            (_, Value::Null, _) if self.fails_here() => None,
            // An object none of whose fields could be resolved.
            (BaseType::Named(_), Value::Null, Some(plan)) if self.fails_within() || !of.nullable => {
                self.object(plan, IndexMap::new())
            }
            (_, Value::Null, _) if self.fails_within() => None,
            (_, leaf, _) => Some(leaf),
        };
        if completed.is_none() && of.nullable { Some(Value::Null) } else { completed }
    }

    fn fails_here(&self) -> bool {
        self.failed.binary_search(&self.path).is_ok()
    }

    fn fails_within(&self) -> bool {
        let next = self.failed.partition_point(|failed| *failed <= self.path);
        self.failed.get(next).is_some_and(|failed| failed.starts_with(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::ServerError;
    use async_graphql::parser::parse_query;
    use serde_json::{Value as Json, json};

    use super::*;

    const SDL: &str = "type Query { me: Me! shop: Shop maybe: String } type Me { id: ID! name: String } \
                       type Shop { id: ID! owner: Me! sales: [Sale!]! staff: [Me] } type Sale { no: Int! buyer: Me }";

    /// The completed response, `failed` being the error paths.
    fn answer(query: &str, variables: Json, data: Json, failed: &[&str]) -> Value {
        let document = parse_query(query).expect("a document");
        let (_, operation) = document.operations.iter().next().expect("an operation");
        let plan = Types::of(SDL).plan(&document, &operation.node, &Variables::from_json(variables)).expect("valid");
        let segment = |text: &str| match text.parse() {
            Ok(index) => PathSegment::Index(index),
            Err(_) => PathSegment::Field(text.to_owned()),
        };
        let error = |path: &&str| ServerError {
            path: path.split('.').map(segment).collect(),
            ..ServerError::new("failed", None)
        };
        let mut response = Response::new(Value::from_json(data).expect("a value"));
        response.errors = failed.iter().map(error).collect();
        plan.complete(&mut response);
        response.data
    }

    fn completed(query: &str, variables: Json, data: Json, failed: &[&str]) -> Json {
        answer(query, variables, data, failed).into_json().expect("json")
    }

    /// The completed response as text, which shows the field order.
    fn ordered(query: &str, data: Json) -> String {
        serde_json::to_string(&answer(query, json!({}), data, &[])).expect("json")
    }

    #[test]
    fn fields_come_in_the_order_of_their_selection() {
        let of_me = json!({ "name": "Zoe", "id": "1" });
        assert_eq!(ordered("{ me { id name } }", json!({ "me": of_me })), r#"{"me":{"id":"1","name":"Zoe"}}"#);
        let query =
            "query { s: shop { ...S sales { no } } me { id } } fragment S on Shop { owner { name } id owner { id } }";
        let shop = json!({ "sales": [{ "no": 1 }], "id": "7", "owner": of_me });
        assert_eq!(
            ordered(query, json!({ "me": { "id": "1" }, "s": shop })),
            r#"{"s":{"owner":{"name":"Zoe","id":"1"},"id":"7","sales":[{"no":1}]},"me":{"id":"1"}}"#
        );
        let types = json!({ "types": [{ "name": "A" }], "b": 1 });
        assert_eq!(
            ordered("{ maybe __schema { types { name } } }", json!({ "__schema": types, "maybe": null })),
            format!(r#"{{"maybe":null,"__schema":{types}}}"#)
        );
    }

    #[test]
    fn what_failed_is_null_where_it_may_be() {
        let query = "{ maybe me { id name } shop { id sales { no buyer { id } } staff { id } } }";
        let all = |query: &str, data: Json, failed: &[&str]| completed(query, json!({}), data, failed);
        let me = json!({ "id": "1", "name": null });
        let shop = json!({ "id": "7", "sales": [{ "no": 1, "buyer": null }], "staff": [] });
        // A nullable field.
        assert_eq!(
            all(query, json!({ "me": { "id": "1" }, "shop": shop, "maybe": null }), &["me.name"]),
            json!({ "maybe": null, "me": me, "shop": shop })
        );
        assert_eq!(
            all("{ shop { staff { name } } }", json!({ "shop": { "staff": [null] } }), &["shop.staff.0.name"]),
            json!({ "shop": { "staff": [{ "name": null }] } })
        );
        // A non-null field nulls its object, and lists, up to the nearest nullable parent.
        assert_eq!(all(query, json!({ "maybe": "x", "shop": shop }), &["me"]), json!(null));
        assert_eq!(
            all(
                query,
                json!({ "maybe": "x", "me": me, "shop": { "id": "7", "sales": [{ "buyer": null }], "staff": [] } }),
                &["shop.sales.0.no"]
            ),
            json!({ "maybe": "x", "me": me, "shop": null })
        );
        assert_eq!(
            all(
                query,
                json!({ "maybe": "x", "me": me, "shop": { "id": "7", "sales": [{ "no": 1 }], "staff": [{}, null] } }),
                &["shop.sales.0.buyer.id", "shop.staff.0.id"]
            ),
            json!({ "maybe": "x", "me": me,
                    "shop": { "id": "7", "sales": [{ "no": 1, "buyer": null }], "staff": [null, null] } })
        );
        // async-graphql gave up the whole list.
        assert_eq!(
            all("{ shop { id sales { no } } }", json!({ "shop": { "id": "7" } }), &["shop.sales.3.no"]),
            json!({ "shop": null })
        );
    }

    #[test]
    fn fields_of_one_key_are_the_same_wherever_they_are_selected() {
        let is_valid = |query: &str, variables: Json| {
            let document = parse_query(query).expect("a document");
            let (_, operation) = document.operations.iter().next().expect("an operation");
            Types::of(SDL).plan(&document, &operation.node, &Variables::from_json(variables)).is_ok()
        };
        for conflict in [
            "{ x: maybe x: me { id } }",
            "{ x: maybe ... on Query { x: me { id } } }",
            "{ me { a: id } ...M } fragment M on Query { me { a: name } }",
            "{ shop(a: 1, b: 2) { id } ...S } fragment S on Query { shop(b: 1, a: 2) { owner { id } } }",
            "query($a: Int, $b: Int) { shop(a: $a) { id } shop(a: $b) { id } }",
            "{ shop { sales { no } } shop { sales(first: 1) { no } } }",
        ] {
            assert!(!is_valid(conflict, json!({})), "{conflict}");
        }
        let same = "{ shop(a: 1, b: [2]) { id } ...S } fragment S on Query { shop(b: [2], a: 1) { id owner { id } } }";
        assert!(is_valid(same, json!({})));
        let one_of_both = "query($a: Boolean!) { x: maybe @skip(if: $a) x: me @include(if: $a) { id } }";
        assert!(is_valid(one_of_both, json!({ "a": true })));
    }

    #[test]
    fn what_is_not_asked_is_not_there() {
        let query = "query($full: Boolean!) { me { id name @include(if: $full) } shop @skip(if: $full) { id } }";
        let me = json!({ "id": "1" });
        assert_eq!(
            completed(query, json!({ "full": false }), json!({ "shop": null, "me": me }), &[]),
            json!({ "me": me, "shop": null })
        );
        assert_eq!(
            completed("{ me { id @skip(if: true) } }", json!({}), json!({ "me": null }), &[]),
            json!({ "me": {} })
        );
    }
}
