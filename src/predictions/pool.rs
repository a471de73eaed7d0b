//! Thread pool for fitting models: a few threads beside those that serve requests, so that fits never take theirs.
//!
//! Background work runs at the lowest priority of the system, as all threads share the machine's cores.
//!
//! Work that somebody waits for is rejected when too much is already waiting (back-pressure). Background work (a
//! nightly refit) waits as long as it takes, and yields to work from requests.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::telemetry::metrics::METRICS;

/// Number of read connections, unless configured: the default of `SALESPULSE_DATABASE_CONNECTIONS`.
const CONNECTIONS: u32 = 16;

/// Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    threads: usize,
    /// One permit per running fit.
    turns: Arc<Semaphore>,
    /// One permit per background fit that runs or is next: with more than one thread, one is always left to requests.
    background: Arc<Semaphore>,
    places: Arc<Admission>,
}

impl Default for Pool {
    /// Half of the machine's cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Pool::new(NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN))
    }
}

impl Pool {
    pub fn new(threads: NonZeroUsize) -> Self {
        let threads = threads.get();
        Pool {
            threads,
            turns: Arc::new(Semaphore::new(threads)),
            background: Arc::new(Semaphore::new(threads.saturating_sub(1).max(1))),
            places: Arc::new(Admission::beside(CONNECTIONS)),
        }
    }

    /// Adapts the pool to a server with that many read connections. Each waiting request holds one.
    #[must_use]
    pub fn beside(self, connections: u32) -> Self {
        Pool { places: Arc::new(Admission::beside(connections)), ..self }
    }

    /// The place of a tenant's request among those waiting, taken on its first fit. Error: PREDICTION_PENDING when too
    /// many are waiting.
    pub fn place(&self, seat: &Seat, tenant: TenantId) -> Result<Arc<AdmissionPermit>> {
        let mut taken = seat.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = taken.as_ref() {
            return Ok(Arc::clone(place));
        }
        let place = Arc::new(AdmissionPermit::take(&self.places, tenant, self.threads)?);
        *taken = Some(Arc::clone(&place));
        Ok(place)
    }

    /// Runs `work` for an admitted request, after what it has submitted before. Error: internal, if it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        place: Arc<AdmissionPermit>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let _next = acquire(&place.next).await?;
        self.fit(Origin::Request, work).await
    }

    /// Runs `work` in the background, at lower priority than requests. Error: internal, if it panics.
    pub async fn run_in_background<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.run_until_asked(std::future::pending(), work).await
    }

    /// Like [`Self::run_in_background`]; when `asked` resolves before it has started, it gets a request's priority.
    pub async fn run_until_asked<T: Send + 'static>(
        &self,
        asked: impl Future<Output = ()>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (origin, _next) = tokio::select! {
            next = acquire(&self.background) => (Origin::Background, Some(next?)),
            () = asked => (Origin::Request, None),
        };
        self.fit(origin, work).await
    }

    /// The number of requests waiting for fits, including those whose fits continue without them.
    pub fn waiting(&self) -> usize {
        self.places.lock().values().sum()
    }

    async fn fit<T: Send + 'static>(&self, origin: Origin, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = acquire(&self.turns).await?;
        let began = Instant::now();
        // The permit is held until the work is done, even if nobody waits for it any more.
        let work = move || {
            let _turn = turn;
            work()
        };
        let (label, ended) = match origin {
            Origin::Request => ("request", tokio::task::spawn_blocking(work).await.map_err(Error::internal)),
            Origin::Background => ("background", yielding(work).await),
        };
        METRICS.fit_duration.with_label_values(&[label]).observe(began.elapsed().as_secs_f64());
        ended
    }
}

/// For whom a fit runs.
#[derive(Clone, Copy)]
enum Origin {
    Request,
    /// A subscription, or a refit.
    Background,
}

/// Runs `work` on a thread of its own at the lowest priority: on a busy machine, whatever else wants a core goes first.
/// A thread cannot get its priority back, so none is used again. Error: internal, if it panics.
pub async fn yielding<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let run = move || {
        lower_priority();
        // The receiver is gone if nobody waits for it any more.
        let _ = sender.send(work());
    };
    std::thread::Builder::new().name("background".to_owned()).spawn(run).map_err(Error::internal)?;
    receiver.await.map_err(|_| Error::internal("background work panicked"))
}

/// Gives this thread the lowest priority. Only Linux has priorities of single threads; elsewhere it keeps its own, as it
/// does where the system refuses.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE_MAX);
}

/// The lowest priority, as Unix counts it.
#[cfg(target_os = "linux")]
const NICE_MAX: i32 = 19;

async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore).acquire_owned().await.map_err(Error::internal)
}

/// The result is not available yet.
pub fn pending() -> Error {
    Error::new(Code::PredictionPending, "this is being computed; ask again in a moment")
}

/// Counts and limits the requests waiting for fits, in all and per tenant.
struct Admission {
    taken: Mutex<HashMap<TenantId, usize>>,
    all_max: usize,
    tenant_max: usize,
}

impl Admission {
    /// Waiting requests hold at most half of the connections, and those of one tenant at most a quarter.
    fn beside(connections: u32) -> Admission {
        let part = |of: u32| usize::try_from(connections / of).unwrap_or(usize::MAX).max(1);
        Admission { taken: Mutex::default(), all_max: part(2), tenant_max: part(4) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's place: one for all of its fits, as it holds one connection, from the first of them until both the
/// request and its last fit have ended.
#[derive(Default)]
pub struct Seat(Mutex<Option<Arc<AdmissionPermit>>>);

/// A request's place among those waiting for fits; released on drop.
pub struct AdmissionPermit {
    places: Arc<Admission>,
    tenant: TenantId,
    /// One permit per fit of the request that runs or is next: as many as there are threads, so that others get their
    /// turn however much it submits.
    next: Arc<Semaphore>,
}

impl AdmissionPermit {
    /// Error: PREDICTION_PENDING.
    fn take(places: &Arc<Admission>, tenant: TenantId, fits_max: usize) -> Result<AdmissionPermit> {
        let mut taken = places.lock();
        let (all, own) = (taken.values().sum::<usize>(), taken.get(&tenant).copied().unwrap_or_default());
        if all >= places.all_max || own >= places.tenant_max {
            return Err(pending());
        }
        taken.insert(tenant, own + 1);
        Ok(AdmissionPermit { places: Arc::clone(places), tenant, next: Arc::new(Semaphore::new(fits_max)) })
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(own) = taken.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId(Uuid::from_u128(n))
    }

    /// A fit for a request with no others.
    async fn run<T: Send + 'static>(pool: &Pool, of: TenantId, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = pool.place(&Seat::default(), of)?;
        pool.run(place, work).await
    }

    /// A pool whose only thread is busy until the sender is used.
    async fn busy() -> (Pool, mpsc::Sender<()>, tokio::task::JoinHandle<Result<()>>) {
        let (pool, (sender, receiver), (began, begins)) =
            (Pool::new(NonZeroUsize::MIN), mpsc::channel(), tokio::sync::oneshot::channel());
        let other = pool.clone();
        let running = tokio::spawn(async move {
            let work = move || {
                began.send(()).expect("somebody waits for it");
                receiver.recv().expect("told to end");
            };
            run(&other, tenant(0), work).await
        });
        begins.await.expect("it runs");
        (pool, sender, running)
    }

    #[tokio::test]
    async fn what_is_waited_for_has_its_bounds() {
        let (pool, end, running) = busy().await;
        let mut waiting: Vec<_> = (0..4).map(|n| run(&pool, tenant(1), move || n).boxed()).collect();
        assert!(waiting.iter_mut().all(|fit| fit.now_or_never().is_none()));
        let refused = run(&pool, tenant(1), || 0).await.expect_err("a tenant has its share");
        assert_eq!(refused.code, Code::PredictionPending);
        let others = (waiting.len()..7).map(|n| run(&pool, tenant(n as u128 + 2), move || n).boxed());
        waiting.extend(others);
        assert!(waiting.iter_mut().all(|fit| fit.now_or_never().is_none()));
        assert_eq!(run(&pool, tenant(9999), || 0).await.expect_err("full").code, Code::PredictionPending);
        // A waiter that is dropped frees its place.
        drop(waiting.pop());
        let last = run(&pool, tenant(9999), || 7);
        end.send(()).expect("it waits");
        let fitted: Vec<usize> =
            join_all(waiting.into_iter().chain([last.boxed()])).await.into_iter().map(|n| n.expect("fitted")).collect();
        assert_eq!(fitted.len(), 7);
        running.await.expect("no panic").expect("fitted");
        assert_eq!(pool.waiting(), 0);
    }

    #[test]
    fn most_connections_are_left_to_those_who_do_not_wait() {
        let places = |connections| {
            let places = Admission::beside(connections);
            (places.tenant_max, places.all_max)
        };
        assert_eq!([1, 4, 16, 100].map(places), [(1, 1), (1, 2), (4, 8), (25, 50)]);
        let pool = Pool::new(NonZeroUsize::MIN).beside(4);
        let [mine, second, other] = [Seat::default(), Seat::default(), Seat::default()];
        let place = pool.place(&mine, tenant(1)).expect("free");
        assert!(pool.place(&second, tenant(1)).is_err() && pool.place(&other, tenant(2)).is_ok());
        assert!(pool.place(&mine, tenant(1)).is_ok(), "a request has one place, whatever it asks for");
        assert_eq!(pool.waiting(), 2);
        drop((mine, place));
        assert!(pool.place(&second, tenant(1)).is_ok());
    }

    #[tokio::test]
    async fn what_one_request_asks_for_lets_others_have_their_turn() {
        let (pool, end, running) = busy().await;
        let (order, done) = mpsc::channel();
        let note = |name: &'static str| {
            let order = order.clone();
            move || order.send(name).expect("noted")
        };
        let seat = Seat::default();
        let mut fits: Vec<_> = (0..20)
            .map(|_| pool.run(pool.place(&seat, tenant(1)).expect("one place for all"), note("many")).boxed())
            .collect();
        fits.push(run(&pool, tenant(1), note("one")).boxed());
        assert!(fits.iter_mut().all(|fit| fit.now_or_never().is_none()));
        end.send(()).expect("it waits");
        join_all(fits).await.into_iter().for_each(|fit| fit.expect("fitted"));
        running.await.expect("no panic").expect("fitted");
        assert_eq!(done.try_iter().position(|name| name == "one"), Some(1));
    }

    #[tokio::test]
    async fn requests_pass_by_what_nobody_waits_for() {
        let (pool, end, running) = busy().await;
        let (order, done) = mpsc::channel();
        let note = |name: &'static str| {
            let order = order.clone();
            move || order.send(name).expect("noted")
        };
        let mut background: Vec<_> = (0..3).map(|_| pool.run_in_background(note("background")).boxed()).collect();
        assert!(background.iter_mut().all(|fit| fit.now_or_never().is_none()));
        let mut request = run(&pool, tenant(1), note("request")).boxed();
        assert!(request.as_mut().now_or_never().is_none());
        end.send(()).expect("it waits");
        let (request, background, running) = tokio::join!(request, join_all(background), running);
        request.expect("fitted");
        running.expect("no panic").expect("fitted");
        background.into_iter().for_each(|fit| fit.expect("fitted"));
        // The background fit that was next when the request arrived, and no more.
        assert_eq!(done.try_iter().collect::<Vec<_>>(), ["background", "request", "background", "background"]);
    }

    #[tokio::test]
    async fn a_panic_is_one_fits_own() {
        let pool = Pool::new(NonZeroUsize::MIN);
        let panics = run(&pool, tenant(1), || panic!("of the test")).await;
        assert_eq!(panics.map(|()| "fitted").expect_err("it panics").code, Code::Internal);
        let panics = pool.run_in_background(|| panic!("of the test")).await;
        assert_eq!(panics.map(|()| "fitted").expect_err("it panics").code, Code::Internal);
        assert_eq!(run(&pool, tenant(1), || 7).await.expect("fitted"), 7);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_what_nobody_waits_for_yields_to_others() {
        let priority = || rustix::process::getpriority_process(None).expect("known");
        let (pool, own) = (Pool::new(NonZeroUsize::MIN), priority());
        assert_eq!(pool.run_in_background(priority).await.expect("fitted"), NICE_MAX);
        let turn = acquire(&pool.background).await.expect("free");
        assert_eq!(pool.run_until_asked(std::future::ready(()), priority).await.expect("fitted"), own, "asked for");
        drop(turn);
        assert_eq!(run(&pool, tenant(1), priority).await.expect("fitted"), own);
        assert_eq!(priority(), own);
    }
}
