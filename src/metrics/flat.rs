//! Resolves lists of buckets and rows without a future per field.
//!
//! A dashboard selects hundreds of small objects whose fields are all in memory. async-graphql would create a future
//! for each field of each; here the selection is examined once for the whole list.

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value};

use super::catalog::Metric;
use super::input::RefundTime;

/// A list of objects; in the schema, a list of `T`.
pub struct FlatList<T>(pub Vec<T>);

/// An object whose fields are in memory.
pub trait Flat: OutputType {
    /// The value of a scalar field.
    fn leaf(&self, field: &SelectedField<'_>) -> Value;

    /// The value of an object field, restricted to its selection.
    fn object(&self, field: &SelectedField<'_>) -> Value {
        self.leaf(field)
    }
}

/// A selected field with its own selection.
pub struct SelectedField<'a> {
    key: &'a Name,
    pub name: &'a str,
    /// The argument `by` of `refunds`.
    pub refund_time: RefundTime,
    /// The argument `name` of `kpi`, or `names` of `kpis`.
    pub kpis: Vec<String>,
    /// The argument `names` of `metrics`.
    pub metrics: Vec<Metric>,
    pub fields: Vec<SelectedField<'a>>,
}

/// The selection, with fragments expanded in place and fields of the same key merged.
fn selected<'a>(
    ctx: &ContextSelectionSet<'a>,
    set: &'a SelectionSet,
    into: &mut Vec<SelectedField<'a>>,
) -> ServerResult<()> {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                let key = &field.node.response_key().node;
                let index = match into.iter().position(|other| other.key == key) {
                    Some(index) => index,
                    None => {
                        into.push(SelectedField {
                            key,
                            name: field.node.name.node.as_str(),
                            refund_time: refund_time(ctx, field)?,
                            kpis: kpis(ctx, field)?,
                            metrics: metrics(ctx, field)?,
                            fields: Vec::new(),
                        });
                        into.len() - 1
                    }
                };
                selected(ctx, &field.node.selection_set.node, &mut into[index].fields)?;
            }
            Selection::InlineFragment(fragment) => selected(ctx, &fragment.node.selection_set.node, into)?,
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = ctx.query_env.fragments.get(&spread.node.fragment_name.node) {
                    selected(ctx, &fragment.node.selection_set.node, into)?;
                }
            }
        }
    }
    Ok(())
}

fn refund_time<'a>(ctx: &ContextSelectionSet<'a>, field: &'a Positioned<Field>) -> ServerResult<RefundTime> {
    if field.node.name.node != "refunds" || field.node.arguments.is_empty() {
        return Ok(RefundTime::Refund);
    }
    let by = ctx.with_field(field).param_value::<Option<RefundTime>>("by", None)?.1;
    Ok(by.unwrap_or(RefundTime::Refund))
}

fn kpis<'a>(ctx: &ContextSelectionSet<'a>, field: &'a Positioned<Field>) -> ServerResult<Vec<String>> {
    let of_field = ctx.with_field(field);
    match field.node.name.node.as_str() {
        "kpi" => Ok(vec![of_field.param_value("name", None)?.1]),
        "kpis" => Ok(of_field.param_value("names", None)?.1),
        _ => Ok(Vec::new()),
    }
}

fn metrics<'a>(ctx: &ContextSelectionSet<'a>, field: &'a Positioned<Field>) -> ServerResult<Vec<Metric>> {
    if field.node.name.node != "metrics" {
        return Ok(Vec::new());
    }
    Ok(ctx.with_field(field).param_value("names", None)?.1)
}

/// The selected fields of one object.
pub fn object_of<T: Flat>(object: &T, fields: &[SelectedField<'_>]) -> Value {
    let mut values = IndexMap::with_capacity(fields.len());
    for field in fields {
        let value = match field.name {
            "__typename" => Value::String(T::type_name().into_owned()),
            _ if field.fields.is_empty() => object.leaf(field),
            _ => object.object(field),
        };
        values.insert(field.key.clone(), value);
    }
    Value::Object(values)
}

impl<T: Flat> OutputType for FlatList<T> {
    fn type_name() -> std::borrow::Cow<'static, str> {
        <Vec<T> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        <Vec<T> as OutputType>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Vec<T> as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _field: &Positioned<Field>) -> ServerResult<Value> {
        let mut fields = Vec::new();
        selected(ctx, &ctx.item.node, &mut fields)?;
        Ok(Value::List(self.0.iter().map(|object| object_of(object, &fields)).collect()))
    }
}
