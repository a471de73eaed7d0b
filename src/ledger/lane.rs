//! A tenant's lane: one task that commits the tenant's events, batch by batch.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::batch::BatchApplier;
use super::changes::Names;
use super::entry::Entry;
use super::event::{Event, Outcome, Refusal, RefusalCode};
use super::fold::{CROWDED_TAIL_MAX, TAIL_MAX, fold, fold_tail, volume_of};
use super::item::Item;
use super::store::Head;
use super::tail::Chunk;
use super::{Answer, LANE_BATCH_EVENTS_MAX, LaneContext, RecordedBatch, load, save, store};
use crate::clock::Timestamp;
use crate::db::{TenantId, TenantTx};
use crate::error::{Code, Error, Result};
use crate::sealing::TenantKeys;
use crate::telemetry::metrics::METRICS;

/// An idle lane ends after this time, which frees its memory.
const IDLE: Duration = Duration::from_secs(60);
/// An idle lane folds its tail after this time.
const FOLD_AFTER: Duration = Duration::from_millis(500);
/// How long a batch waits for callers likely to return.
const GATHER_MAX: Duration = Duration::from_millis(2);
/// Timeout of an attempt to commit or fold.
const COMMIT_WAIT: Duration = Duration::from_secs(300);
/// Names cached per lane; beyond this the cache is dropped and re-read.
const NAMES_MAX: usize = 200_000;

/// One caller's events.
pub(super) struct Job {
    pub items: Vec<Item>,
    /// Sealing keys, when an event contains personal data.
    pub keys: Option<Arc<TenantKeys>>,
    pub is_backfill: bool,
    pub reply: oneshot::Sender<Result<Answer>>,
    /// Its permits in the bounded queue of waiting events.
    pub room: Option<OwnedSemaphorePermit>,
}

/// Ledger and rollup positions after a lane's last commit; zero before the first.
#[derive(Clone, Copy, Default)]
pub(super) struct LaneProgress {
    pub position: i64,
    pub folded: i64,
}

pub(super) struct Lane {
    tenant: TenantId,
    parts: Arc<LaneContext>,
    /// Ledger and rollup positions after this lane's last commit.
    position: i64,
    folded: i64,
    /// A fold that is under way, and where it will have got.
    folding: Option<JoinHandle<Result<i64>>>,
    /// The last fold failed: it is retried after a batch or a long idle period.
    is_behind: bool,
    /// Number of callers that shared the last batch.
    callers: usize,
    names: Names,
}

/// Outcome of an attempt to commit.
enum Attempt {
    /// The position after the commit.
    Committed(i64),
    /// Rolled back: the ledger may lack partitions for the months of these times.
    LacksMonths(BTreeSet<i64>),
    /// Rolled back: the batch must be folded, but a fold is under way.
    RollupsLocked,
}

/// What a lane has waited for.
enum Wait {
    Job(Job),
    /// A fold has ended.
    Folded,
    /// Nothing has come for a while.
    Idle,
    /// Nothing will come any more.
    Closed,
}

impl Lane {
    pub(super) fn new(tenant: TenantId, parts: Arc<LaneContext>) -> Self {
        Lane {
            tenant,
            parts,
            position: 0,
            folded: 0,
            folding: None,
            is_behind: false,
            callers: 1,
            names: Names::default(),
        }
    }

    /// Publishes its progress to `place` after each step.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, place: watch::Sender<LaneProgress>) {
        let mut waiting: Option<Job> = None;
        loop {
            place.send_replace(LaneProgress { position: self.position, folded: self.folded });
            let first = match waiting.take() {
                Some(job) => job,
                None => match self.wait(&mut jobs).await {
                    Wait::Job(job) => job,
                    Wait::Folded => continue,
                    Wait::Closed => return self.fold_rest().await,
                    Wait::Idle if self.has_tail() || self.folding.is_some() => {
                        self.begin_fold().await;
                        continue;
                    }
                    Wait::Idle => {
                        // Jobs sent before the lane closed are still served.
                        jobs.close();
                        match jobs.recv().await {
                            Some(job) => job,
                            None => return,
                        }
                    }
                },
            };
            let batch;
            // Infrequent folds cost readers more but speed up bulk recording.
            let is_backfill = first.is_backfill;
            (batch, waiting) = self.gather(first, &mut jobs).await;
            self.serve(batch).await;
            let tail_max = if is_backfill || waiting.is_some() { CROWDED_TAIL_MAX } else { TAIL_MAX };
            if self.folding.as_ref().is_some_and(JoinHandle::is_finished) || self.position - self.folded >= 2 * tail_max
            {
                self.finish_fold().await;
            }
            if self.position - self.folded >= tail_max {
                self.begin_fold().await;
            }
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, jobs: &mut mpsc::Receiver<Job>) -> Wait {
        let patience = self.patience();
        tokio::select! {
            job = tokio::time::timeout(patience, jobs.recv()) => match job {
                Ok(Some(job)) => Wait::Job(job),
                Ok(None) => Wait::Closed,
                Err(_) => Wait::Idle,
            },
            () = self.finish_fold(), if self.folding.is_some() => Wait::Folded,
        }
    }

    /// Collects the jobs of one batch, `first` and whatever is queued, plus the job after it if one has arrived. The
    /// callers that shared the last batch are likely to return at once, so as many are awaited: otherwise half of them
    /// would miss this batch and have to wait out the other half's. After a batch with a single caller there is no
    /// wait.
    async fn gather(&mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Job>, Option<Job>) {
        let deadline = tokio::time::Instant::now() + GATHER_MAX;
        let mut events = first.items.len();
        let mut batch = vec![first];
        let next = loop {
            let next = match jobs.try_recv() {
                Ok(job) => Some(job),
                Err(_) if batch.len() < self.callers => {
                    tokio::time::timeout_at(deadline, jobs.recv()).await.ok().flatten()
                }
                Err(_) => None,
            };
            match next {
                Some(job)
                    if events + job.items.len() <= LANE_BATCH_EVENTS_MAX && job.is_backfill == batch[0].is_backfill =>
                {
                    events += job.items.len();
                    batch.push(job);
                }
                next => break next,
            }
        };
        self.callers = batch.len();
        (batch, next)
    }

    fn has_tail(&self) -> bool {
        self.folded < self.position
    }

    /// How long to wait for work before folding or ending.
    fn patience(&self) -> Duration {
        if self.has_tail() && !self.is_behind && self.folding.is_none() { FOLD_AFTER } else { IDLE }
    }

    /// Begins to fold the tail unless that is under way, and ends it if there are too many folds beside lanes. On failure
    /// it is retried after the next batch or a long idle period; until then readers add the tail.
    async fn begin_fold(&mut self) {
        if self.folding.is_some() {
            return;
        }
        let (parts, tenant) = (Arc::clone(&self.parts), self.tenant);
        let permit = Arc::clone(&parts.folds_beside).try_acquire_owned().ok();
        let is_beside = permit.is_some();
        let fold = async move {
            let _permit = permit;
            let LaneContext { db, memory, .. } = &*parts;
            db.within(COMMIT_WAIT, fold_tail(db, &memory.tails, tenant)).await
        };
        self.folding = Some(tokio::spawn(fold.in_current_span()));
        if !is_beside {
            self.finish_fold().await;
        }
    }

    /// Waits until no fold is under way. Cancel-safe.
    async fn finish_fold(&mut self) {
        let Some(folding) = &mut self.folding else { return };
        let folded = folding.await.map_err(Error::internal).flatten();
        self.folding = None;
        self.is_behind = folded.is_err();
        match folded {
            Ok(folded) => self.folded = self.folded.max(folded),
            Err(error) if error.code == Code::ServiceUnavailable => {
                // Lock contention; readers add the tail meanwhile.
                tracing::info!(tenant = %self.tenant.0, source = error.cause(), "tail not folded yet");
            }
            Err(error) => {
                tracing::error!(tenant = %self.tenant.0, source = error.cause(), "tail not folded");
            }
        }
    }

    /// Folds what is left, once.
    async fn fold_rest(&mut self) {
        self.finish_fold().await;
        if self.has_tail() {
            self.begin_fold().await;
            self.finish_fold().await;
        }
    }

    async fn serve(&mut self, mut jobs: Vec<Job>) {
        let is_backfill = jobs[0].is_backfill;
        let now = self.parts.clock.now();
        let lengths: Vec<usize> = jobs.iter().map(|job| job.items.len()).collect();
        let keys = jobs.iter_mut().filter_map(|job| job.keys.take()).max_by_key(|keys| keys.data.active().version());
        let mut items: Vec<Item> = jobs.iter_mut().flat_map(|job| std::mem::take(&mut job.items)).collect();
        let begun = Instant::now();
        let result = self.commit_or_split(&mut items, now, is_backfill, keys.as_deref()).await;
        METRICS.batch_has_ended(begun.elapsed(), result.is_ok());
        if result.is_ok() {
            count(&items);
        }
        let mut outcomes = items.into_iter().map(|item| item.outcome).collect::<Vec<_>>().into_iter();
        let replies: Vec<_> = jobs
            .into_iter()
            .zip(lengths)
            .map(|(job, length)| {
                let outcomes: Option<Vec<Outcome>> = outcomes.by_ref().take(length).collect();
                (job.reply, outcomes)
            })
            .collect();
        let result = result.map_err(Arc::new);
        for (reply, outcomes) in replies {
            let answer = match (&result, outcomes) {
                (Ok(position), Some(outcomes)) => Ok(Answer { outcomes, position: *position }),
                (Ok(_), None) => Err(Error::internal("an event without an outcome")),
                (Err(error), _) => Err(Error::shared(error)),
            };
            // The caller may have gone away.
            let _ = reply.send(answer);
        }
        match result {
            Err(error) if error.code == Code::ServiceUnavailable => {
                // Callers are told to try again.
                tracing::warn!(tenant = %self.tenant.0, source = error.cause(), "batch not recorded yet");
            }
            Err(error) => {
                tracing::error!(tenant = %self.tenant.0, code = error.code.as_str(), source = error.cause(), "batch not recorded");
            }
            Ok(_) => {}
        }
    }

    /// Commits all items; on overflow of a sum, finds the offending ones by bisection.
    async fn commit_or_split(
        &mut self,
        items: &mut [Item],
        now: Timestamp,
        is_backfill: bool,
        keys: Option<&TenantKeys>,
    ) -> Result<i64> {
        let error = match self.commit(items, now, is_backfill, keys).await {
            Err(error) if error.code == Code::AmountOutOfRange => error,
            result => return result,
        };
        if items.len() == 1 {
            let reason = error.message;
            items[0].outcome = Some(Outcome::Refused(Refusal { code: RefusalCode::AmountOutOfRange, reason }));
            let tx = self.parts.db.read(self.tenant).await?;
            return Ok(store::read_head(&tx).await?.position);
        }
        let (left, right) = items.split_at_mut(items.len() / 2);
        Box::pin(self.commit_or_split(left, now, is_backfill, keys)).await?;
        Box::pin(self.commit_or_split(right, now, is_backfill, keys)).await
    }

    /// Commits in one transaction and returns the position after it. Missing months are created with no transaction
    /// open, which would hold one connection while waiting for another; then the commit is retried.
    async fn commit(
        &mut self,
        items: &mut [Item],
        now: Timestamp,
        is_backfill: bool,
        keys: Option<&TenantKeys>,
    ) -> Result<i64> {
        let mut made = BTreeSet::new();
        let mut has_forgotten = false;
        loop {
            let db = self.parts.db.clone();
            match db.within(COMMIT_WAIT, self.try_commit(items, now, is_backfill, keys, &made)).await {
                // The month still exists as a table that is being dropped.
                Err(error) if error.lacks_month() && has_forgotten => {
                    let message = "a month of the ledger is being dropped; try again";
                    return Err(Error { source: error.source, ..Error::new(Code::ServiceUnavailable, message) });
                }
                // Recreates months dropped in the meantime.
                Err(error) if error.lacks_month() => {
                    has_forgotten = true;
                    made.clear();
                    self.parts.db.forget_months();
                }
                Err(error) => return Err(error),
                Ok(Attempt::Committed(position)) => return Ok(position),
                Ok(Attempt::LacksMonths(times)) => {
                    self.parts.db.ensure_months(times.iter().copied()).await?;
                    made.extend(times);
                }
                Ok(Attempt::RollupsLocked) => {
                    let LaneContext { db, memory, .. } = &*self.parts;
                    db.within(COMMIT_WAIT, fold_tail(db, &memory.tails, self.tenant)).await?;
                }
            }
        }
    }

    async fn try_commit(
        &mut self,
        items: &mut [Item],
        now: Timestamp,
        is_backfill: bool,
        keys: Option<&TenantKeys>,
        made: &BTreeSet<i64>,
    ) -> Result<Attempt> {
        let tx = self.parts.db.write(self.tenant).await?;
        let mut head = store::lock_head(&tx).await?;
        if keys.is_some_and(|keys| i64::from(keys.data.active().version()) < head.oldest_key) {
            // The key was destroyed while the events waited: what it seals could never be opened.
            self.parts.keys.forget(self.tenant);
            return Err(Error::new(Code::ServiceUnavailable, "the tenant's keys have just changed; try again"));
        }
        // Read after the lock so that within a process, time is monotonic in position.
        let now = self.parts.clock.now().max(now);
        let alerts_before = head.last_alert_no;
        self.parts.observer.batch_begins(&tx, &mut head, now).await?;
        let first = head.position + 1;
        let before = head.clone();
        let organizations = self.parts.memory.organizations.get(&tx, head.policy_epoch).await?;
        let events: Vec<&Event> = items.iter().filter(|i| i.refusal.is_none()).map(|i| &i.event).collect();
        let mut names = std::mem::take(&mut self.names);
        if head.position < self.position {
            // The ledger has gone back to an earlier state: names may have other numbers now, and positions other events.
            names = Names::default();
            self.parts.memory.tails.forget(self.tenant);
            self.parts.memory.days.forget(self.tenant);
        }
        let loaded = load::load(&tx, head, organizations, names, &events, keys).await?;
        let mut batch = BatchApplier::new(loaded);
        for item in items.iter_mut() {
            item.outcome = Some(match &item.refusal {
                Some(refusal) => Outcome::Refused(refusal.clone()),
                None => batch.apply(item),
            });
        }
        let last = batch.loaded.head.position;
        let mut entries = Arc::default();
        if last >= first {
            let lacking = self.lacking_months(&batch, made);
            if !lacking.is_empty() {
                return Ok(Attempt::LacksMonths(lacking));
            }
            save::save(&tx, &before, &batch, now, is_backfill, keys).await?;
            if !self.fold_if_needed(&tx, &before, &mut batch).await? {
                return Ok(Attempt::RollupsLocked);
            }
            save::save_head(&tx, &batch.loaded.head).await?;
            entries = Arc::new(std::mem::take(&mut batch.changes.entries));
            if !is_backfill {
                let recorded = RecordedBatch { now, first, entries: &entries };
                self.parts.observer.batch_recorded(&tx, &mut batch.loaded.head, &recorded).await?;
            }
        }
        tx.commit().await?;
        let loaded = batch.loaded;
        self.position = loaded.head.position;
        self.folded = loaded.head.folded;
        if self.has_tail() && last >= first {
            let chunk = Chunk { first, last, entries: Arc::clone(&entries) };
            self.parts.memory.tails.remember(self.tenant, self.folded, chunk);
        }
        if last >= first || loaded.head.last_alert_no > alerts_before {
            self.publish(first, &loaded.head, entries).await;
        }
        self.parts.memory.organizations.remember(self.tenant, loaded.head.policy_epoch, loaded.organizations);
        if loaded.names.products.len() + loaded.names.dimensions.len() <= NAMES_MAX {
            self.names = loaded.names;
        }
        Ok(Attempt::Committed(last))
    }

    async fn publish(&self, first: i64, head: &Head, entries: Arc<Vec<(i64, Entry)>>) {
        let batch = head.batch(first, Some(entries));
        if let Err(error) = self.parts.stream.publish(self.tenant, Arc::new(batch)).await {
            tracing::warn!(tenant = %self.tenant.0, %error, "batch not published");
        }
    }

    /// Folds the tail with the batch where it cannot be deferred: entries lie in months being dropped, or a sum might
    /// overflow, which must refuse the event that causes it. `false` if that has to wait for another fold.
    async fn fold_if_needed(&self, tx: &TenantTx, before: &Head, batch: &mut BatchApplier) -> Result<bool> {
        let BatchApplier { loaded, changes } = batch;
        let entries = || changes.entries.iter().map(|(_, entry)| entry);
        let volume = entries().map(volume_of).sum::<i128>() + i128::from(before.tail_volume);
        let is_in_range = volume + i128::from(before.largest_sum) <= i128::from(i64::MAX);
        let is_dropped = |entry: &Entry| before.retained_from.is_some_and(|from| entry.at.0 < from);
        if is_in_range && !entries().any(is_dropped) {
            loaded.head.tail_volume = i64::try_from(volume).unwrap_or(i64::MAX);
            return Ok(true);
        }
        if !tx.try_lock_rollups().await? {
            return Ok(false);
        }
        let tail = self.parts.memory.tails.get(tx, &before.standing()).await?;
        let entries: Vec<&Entry> = tail.entries().chain(entries()).collect();
        let folded = fold(tx, &loaded.organizations, &entries).await?;
        loaded.head.advance_rollups(loaded.head.position, &folded);
        Ok(true)
    }

    /// Times of entries, except `made`, whose months the ledger may lack.
    fn lacking_months(&self, batch: &BatchApplier, made: &BTreeSet<i64>) -> BTreeSet<i64> {
        let times: BTreeSet<i64> = batch.changes.entries.iter().map(|(_, entry)| entry.at.0).collect();
        let retained_from = batch.loaded.head.retained_from;
        times.difference(made).copied().filter(|at| !self.parts.db.has_month(*at, retained_from)).collect()
    }
}

fn count(items: &[Item]) {
    for outcome in items.iter().filter_map(|item| item.outcome.as_ref()) {
        METRICS.ledger_events.with_label_values(&[outcome.as_str()]).inc();
    }
}
