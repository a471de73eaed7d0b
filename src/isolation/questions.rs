//! All queries that the schema allows, generated from the schema itself: new fields and arguments are covered
//! automatically.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use async_graphql::Positioned;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};

/// Placeholder for an id in a document.
pub const ID: &str = "\"{id}\"";
/// Depth of a query below its root field. The transport rejects a total depth of more than 12.
const DEPTH: usize = 6;

/// One query.
pub struct Question {
    /// The field and its distinguishing argument, such as `Query.orders(status: PAID)`.
    pub name: String,
    pub document: String,
    /// Whether it is a field of `Query` with everything below it, without optional arguments.
    pub is_whole: bool,
}

impl Question {
    /// Whether it has a placeholder for an id.
    pub fn takes_id(&self) -> bool {
        self.document.contains(ID)
    }

    pub fn with_id(&self, id: &str) -> String {
        self.document.replace(ID, &format!("\"{id}\""))
    }
}

/// Values that the types of the schema do not determine.
pub struct Examples<'a> {
    /// Bounds of a period that contains the newest data, and a time after it.
    pub start: &'a str,
    pub end: &'a str,
    pub later: &'a str,
    /// Values of arguments and input fields by name. The first is used where one is required.
    pub named: &'a [(&'a str, &'a str)],
    /// Arguments that are meaningless without another one: field, argument, and the other with its value.
    pub together: &'a [(&'a str, &'a str, (&'a str, &'a str))],
    /// Input objects of which a field is needed though none is required.
    pub objects: &'a [(&'a str, &'a str)],
    /// Input fields that are needed beside any other though they are not required: type, field and value.
    pub needed: &'a [(&'a str, &'a str, &'a str)],
}

/// The types of a schema.
pub struct Schema<'a> {
    types: BTreeMap<String, TypeKind>,
    examples: &'a Examples<'a>,
}

/// No value is known for an argument's type: the scalar is not in [`Examples`].
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error("the schema cannot be read: {0}")]
    Schema(#[from] async_graphql::parser::Error),
    #[error("no value is known for {name} of type {ty}")]
    Value { name: String, ty: String },
}

impl<'a> Schema<'a> {
    pub fn read(sdl: &str, examples: &'a Examples<'a>) -> Result<Schema<'a>, Unknown> {
        let mut types = BTreeMap::new();
        for definition in async_graphql::parser::parse_schema(sdl)?.definitions {
            if let TypeSystemDefinition::Type(definition) = definition {
                types.insert(definition.node.name.node.to_string(), definition.node.kind);
            }
        }
        Ok(Schema { types, examples })
    }

    /// The names of the fields of a type.
    pub fn field_names(&self, ty: &str) -> Vec<&str> {
        self.fields(ty).iter().map(|field| field.node.name.node.as_str()).collect()
    }

    /// Every field of `Query` with everything that can be selected below it, and every value of every argument
    /// anywhere.
    pub fn questions(&self) -> Result<Vec<Question>, Unknown> {
        let mut all = Vec::new();
        let mut visited = BTreeSet::from(["Query"]);
        let mut ahead = VecDeque::from([("Query", "{ ".to_owned(), " }".to_owned())]);
        while let Some((ty, before, after)) = ahead.pop_front() {
            for field in self.fields(ty) {
                let field = &field.node;
                let name = field.name.node.as_str();
                let (base, needed) = (base(&field.ty.node), self.needed(field)?);
                let mut ask = |arguments: &BTreeMap<&str, String>, is_whole: bool| -> Result<(), Unknown> {
                    let call = format!("{name}{}", in_parentheses(arguments));
                    let selection = self.selection(base, if is_whole { DEPTH } else { 2 }, &mut vec![ty])?;
                    let document = format!("{before}{call}{selection}{after}");
                    all.push(Question { name: format!("{ty}.{call}"), document, is_whole });
                    Ok(())
                };
                if ty == "Query" {
                    ask(&needed, true)?;
                }
                for argument in &field.arguments {
                    let argument = &argument.node;
                    for value in self.values(argument)? {
                        let mut arguments = needed.clone();
                        arguments.insert(argument.name.node.as_str(), value);
                        let together = self.examples.together.iter();
                        arguments.extend(
                            together
                                .filter(|(of, with, _)| *of == name && *with == argument.name.node.as_str())
                                .map(|(.., (other, value))| (*other, (*value).to_owned())),
                        );
                        if arguments != needed {
                            ask(&arguments, false)?;
                        }
                    }
                }
                let call = format!("{name}{}", in_parentheses(&needed));
                if !self.fields(base).is_empty() && visited.insert(base) {
                    ahead.push_back((base, format!("{before}{call} {{ "), format!(" }}{after}")));
                }
            }
        }
        Ok(all)
    }

    /// The selection of a type, down to `depth`, with each type at most once per path.
    fn selection<'t>(&'t self, ty: &'t str, depth: usize, path: &mut Vec<&'t str>) -> Result<String, Unknown> {
        if self.fields(ty).is_empty() {
            return Ok(String::new());
        }
        path.push(ty);
        let mut selected = " { __typename".to_owned();
        for field in self.fields(ty) {
            let field = &field.node;
            let base = base(&field.ty.node);
            let is_leaf = self.fields(base).is_empty();
            if !is_leaf && (depth == 0 || path.contains(&base)) {
                continue;
            }
            let arguments = in_parentheses(&self.needed(field)?);
            let inner = self.selection(base, depth.saturating_sub(1), path)?;
            selected.push_str(&format!(" {}{arguments}{inner}", field.name.node));
        }
        path.pop();
        Ok(selected + " }")
    }

    fn fields(&self, ty: &str) -> &[Positioned<FieldDefinition>] {
        match self.types.get(ty) {
            Some(TypeKind::Object(object)) => &object.fields,
            _ => &[],
        }
    }

    /// The required arguments of a field.
    fn needed<'f>(&self, field: &'f FieldDefinition) -> Result<BTreeMap<&'f str, String>, Unknown> {
        let mut needed = BTreeMap::new();
        for argument in &field.arguments {
            let argument = &argument.node;
            if !argument.ty.node.nullable && argument.default_value.is_none() {
                needed.extend(self.values(argument)?.into_iter().next().map(|v| (argument.name.node.as_str(), v)));
            }
        }
        Ok(needed)
    }

    /// Literals for an argument or an input field; the first is a typical one.
    fn values(&self, of: &InputValueDefinition) -> Result<Vec<String>, Unknown> {
        let name = of.name.node.as_str();
        let ty = base(&of.ty.node);
        let named = self.examples.named.iter().find(|(known, _)| *known == name);
        let values = match (named, self.types.get(ty)) {
            (Some((_, value)), _) => vec![(*value).to_owned()],
            (None, Some(TypeKind::Enum(all))) => all.values.iter().map(|v| v.node.value.node.to_string()).collect(),
            (None, Some(TypeKind::InputObject(object))) => self.objects(ty, &object.fields)?,
            (None, _) => self.scalars(name, ty)?,
        };
        let is_list = matches!(of.ty.node.base, BaseType::List(_));
        Ok(if is_list { values.into_iter().map(|value| format!("[{value}]")).collect() } else { values })
    }

    /// The minimal object of an input type, and one for each value of each optional field.
    fn objects(&self, ty: &str, fields: &[Positioned<InputValueDefinition>]) -> Result<Vec<String>, Unknown> {
        let mut needed = BTreeMap::new();
        for Positioned { node: field, .. } in fields {
            if !field.ty.node.nullable && field.default_value.is_none() {
                needed.extend(self.values(field)?.into_iter().next().map(|value| (field.name.node.as_str(), value)));
            }
        }
        let too = self.examples.needed.iter().filter(|(of, ..)| *of == ty);
        needed.extend(too.map(|(_, field, value)| (*field, (*value).to_owned())));
        let object = |fields: &BTreeMap<&str, String>| format!("{{{}}}", listed(fields));
        let example = self.examples.objects.iter().find(|(known, _)| *known == ty);
        let mut all = vec![example.map_or_else(|| object(&needed), |(_, example)| (*example).to_owned())];
        for Positioned { node: field, .. } in fields {
            for value in self.values(field)? {
                let mut with = needed.clone();
                with.insert(field.name.node.as_str(), value);
                if with != needed {
                    all.push(object(&with));
                }
            }
        }
        Ok(all)
    }

    fn scalars(&self, name: &str, ty: &str) -> Result<Vec<String>, Unknown> {
        let Examples { start, end, later, .. } = self.examples;
        let time = match name {
            "end" | "to" => end,
            "until" => later,
            _ => start,
        };
        let values = match ty {
            "ID" => vec![ID.to_owned()],
            "String" => vec!["\"canary\"".to_owned()],
            "Boolean" => vec!["true".to_owned(), "false".to_owned()],
            "Int" => vec!["2".to_owned()],
            "DateTime" => vec![format!("\"{time}\"")],
            "Date" => vec![format!("\"{}\"", time.split('T').next().unwrap_or(time))],
            "Position" => vec!["\"3\"".to_owned()],
            "Float" => vec!["0.5".to_owned()],
            "Decimal" => vec!["\"1.00\"".to_owned()],
            "TimeZone" => vec!["\"Asia/Kathmandu\"".to_owned()],
            "Currency" => ["EUR", "JPY", "USD"].map(|currency| format!("\"{currency}\"")).to_vec(),
            _ => return Err(Unknown::Value { name: name.to_owned(), ty: ty.to_owned() }),
        };
        Ok(values)
    }
}

fn base(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(inner) => base(inner),
    }
}

fn in_parentheses(arguments: &BTreeMap<&str, String>) -> String {
    if arguments.is_empty() { String::new() } else { format!("({})", listed(arguments)) }
}

fn listed(pairs: &BTreeMap<&str, String>) -> String {
    pairs.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
}
