//! The contract, `schema.graphql`, and the running schema as SDL in the contract's order, so that the two can be
//! compared line by line.

use std::collections::BTreeMap;

use async_graphql::SDLExportOptions;

use crate::schema::{Mutation, Query, Subscription};

/// The contract as written.
pub const CONTRACT: &str = include_str!("../schema.graphql");

/// The running schema: definitions and members in the contract's order, additional ones at the end.
pub fn running() -> String {
    let schema = async_graphql::Schema::build(Query::default(), Mutation::default(), Subscription::default()).finish();
    let options = SDLExportOptions::new().prefer_single_line_descriptions().use_space_ident();
    let contract = Places::of(CONTRACT);
    let sdl: String = schema.sdl_with_options(options).lines().map(|line| in_contract_style(line) + "\n").collect();
    let mut definitions: Vec<Definition<'_>> = definitions(&sdl).filter(|d| !d.is_built_in()).collect();
    definitions.sort_by_key(|d| contract.definition(&d.head));
    let mut texts = Vec::with_capacity(definitions.len());
    for definition in &mut definitions {
        let head = definition.head.clone();
        definition.members.sort_by_key(|member| contract.member(&head, member));
        texts.push(definition.text());
    }
    texts.join("\n")
}

/// Descriptions in triple quotes; no commas between arguments.
fn in_contract_style(line: &str) -> String {
    let inner = line.trim_start();
    let indent = &line[..line.len() - inner.len()];
    let description =
        inner.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|_| !inner.starts_with("\"\"\""));
    match description {
        Some(text) => format!("{indent}\"\"\"{}\"\"\"", text.replace("\\\"", "\"")),
        None => line.trim_end_matches(',').to_owned(),
    }
}

/// A type with its description.
struct Definition<'a> {
    /// Such as `type Query`.
    head: String,
    /// Lines up to and including the opening brace.
    opening: Vec<&'a str>,
    /// Each with its description and arguments.
    members: Vec<Vec<&'a str>>,
}

impl Definition<'_> {
    /// Whether every schema has it.
    fn is_built_in(&self) -> bool {
        self.head.starts_with("directive") || self.head.starts_with("schema")
    }

    fn text(&self) -> String {
        let closing = (!self.members.is_empty()).then_some("}");
        let lines = self.opening.iter().chain(self.members.iter().flatten()).copied().chain(closing);
        lines.fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The definitions of an SDL, separated by empty lines or following a closing brace.
fn definitions(sdl: &str) -> impl Iterator<Item = Definition<'_>> {
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    for line in sdl.lines() {
        let ends = line == "}" || line.starts_with("scalar ") || line.starts_with("directive ");
        if line.trim().is_empty() {
            continue;
        }
        if let Some(last) = all.last_mut() {
            last.push(line);
        }
        if ends {
            all.push(Vec::new());
        }
    }
    all.into_iter().filter(|lines| !lines.is_empty()).map(definition)
}

fn definition(lines: Vec<&str>) -> Definition<'_> {
    let first = lines.iter().position(|line| !line.starts_with("\"\"\"")).unwrap_or(0);
    let head = lines[first].split(['{', '@', '(']).next().unwrap_or_default().trim().to_owned();
    let mut definition = Definition { head, opening: lines[..=first].to_vec(), members: Vec::new() };
    let mut is_described = false;
    for line in lines[first + 1..].iter().copied().filter(|line| *line != "}") {
        let is_inner = line.starts_with("   ") || line.starts_with("  )");
        match definition.members.last_mut() {
            Some(member) if is_inner || is_described => member.push(line),
            _ => definition.members.push(vec![line]),
        }
        is_described = line.starts_with("  \"\"\"");
    }
    definition
}

/// Positions of definitions and members in an SDL.
struct Places {
    definitions: BTreeMap<String, usize>,
    members: BTreeMap<(String, String), usize>,
}

impl Places {
    fn of(sdl: &str) -> Places {
        let mut places = Places { definitions: BTreeMap::new(), members: BTreeMap::new() };
        for (place, definition) in definitions(sdl).enumerate() {
            for (place, member) in definition.members.iter().enumerate() {
                places.members.insert((definition.head.clone(), member_name(member)), place);
            }
            places.definitions.insert(definition.head, place);
        }
        places
    }

    fn definition(&self, head: &str) -> usize {
        self.definitions.get(head).copied().unwrap_or(usize::MAX)
    }

    fn member(&self, head: &str, member: &[&str]) -> usize {
        self.members.get(&(head.to_owned(), member_name(member))).copied().unwrap_or(usize::MAX)
    }
}

fn member_name(member: &[&str]) -> String {
    let line = member.iter().find(|line| !line.trim_start().starts_with("\"\"\"")).copied().unwrap_or_default();
    line.trim().split([':', '(', ' ']).next().unwrap_or_default().to_owned()
}
