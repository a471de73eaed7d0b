//! How often somebody may try to sign in, or have mail sent: for each address and each account, in this process.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;

use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::graphql::limits::Buckets;

/// Tries at once; then one after each pause.
const TRIES: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
const PAUSE: Duration = Duration::from_secs(90);

type Account = (Option<TenantId>, String);

/// Counts tries. Cheap to clone.
#[derive(Clone)]
pub struct Tries(Arc<Parts>);

struct Parts {
    addresses: Buckets<IpAddr>,
    accounts: Buckets<Account>,
    mails: Buckets<Account>,
}

impl Default for Tries {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the pause is a constant")]
        let quota = Quota::with_period(PAUSE).expect("not zero").allow_burst(TRIES);
        Tries(Arc::new(Parts {
            addresses: Buckets::new(quota),
            accounts: Buckets::new(quota),
            mails: Buckets::new(quota),
        }))
    }
}

impl Tries {
    /// One more try from an address. It comes before what is taken from an account, which one address alone is not to use up.
    /// Error: RATE_LIMITED.
    pub fn take_address(&self, address: Option<IpAddr>) -> Result<()> {
        allow(address.is_none_or(|address| self.0.addresses.take(&network_of(address), NonZeroU32::MIN)))
    }

    /// One more password for an account, whether there is one or not. Error: RATE_LIMITED.
    pub fn take_account(&self, tenant: Option<TenantId>, email: &str) -> Result<()> {
        allow(self.0.accounts.take(&(tenant, email.to_owned()), NonZeroU32::MIN))
    }

    /// One more mail to an account, whether there is one or not. Error: RATE_LIMITED.
    pub fn take_mail(&self, tenant: Option<TenantId>, email: &str) -> Result<()> {
        allow(self.0.mails.take(&(tenant, email.to_owned()), NonZeroU32::MIN))
    }
}

/// What somebody has as a whole: of IPv6 the first 64 bits.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn allow(is_free: bool) -> Result<()> {
    if is_free { Ok(()) } else { Err(Error::new(Code::RateLimited, "too many tries; try again in some minutes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tries_for_an_account_and_for_an_address() {
        let tries = Tries::default();
        let acme = Some(TenantId(uuid::Uuid::from_u128(1)));
        for _ in 0..10 {
            assert!(tries.take_account(acme, "ann").is_ok() && tries.take_mail(acme, "ann").is_ok());
        }
        assert!(tries.take_account(acme, "ann").is_err() && tries.take_mail(acme, "ann").is_err());
        assert!(tries.take_account(None, "ann").is_ok() && tries.take_account(acme, "bob").is_ok());
        let address = |text: &str| Some(text.parse().expect("an address"));
        for n in 0..10 {
            assert!(tries.take_address(address(&format!("2001:db8::{n}"))).is_ok());
        }
        assert!(tries.take_address(address("2001:db8::ffff")).is_err());
        assert!(tries.take_address(address("2001:db8:0:1::")).is_ok() && tries.take_address(None).is_ok());
    }
}
