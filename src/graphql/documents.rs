//! Automatic persisted queries: a client sends a document's hash instead of the document, and the document itself only
//! once, when the server does not know it.

use std::collections::HashMap;
use std::sync::Arc;

use moka::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::errors::Refusal;
use crate::telemetry::metrics::METRICS;

/// Memory limit for documents.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Documents by SHA-256. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    /// Least recently used documents are evicted first.
    kept: Cache<String, Arc<str>>,
    /// Where set, nothing else is executed.
    trusted: Option<Arc<HashMap<String, Arc<str>>>>,
}

impl Default for Documents {
    fn default() -> Self {
        let weigh = |hash: &String, text: &Arc<str>| u32::try_from(hash.len() + text.len() + 64).unwrap_or(u32::MAX);
        Documents { kept: Cache::builder().max_capacity(BYTES_MAX).weigher(weigh).build(), trusted: None }
    }
}

impl Documents {
    /// Executes only these documents. `manifest` is a JSON object mapping the SHA-256 in hexadecimal to the document,
    /// as written by Relay's compiler and others. Error: what is wrong with it.
    pub fn trusted(manifest: &str) -> Result<Self, String> {
        let documents: HashMap<String, Arc<str>> =
            serde_json::from_str(manifest).map_err(|error| format!("not an object of documents: {error}"))?;
        if let Some(name) = documents.iter().find_map(|(name, text)| (*name != hash_of(text)).then_some(name)) {
            return Err(format!("{name} is not the SHA-256 of its document"));
        }
        Ok(Documents { trusted: Some(Arc::new(documents)), ..Documents::default() })
    }

    /// The document of a request, and the hash under which to store it once it has been validated. Errors: BAD_REQUEST,
    /// PERSISTED_QUERY_NOT_FOUND, OPERATION_NOT_TRUSTED.
    pub fn text_of(
        &self,
        query: Option<String>,
        extensions: &Map<String, Value>,
    ) -> Result<(Arc<str>, Option<String>), Refusal> {
        let bad = |message: &str| Refusal::new("BAD_REQUEST", message);
        let Some(persisted) = extensions.get("persistedQuery").filter(|value| !value.is_null()) else {
            let query = query.filter(|query| !query.trim().is_empty()).ok_or_else(|| bad("query is missing"))?;
            return match &self.trusted {
                None => Ok((query.into(), None)),
                Some(trusted) => {
                    trusted.get(&hash_of(&query)).map(|text| (Arc::clone(text), None)).ok_or_else(untrusted)
                }
            };
        };
        if persisted.get("version").and_then(Value::as_i64) != Some(1) {
            return Err(bad("persistedQuery.version must be 1"));
        }
        let hash = persisted.get("sha256Hash").and_then(Value::as_str).map(str::to_ascii_lowercase);
        let hash = hash.ok_or_else(|| bad("persistedQuery.sha256Hash is missing"))?;
        if let Some(trusted) = &self.trusted {
            return trusted.get(&hash).map(|text| (Arc::clone(text), None)).ok_or_else(untrusted);
        }
        match query {
            Some(query) if hash_of(&query) == hash => Ok((query.into(), Some(hash))),
            Some(_) => Err(bad("persistedQuery.sha256Hash is not the hash of the query")),
            None => {
                let known = self.kept.get(&hash);
                METRICS.cache_was_asked("documents", known.is_some());
                // The exact message clients match on.
                let unknown = || Refusal::new("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound");
                Ok((known.ok_or_else(unknown)?, None))
            }
        }
    }

    pub fn keep(&self, hash: String, text: &Arc<str>) {
        self.kept.insert(hash, Arc::clone(text));
    }
}

fn untrusted() -> Refusal {
    Refusal::new("OPERATION_NOT_TRUSTED", "this server runs registered operations only")
}

fn hash_of(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
