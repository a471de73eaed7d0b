//! Validates variables before execution, as far as possible without the schema: required ones are present, and values
//! of built-in scalars have the right type. async-graphql checks the rest during execution.

use async_graphql::parser::types::{BaseType, Type, VariableDefinition};
use async_graphql::{Positioned, Value, Variables};

use super::errors::Refusal;

/// Adds the default values of missing variables. Error: BAD_USER_INPUT.
pub fn complete(definitions: &[Positioned<VariableDefinition>], variables: &mut Variables) -> Result<(), Refusal> {
    for definition in definitions {
        let (name, wanted) = (&definition.node.name.node, &definition.node.var_type.node);
        let bad = |what: &str| {
            let refusal = Refusal::new("BAD_USER_INPUT", format!("the variable ${name} {what}"));
            Err(Refusal { argument: Some(name.to_string()), ..refusal })
        };
        match variables.get(name) {
            None => match &definition.node.default_value {
                // async-graphql applies defaults to arguments, but not to `@skip` and `@include`.
                Some(default) => {
                    variables.insert(name.clone(), default.node.clone());
                }
                None if wanted.nullable => {}
                None => return bad("is missing"),
            },
            Some(value) if !fits(value, wanted) => return bad(&format!("is not of the type {wanted}")),
            Some(_) => {}
        }
    }
    Ok(())
}

fn fits(value: &Value, wanted: &Type) -> bool {
    if *value == Value::Null {
        return wanted.nullable;
    }
    match (&wanted.base, value) {
        (BaseType::List(inner), Value::List(items)) => items.iter().all(|item| fits(item, inner)),
        // A single value is coerced to a list of one.
        (BaseType::List(inner), single) => fits(single, inner),
        (BaseType::Named(name), value) => match (name.as_str(), value) {
            ("Int", Value::Number(number)) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            ("Float", Value::Number(_)) | ("String" | "ID", Value::String(_)) | ("Boolean", Value::Boolean(_)) => true,
            ("ID", Value::Number(number)) => number.is_i64() || number.is_u64(),
            ("Int" | "Float" | "String" | "Boolean" | "ID", _) => false,
            _ => true,
        },
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::{Value as Json, json};

    use super::*;

    fn is_good(definitions: &str, variables: Json) -> bool {
        let document = parse_query(format!("query ({definitions}) {{ a }}")).expect("a document");
        let (_, operation) = document.operations.iter().next().expect("an operation");
        complete(&operation.node.variable_definitions, &mut Variables::from_json(variables)).is_ok()
    }

    #[test]
    fn presence_and_types_are_checked() {
        assert!(is_good(
            "$a: Int!, $b: String, $c: [ID!] = [1], $d: AuditedTable!",
            json!({ "a": 1, "d": { "x": 1 } })
        ));
        assert!(is_good("$a: [ID!]", json!({ "a": "one" })) && is_good("$a: ID!", json!({ "a": 7 })));
        assert!(is_good("$a: Int! = 1", json!({})));
        for (definitions, variables) in [
            ("$a: Int!", json!({})),
            ("$a: Int!", json!({ "a": null })),
            ("$a: Int! = 1", json!({ "a": null })),
            ("$a: Int", json!({ "a": "1" })),
            ("$a: Int", json!({ "a": 1.5 })),
            ("$a: Int", json!({ "a": 3_000_000_000_i64 })),
            ("$a: String", json!({ "a": 1 })),
            ("$a: Boolean", json!({ "a": "true" })),
            ("$a: [ID!]", json!({ "a": ["x", null] })),
        ] {
            assert!(!is_good(definitions, variables.clone()), "{definitions} {variables}");
        }
    }
}
