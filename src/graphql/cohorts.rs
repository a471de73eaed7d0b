//! Cohorts: equal subscriptions share one computation, and each of its results is serialized once.
//!
//! A cohort's results are states, of which only the newest matters: a slow subscriber takes the newest state when it
//! can, together with the number of states it skipped.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::errors;
use super::payload::Payload;
use crate::auth::Permission;
use crate::auth::cursor::Mark;
use crate::db::TenantId;
use crate::error::Error;
use crate::telemetry::metrics::METRICS;

/// How long a subscriber that is ahead of its cohort waits for it to catch up.
const AHEAD_WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// Identifies equal subscriptions: same tenant, permissions, operation and variables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub tenant: TenantId,
    pub permissions: Vec<Permission>,
    /// A hash of operation and variables.
    pub operation: [u8; 32],
}

/// What a subscriber has already seen.
pub enum After {
    Nothing,
    Mark(Mark),
    /// The given cursor is invalid, or belongs to another subscription.
    Unknown,
}

/// The cohorts of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cohorts(Arc<Mutex<HashMap<Key, Latest>>>);

/// The newest state; `None` before the first.
type Latest = watch::Sender<Option<Arc<Update>>>;

struct Update {
    /// 1-based.
    number: u64,
    payload: Payload,
}

impl Cohorts {
    /// Joins the cohort of `key`; if there is none yet, creates it from `start`.
    pub fn join(&self, key: Key, after: After, start: impl FnOnce() -> BoxStream<'static, Payload>) -> Member {
        let mut cohorts = self.lock();
        let latest = match cohorts.get(&key) {
            Some(latest) => latest.subscribe(),
            None => {
                // The stream ends with a panic, of which the members are told.
                let answers = AssertUnwindSafe(start()).catch_unwind();
                let (sender, receiver) = watch::channel(None);
                cohorts.insert(key.clone(), sender.clone());
                let answers = answers.map(|answer| answer.unwrap_or_else(|_| panicked())).boxed();
                tokio::spawn(self.clone().drive(key, sender, answers));
                receiver
            }
        };
        Member { latest, after, seen: None, ahead_until: None }
    }

    /// Number of cohorts, and of members across all of them.
    pub fn count(&self) -> (usize, usize) {
        let cohorts = self.lock();
        (cohorts.len(), cohorts.values().map(watch::Sender::receiver_count).sum())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Latest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until the source ends or all members have left.
    async fn drive(self, key: Key, latest: Latest, mut answers: BoxStream<'static, Payload>) {
        let mut number = 0;
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(payload) => {
                        number += 1;
                        METRICS.live_updates.inc();
                        latest.send_replace(Some(Arc::new(Update { number, payload })));
                    }
                    None => break,
                },
                () = latest.closed() => {
                    let mut cohorts = self.lock();
                    if latest.receiver_count() == 0 {
                        cohorts.remove(&key);
                        return;
                    }
                }
            }
        }
        self.lock().remove(&key);
    }
}

fn panicked() -> Payload {
    Payload::refused(errors::unplaced(Error::internal("a subscription panicked")))
}

/// A subscription's membership in its cohort.
pub struct Member {
    latest: watch::Receiver<Option<Arc<Update>>>,
    after: After,
    /// The number of the last state it received, or had before joining.
    seen: Option<u64>,
    ahead_until: Option<Instant>,
}

impl Member {
    /// The newest state, as soon as it differs from the last one received.
    pub async fn next(&mut self) -> Option<Payload> {
        loop {
            let update = self.latest.borrow_and_update().clone();
            let is_late = self.ahead_until.is_some_and(|until| until <= Instant::now());
            if let Some(payload) = update.and_then(|update| self.take(&update, is_late)) {
                return Some(payload);
            }
            let is_there = match self.ahead_until {
                Some(until) => tokio::time::timeout_at(until, self.latest.changed()).await.unwrap_or(Ok(())),
                None => self.latest.changed().await,
            };
            is_there.ok()?;
        }
    }

    fn take(&mut self, update: &Update, is_late: bool) -> Option<Payload> {
        if let Some(seen) = self.seen {
            let skipped = update.number.checked_sub(seen + 1)?;
            self.seen = Some(update.number);
            return Some(update.payload.with_skipped(skipped));
        }
        let is_reset = match (&self.after, update.payload.mark) {
            (After::Mark(mark), Some(newest)) if *mark == newest => {
                self.seen = Some(update.number);
                self.ahead_until = None;
                return None;
            }
            (After::Mark(mark), Some(newest)) if mark.is_ahead_of(&newest) && !is_late => {
                self.ahead_until.get_or_insert_with(|| Instant::now() + AHEAD_WAIT);
                return None;
            }
            (After::Mark(mark), Some(newest)) => mark.is_ahead_of(&newest),
            (After::Unknown, _) => true,
            _ => false,
        };
        self.seen = Some(update.number);
        self.ahead_until = None;
        Some(if is_reset { update.payload.with_reset() } else { update.payload.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cursor::Mark;
    use async_graphql::Response;
    use futures_util::FutureExt;
    use tokio::sync::mpsc;
    use uuid::Uuid;

    fn key() -> Key {
        Key { tenant: TenantId(Uuid::from_u128(1)), permissions: Vec::new(), operation: [0; 32] }
    }

    fn payload(position: i64) -> Payload {
        payload_of(position, 0)
    }

    fn payload_of(position: i64, part: i64) -> Payload {
        let mark = Mark { position, part, until: None };
        Payload::live(Response::new(position), mark, format!("at-{position}").into())
    }

    fn answers(receiver: mpsc::Receiver<Payload>) -> BoxStream<'static, Payload> {
        futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))).boxed()
    }

    fn text(position: i64, more: &str) -> String {
        format!(r#"{{"data":{position},"extensions":{{"cursor":"at-{position}"{more}}}}}"#)
    }

    #[tokio::test]
    async fn a_slow_member_is_given_the_newest_and_told_what_it_skipped() {
        let (cohorts, (sender, receiver)) = (Cohorts::default(), mpsc::channel(1));
        let mut slow = cohorts.join(key(), After::Nothing, || answers(receiver));
        let mut quick = cohorts.join(key(), After::Nothing, || unreachable!("there is one"));
        for position in 1..=4 {
            sender.send(payload(position)).await.expect("sent");
            assert_eq!(&*quick.next().await.expect("an answer").json, text(position, ""));
            if position == 1 {
                assert_eq!(&*slow.next().await.expect("an answer").json, text(1, ""));
            }
        }
        assert_eq!(&*slow.next().await.expect("an answer").json, text(4, r#","skipped":2"#));
        drop(sender);
        assert!(slow.next().await.is_none() && quick.next().await.is_none());
        assert_eq!(cohorts.count(), (0, 0));
    }

    #[tokio::test]
    async fn members_are_told_of_a_panic() {
        let cohorts = Cohorts::default();
        let answers = futures_util::stream::iter([1, 2]);
        let answers = answers.map(|position| if position == 1 { payload(1) } else { panic!("what nobody is to read") });
        let mut member = cohorts.join(key(), After::Nothing, || answers.boxed());
        let mut last = member.next().await.expect("an answer");
        if last.refused.is_none() {
            last = member.next().await.expect("another");
        }
        assert!(last.json.contains("INTERNAL_SERVER_ERROR") && !last.json.contains("nobody"), "{}", last.json);
        assert!(last.refused.is_some() && member.next().await.is_none());
        assert_eq!(cohorts.count(), (0, 0));
    }

    #[tokio::test]
    async fn a_member_goes_on_from_what_it_has_seen() {
        let (cohorts, (sender, receiver)) = (Cohorts::default(), mpsc::channel(1));
        let mut first = cohorts.join(key(), After::Nothing, || answers(receiver));
        sender.send(payload(5)).await.expect("sent");
        first.next().await.expect("an answer");
        let seen = |position| After::Mark(Mark { position, part: 0, until: None });
        let join = |after| cohorts.join(key(), after, || unreachable!("there is one"));
        let (mut behind, mut level, mut ahead) = (join(seen(4)), join(seen(5)), join(seen(6)));
        let (mut lost, mut unknown) = (join(seen(9)), join(After::Unknown));
        assert_eq!(&*behind.next().await.expect("an answer").json, text(5, ""));
        assert_eq!(&*unknown.next().await.expect("an answer").json, text(5, r#","reset":true"#));
        // The cohort is behind what this subscriber has seen, and never catches up.
        assert_eq!(&*lost.next().await.expect("an answer").json, text(5, r#","reset":true"#));
        // A subscriber waiting for its cohort goes idle once the cohort has caught up.
        assert!(ahead.next().now_or_never().is_none());
        sender.send(payload(6)).await.expect("sent");
        assert_eq!(&*level.next().await.expect("an answer").json, text(6, ""));
        let waited = tokio::time::timeout(3 * AHEAD_WAIT, ahead.next()).await;
        assert!(waited.is_err(), "there is nothing new for it");
        sender.send(payload(7)).await.expect("sent");
        assert_eq!(&*ahead.next().await.expect("an answer").json, text(7, ""));
        drop((first, behind, level, ahead, lost, unknown));
        sender.closed().await;
        assert_eq!(cohorts.count(), (0, 0));
    }

    /// As with newer facts, where another process knows of changed settings first.
    #[tokio::test]
    async fn a_member_that_has_seen_newer_settings_is_not_set_back() {
        let (cohorts, (sender, receiver)) = (Cohorts::default(), mpsc::channel(1));
        let seen = |part| After::Mark(Mark { position: 5, part, until: None });
        let mut behind = cohorts.join(key(), seen(0), || answers(receiver));
        let join = |after| cohorts.join(key(), after, || unreachable!("there is one"));
        let (mut ahead, mut lost) = (join(seen(2)), join(seen(9)));
        sender.send(payload_of(5, 1)).await.expect("sent");
        assert_eq!(&*behind.next().await.expect("an answer").json, text(5, ""));
        assert!(ahead.next().now_or_never().is_none());
        sender.send(payload_of(5, 2)).await.expect("sent");
        assert_eq!(&*behind.next().await.expect("an answer").json, text(5, ""));
        // The settings it has seen never come.
        assert_eq!(&*lost.next().await.expect("an answer").json, text(5, r#","reset":true"#));
        let waited = tokio::time::timeout(3 * AHEAD_WAIT, ahead.next()).await;
        assert!(waited.is_err(), "there is nothing new for it");
        sender.send(payload_of(6, 2)).await.expect("sent");
        assert_eq!(&*ahead.next().await.expect("an answer").json, text(6, ""));
    }
}
