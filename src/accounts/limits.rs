//! Rate limits on sign-in attempts, refreshes, invalid secrets and requested mail: per address, account or session, in this
//! process.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use governor::Quota;
use moka::sync::Cache;
use uuid::Uuid;

use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::graphql::limits::{Buckets, network_of};

/// Burst of attempts per address, and of mails per account; then one per [`PAUSE`].
const TRIES: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// Burst of attempts per account: high enough that a single address cannot lock out the owner (docs/decisions/0025).
const ACCOUNT_TRIES: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
const PAUSE: Duration = Duration::from_secs(90);
/// Burst of refreshes per session, of which each is written; then one per [`REFRESH_PAUSE`].
const REFRESHES: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
const REFRESH_PAUSE: Duration = Duration::from_secs(10);

/// Maximum number of invalid secrets looked up for an address per window.
const STRANGE_MAX: u32 = 100;
const STRANGE_WINDOW: Duration = Duration::from_secs(15 * 60);
const STRANGERS_MAX: u64 = 100_000;

type Account = (Option<TenantId>, String);

/// Counts attempts. Cheap to clone.
#[derive(Clone)]
pub struct Tries(Arc<Parts>);

struct Parts {
    addresses: Buckets<IpAddr>,
    accounts: Buckets<Account>,
    mails: Buckets<Account>,
    refreshes: Buckets<Uuid>,
    strangers: Cache<IpAddr, Arc<Strange>>,
}

/// Invalid secrets from one address.
struct Strange {
    since: Instant,
    secrets: AtomicU32,
}

impl Default for Strange {
    fn default() -> Self {
        Strange { since: Instant::now(), secrets: AtomicU32::new(0) }
    }
}

impl Default for Tries {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the pauses are constants")]
        let quota = |pause| Quota::with_period(pause).expect("not zero");
        let tries = quota(PAUSE).allow_burst(TRIES);
        Tries(Arc::new(Parts {
            addresses: Buckets::new(tries),
            accounts: Buckets::new(tries.allow_burst(ACCOUNT_TRIES)),
            mails: Buckets::new(tries),
            refreshes: Buckets::new(quota(REFRESH_PAUSE).allow_burst(REFRESHES)),
            strangers: Cache::builder().max_capacity(STRANGERS_MAX).time_to_live(STRANGE_WINDOW).build(),
        }))
    }
}

impl Tries {
    /// Counts an attempt from an address. Called before [`Self::take_account`], so that one address alone cannot
    /// exhaust an account's budget. Error: RATE_LIMITED.
    pub fn take_address(&self, address: Option<IpAddr>) -> Result<()> {
        address.map_or(Ok(()), |address| self.0.addresses.take(&network_of(address), NonZeroU32::MIN)).map_err(limited)
    }

    /// Counts a password attempt for an account, whether it exists or not. Error: RATE_LIMITED.
    pub fn take_account(&self, tenant: Option<TenantId>, email: &str) -> Result<()> {
        self.0.accounts.take(&(tenant, email.to_owned()), NonZeroU32::MIN).map_err(limited)
    }

    /// Counts a mail to an account, whether it exists or not. Error: RATE_LIMITED.
    pub fn take_mail(&self, tenant: Option<TenantId>, email: &str) -> Result<()> {
        self.0.mails.take(&(tenant, email.to_owned()), NonZeroU32::MIN).map_err(limited)
    }

    /// Counts a refresh of a session. Error: RATE_LIMITED.
    pub fn take_refresh(&self, session: Uuid) -> Result<()> {
        self.0.refreshes.take(&session, NonZeroU32::MIN).map_err(limited)
    }

    /// Refuses to look up a secret for an address that has sent too many invalid ones. Error: RATE_LIMITED.
    pub fn check_stranger(&self, address: Option<IpAddr>) -> Result<()> {
        let strange = address.and_then(|address| self.0.strangers.get(&network_of(address)));
        match strange {
            Some(strange) if strange.secrets.load(Ordering::Relaxed) >= STRANGE_MAX => {
                Err(limited(STRANGE_WINDOW.saturating_sub(strange.since.elapsed())))
            }
            _ => Ok(()),
        }
    }

    /// Counts an invalid secret from an address: an API key, a refresh token, a mailed link.
    pub fn count_stranger(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.0.strangers.get_with(network_of(address), Arc::default).secrets.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn limited(wait: Duration) -> Error {
    let error = Error::new(Code::RateLimited, "too many attempts; try again later");
    Error { retry_after: Some(wait), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_for_an_account_and_for_an_address() {
        let tries = Tries::default();
        let acme = Some(TenantId(uuid::Uuid::from_u128(1)));
        assert!((0..100).all(|_| tries.take_account(acme, "ann").is_ok()));
        assert!((0..10).all(|_| tries.take_mail(acme, "ann").is_ok()));
        assert!(tries.take_account(acme, "ann").is_err() && tries.take_mail(acme, "ann").is_err());
        assert!(tries.take_account(None, "ann").is_ok() && tries.take_account(acme, "bob").is_ok());
        let address = |text: &str| Some(text.parse().expect("an address"));
        for n in 0..10 {
            assert!(tries.take_address(address(&format!("2001:db8::{n}"))).is_ok());
        }
        assert!(tries.take_address(address("2001:db8::ffff")).is_err());
        assert!(tries.take_address(address("2001:db8:0:1::")).is_ok() && tries.take_address(None).is_ok());
    }

    #[test]
    fn a_session_is_refreshed_sixty_times_and_then_every_ten_seconds() {
        let tries = Tries::default();
        let session = Uuid::from_u128(1);
        assert!((0..60).all(|_| tries.take_refresh(session).is_ok()));
        let wait = tries.take_refresh(session).expect_err("refused").retry_after.expect("a wait");
        assert!(wait <= REFRESH_PAUSE && !wait.is_zero(), "{wait:?}");
        assert!(tries.take_refresh(Uuid::from_u128(2)).is_ok());
    }

    #[test]
    fn an_address_may_show_a_hundred_secrets_that_are_not_good() {
        let tries = Tries::default();
        let address = |text: &str| Some(text.parse().expect("an address"));
        for _ in 0..100 {
            assert!(tries.check_stranger(address("1.2.3.4")).is_ok());
            tries.count_stranger(address("1.2.3.4"));
        }
        let refused = tries.check_stranger(address("1.2.3.4")).expect_err("refused");
        assert!(refused.retry_after.is_some_and(|wait| wait <= STRANGE_WINDOW && !wait.is_zero()));
        assert!(tries.check_stranger(address("1.2.3.5")).is_ok() && tries.check_stranger(None).is_ok());
    }
}
