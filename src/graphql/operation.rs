//! What lives as long as one operation.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::OperationType;
use async_graphql::{Response, SelectionField};

use super::reads::Reads;
use super::response_cache::Freshness;
use super::size::Size;
use crate::auth::cursor::{Cursors, Mark};
use crate::db::TenantId;

/// State that lives as long as one operation: its snapshot, its data loaders, and what its response depends on.
#[derive(Default)]
pub struct Operation {
    reads: Arc<Reads>,
    loaders: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    /// What root fields depend on, by response key; `None` unless it is known for every resolved occurrence.
    dated: Mutex<HashMap<String, Option<Freshness>>>,
    /// A field below a root depends on more than the root states.
    is_undated: AtomicBool,
    /// Some of the response was encrypted.
    is_personal: AtomicBool,
    /// Whether it is a query with one root field.
    is_single: bool,
    size: Arc<Size>,
    subscriber: Option<Subscriber>,
    /// The position of a subscription's next answer, and its cursor.
    stand: Mutex<Option<(Mark, Arc<str>)>>,
}

/// Whose cursors a subscription issues, and where it begins.
pub struct Subscriber {
    pub cursors: Cursors,
    pub tenant: TenantId,
    /// What identifies the subscription within the tenant.
    pub scope: Vec<u8>,
    /// What has already been seen.
    pub after: Option<Mark>,
}

impl Operation {
    /// A query or mutation with this many root fields.
    pub fn of(kind: OperationType, fields: usize, size: Arc<Size>) -> Self {
        let is_query = kind == OperationType::Query;
        let reads = if is_query { Reads::of_one_snapshot() } else { Reads::default() };
        Operation { reads: Arc::new(reads), is_single: is_query && fields == 1, size, ..Operation::default() }
    }

    pub fn subscription(subscriber: Subscriber, size: Arc<Size>) -> Self {
        Operation { size, subscriber: Some(subscriber), ..Operation::default() }
    }

    pub fn reads(&self) -> &Arc<Reads> {
        &self.reads
    }

    /// Whether it is a query with one root field, which may be answered from another snapshot than [`Operation::reads`].
    pub fn is_single_query(&self) -> bool {
        self.is_single
    }

    /// The operation's loader of type `L`, created on first use.
    pub fn loader<L: Any + Send + Sync>(&self, make: impl FnOnce() -> L) -> Arc<L> {
        let mut loaders = self.loaders.lock().unwrap_or_else(PoisonError::into_inner);
        let loader = loaders.entry(TypeId::of::<L>()).or_insert_with(|| Arc::new(make()) as Arc<dyn Any + Send + Sync>);
        match Arc::clone(loader).downcast() {
            Ok(loader) => loader,
            Err(_) => unreachable!("entries are keyed by their type"),
        }
    }

    /// Records that a root field depends only on what `freshness` states; `None` where it depends on more. Fields of
    /// one key are resolved separately, and the key is only as fresh as all of them.
    pub fn depends_on(&self, field: SelectionField<'_>, freshness: Option<Freshness>) {
        let key = field.alias().unwrap_or_else(|| field.name());
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let all = dated.get(key).map_or(freshness, |before| before.zip(freshness).and_then(|(a, b)| a.and(b)));
        dated.insert(key.to_owned(), all);
    }

    /// Records that a field below a root depends on more than the root states.
    pub fn depends_on_more(&self) {
        self.is_undated.store(true, Ordering::Relaxed);
    }

    /// Records that the response contains personal data that was encrypted.
    pub fn has_personal_data(&self) {
        self.is_personal.store(true, Ordering::Relaxed);
    }

    /// Accumulated size of series and breakdowns, across all operations of the request.
    pub fn size(&self) -> &Arc<Size> {
        &self.size
    }

    /// The subscriber's position, for a log that can be resumed.
    pub fn after(&self) -> Option<Mark> {
        self.subscriber.as_ref()?.after
    }

    /// Records the position of a subscription's next answer.
    pub fn stands_at(&self, mark: Mark) {
        let cursor = |Subscriber { cursors, tenant, scope, .. }: &Subscriber| cursors.write(*tenant, scope, mark);
        let stand = self.subscriber.as_ref().map(|subscriber| (mark, cursor(subscriber).into()));
        *self.stand.lock().unwrap_or_else(PoisonError::into_inner) = stand;
    }

    /// The cursor of the answer that is being resolved; `None` unless a subscription's position is known.
    pub fn cursor(&self) -> Option<Arc<str>> {
        let stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        stand.as_ref().map(|(_, cursor)| Arc::clone(cursor))
    }

    /// The position of the answer just resolved, and its cursor.
    pub fn take_stand(&self) -> Option<(Mark, Arc<str>)> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What the whole response depends on; `None` unless every root field's freshness is known, all from the same head.
    pub fn freshness(&self, response: &Response) -> Option<Freshness> {
        let dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let async_graphql::Value::Object(fields) = &response.data else { return None };
        if !response.errors.is_empty() || self.is_undated.load(Ordering::Relaxed) {
            return None;
        }
        let mut each = fields.keys().map(|key| dated.get(key.as_str()).copied().flatten());
        let first = each.next()??;
        let all = each.try_fold(first, |all, one| all.and(one?))?;
        Some(Freshness { is_personal: self.is_personal.load(Ordering::Relaxed), ..all })
    }
}
