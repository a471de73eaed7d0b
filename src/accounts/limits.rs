//! How often somebody may try to sign in, or have mail sent: for each account and each address, in this process.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota};

use crate::error::{Code, Error, Result};

/// Tries in a quarter of an hour.
const TRIES: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
const PERIOD_SECS: u32 = 15 * 60;
/// Accounts and addresses that are remembered before those at rest are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Counts tries. Cheap to clone.
#[derive(Clone)]
pub struct Tries(Arc<Limiters>);

struct Limiters {
    accounts: DefaultKeyedRateLimiter<String>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
}

impl Default for Tries {
    fn default() -> Self {
        let every = std::time::Duration::from_secs(u64::from(PERIOD_SECS / TRIES.get()));
        #[expect(clippy::expect_used, reason = "the period is a constant")]
        let quota = Quota::with_period(every).expect("not zero").allow_burst(TRIES);
        Tries(Arc::new(Limiters {
            accounts: DefaultKeyedRateLimiter::keyed(quota),
            addresses: DefaultKeyedRateLimiter::keyed(quota),
        }))
    }
}

impl Tries {
    /// One more try. Error: RATE_LIMITED.
    pub fn take(&self, account: &str, address: Option<IpAddr>) -> Result<()> {
        let Limiters { accounts, addresses } = &*self.0;
        if accounts.len() + addresses.len() > REMEMBERED_MAX {
            accounts.retain_recent();
            addresses.retain_recent();
        }
        let is_free = accounts.check_key(&account.to_owned()).is_ok()
            && address.is_none_or(|address| addresses.check_key(&address).is_ok());
        if is_free {
            return Ok(());
        }
        Err(Error::new(Code::RateLimited, "too many tries; try again in some minutes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_for_an_account_and_for_an_address() {
        let tries = Tries::default();
        let address = |n| Some(IpAddr::from([10, 0, 0, n]));
        for n in 0..10 {
            assert!(tries.take("acme/ann", address(n)).is_ok());
        }
        assert!(tries.take("acme/ann", address(99)).is_err());
        for n in 0..9 {
            assert!(tries.take(&format!("acme/{n}"), address(1)).is_ok());
        }
        assert!(tries.take("acme/zoe", address(1)).is_err());
        assert!(tries.take("acme/zoe", None).is_ok());
    }
}
