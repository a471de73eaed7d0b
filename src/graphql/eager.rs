//! Objects of long lists, most of whose fields are available without waiting.
//!
//! async-graphql makes a task of each object and of each of its fields, and runs them concurrently. Here each is polled
//! once in turn; what is ready is taken, and only what is pending is polled again.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::{resolve_container, resolve_list};
use async_graphql::{ContainerType, ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

/// An object; in the schema it is a `T`.
pub struct Eager<T>(pub T);

/// A list of objects; in the schema it is a list of `T`.
pub struct EagerList<T>(pub Vec<T>);

impl<T: ContainerType> OutputType for Eager<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _field: &Positioned<Field>) -> ServerResult<Value> {
        match selected(ctx) {
            Some(fields) => Ok(object(ctx, &self.0, &fields).await),
            None => resolve_container(ctx, &self.0).await,
        }
    }
}

impl<T: ContainerType> OutputType for EagerList<T> {
    fn type_name() -> Cow<'static, str> {
        <Vec<T> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        <Vec<T> as OutputType>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Vec<T> as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let Some(fields) = selected(ctx) else {
            return resolve_list(ctx, field, &self.0, Some(self.0.len())).await;
        };
        let item = async |index, item| object(&ctx.with_index(index), item, &fields).await;
        let items = self.0.iter().enumerate().map(|(index, of)| Box::pin(item(index, of)));
        Ok(Value::List(join(items).await))
    }
}

/// The values of `fields`; null if all that are selected are errors.
async fn object<T: ContainerType>(ctx: &ContextSelectionSet<'_>, of: &T, fields: &[&Positioned<Field>]) -> Value {
    let contexts: Vec<_> = fields.iter().map(|field| ctx.with_field(field)).collect();
    let values = join(contexts.iter().map(|context| -> Pin<Box<dyn Future<Output = _> + Send>> {
        match context.item.node.name.node.as_str() {
            "__typename" => Box::pin(async { Ok(Some(Value::String(T::type_name().into_owned()))) }),
            _ => Box::pin(of.resolve_field(context)),
        }
    }));
    let mut object = IndexMap::with_capacity(fields.len());
    for (field, value) in fields.iter().zip(values.await) {
        match value {
            Ok(value) => {
                object.insert(field.node.response_key().node.clone(), value.unwrap_or_default());
            }
            Err(error) => ctx.add_error(error),
        }
    }
    if object.is_empty() { Value::Null } else { Value::Object(object) }
}

/// The outputs of `futures`. Each is polled as soon as it is made, and then once whenever the task is: loaders count on
/// it to collect the keys of a level.
async fn join<F: Future + Unpin>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut outputs = Vec::with_capacity(futures.size_hint().0);
    let mut pending = Vec::new();
    let mut unpolled = Some(futures.enumerate());
    poll_fn(|task| {
        if let Some(futures) = unpolled.take() {
            for (index, mut future) in futures {
                outputs.push(match Pin::new(&mut future).poll(task) {
                    Poll::Ready(output) => Some(output),
                    Poll::Pending => {
                        pending.push((index, future));
                        None
                    }
                });
            }
        } else {
            pending.retain_mut(|(index, future)| match Pin::new(future).poll(task) {
                Poll::Ready(output) => {
                    outputs[*index] = Some(output);
                    false
                }
                Poll::Pending => true,
            });
        }
        if pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// The selected fields; `None` for what is left to async-graphql: keys that occur twice, and directives. The schema has
/// no extensions, which would have to be called.
fn selected<'a>(ctx: &ContextSelectionSet<'a>) -> Option<Vec<&'a Positioned<Field>>> {
    let mut fields = Vec::with_capacity(ctx.item.node.items.len());
    spread(ctx, &ctx.item.node, &mut fields).then_some(fields)
}

/// The selected fields with fragments inlined: no type of the schema is abstract, so a fragment has the type of its
/// parent. `false` if a key occurs twice or a field has directives.
fn spread<'a>(ctx: &ContextSelectionSet<'a>, set: &'a SelectionSet, into: &mut Vec<&'a Positioned<Field>>) -> bool {
    set.items.iter().all(|selection| match &selection.node {
        Selection::Field(field) => {
            let key = &field.node.response_key().node;
            let is_alone =
                field.node.directives.is_empty() && into.iter().all(|other| other.node.response_key().node != *key);
            into.push(field);
            is_alone
        }
        Selection::InlineFragment(fragment) => spread(ctx, &fragment.node.selection_set.node, into),
        Selection::FragmentSpread(named) => {
            let fragment = ctx.query_env.fragments.get(&named.node.fragment_name.node);
            fragment.is_some_and(|fragment| spread(ctx, &fragment.node.selection_set.node, into))
        }
    })
}
