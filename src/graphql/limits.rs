//! Rate limits: fields per minute for each user, API key and tenant, across HTTP and sockets; open sockets; and
//! requests and sockets per address without authentication. Counted per process.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::{DefaultKeyedRateLimiter, Quota};
use uuid::Uuid;

use super::errors::Refusal;
use crate::auth::{Caller, Through};
use crate::db::TenantId;
use crate::error::{Code, Error};

/// Number of buckets above which idle ones are evicted.
const REMEMBERED: usize = 10_000;

/// Number of series and breakdown values that cost as much as one field.
const VALUES_OF_FIELD: usize = 10;

/// `None` means unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Fields per minute for a user or an API key, each counted as often as it is selected.
    pub user_fields: Option<NonZeroU32>,
    pub tenant_fields: Option<NonZeroU32>,
    /// WebSockets and HTTP subscription streams, of a user, of a tenant, and of all.
    pub user_sockets: Option<NonZeroU32>,
    pub tenant_sockets: Option<NonZeroU32>,
    pub sockets: Option<NonZeroU32>,
    /// Unauthenticated WebSockets per address.
    pub address_sockets: Option<NonZeroU32>,
    /// Requests per minute from an address without a valid token.
    pub address_requests: Option<NonZeroU32>,
}

/// Accounts for usage.
pub struct Usage {
    limits: Limits,
    users: Option<Buckets<(TenantId, Uuid)>>,
    tenants: Option<Buckets<TenantId>>,
    addresses: Option<Buckets<IpAddr>>,
    sockets: Mutex<Sockets>,
}

#[derive(Default)]
struct Sockets {
    open: u32,
    users: HashMap<(TenantId, Uuid), u32>,
    tenants: HashMap<TenantId, u32>,
    strangers: HashMap<IpAddr, u32>,
}

/// An unauthenticated socket, counted while this is alive.
pub struct UnauthenticatedSocket {
    usage: Arc<Usage>,
    network: Option<IpAddr>,
}

/// A socket or stream in the server's total, counted while this is alive.
pub struct Place {
    usage: Arc<Usage>,
}

/// A caller's socket or stream, counted while this is alive.
pub struct Seat {
    usage: Arc<Usage>,
    tenant: TenantId,
    spender: Uuid,
}

/// The network an address is limited by: for IPv6 its /64 prefix.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Whose budget is charged: a program's by its API key, so that it does not use up its owner's.
fn spender(caller: &Caller) -> Uuid {
    match caller.through {
        Through::ApiKey(id) => id,
        Through::Session(_) | Through::Token { .. } => caller.user_id,
    }
}

impl Usage {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Usage {
            limits,
            users: limits.user_fields.map(|fields| Buckets::new(Quota::per_minute(fields))),
            tenants: limits.tenant_fields.map(|fields| Buckets::new(Quota::per_minute(fields))),
            addresses: limits.address_requests.map(|requests| Buckets::new(Quota::per_minute(requests))),
            sockets: Mutex::default(),
        })
    }

    /// Charges an operation to its user or API key, and tenant. Errors: RATE_LIMITED; QUERY_TOO_COMPLEX, when it
    /// exceeds a whole minute's budget.
    pub fn spend(&self, caller: &Caller, fields: usize) -> Result<(), Refusal> {
        let fields = NonZeroU32::new(u32::try_from(fields).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        let most = [self.limits.user_fields, self.limits.tenant_fields].into_iter().flatten().min();
        if most.is_some_and(|most| fields > most) {
            return Err(Refusal::new("QUERY_TOO_COMPLEX", "more fields are selected than you may ask for in a minute"));
        }
        let of_user =
            || self.users.as_ref().map_or(Ok(()), |users| users.take(&(caller.tenant, spender(caller)), fields));
        let of_tenant = || self.tenants.as_ref().map_or(Ok(()), |tenants| tenants.take(&caller.tenant, fields));
        of_user().and_then(|()| of_tenant()).map_err(|wait| {
            let refusal = Refusal::new("RATE_LIMITED", "that is too much in a minute; slow down");
            Refusal { retry_after: Some(wait), ..refusal }
        })
    }

    /// Charges the values of a response, beyond its selected fields: several values cost one field, as they are not
    /// resolved one by one. Error: RATE_LIMITED.
    pub fn charge(&self, caller: &Caller, values: usize) -> Result<(), Error> {
        let most = [self.limits.user_fields, self.limits.tenant_fields].into_iter().flatten().min();
        let fields = (values / VALUES_OF_FIELD).min(most.map_or(usize::MAX, |most| most.get() as usize));
        if fields == 0 {
            return Ok(());
        }
        self.spend(caller, fields).map_err(|refusal| Error {
            retry_after: refusal.retry_after,
            ..Error::new(Code::RateLimited, "too many values in a minute; slow down")
        })
    }

    /// Counts a request from an address without a valid token. Error: RATE_LIMITED.
    pub fn take_stranger(&self, address: Option<IpAddr>) -> Result<(), Error> {
        let (Some(addresses), Some(address)) = (&self.addresses, address) else { return Ok(()) };
        addresses.take(&network_of(address), NonZeroU32::MIN).map_err(|wait| {
            let error = Error::new(Code::RateLimited, "too many requests from this address without a valid token");
            Error { retry_after: Some(wait), ..error }
        })
    }

    /// Counts a socket or stream, whoever's it is; `None` at the limit of the server.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let mut sockets = self.sockets();
        if self.limits.sockets.is_some_and(|most| sockets.open >= most.get()) {
            return None;
        }
        sockets.open += 1;
        Some(Place { usage: Arc::clone(self) })
    }

    /// Counts an unauthenticated socket, so that no address can occupy all of them; `None` at the limit.
    pub fn wait(self: &Arc<Self>, address: Option<IpAddr>) -> Option<UnauthenticatedSocket> {
        let network = address.map(network_of);
        if let Some(network) = network {
            let mut sockets = self.sockets();
            let waiting = sockets.strangers.entry(network).or_default();
            if self.limits.address_sockets.is_some_and(|most| *waiting >= most.get()) {
                return None;
            }
            *waiting += 1;
        }
        Some(UnauthenticatedSocket { usage: Arc::clone(self), network })
    }

    /// Counts a caller's socket or stream; `None` at the limit.
    pub fn seat(self: &Arc<Self>, caller: &Caller) -> Option<Seat> {
        let (tenant, spender) = (caller.tenant, spender(caller));
        let mut sockets = self.sockets();
        let is_free = |most: Option<NonZeroU32>, open: Option<&u32>| {
            most.is_none_or(|most| open.copied().unwrap_or_default() < most.get())
        };
        if !is_free(self.limits.user_sockets, sockets.users.get(&(tenant, spender)))
            || !is_free(self.limits.tenant_sockets, sockets.tenants.get(&tenant))
        {
            return None;
        }
        *sockets.users.entry((tenant, spender)).or_default() += 1;
        *sockets.tenants.entry(tenant).or_default() += 1;
        Some(Seat { usage: Arc::clone(self), tenant, spender })
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnauthenticatedSocket {
    fn drop(&mut self) {
        if let Some(network) = &self.network {
            leave(&mut self.usage.sockets().strangers, network);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.usage.sockets().open -= 1;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sockets = self.usage.sockets();
        leave(&mut sockets.users, &(self.tenant, self.spender));
        leave(&mut sockets.tenants, &self.tenant);
    }
}

fn leave<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A token bucket per key, refilled at a constant rate.
pub struct Buckets<K: Clone + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<K>,
    /// Number of buckets at which idle ones are evicted; raised so that this is rare, as it scans all of them.
    forgets_at: AtomicUsize,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    pub fn new(quota: Quota) -> Self {
        Buckets { limiter: DefaultKeyedRateLimiter::keyed(quota), forgets_at: REMEMBERED.into() }
    }

    /// Takes `cost` tokens, if available. Error: how long until they are.
    pub fn take(&self, key: &K, cost: NonZeroU32) -> Result<(), Duration> {
        if self.limiter.len() >= self.forgets_at.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            self.forgets_at.store((2 * self.limiter.len()).max(REMEMBERED), Ordering::Relaxed);
        }
        match self.limiter.check_key_n(key, cost) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(self.limiter.clock().now())),
            // Exceeds the bucket's capacity.
            Err(_) => Err(Duration::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Role;

    fn caller(user: u128) -> Caller {
        let through = Through::Token { issued_at_secs: 0 };
        let (tenant, user_id) = (TenantId(Uuid::nil()), Uuid::from_u128(user));
        Caller { tenant, user_id, role: Role::Viewer, permissions: Vec::new(), expires_at_secs: 0, through }
    }

    #[test]
    fn a_user_and_a_tenant_have_a_minutes_worth() {
        let limits =
            Limits { user_fields: NonZeroU32::new(100), tenant_fields: NonZeroU32::new(150), ..Limits::default() };
        let usage = Usage::new(limits);
        assert!(usage.spend(&caller(1), 60).is_ok());
        // 20 of 100 a minute have to be refilled.
        let wait = usage.spend(&caller(1), 60).expect_err("refused").retry_after.expect("a wait");
        assert!((11.0..=12.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(usage.spend(&caller(2), 60).is_ok());
        assert!(usage.spend(&caller(3), 60).is_err());
        let usage = Usage::new(Limits { tenant_fields: None, ..limits });
        let by_key = Caller { through: Through::ApiKey(Uuid::from_u128(9)), ..caller(1) };
        assert!(usage.spend(&by_key, 100).is_ok() && usage.spend(&by_key, 1).is_err());
        assert!(usage.spend(&caller(1), 100).is_ok());
        assert!(Usage::new(Limits::default()).spend(&caller(1), usize::MAX).is_ok());
    }

    #[test]
    fn values_cost_a_part_of_a_field() {
        let usage = Usage::new(Limits { user_fields: NonZeroU32::new(100), ..Limits::default() });
        assert!(usage.charge(&caller(1), 9).is_ok() && usage.charge(&caller(1), 600).is_ok());
        let error = usage.charge(&caller(1), 600).expect_err("refused");
        assert_eq!((error.code, error.retry_after.is_some()), (Code::RateLimited, true));
        // Never more than the capacity.
        assert!(usage.charge(&caller(2), usize::MAX).is_ok() && usage.charge(&caller(2), 10).is_err());
    }

    #[test]
    fn an_address_may_ask_so_often_without_saying_who_it_is() {
        let usage = Usage::new(Limits { address_requests: NonZeroU32::new(3), ..Limits::default() });
        let take = |address: &str| usage.take_stranger(Some(address.parse().expect("an address")));
        assert!((0..3).all(|n| take(&format!("2001:db8::{n}")).is_ok()));
        // One of three a minute.
        let wait = take("2001:db8::9").expect_err("refused").retry_after.expect("a wait");
        assert!((19.0..=20.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert!(take("2001:db8:0:1::").is_ok() && take("1.2.3.4").is_ok() && usage.take_stranger(None).is_ok());
        let unlimited = Usage::new(Limits::default());
        assert!((0..100).all(|_| unlimited.take_stranger("1.2.3.4".parse().ok()).is_ok()));
    }

    #[test]
    fn a_seat_is_free_again_when_its_socket_ends() {
        let limits =
            Limits { user_sockets: NonZeroU32::new(2), tenant_sockets: NonZeroU32::new(3), ..Limits::default() };
        let usage = Usage::new(limits);
        let one = usage.seat(&caller(1));
        let _two = usage.seat(&caller(1));
        assert!(usage.seat(&caller(1)).is_none());
        let _three = usage.seat(&caller(2));
        assert!(usage.seat(&caller(3)).is_none());
        drop(one);
        assert!(usage.seat(&caller(3)).is_some() && usage.seat(&caller(1)).is_some());
    }

    #[test]
    fn a_server_has_so_many_places() {
        let usage = Usage::new(Limits { sockets: NonZeroU32::new(2), ..Limits::default() });
        let one = usage.place();
        let _two = usage.place().expect("free");
        assert!(one.is_some() && usage.place().is_none());
        drop(one);
        let again = usage.place();
        assert!(again.is_some() && usage.place().is_none());
        let all = Usage::new(Limits::default());
        let _many: Vec<_> = (0..100).map(|_| all.place().expect("no limit")).collect();
    }

    #[test]
    fn an_address_has_so_many_sockets_of_nobody_known() {
        let usage = Usage::new(Limits { address_sockets: NonZeroU32::new(2), ..Limits::default() });
        let address = |text: &str| Some(text.parse().expect("an address"));
        let one = usage.wait(address("2001:db8::1"));
        let _two = usage.wait(address("2001:db8::2"));
        assert!(one.is_some() && usage.wait(address("2001:db8::3")).is_none());
        let _other = (usage.wait(address("2001:db8:0:1::1")).expect("free"), usage.wait(None).expect("not counted"));
        drop(one);
        let again = usage.wait(address("2001:db8::3"));
        assert!(again.is_some() && usage.wait(address("2001:db8::4")).is_none());
        let all = Usage::new(Limits::default());
        let _many: Vec<_> = (0..100).map(|_| all.wait(address("1.2.3.4")).expect("no limit")).collect();
    }
}
