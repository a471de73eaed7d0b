//! Keys at hand, and what becomes of them while the key-encryption key cannot be reached.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use salespulse::sealing::kek::{KekError, KeyEncryption, KeyName, LocalKek, Purpose};
use salespulse::sealing::{
    AssociatedData, DataKey, Form, Held, KEYS_TTL_MS, KeyBytes, Keyring, OpenError, WrappedKey, WrappedKeys,
    blind_index, generate_key, open, seal,
};
use uuid::Uuid;

const TENANT: Uuid = Uuid::from_u128(1);
const PLACE: AssociatedData<'_> = AssociatedData { tenant: TENANT, table: "customers", column: "email", row: &[42] };
const MINUTE_MS: i64 = 60 * 1000;

/// A key-encryption key that can be out of reach, and counts how often it unwraps.
struct Kek {
    local: LocalKek,
    is_away: AtomicBool,
    unwrapped: AtomicUsize,
}

impl Kek {
    fn new() -> Arc<Self> {
        let local = LocalKek::from_texts([STANDARD.encode([1; 32]).as_str()]).expect("a key");
        Arc::new(Kek { local, is_away: AtomicBool::new(false), unwrapped: AtomicUsize::new(0) })
    }

    fn leave(&self) {
        self.is_away.store(true, Ordering::SeqCst);
    }

    fn come_back(&self) {
        self.is_away.store(false, Ordering::SeqCst);
    }

    /// How often it was asked since the last time.
    fn asked(&self) -> usize {
        self.unwrapped.swap(0, Ordering::SeqCst)
    }

    async fn wrapped(&self, purpose: Purpose, version: u32) -> WrappedKey {
        let name = KeyName { tenant: TENANT, purpose, version };
        let text = self.wrap(&name, &generate_key().expect("randomness")).await.expect("wrapped");
        WrappedKey { version, text }
    }

    /// A tenant with data keys up to version `active`.
    async fn tenant(&self, active: u32) -> WrappedKeys {
        let mut others = Vec::new();
        for version in 1..active {
            others.push(self.wrapped(Purpose::Data, version).await);
        }
        let (active, index) = (self.wrapped(Purpose::Data, active).await, self.wrapped(Purpose::Index, 1).await);
        WrappedKeys { active, others, index }
    }
}

#[async_trait::async_trait]
impl KeyEncryption for Kek {
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError> {
        self.local.wrap(name, key).await
    }

    async fn unwrap(&self, name: &KeyName, wrapped: &str) -> Result<KeyBytes, KekError> {
        self.unwrapped.fetch_add(1, Ordering::SeqCst);
        // As over a network: others run meanwhile.
        tokio::task::yield_now().await;
        if self.is_away.load(Ordering::SeqCst) { Err(away()) } else { self.local.unwrap(name, wrapped).await }
    }

    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError> {
        self.local.rewrap(name, wrapped).await
    }
}

fn away() -> KekError {
    KekError::Unavailable("no answer in time".to_owned())
}

fn trouble(held: Result<Held, KekError>) -> Option<KekError> {
    held.expect("keys at hand").trouble
}

#[tokio::test]
async fn all_keys_of_a_tenant_are_at_hand() {
    let kek = Kek::new();
    let ring = Keyring::new(kek.clone());
    let first = kek.tenant(1).await;
    let before = ring.load(TENANT, &first, 0).await.expect("loaded").keys;
    let sealed = seal(before.data.active(), &PLACE, "zoe@example.com").expect("sealed");
    let index = blind_index(&before.index, "customers.email", Form::Text, "zoe@example.com");

    let second = WrappedKeys { active: kek.wrapped(Purpose::Data, 2).await, others: vec![first.active], ..first };
    let after = ring.load(TENANT, &second, 1).await.expect("loaded").keys;
    assert_eq!(after.data.active().version(), 2);
    assert_eq!(open(&after.data, &PLACE, &sealed).as_deref(), Ok("zoe@example.com"));
    assert_eq!(blind_index(&after.index, "customers.email", Form::Text, "zoe@example.com"), index);
    assert!(!format!("{after:?}").is_empty() && !format!("{after:?}").contains("cipher"));
}

#[tokio::test]
async fn a_key_in_the_place_of_another_is_refused() {
    let kek = Kek::new();
    let ring = Keyring::new(kek.clone());
    let keys = kek.tenant(2).await;
    let mut swapped = keys.clone();
    std::mem::swap(&mut swapped.active.text, &mut swapped.others[0].text);
    let mut confused = keys.clone();
    confused.index.text = keys.others[0].text.clone();
    for wrapped in [swapped, confused] {
        let other_ring = Keyring::new(kek.clone());
        assert!(matches!(other_ring.load(TENANT, &wrapped, 0).await, Err(KekError::BadWrapped(_))));
    }
    assert!(matches!(ring.load(Uuid::from_u128(2), &keys, 0).await, Err(KekError::BadWrapped(_))));
    assert!(ring.load(TENANT, &keys, 0).await.is_ok());
}

#[tokio::test]
async fn a_damaged_old_key_takes_only_what_it_sealed_along() {
    let kek = Kek::new();
    let good = kek.tenant(2).await;
    let mut damaged = good.clone();
    damaged.others[0].text = good.index.text.clone();
    let keys = Keyring::new(kek.clone()).load(TENANT, &damaged, 0).await.expect("loaded").keys;
    let with = |version: u32| DataKey::new(version, &generate_key().expect("random"));
    let sealed = |version| seal(&with(version), &PLACE, "zoe").expect("sealed");
    assert_eq!(open(&keys.data, &PLACE, &sealed(1)), Err(OpenError::UnknownKeyVersion(1)));
    assert_eq!(open(&keys.data, &PLACE, &sealed(2)), Err(OpenError::BadTag));
}

#[tokio::test]
async fn keys_are_asked_for_once_in_five_minutes() {
    let kek = Kek::new();
    let ring = Keyring::new(kek.clone());
    let keys = kek.tenant(1).await;
    assert!(ring.find(TENANT, 0).is_none());
    assert_eq!(trouble(ring.load(TENANT, &keys, 0).await), None);
    assert_eq!(kek.asked(), 2);
    assert!(ring.find(TENANT, 5 * MINUTE_MS - 1).is_some());
    assert_eq!(trouble(ring.load(TENANT, &keys, 5 * MINUTE_MS - 1).await), None);
    assert_eq!(kek.asked(), 0);
    assert!(ring.find(TENANT, 5 * MINUTE_MS).is_none());
    assert_eq!(trouble(ring.load(TENANT, &keys, 5 * MINUTE_MS).await), None);
    assert_eq!(kek.asked(), 2);
    assert!(ring.find(TENANT, 10 * MINUTE_MS - 1).is_some());
}

#[tokio::test]
async fn keys_serve_while_the_kek_is_away_until_their_time_is_over() {
    let kek = Kek::new();
    let ring = Keyring::new(kek.clone());
    let keys = kek.tenant(1).await;
    assert_eq!(trouble(ring.load(TENANT, &keys, 0).await), None);
    kek.leave();
    assert_eq!(kek.asked(), 2);

    // Asked at half the time, then every five seconds; between, others are served at once.
    assert_eq!(trouble(ring.load(TENANT, &keys, 5 * MINUTE_MS).await), Some(away()));
    assert!(ring.find(TENANT, 5 * MINUTE_MS + 4_999).is_some());
    assert_eq!(trouble(ring.load(TENANT, &keys, 5 * MINUTE_MS + 4_999).await), Some(away()));
    assert_eq!(kek.asked(), 1);
    assert!(ring.find(TENANT, 5 * MINUTE_MS + 5_000).is_none());

    assert_eq!(trouble(ring.load(TENANT, &keys, KEYS_TTL_MS - 1).await), Some(away()));
    assert!(ring.find(TENANT, KEYS_TTL_MS).is_none());
    assert_eq!(ring.load(TENANT, &keys, KEYS_TTL_MS).await.expect_err("over"), away());
    assert_eq!(ring.load(TENANT, &keys, KEYS_TTL_MS + 5_000).await.expect_err("over"), away());
    assert!(ring.find(TENANT, KEYS_TTL_MS + 5_001).is_none());

    kek.come_back();
    assert_eq!(ring.load(TENANT, &keys, KEYS_TTL_MS + 9_999).await.expect_err("in the pause"), away());
    assert_eq!(trouble(ring.load(TENANT, &keys, KEYS_TTL_MS + 10_000).await), None);
}

#[tokio::test]
async fn a_version_that_came_while_the_kek_is_away_is_asked_for_after_the_pause() {
    let kek = Kek::new();
    let ring = Keyring::new(kek.clone());
    let before = kek.tenant(1).await;
    let after = WrappedKeys {
        active: kek.wrapped(Purpose::Data, 2).await,
        others: vec![before.active.clone()],
        ..before.clone()
    };
    assert_eq!(trouble(ring.load(TENANT, &before, 0).await), None);
    assert_eq!(kek.asked(), 2);
    kek.leave();
    for now_ms in [MINUTE_MS, MINUTE_MS + 1, MINUTE_MS + 4_999] {
        let held = ring.load(TENANT, &after, now_ms).await.expect("at hand");
        assert_eq!((held.keys.data.active().version(), held.trouble), (1, Some(away())));
    }
    assert_eq!(kek.asked(), 1);
    kek.come_back();
    let held = ring.load(TENANT, &after, MINUTE_MS + 5_000).await.expect("loaded");
    assert_eq!((held.keys.data.active().version(), held.trouble), (2, None));
}

#[tokio::test]
async fn many_requests_ask_once() {
    let kek = Kek::new();
    let ring = Arc::new(Keyring::new(kek.clone()));
    let keys = Arc::new(kek.tenant(3).await);
    for is_away in [false, true] {
        if is_away {
            kek.leave();
            ring.forget(TENANT);
        }
        let loads = (0..100).map(|_| {
            let (ring, keys) = (ring.clone(), keys.clone());
            tokio::spawn(async move { ring.load(TENANT, &keys, 0).await.is_ok() })
        });
        for load in loads.collect::<Vec<_>>() {
            assert_eq!(load.await.expect("no panic"), !is_away);
        }
        // Three data keys and the index key; or the first of them.
        assert_eq!(kek.asked(), if is_away { 1 } else { 4 });
    }
}

#[tokio::test]
async fn others_are_served_while_one_asks_anew() {
    let kek = Kek::new();
    let ring = Arc::new(Keyring::new(kek.clone()));
    let keys = kek.tenant(1).await;
    assert_eq!(trouble(ring.load(TENANT, &keys, 0).await), None);
    assert_eq!(kek.asked(), 2);
    let renewal = {
        let (ring, keys) = (ring.clone(), keys.clone());
        tokio::spawn(async move { ring.load(TENANT, &keys, 5 * MINUTE_MS).await.is_ok() })
    };
    while kek.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // The first of two keys is asked for, the second not yet.
    assert!(ring.find(TENANT, 5 * MINUTE_MS).is_some());
    assert!(renewal.await.expect("no panic"));
}

#[tokio::test]
async fn what_is_forgotten_or_over_is_dropped() {
    let kek = Kek::new();
    let ring = Keyring::new(kek.clone());
    let keys = kek.tenant(1).await;
    let held = ring.load(TENANT, &keys, 0).await.expect("loaded");
    ring.drop_expired(KEYS_TTL_MS - 1);
    assert_eq!(Arc::strong_count(&held.keys), 2);
    ring.drop_expired(KEYS_TTL_MS);
    assert_eq!(Arc::strong_count(&held.keys), 1);

    let held = ring.load(TENANT, &keys, KEYS_TTL_MS).await.expect("loaded");
    ring.forget(TENANT);
    assert_eq!(Arc::strong_count(&held.keys), 1);
    assert!(ring.find(TENANT, KEYS_TTL_MS).is_none());
}
