//! Data loaders: what the resolvers of one operation ask for one by one is read by one statement.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use async_graphql::Context;
use dataloader::BatchFn;
use dataloader::cached::Loader as CachedLoader;

use super::context::loader;
use crate::db::{Db, TenantId, TenantTx};
use crate::error::{Error, Result};

/// Keys of one statement: more than one operation may ask for, so that a list never takes several.
const KEYS_MAX: usize = 1_000_000;

/// What is read together: one kind of thing by its key.
pub trait Batch: Send + Sync + 'static {
    type Key: Clone + Debug + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    /// Reads the values of `keys` by one statement; a key that has none is left out.
    fn load(tx: &TenantTx, keys: &[Self::Key]) -> impl Future<Output = Result<HashMap<Self::Key, Self::Value>>> + Send;
}

/// A key's value, or why its batch failed.
type Loaded<V> = Result<Option<V>, Arc<Error>>;
type Loader<B> = CachedLoader<<B as Batch>::Key, Loaded<<B as Batch>::Value>, Fetch<B>>;

/// The value of `key`, read together with the others that this operation asks for now.
///
/// It may be of a later snapshot than what led to it.
pub async fn load<B: Batch>(ctx: &Context<'_>, key: B::Key) -> Result<Option<B::Value>> {
    let loader = loader::<Loader<B>>(ctx, |db, tenant| {
        CachedLoader::new(Fetch::<B> { db, tenant, batch: std::marker::PhantomData }).with_max_batch_size(KEYS_MAX)
    })?;
    let loaded = match loader.try_load(key.clone()).await {
        Ok(loaded) => loaded,
        // The resolver that was reading the batch was dropped, for an error beside it: read again.
        Err(_) => loader.try_load(key).await.map_err(Error::internal)?,
    };
    loaded.map_err(|error| Error {
        source: Some(Box::new(Failed(Arc::clone(&error)))),
        ..Error::new(error.code, error.message.clone())
    })
}

/// The value of a key that others refer to.
pub async fn load_known<B: Batch>(ctx: &Context<'_>, key: B::Key) -> Result<B::Value> {
    let name = format!("{key:?}");
    load::<B>(ctx, key).await?.ok_or_else(|| Error::internal(format!("nothing by the key {name}")))
}

struct Fetch<B> {
    db: Db,
    tenant: TenantId,
    batch: std::marker::PhantomData<B>,
}

impl<B: Batch> Fetch<B> {
    async fn read(&self, keys: &[B::Key]) -> Result<HashMap<B::Key, B::Value>> {
        let tx = self.db.read(self.tenant).await?;
        B::load(&tx, keys).await
    }
}

impl<B: Batch> BatchFn<B::Key, Loaded<B::Value>> for Fetch<B> {
    async fn load(&mut self, keys: &[B::Key]) -> HashMap<B::Key, Loaded<B::Value>> {
        let mut values = self.read(keys).await.map_err(Arc::new);
        let value = |key: &B::Key| match &mut values {
            Ok(values) => Ok(values.remove(key)),
            Err(error) => Err(Arc::clone(error)),
        };
        let loaded: Vec<Loaded<B::Value>> = keys.iter().map(value).collect();
        keys.iter().cloned().zip(loaded).collect()
    }
}

/// An error that all keys of a batch share.
#[derive(Debug, thiserror::Error)]
#[error("a batch was not read: {0:?}")]
struct Failed(Arc<Error>);
