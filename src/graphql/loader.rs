//! Data loaders: individual reads by the resolvers of one operation are batched into one statement.
//!
//! A loader's value is not the row but the pending read of its batch, shared by all its keys. So the loader's lock is
//! never held while the database is queried: otherwise resolvers would be released one after the other, each an
//! executor round apart, and their next reads would no longer be batched.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use async_graphql::Context;
use dataloader::BatchFn;
use dataloader::cached::Loader as CachedLoader;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::context::loader;
use super::reads::Reads;
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Error, Result};

/// Maximum number of keys per statement: more than one operation can ask for, so that a list never takes several.
const KEYS_MAX: usize = 1_000_000;

/// Executor rounds that a batch waits for more keys. All resolvers of a level are polled in one round; each further
/// round polls them all again, which for a thousand of them costs more than the query.
const YIELDS: usize = 2;

/// One kind of batched read, by key.
pub trait BatchLoad: Send + Sync + 'static {
    type Key: Clone + Debug + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// Reads the values of `keys` in one statement; keys without a value are omitted.
    fn load(tx: &TenantTx, keys: &[Self::Key]) -> impl Future<Output = Result<HashMap<Self::Key, Self::Value>>> + Send;
}

type Values<B> = HashMap<<B as BatchLoad>::Key, <B as BatchLoad>::Value>;
type Read<B> = Result<Arc<Values<B>>, Arc<Error>>;
type Loader<B> = CachedLoader<<B as BatchLoad>::Key, Reading<B>, Fetch<B>>;

/// The read of one batch; all clones resolve to the same result.
struct Reading<B: BatchLoad>(Shared<BoxFuture<'static, Read<B>>>);

impl<B: BatchLoad> Clone for Reading<B> {
    fn clone(&self) -> Self {
        Reading(self.0.clone())
    }
}

/// The operation's loader for `B`.
fn loader_of<B: BatchLoad>(ctx: &Context<'_>) -> Result<Arc<Loader<B>>> {
    loader::<Loader<B>>(ctx, |reads, db, tenant| {
        CachedLoader::new(Fetch::<B> { reads, db, tenant, batch: PhantomData })
            .with_max_batch_size(KEYS_MAX)
            .with_yield_count(YIELDS)
    })
}

/// Loads the value of `key`, batched with the operation's other concurrent reads.
pub async fn load<B: BatchLoad>(ctx: &Context<'_>, key: B::Key) -> Result<Option<B::Value>> {
    let loader = loader_of::<B>(ctx)?;
    // Unconstrained: otherwise its locks would exhaust the task's cooperative budget, ending the round after a few
    // hundred keys.
    let reading = tokio::task::unconstrained(loader.try_load(key.clone())).await.map_err(Error::internal)?;
    reading.get(&key).await
}

/// Loads the values of `keys`, batched likewise; keys without a value are omitted.
pub async fn load_many<B: BatchLoad>(
    ctx: &Context<'_>,
    keys: impl Iterator<Item = B::Key>,
) -> Result<HashMap<B::Key, B::Value>> {
    let loader = loader_of::<B>(ctx)?;
    let readings = tokio::task::unconstrained(loader.try_load_many(keys.collect())).await.map_err(Error::internal)?;
    let mut values = HashMap::with_capacity(readings.len());
    for (key, reading) in readings {
        if let Some(value) = reading.get(&key).await? {
            values.insert(key, value);
        }
    }
    Ok(values)
}

impl<B: BatchLoad> Reading<B> {
    async fn get(self, key: &B::Key) -> Result<Option<B::Value>> {
        match self.0.await {
            Ok(values) => Ok(values.get(key).cloned()),
            Err(error) => Err(Error::shared(&error)),
        }
    }
}

/// Loads the value of a key that is referenced elsewhere, so it must exist.
pub async fn load_known<B: BatchLoad>(ctx: &Context<'_>, key: B::Key) -> Result<B::Value> {
    let missing = format!("nothing by the key {key:?}");
    load::<B>(ctx, key).await?.ok_or_else(|| Error::internal(missing))
}

struct Fetch<B> {
    reads: Arc<Reads>,
    db: Db,
    tenant: TenantId,
    batch: PhantomData<B>,
}

impl<B: BatchLoad> BatchFn<B::Key, Reading<B>> for Fetch<B> {
    async fn load(&mut self, keys: &[B::Key]) -> HashMap<B::Key, Reading<B>> {
        let (reads, db, tenant, all) = (Arc::clone(&self.reads), self.db.clone(), self.tenant, keys.to_vec());
        let read = async move {
            let tx = reads.get(&db, tenant).await?;
            B::load(&tx, &all).await
        };
        // A task of its own: otherwise everything that waits for it would be polled for each part that arrives.
        let read = AbortOnDropHandle::new(tokio::spawn(read.in_current_span()));
        let read = read.map(|read| read.map_err(Error::internal).flatten().map(Arc::new).map_err(Arc::new));
        let reading = Reading(read.boxed().shared());
        keys.iter().map(|key| (key.clone(), reading.clone())).collect()
    }
}
