//! The members of a GraphQL request, from JSON or from a query string.

use async_graphql::Variables;
use serde_json::{Map, Value};

use super::errors::Refusal;

/// Maximum nesting of a request's JSON.
const JSON_DEPTH_MAX: usize = 64;

/// A GraphQL request. `null` and absence are equivalent; unknown members are ignored.
#[derive(Debug, Default)]
pub struct Params {
    pub query: Option<String>,
    pub operation_name: Option<String>,
    pub variables: Variables,
    pub extensions: Map<String, Value>,
    /// The cursor with which a server-sent events client reconnects.
    pub last_event_id: Option<String>,
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::new("BAD_REQUEST", message)
}

/// Parses a JSON body. Error: BAD_REQUEST.
pub fn parse_json(body: &[u8]) -> Result<Value, Refusal> {
    let mut depth = 0usize;
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            return Err(bad(format!("the JSON is nested more than {JSON_DEPTH_MAX} deep")));
        }
    }
    serde_json::from_slice(body).map_err(|_| bad("the body is not JSON"))
}

impl Params {
    /// Error: BAD_REQUEST, when a member has the wrong type.
    pub fn from_json(value: Value) -> Result<Params, Refusal> {
        let Value::Object(mut members) = value else { return Err(bad("a request is a JSON object")) };
        let mut take = |name: &str| members.remove(name).filter(|value| !value.is_null());
        let text = |name: &str, value: Option<Value>| match value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(bad(format!("{name} must be a string"))),
        };
        let object = |name: &str, value: Option<Value>| match value {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(bad(format!("{name} must be an object"))),
        };
        Ok(Params {
            query: text("query", take("query"))?,
            operation_name: text("operationName", take("operationName"))?.filter(|name| !name.is_empty()),
            variables: Variables::from_json(Value::Object(object("variables", take("variables"))?)),
            extensions: object("extensions", take("extensions"))?,
            last_event_id: None,
        })
    }

    /// The parameters of a GET; empty and absent ones are equivalent. Error: BAD_REQUEST.
    pub fn from_query_string(text: &str) -> Result<Params, Refusal> {
        let mut members = Map::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = match name.as_ref() {
                "query" | "operationName" if !value.is_empty() => Value::String(value.into_owned()),
                "variables" | "extensions" if !value.is_empty() => {
                    parse_json(value.as_bytes()).map_err(|_| bad(format!("{name} is not JSON")))?
                }
                _ => continue,
            };
            if members.insert(name.clone().into_owned(), value).is_some() {
                return Err(bad(format!("{name} is given twice")));
            }
        }
        Params::from_json(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_and_empty_are_absent_and_wrong_types_are_refused() {
        let params = Params::from_json(json!({ "query": "{a}", "operationName": null, "variables": null, "x": 1 }));
        assert_eq!(params.expect("good").query.as_deref(), Some("{a}"));
        for wrong in [json!([]), json!({ "query": 1 }), json!({ "variables": [] }), json!({ "extensions": "x" })] {
            assert_eq!(Params::from_json(wrong).expect_err("bad").code, "BAD_REQUEST");
        }
        let params = Params::from_query_string("query=%7Ba%7D&operationName=&variables=&extensions=&other=1");
        assert_eq!(params.expect("good").query.as_deref(), Some("{a}"));
        for wrong in ["variables=%7B", "variables=1", "query=a&query=b"] {
            assert!(Params::from_query_string(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn deep_json_is_refused_before_it_is_parsed() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse_json(deep(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse_json(deep(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(parse_json(format!("\"\\\"{}\"", "[".repeat(100)).as_bytes()).is_ok());
    }
}
