//! Normalization and inspection of responses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use uuid::Uuid;

/// Responses by question; substituted ids are part of the name.
pub type Answers = BTreeMap<String, Json>;

/// The code of a response's first error.
pub fn code(answer: &Json) -> Option<&str> {
    answer["errors"][0]["extensions"]["code"].as_str()
}

/// The ids in the responses, each with its type.
pub fn list_ids(answers: &Answers) -> BTreeSet<(String, String)> {
    fn collect(answer: &Json, ids: &mut BTreeSet<(String, String)>) {
        match answer {
            Json::Object(fields) => {
                if let (Some(Json::String(ty)), Some(Json::String(id))) = (fields.get("__typename"), fields.get("id")) {
                    ids.insert((ty.clone(), id.clone()));
                }
                fields.values().for_each(|inner| collect(inner, ids));
            }
            Json::Array(items) => items.iter().for_each(|inner| collect(inner, ids)),
            _ => {}
        }
    }
    let mut ids = BTreeSet::new();
    answers.values().for_each(|answer| collect(answer, &mut ids));
    ids
}

/// One id of each type.
pub fn first_of_each(ids: &BTreeSet<(String, String)>) -> BTreeMap<String, String> {
    ids.iter().rev().cloned().collect()
}

/// Removes delivery attempts: other servers send due deliveries, whatever is queried meanwhile.
pub fn without_attempts(answer: &mut Json) {
    match answer {
        Json::Object(fields) => {
            if fields.get("__typename").is_some_and(|ty| ty == "AlertDelivery") {
                for name in ["state", "attempts", "nextAt", "lastError", "deliveredAt"] {
                    fields.remove(name);
                }
            }
            fields.values_mut().for_each(without_attempts);
        }
        Json::Array(items) => items.iter_mut().for_each(without_attempts),
        _ => {}
    }
}

/// Removes the ids of new objects, which differ each time.
pub fn without_new_ids(answer: Json) -> Json {
    match answer {
        Json::Object(fields) => fields.into_iter().map(|(name, inner)| (name, without_new_ids(inner))).collect(),
        Json::Array(items) => items.into_iter().map(without_new_ids).collect(),
        Json::String(text) if Uuid::parse_str(&text).is_ok() => "{new}".into(),
        other => other,
    }
}

/// The first parts in which two responses differ.
pub fn difference<'a>(was: &'a Json, is: &'a Json) -> (&'a Json, &'a Json) {
    let inner = match (was, is) {
        (Json::Object(was), Json::Object(is)) if was.len() == is.len() => {
            was.iter().zip(is).find(|((a, x), (b, y))| a != b || x != y).map(|((_, x), (_, y))| (x, y))
        }
        (Json::Array(was), Json::Array(is)) if was.len() == is.len() => was.iter().zip(is).find(|(x, y)| x != y),
        _ => None,
    };
    inner.map_or((was, is), |(was, is)| difference(was, is))
}
