//! Data loaders: what the resolvers of one operation ask for one by one is read by one statement.
//!
//! A loader's value is not the row but the reading of its batch, which all keys of the batch share. So the loader's
//! lock is never held while the database is asked: resolvers would else come out of it one after the other, each a
//! round of the executor apart, and what they ask for next would not come together again.

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

use super::context::loader;
use super::reads::Reads;
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Error, Result};

/// Keys of one statement: more than one operation may ask for, so that a list never takes several.
const KEYS_MAX: usize = 1_000_000;

/// Rounds of the executor that a batch waits for more keys. All resolvers of a level are polled in one round; each further
/// round polls them all again, which for a thousand of them costs more than the database does.
const YIELDS: usize = 2;

/// What is read together: one kind of thing by its key.
pub trait BatchLoad: Send + Sync + 'static {
    type Key: Clone + Debug + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// Reads the values of `keys` by one statement; a key that has none is left out.
    fn load(tx: &TenantTx, keys: &[Self::Key]) -> impl Future<Output = Result<HashMap<Self::Key, Self::Value>>> + Send;
}

type Values<B> = HashMap<<B as BatchLoad>::Key, <B as BatchLoad>::Value>;
type Read<B> = Result<Arc<Values<B>>, Arc<Error>>;
type Loader<B> = CachedLoader<<B as BatchLoad>::Key, Reading<B>, Fetch<B>>;

/// The reading of one batch; each clone gives the same answer.
struct Reading<B: BatchLoad>(Shared<BoxFuture<'static, Read<B>>>);

impl<B: BatchLoad> Clone for Reading<B> {
    fn clone(&self) -> Self {
        Reading(self.0.clone())
    }
}

/// The value of `key`, read together with the others that this operation asks for now.
pub async fn load<B: BatchLoad>(ctx: &Context<'_>, key: B::Key) -> Result<Option<B::Value>> {
    let loader = loader::<Loader<B>>(ctx, |reads, db, tenant| {
        CachedLoader::new(Fetch::<B> { reads, db, tenant, batch: PhantomData })
            .with_max_batch_size(KEYS_MAX)
            .with_yield_count(YIELDS)
    })?;
    // Unconstrained, because its locks would else use up the task's budget, and so end the round, after some hundred keys.
    let reading = tokio::task::unconstrained(loader.try_load(key.clone())).await.map_err(Error::internal)?;
    match reading.0.await {
        Ok(values) => Ok(values.get(&key).cloned()),
        Err(error) => Err(Error::shared(&error)),
    }
}

/// The value of a key that others refer to.
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
        let reading = Reading(read.map(|values| values.map(Arc::new).map_err(Arc::new)).boxed().shared());
        keys.iter().map(|key| (key.clone(), reading.clone())).collect()
    }
}
