//! Automatic persisted queries: a client sends the hash of a document instead of the document, and the document once,
//! when the server does not know it.

use std::sync::Arc;

use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::errors::Refusal;

/// Memory for documents.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Documents by their SHA-256, the least used ones forgotten first. Cheap to clone.
#[derive(Clone)]
pub struct Documents(Cache<String, Arc<str>>);

impl Default for Documents {
    fn default() -> Self {
        let weigh = |hash: &String, text: &Arc<str>| u32::try_from(hash.len() + text.len() + 64).unwrap_or(u32::MAX);
        Documents(Cache::builder().max_capacity(BYTES_MAX).weigher(weigh).build())
    }
}

impl Documents {
    /// The document of a request, and the hash by which it is to be kept once it has been found good. Errors: BAD_REQUEST,
    /// PERSISTED_QUERY_NOT_FOUND.
    pub fn text_of(
        &self,
        query: Option<String>,
        extensions: &Map<String, Value>,
    ) -> Result<(Arc<str>, Option<String>), Refusal> {
        let bad = |message: &str| Refusal::new("BAD_REQUEST", message);
        let Some(persisted) = extensions.get("persistedQuery").filter(|value| !value.is_null()) else {
            let query = query.filter(|query| !query.trim().is_empty()).ok_or_else(|| bad("query is missing"))?;
            return Ok((query.into(), None));
        };
        if persisted.get("version").and_then(Value::as_i64) != Some(1) {
            return Err(bad("persistedQuery.version must be 1"));
        }
        let hash = persisted.get("sha256Hash").and_then(Value::as_str).map(str::to_ascii_lowercase);
        let hash = hash.ok_or_else(|| bad("persistedQuery.sha256Hash is missing"))?;
        match query {
            Some(query) if hex(&Sha256::digest(query.as_bytes())) == hash => Ok((query.into(), Some(hash))),
            Some(_) => Err(bad("persistedQuery.sha256Hash is not the hash of the query")),
            None => match self.0.get(&hash) {
                Some(text) => Ok((text, None)),
                // The words that clients wait for.
                None => Err(Refusal::new("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")),
            },
        }
    }

    pub fn keep(&self, hash: String, text: &Arc<str>) {
        self.0.insert(hash, Arc::clone(text));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
