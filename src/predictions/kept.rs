//! Cache of fits, keyed by their input: the same input is fitted only once, and concurrent requests share one fit.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::pool::{Pool, Seat, pending};
use crate::db::TenantId;
use crate::error::{Error, Result};
use crate::telemetry::metrics::METRICS;

/// How long a request waits for a fit, which continues without it.
const WAIT: Duration = Duration::from_secs(3);

/// The input of a fit. Equal inputs have equal results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: TenantId,
    input: [u8; 32],
}

impl Key {
    /// The key of a tenant's question and the numbers it is about.
    pub fn new(tenant: TenantId, question: &str, numbers: impl IntoIterator<Item = u64>) -> Key {
        let mut hash = Sha256::new_with_prefix(question);
        numbers.into_iter().for_each(|number| hash.update(number.to_le_bytes()));
        Key { tenant, input: hash.finalize().into() }
    }
}

/// A value as a number of a [`Key`]; NaN where there is none.
pub fn bits(value: Option<f64>) -> u64 {
    value.unwrap_or(f64::NAN).to_bits()
}

/// How a caller waits for a result.
#[derive(Clone)]
pub enum WaitPolicy {
    /// A request, which holds a database snapshot: for seconds, within its admission limit.
    Request(Arc<Seat>),
    /// A subscription, which holds no resources: as long as it takes.
    Subscription,
}

/// The results of one kind. Cheap to clone.
pub struct FitCache<T> {
    /// Label in metrics.
    name: &'static str,
    wait: Duration,
    results: Cache<Key, Arc<T>>,
    /// Lets a request raise the priority of a fit that a subscription has started.
    asked: moka::sync::Cache<Key, Arc<Notify>>,
    pool: Pool,
}

impl<T> Clone for FitCache<T> {
    fn clone(&self) -> Self {
        let (results, asked, pool) = (self.results.clone(), self.asked.clone(), self.pool.clone());
        FitCache { name: self.name, wait: self.wait, results, asked, pool }
    }
}

impl<T: Send + Sync + 'static> FitCache<T> {
    /// Caches at most `results_max` results.
    pub fn new(name: &'static str, results_max: u64, pool: Pool) -> Self {
        let (results, asked) = (Cache::new(results_max), moka::sync::Cache::new(results_max));
        FitCache { name, wait: WAIT, results, asked, pool }
    }

    /// The result for `key`, computed by `work` if missing. Errors: PREDICTION_PENDING, when it takes longer than a
    /// request waits, or too many are waiting.
    pub async fn get(
        &self,
        key: Key,
        patience: WaitPolicy,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Arc<T>> {
        let kept = self.results.get(&key).await;
        METRICS.cache_was_asked(self.name, kept.is_some());
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let (pool, results, asks) = (self.pool.clone(), self.results.clone(), self.asked.clone());
        let (place, wait) = match patience {
            WaitPolicy::Request(seat) => (Some(pool.place(&seat, key.tenant)?), self.wait),
            WaitPolicy::Subscription => (None, Duration::MAX),
        };
        let asked = asks.get_with(key, Arc::default);
        if place.is_some() {
            asked.notify_one();
        }
        // In its own task, which continues even if nobody waits for it any more.
        let fitted = tokio::spawn(async move {
            let fit = async {
                match &place {
                    Some(place) => pool.run(Arc::clone(place), work).await,
                    None => pool.run_until_asked(asked.notified(), work).await,
                }
            };
            let fitted = results.try_get_with(key, async { fit.await.map(Arc::new) }).await;
            asks.invalidate(&key);
            fitted
        });
        let fitted = tokio::time::timeout(wait, fitted).await.map_err(|_| pending())?;
        fitted.map_err(Error::internal)?.map_err(|error| Error::shared(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::error::Code;

    fn key(tenant: u128, numbers: [u64; 2]) -> Key {
        Key::new(TenantId(Uuid::from_u128(tenant)), "question", numbers)
    }

    /// A request with a single fit.
    fn request() -> WaitPolicy {
        WaitPolicy::Request(Arc::default())
    }

    #[tokio::test]
    async fn equal_questions_are_fitted_once() {
        let kept = FitCache::new("tests", 10, Pool::new(NonZeroUsize::MIN));
        let fits = Arc::new(AtomicUsize::new(0));
        let fit = || {
            let fits = Arc::clone(&fits);
            move || fits.fetch_add(1, Ordering::SeqCst)
        };
        let subscription = WaitPolicy::Subscription;
        let (one, other) =
            tokio::join!(kept.get(key(1, [1, 2]), request(), fit()), kept.get(key(1, [1, 2]), subscription, fit()));
        assert_eq!((*one.expect("fitted"), *other.expect("fitted")), (0, 0));
        assert_eq!(*kept.get(key(1, [1, 2]), request(), fit()).await.expect("kept"), 0);
        // Another history, another tenant.
        assert_eq!(*kept.get(key(1, [2, 1]), request(), fit()).await.expect("fitted"), 1);
        assert_eq!(*kept.get(key(2, [1, 2]), WaitPolicy::Subscription, fit()).await.expect("fitted"), 2);
    }

    #[tokio::test]
    async fn a_fit_that_failed_is_tried_again() {
        let kept = FitCache::new("tests", 10, Pool::new(NonZeroUsize::MIN));
        let failed = kept.get(key(1, [1, 2]), request(), || panic!("of the test")).await;
        assert_eq!(failed.expect_err("it panics").code, Code::Internal);
        assert_eq!(*kept.get(key(1, [1, 2]), request(), || 7).await.expect("fitted"), 7);
    }

    #[tokio::test]
    async fn what_a_request_waits_for_too_goes_before_what_nobody_does() {
        let kept = FitCache::new("tests", 10, Pool::new(NonZeroUsize::MIN));
        let (end, receiver) = tokio::sync::oneshot::channel::<()>();
        let (order, done) = std::sync::mpsc::channel();
        let note = |name: &'static str| {
            let order = order.clone();
            move || order.send(name).expect("noted")
        };
        let mut busy = kept.pool.run_in_background(move || receiver.blocking_recv().is_ok()).boxed();
        let mut refit = kept.pool.run_in_background(note("refit")).boxed();
        let mut subscription = kept.get(key(1, [1, 2]), WaitPolicy::Subscription, note("asked")).boxed();
        let mut asking = kept.get(key(1, [1, 2]), request(), || panic!("it was begun")).boxed();
        // Lets each run as far as it can.
        for _ in 0..10 {
            assert!((&mut busy).now_or_never().is_none() && (&mut refit).now_or_never().is_none());
            assert!((&mut subscription).now_or_never().is_none() && (&mut asking).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        end.send(()).expect("it runs");
        let (busy, refit, subscription, asking) = tokio::join!(busy, refit, subscription, asking);
        assert!(busy.is_ok() && refit.is_ok() && subscription.is_ok() && asking.is_ok());
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["asked", "refit"]);
    }

    #[tokio::test]
    async fn a_request_does_not_wait_for_ever() {
        let kept =
            FitCache { wait: Duration::from_millis(10), ..FitCache::new("tests", 10, Pool::new(NonZeroUsize::MIN)) };
        let (end, receiver) = tokio::sync::oneshot::channel::<()>();
        let work = move || receiver.blocking_recv().is_ok();
        let late = kept.get(key(1, [1, 2]), request(), work).await;
        assert_eq!(late.expect_err("not yet").code, Code::PredictionPending);
        end.send(()).expect("it runs still");
        assert!(*kept.get(key(1, [1, 2]), WaitPolicy::Subscription, || false).await.expect("the same fit"));
    }
}
