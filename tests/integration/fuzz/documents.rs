//! Documents, up to where they would run: what is looked at before the parser, the parser, and what measures them.

use std::time::{Duration, Instant};

use async_graphql::parser::types::{BaseType, Directive, ExecutableDocument, Selection, SelectionSet, Type};
use async_graphql::{Name, Positioned, Variables};
use async_graphql_value::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use salespulse::graphql::documents::Documents;
use salespulse::graphql::executor::Executor;
use salespulse::graphql::params::Params;
use salespulse::graphql::scan::{NESTING_MAX, TEXT_BYTES_MAX, scan};

use super::{edited, edits, fuzz};
use crate::operations::FILES;
use crate::support::TestApp;

const WORDS: [&str; 56] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "{ a ",
    "(a: ",
    "[[",
    "{a: ",
    "\"",
    "\"\"\"",
    "\\",
    "\\\"",
    "\\\"\"\"",
    "\"\"",
    "\n",
    "\r",
    "#",
    ",",
    " ",
    ":",
    "!",
    "=",
    "$",
    "&",
    "|",
    "@",
    "...",
    "... on Query",
    "...f",
    "fragment f on Query",
    "query",
    "mutation",
    "subscription",
    "query q($a: [Int!]! = [1])",
    "$a",
    "@skip(if: true)",
    "@include(if: $a)",
    "null",
    "true",
    "1",
    "-0",
    "1e999",
    "99999999999999999999",
    ".5",
    "0x1",
    "\\u0000",
    "\\uD800",
    "\u{feff}",
    "\u{0}",
    "é",
    "me",
    "id",
    "__typename",
    "salesMetrics",
];
/// What a refusal may say.
const CODES: [&str; 11] = [
    "BAD_REQUEST",
    "BAD_USER_INPUT",
    "GRAPHQL_PARSE_FAILED",
    "GRAPHQL_VALIDATION_FAILED",
    "OPERATION_RESOLUTION_FAILURE",
    "PERSISTED_QUERY_NOT_FOUND",
    "QUERY_TOO_COMPLEX",
    "QUERY_TOO_DEEP",
    "QUERY_TOO_LARGE",
    "TOO_MANY_ALIASES",
    "TOO_MANY_DIRECTIVES",
];
const FIELDS_MAX: usize = 5_000;
/// Nothing takes as long that ends at all.
const LONG: Duration = Duration::from_secs(20);

/// A word, mostly once, and at times as often as it takes to bring down what recurses.
fn words() -> impl Strategy<Value = String> {
    let times = prop_oneof![20 => 1..3usize, 4 => 1..80usize, 1 => 1_000..20_000usize];
    (select(&WORDS[..]), times).prop_map(|(word, times)| word.repeat(times))
}

/// Of words, of a good document that was spoilt, or of anything.
pub fn texts() -> impl Strategy<Value = String> {
    let inserted = vec(words(), 1..4).prop_map(|words| words.concat().into_bytes());
    let spoilt = (select(&FILES[..]), edits(inserted))
        .prop_map(|((_, text), edits)| String::from_utf8_lossy(&edited(text.as_bytes(), &edits)).into_owned());
    let of_words = vec(words(), 0..60).prop_map(|words| words.concat());
    // What comes first is well-formed, so that the parser gets as far as the rest.
    let within = (vec(words(), 0..40), 0..70usize)
        .prop_map(|(words, depth)| format!("{{ a(b: {}{}{}) }}", "[".repeat(depth), words.concat(), "]".repeat(depth)));
    prop_oneof![4 => spoilt, 3 => of_words, 3 => within, 1 => any::<String>()]
}

#[test]
fn no_document_brings_the_parser_down_or_is_nested_deeper_than_was_counted() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let test = runtime.block_on(TestApp::start());
    let schema = salespulse::schema::build(test.app.clone());
    let executor = Executor::new(schema, test.app.tokens.cursors(), Documents::default());
    let inputs = (texts(), proptest::option::of("[a-z]{1,3}"), any::<Option<i32>>());
    fuzz(inputs, |(text, operation_name, a)| {
        let begun = Instant::now();
        match scan(&text) {
            Ok(()) => {
                assert!(text.len() <= TEXT_BYTES_MAX);
                if let Ok(document) = async_graphql::parser::parse_query(&text) {
                    assert!(nesting_of(&document) <= NESTING_MAX, "{text}");
                }
            }
            Err(refusal) => assert!(CODES.contains(&refusal.code), "{}", refusal.code),
        }
        let is_refused_by_scan = scan(&text).is_err();
        let variables = Variables::from_json(serde_json::json!({ "a": a }));
        let params = Params { query: Some(text), operation_name, variables, ..Params::default() };
        match executor.prepare(params, None) {
            Ok(prepared) => assert!(!is_refused_by_scan && prepared.fields <= FIELDS_MAX),
            Err(refusal) => assert!(CODES.contains(&refusal.code), "{}", refusal.code),
        }
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    });
}

/// How many brackets are open at once where a document has the most.
fn nesting_of(document: &ExecutableDocument) -> usize {
    let operations = document.operations.iter().map(|(_, operation)| {
        let variables = operation.node.variable_definitions.iter().map(|variable| {
            let default =
                variable.node.default_value.as_ref().map(|value| value_nesting(&value.node.clone().into_value()));
            let own = type_nesting(&variable.node.var_type.node).max(default.unwrap_or_default());
            own.max(directives_nesting(&variable.node.directives))
        });
        let variables = variables.max().map_or(0, |inner| inner + 1);
        let directives = directives_nesting(&operation.node.directives);
        variables.max(directives).max(selection_nesting(&operation.node.selection_set.node))
    });
    let fragments = document.fragments.values().map(|fragment| {
        directives_nesting(&fragment.node.directives).max(selection_nesting(&fragment.node.selection_set.node))
    });
    operations.chain(fragments).max().unwrap_or_default()
}

fn selection_nesting(set: &SelectionSet) -> usize {
    let items = set.items.iter().map(|selection| {
        let own = match &selection.node {
            Selection::Field(field) if field.node.selection_set.node.items.is_empty() => {
                arguments_nesting(&field.node.arguments)
            }
            Selection::Field(field) => {
                arguments_nesting(&field.node.arguments).max(selection_nesting(&field.node.selection_set.node))
            }
            Selection::InlineFragment(fragment) => selection_nesting(&fragment.node.selection_set.node),
            Selection::FragmentSpread(_) => 0,
        };
        own.max(directives_nesting(selection.node.directives()))
    });
    1 + items.max().unwrap_or_default()
}

fn directives_nesting(directives: &[Positioned<Directive>]) -> usize {
    directives.iter().map(|directive| arguments_nesting(&directive.node.arguments)).max().unwrap_or_default()
}

fn arguments_nesting(arguments: &[(Positioned<Name>, Positioned<Value>)]) -> usize {
    arguments.iter().map(|(_, value)| 1 + value_nesting(&value.node)).max().unwrap_or_default()
}

fn value_nesting(value: &Value) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(value_nesting).max().unwrap_or_default(),
        Value::Object(members) => 1 + members.values().map(value_nesting).max().unwrap_or_default(),
        _ => 0,
    }
}

fn type_nesting(wanted: &Type) -> usize {
    match &wanted.base {
        BaseType::List(inner) => 1 + type_nesting(inner),
        BaseType::Named(_) => 0,
    }
}
