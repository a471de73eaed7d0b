//! The size of an operation with its fragments expanded, and of its response with all pages full, computed without
//! expanding them: each fragment is measured once. async-graphql's own validation visits a fragment wherever it is
//! spread, which doubles with each level of a chain of fragments that spread the next one twice.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, Field, Selection, SelectionSet};
use async_graphql::{Name, Variables};
use async_graphql_value::{ConstValue, Value};

use super::errors::Refusal;
use super::page::PAGE_DEFAULT;

/// Maximum depth of fields.
const DEPTH_MAX: usize = 12;
/// Maximum depth below `__schema` and `__type`, which describe types of types.
const INTROSPECTION_DEPTH_MAX: usize = 20;
/// Maximum number of fields, each counted as often as it is selected.
const FIELDS_MAX: usize = 5_000;
/// Maximum number of fields of the response, counting the requested number of items for each page.
const ANSWER_FIELDS_MAX: usize = 200_000;
/// Larger pages do not exist: they are refused by the field itself.
const PAGE_MAX: usize = 1_000;
/// Maximum number of aliases in a document, fragments counted once.
const ALIASES_MAX: usize = 100;
/// Maximum number of directives in a document, fragments counted once.
const DIRECTIVES_MAX: usize = 50;

/// Maximum length of a chain of fragments that spread one another.
const CHAIN_MAX: usize = 50;

/// The size of a selection.
#[derive(Clone, Copy, Default)]
struct Shape {
    depth: usize,
    introspection_depth: usize,
    fields: usize,
    /// Fields of the response.
    answer_fields: usize,
    /// Whether it selects the items of a page.
    is_page: bool,
}

impl Shape {
    /// The size of two selections side by side.
    fn and(self, other: Shape) -> Shape {
        Shape {
            depth: self.depth.max(other.depth),
            introspection_depth: self.introspection_depth.max(other.introspection_depth),
            fields: self.fields.saturating_add(other.fields),
            answer_fields: self.answer_fields.saturating_add(other.answer_fields),
            is_page: self.is_page || other.is_page,
        }
    }
}

struct Measure<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    /// Fragments by name; `None` while one is being measured.
    fragments: HashMap<&'a Name, Option<Shape>>,
    /// Number of fragments being measured.
    open: usize,
    aliases: usize,
    directives: usize,
}

/// Rejects documents whose operations are too large; returns the field count of the largest operation. Errors:
/// QUERY_TOO_DEEP, QUERY_TOO_COMPLEX, TOO_MANY_ALIASES, TOO_MANY_DIRECTIVES, GRAPHQL_VALIDATION_FAILED (a fragment that
/// spreads itself or does not exist).
pub fn check(document: &ExecutableDocument, variables: &Variables) -> Result<usize, Refusal> {
    let mut measure = Measure { document, variables, fragments: HashMap::new(), open: 0, aliases: 0, directives: 0 };
    let mut largest = Shape::default();
    for (_, operation) in document.operations.iter() {
        measure.directives += operation.node.directives.len();
        let shape = measure.selections(&operation.node.selection_set.node)?;
        largest = Shape { fields: largest.fields.max(shape.fields), ..largest.and(shape) };
    }
    // async-graphql also visits unused fragments.
    for name in document.fragments.keys() {
        measure.fragment(name)?;
    }
    if largest.depth > DEPTH_MAX || largest.introspection_depth > INTROSPECTION_DEPTH_MAX {
        return Err(Refusal::new("QUERY_TOO_DEEP", format!("fields are nested more than {DEPTH_MAX} deep")));
    }
    if largest.fields > FIELDS_MAX {
        return Err(Refusal::new("QUERY_TOO_COMPLEX", format!("more than {FIELDS_MAX} fields are selected")));
    }
    if largest.answer_fields > ANSWER_FIELDS_MAX {
        let message =
            format!("the answer could have more than {ANSWER_FIELDS_MAX} fields; ask for smaller pages within pages");
        return Err(Refusal::new("QUERY_TOO_COMPLEX", message));
    }
    if measure.aliases > ALIASES_MAX {
        return Err(Refusal::new("TOO_MANY_ALIASES", format!("more than {ALIASES_MAX} aliases")));
    }
    if measure.directives > DIRECTIVES_MAX {
        return Err(Refusal::new("TOO_MANY_DIRECTIVES", format!("more than {DIRECTIVES_MAX} directives")));
    }
    Ok(largest.fields)
}

impl<'a> Measure<'a> {
    /// The text's nesting is bounded ([`super::scan`]), so this may recurse.
    fn selections(&mut self, set: &'a SelectionSet) -> Result<Shape, Refusal> {
        let mut all = Shape::default();
        for selection in &set.items {
            self.directives += selection.node.directives().len();
            let shape = match &selection.node {
                Selection::Field(field) => self.field(&field.node)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
                Selection::InlineFragment(fragment) => self.selections(&fragment.node.selection_set.node)?,
            };
            all = all.and(shape);
        }
        Ok(all)
    }

    fn field(&mut self, field: &'a Field) -> Result<Shape, Refusal> {
        self.aliases += usize::from(field.alias.is_some());
        let inner = self.selections(&field.selection_set.node)?;
        let (depth, introspection_depth) = match field.name.node.as_str() {
            "__schema" | "__type" => (0, inner.depth + 1),
            _ => (inner.depth + 1, inner.introspection_depth),
        };
        let answer_fields = inner.answer_fields.saturating_mul(self.page_size(field, inner.is_page)).saturating_add(1);
        let is_page = ["nodes", "edges"].contains(&field.name.node.as_str());
        Ok(Shape { depth, introspection_depth, fields: inner.fields.saturating_add(1), answer_fields, is_page })
    }

    /// The number of items on a page of the field; 1 where it is not paginated.
    fn page_size(&self, field: &Field, is_page: bool) -> usize {
        let asked = ["first", "last"].iter().find_map(|name| match &field.get_argument(name)?.node {
            Value::Variable(name) => self.variables.get(name).and_then(|value| match value {
                ConstValue::Number(number) => number.as_u64(),
                _ => None,
            }),
            Value::Number(number) => number.as_u64(),
            _ => None,
        });
        match asked {
            Some(asked) => usize::try_from(asked).unwrap_or(usize::MAX).clamp(1, PAGE_MAX),
            None if is_page => PAGE_DEFAULT,
            None => 1,
        }
    }

    fn fragment(&mut self, name: &'a Name) -> Result<Shape, Refusal> {
        match self.fragments.get(name) {
            Some(Some(shape)) => return Ok(*shape),
            Some(None) => {
                let message = format!("the fragment {name} spreads itself");
                return Err(Refusal::new("GRAPHQL_VALIDATION_FAILED", message));
            }
            None => {}
        }
        let Some(fragment) = self.document.fragments.get(name) else {
            // Without a field to be counted it could be spread without bound.
            return Err(Refusal::new("GRAPHQL_VALIDATION_FAILED", format!("there is no fragment {name}")));
        };
        if self.open > CHAIN_MAX {
            return Err(Refusal::new("QUERY_TOO_DEEP", format!("more than {CHAIN_MAX} fragments spread each other")));
        }
        self.open += 1;
        self.fragments.insert(name, None);
        self.directives += fragment.node.directives.len();
        let shape = self.selections(&fragment.node.selection_set.node)?;
        self.open -= 1;
        self.fragments.insert(name, Some(shape));
        Ok(shape)
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn code(text: &str) -> Option<&'static str> {
        code_with(text, serde_json::json!({}))
    }

    fn code_with(text: &str, variables: serde_json::Value) -> Option<&'static str> {
        let variables = Variables::from_json(variables);
        check(&parse_query(text).expect("a document"), &variables).err().map(|refusal| refusal.code)
    }

    #[test]
    fn pages_within_pages_are_multiplied() {
        let nested = |page: &str| {
            format!(
                "query($n: Int) {{ orders({page}) {{ nodes {{ customer {{ orders({page}) {{ ...o }} }} }} }} }} \
                     fragment o on Order {{ customer {{ orders({page}) {{ id }} }} }}"
            )
        };
        assert_eq!(code(&nested("first: 100")), Some("QUERY_TOO_COMPLEX"));
        assert_eq!(code(&nested("first: 20")), None);
        for (size, expected) in [(10, None), (100, Some("QUERY_TOO_COMPLEX"))] {
            assert_eq!(code_with(&nested("first: $n"), serde_json::json!({ "n": size })), expected);
        }
        // A shop's page of customers with their orders.
        let customers =
            "{ customers(first: 100) { nodes { id orders(first: 50) { id lines { quantity product { sku } } } } } }";
        assert_eq!(code(customers), None);
        let in_fragments = "{ orders { ...p } } fragment p on OrderConnection { nodes { customer { id } ...q } } fragment q on Order { \
                            a: customer { id orders(first: 100) { b: customer { orders(first: 100) { id } } } } }";
        assert_eq!(code(in_fragments), Some("QUERY_TOO_COMPLEX"));
        // An introspection query as clients send it.
        let introspection = "{ __schema { types { fields { args { type { ...r } } type { ...r } } } } } fragment r on __Type { \
            kind ofType { ...s } } fragment s on __Type { kind ofType { ...t } } fragment t on __Type { kind ofType { kind ofType { kind } } }";
        assert_eq!(code(introspection), None);
        assert_eq!(
            code(
                "{ a: orders { nodes { b: orders { nodes { c: orders { nodes { d: orders { nodes { id } } } } } } } } }"
            ),
            Some("QUERY_TOO_COMPLEX")
        );
    }

    /// `levels` fragments, each of which spreads the next one twice.
    fn bomb(levels: usize) -> String {
        let mut text = "{ ...f0 }".to_owned();
        for n in 0..levels {
            text.push_str(&format!(" fragment f{n} on Query {{ ...f{} a{n}: me {{ id }} ...f{} }}", n + 1, n + 1));
        }
        text.push_str(&format!(" fragment f{levels} on Query {{ me {{ id }} }}"));
        text
    }

    #[test]
    fn fragments_are_measured_once_and_counted_as_often_as_they_are_spread() {
        assert_eq!(code(&bomb(8)), None);
        assert_eq!(code(&bomb(30)), Some("QUERY_TOO_COMPLEX"));
        assert_eq!(code(&bomb(60)), Some("QUERY_TOO_DEEP"));
        assert_eq!(
            code("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"),
            Some("GRAPHQL_VALIDATION_FAILED")
        );
        let endless = (0..40).map(|n| format!(" fragment f{n} on Query {{ ...f{} ...f{} }}", n + 1, n + 1));
        let endless = format!("{{ ...f0 }}{}", endless.collect::<String>());
        for unknown in ["{ ...unknown }", "{ me { id } } fragment f on Query { ...unknown }", &endless] {
            assert_eq!(code(unknown), Some("GRAPHQL_VALIDATION_FAILED"));
        }
    }

    #[test]
    fn depth_aliases_and_directives_are_limited() {
        let nested = |depth: usize| format!("{}a{}", "a {".repeat(depth - 1), "}".repeat(depth - 1));
        assert_eq!(code(&format!("{{ {} }}", nested(DEPTH_MAX))), None);
        assert_eq!(code(&format!("{{ {} }}", nested(DEPTH_MAX + 1))), Some("QUERY_TOO_DEEP"));
        assert_eq!(code(&format!("{{ __schema {{ {} }} }}", nested(INTROSPECTION_DEPTH_MAX - 1))), None);
        let aliases: String = (0..=ALIASES_MAX).map(|n| format!("a{n}: a ")).collect();
        assert_eq!(code(&format!("{{ {aliases} }}")), Some("TOO_MANY_ALIASES"));
        assert_eq!(code(&format!("{{ a {} }}", "@x ".repeat(DIRECTIVES_MAX + 1))), Some("TOO_MANY_DIRECTIVES"));
    }
}
