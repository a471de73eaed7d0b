//! Values that do not fit their type, in the words that clients read, wherever the value comes from.

use std::fmt::Display;

use async_graphql::Value;
use async_graphql::registry::{MetaType, MetaTypeName, Registry};

use super::errors::shortened;
use super::scalars::form_of;

/// What is wrong with a value of another type, and what was expected.
pub fn not_of_type(place: impl Display, name: &str) -> String {
    match form_of(name) {
        Some(form) => format!("{place} is not a {name}: expected {form}"),
        None => format!("{place} is not of the type {name}"),
    }
}

/// Finds what does not fit in `value`, which is at `place` and to be of the type `wanted`, such as `[ID!]`; `None` if
/// all does. `types` has the type and all within it; places are written only of what does not fit. This is what async-graphql checks of variables, whose values these
/// are not, and that whole numbers have 32 bits.
pub fn find_misfit(types: &Registry, wanted: &str, value: &Value, place: &dyn Display) -> Option<String> {
    let name = match MetaTypeName::create(wanted) {
        MetaTypeName::NonNull(inner) if *value == Value::Null => return Some(not_of_type(place, inner)),
        MetaTypeName::NonNull(inner) => return find_misfit(types, inner, value, place),
        _ if *value == Value::Null => return None,
        MetaTypeName::List(inner) => {
            // A single value is coerced to a list of one.
            let Value::List(items) = value else { return find_misfit(types, inner, value, place) };
            let mut items = items.iter().enumerate();
            return items.find_map(|(index, item)| find_misfit(types, inner, item, &format_args!("{place}.{index}")));
        }
        MetaTypeName::Named(name) => name,
    };
    match (types.types.get(name)?, value) {
        (MetaType::InputObject { input_fields, .. }, Value::Object(members)) => {
            if let Some(unknown) = members.keys().find(|member| !input_fields.contains_key(member.as_str())) {
                let unknown = shortened(unknown);
                return Some(format!("{place}: unknown field \"{unknown}\" of type \"{name}\""));
            }
            input_fields.values().find_map(|field| match members.get(field.name.as_str()) {
                Some(value) => find_misfit(types, &field.ty, value, &format_args!("{place}.{}", field.name)),
                None if field.ty.ends_with('!') && field.default_value.is_none() => {
                    let (field, ty) = (&field.name, &field.ty);
                    Some(format!("{place}: field \"{field}\" of type \"{ty}\" is required but not provided"))
                }
                None => None,
            })
        }
        (MetaType::Scalar { is_valid: Some(is_valid), .. }, value) => {
            let is_small = |value: &Value| match value {
                Value::Number(number) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
                _ => false,
            };
            (!is_valid(value) || name == "Int" && !is_small(value)).then(|| not_of_type(place, name))
        }
        _ => Some(not_of_type(place, name)),
    }
}
