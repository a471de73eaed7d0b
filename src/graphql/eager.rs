//! Objects of long lists, most of whose fields are available without waiting.
//!
//! async-graphql makes a task of each field of each object and runs them concurrently. Here each field is polled once
//! in turn; fields that are ready are taken, and only those that are pending are polled again.

use std::borrow::Cow;
use std::future::poll_fn;
use std::task::Poll;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::resolve_container;
use async_graphql::{ContainerType, ContextSelectionSet, OutputType, Positioned, ServerResult, Value};

/// An object; in the schema it is a `T`.
pub struct Eager<T>(pub T);

/// All of them.
pub fn all<T>(objects: Vec<T>) -> Vec<Eager<T>> {
    objects.into_iter().map(Eager).collect()
}

#[async_trait::async_trait]
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
        let mut fields = Vec::with_capacity(ctx.item.node.items.len());
        // Fields selected twice are left to async-graphql. The schema has no extensions, which would have to be called
        // here.
        if !spread(ctx, &ctx.item.node, &mut fields) {
            return resolve_container(ctx, &self.0).await;
        }
        let contexts: Vec<_> = fields.iter().map(|field| ctx.with_field(field)).collect();
        let mut values: Vec<Option<ServerResult<Option<Value>>>> = Vec::with_capacity(fields.len());
        let mut waiting = Vec::new();
        poll_fn(|task| {
            for (index, context) in contexts.iter().enumerate() {
                if context.item.node.name.node == "__typename" {
                    values.push(Some(Ok(Some(Value::String(T::type_name().into_owned())))));
                    continue;
                }
                let mut value = self.0.resolve_field(context);
                values.push(match value.as_mut().poll(task) {
                    Poll::Ready(value) => Some(value),
                    Poll::Pending => {
                        waiting.push((index, value));
                        None
                    }
                });
            }
            Poll::Ready(())
        })
        .await;
        poll_fn(|task| {
            waiting.retain_mut(|(index, value)| match value.as_mut().poll(task) {
                Poll::Ready(value) => {
                    values[*index] = Some(value);
                    false
                }
                Poll::Pending => true,
            });
            if waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut object = IndexMap::with_capacity(fields.len());
        for (field, value) in fields.iter().zip(values.into_iter().flatten()) {
            match value {
                Ok(value) => {
                    object.insert(field.node.response_key().node.clone(), value.unwrap_or_default());
                }
                Err(error) => ctx.add_error(error),
            }
        }
        Ok(if object.is_empty() { Value::Null } else { Value::Object(object) })
    }
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
