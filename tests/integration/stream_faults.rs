//! Redis Streams whose server, node or key fails.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use salespulse::app::App;
use salespulse::audit::By;
use salespulse::db::TenantId;
use salespulse::ledger::event::{Fact, VisitsCounted};
use salespulse::stream::redis::{ENTRIES_KEPT, IDLE_EXPIRY, RedisStream};
use salespulse::stream::{EventStream, Listener};
use salespulse::telemetry::metrics::METRICS;
use uuid::Uuid;

use crate::ledger::event;
use crate::redis_servers::{Redis, cluster};
use crate::streams::{batch, hears, next};
use crate::support::{TestApp, kek, test_redis_url};

/// Two processes on one database and one Redis.
pub struct Pair {
    pub here: Arc<dyn EventStream>,
    pub there: Arc<dyn EventStream>,
    pub writer: App,
    pub watcher: App,
}

impl Pair {
    pub async fn over(test: &TestApp, urls: &str) -> Pair {
        let connect = async || Arc::new(RedisStream::connect(urls).await.expect("URLs")) as Arc<dyn EventStream>;
        let (here, there) = (connect().await, connect().await);
        let parts = |stream: &Arc<dyn EventStream>| {
            let clock = Arc::<salespulse::clock::ManualClock>::clone(&test.clock);
            App::new(test.app.db.clone(), clock, Arc::clone(stream), test.app.tokens.clone(), kek())
        };
        let (writer, watcher) = (parts(&here), parts(&there));
        Pair { here, there, writer, watcher }
    }

    /// Records an event here; gives its position.
    pub async fn record(&self, tenant: TenantId) -> i64 {
        let fact = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
        let visit = event(&Uuid::now_v7().to_string(), "2026-06-15T11:00:00Z", fact);
        self.writer.ledger.record(tenant, By::default(), vec![visit], false).await.expect("recorded").position
    }

    /// Records an event here that a follower there hears of.
    pub async fn follows(&self, tenant: TenantId, follower: &mut Listener) {
        let position = self.record(tenant).await;
        assert_eq!(next(follower).await, position);
    }

    /// Records events here until one is heard of there without reading the ledger.
    async fn hears_by_bus(&self, tenant: TenantId) {
        let mut listener = self.there.listen(tenant).await.expect("listening");
        until(async || {
            self.record(tenant).await;
            tokio::time::timeout(Duration::from_secs(1), listener.next()).await.is_ok()
        })
        .await;
    }

    async fn follow(&self, tenant: TenantId) -> Listener {
        self.watcher.feeds.follow(tenant).await.expect("followed").0
    }

    fn both(&self, is_so: impl Fn(&dyn EventStream) -> bool) -> bool {
        is_so(self.here.as_ref()) && is_so(self.there.as_ref())
    }

    /// Waits for both processes.
    pub async fn until(&self, is_so: impl Fn(&dyn EventStream) -> bool) {
        until(async || self.both(&is_so)).await;
    }
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("within a minute");
}

fn key(tenant: TenantId) -> String {
    format!("salespulse:{{{}}}:batches", tenant.0)
}

async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("redis")
}

async fn run(connection: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().expect("a word"));
    words.for_each(|word| {
        command.arg(word);
    });
    command.exec_async(connection).await.expect("done");
}

/// How many probes the server has refused.
async fn refused(connection: &mut MultiplexedConnection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(connection).await.expect("answered");
    let of_set = stats.lines().find(|line| line.starts_with("cmdstat_setex:")).unwrap_or_default();
    let count = |field: &str| of_set.split(',').find_map(|part| part.strip_prefix(field)?.parse::<u64>().ok());
    count("rejected_calls=").unwrap_or_default() + count("failed_calls=").unwrap_or_default()
}

/// What happens to a node, and how it comes back.
async fn affects_the_tenants_of_its_node_only(fault: impl Fn(&mut Redis), end: impl Fn(&mut Redis)) {
    if test_redis_url().is_none() {
        return;
    }
    let mut nodes = cluster();
    let urls = nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",");
    let test = TestApp::start().await;
    let pair = Pair::over(&test, &urls).await;
    // The nodes have a third of the slots each, in order.
    let mut connection = connect(&nodes[0].url()).await;
    let (mut near, mut far) = (None, None);
    for number in 0.. {
        let tenant = test.tenant(&format!("tenant-{number}")).await.id();
        let slot: u32 =
            redis::cmd("CLUSTER").arg("KEYSLOT").arg(key(tenant)).query_async(&mut connection).await.expect("a slot");
        if slot < 5_000 {
            near = Some(tenant)
        } else if slot > 11_500 {
            far = Some(tenant)
        }
        if near.is_some() && far.is_some() {
            break;
        }
    }
    let (near, far) = (near.expect("found"), far.expect("found"));
    let mut by_bus = pair.there.listen(near).await.expect("listening");
    let mut follower = pair.follow(far).await;
    pair.follows(far, &mut follower).await;
    pair.until(|stream| !stream.is_degraded()).await;
    hears(&mut by_bus, pair.here.as_ref(), near, 2).await;

    fault(&mut nodes[2]);
    pair.follows(far, &mut follower).await;
    pair.until(|stream| stream.is_degraded() && stream.is_away(far)).await;
    // So does a process that starts now.
    let late = RedisStream::connect(&urls).await.expect("URLs");
    let _far = late.listen(far).await.expect("listening");
    let mut by_bus_later = late.listen(near).await.expect("listening");
    hears(&mut by_bus_later, pair.here.as_ref(), near, 3).await;
    // All of them arrive over the bus: nothing follows the ledger here.
    for position in 4..40 {
        pair.here.publish(near, batch(position)).await.expect("published");
        for listener in [&mut by_bus, &mut by_bus_later] {
            hears(listener, pair.here.as_ref(), near, position).await;
        }
        assert!(pair.both(|stream| !stream.is_away(near) && stream.is_away(far)));
        assert!(!late.is_away(near) && late.is_away(far));
    }
    pair.follows(far, &mut follower).await;
    assert!(pair.both(|stream| !stream.is_away(near) && stream.is_away(far)));

    end(&mut nodes[2]);
    pair.until(|stream| !stream.is_degraded() && !stream.is_away(far)).await;
    pair.hears_by_bus(far).await;
}

#[tokio::test]
async fn a_node_that_has_ended_affects_its_own_tenants_only() {
    affects_the_tenants_of_its_node_only(Redis::kill, Redis::restart).await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_affects_its_own_tenants_only() {
    affects_the_tenants_of_its_node_only(|node| node.signal("STOP"), |node| node.signal("CONT")).await;
}

/// A server that answers, but takes no writes.
async fn is_away_until_it_takes_writes(fault: &str, end: &str) {
    if test_redis_url().is_none() {
        return;
    }
    let redis = Redis::start(false);
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await.id();
    let pair = Pair::over(&test, &redis.url()).await;
    let mut follower = pair.follow(acme).await;
    pair.follows(acme, &mut follower).await;
    pair.until(|stream| !stream.is_degraded()).await;

    let mut connection = connect(&redis.url()).await;
    run(&mut connection, fault).await;
    pair.follows(acme, &mut follower).await;
    pair.until(|stream| stream.is_degraded()).await;
    // It stays away, however often it is tried.
    let before = refused(&mut connection).await;
    until(async || {
        assert!(pair.both(|stream| stream.is_degraded() && stream.is_away(acme)));
        refused(&mut connection).await >= before + 6
    })
    .await;
    pair.follows(acme, &mut follower).await;

    run(&mut connection, end).await;
    pair.until(|stream| !stream.is_degraded() && !stream.is_away(acme)).await;
    pair.hears_by_bus(acme).await;
}

#[tokio::test]
async fn a_redis_without_memory_is_away() {
    is_away_until_it_takes_writes("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0").await;
}

#[tokio::test]
async fn a_redis_that_is_read_only_is_away() {
    is_away_until_it_takes_writes("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE").await;
}

#[tokio::test]
async fn a_key_that_is_no_stream_affects_its_tenant_only() {
    if test_redis_url().is_none() {
        return;
    }
    let redis = Redis::start(false);
    let test = TestApp::start().await;
    let (near, far) = (test.tenant("near").await.id(), test.tenant("far").await.id());
    let pair = Pair::over(&test, &redis.url()).await;
    let mut by_bus = pair.there.listen(near).await.expect("listening");
    let mut follower = pair.follow(far).await;
    pair.follows(far, &mut follower).await;
    pair.until(|stream| !stream.is_degraded()).await;
    hears(&mut by_bus, pair.here.as_ref(), near, 2).await;

    let mut connection = connect(&redis.url()).await;
    let counted = METRICS.stream_foreign.get();
    run(&mut connection, &format!("SET {} foreign", key(far))).await;
    // In one pipeline with a batch that is late, whose refusal is no failure.
    pair.here.publish(near, batch(1)).await.expect("published");
    pair.here.publish(far, batch(1)).await.expect("published");
    until(async || pair.here.is_away(far)).await;
    pair.follows(far, &mut follower).await;
    pair.until(|stream| stream.is_away(far)).await;
    for position in 3..40 {
        pair.here.publish(near, batch(position)).await.expect("published");
        hears(&mut by_bus, pair.here.as_ref(), near, position).await;
        assert!(pair.both(|stream| !stream.is_degraded() && !stream.is_away(near) && stream.is_away(far)));
    }
    pair.follows(far, &mut follower).await;
    assert!(METRICS.stream_foreign.get() >= counted + 2, "once in each process");

    run(&mut connection, &format!("DEL {}", key(far))).await;
    pair.until(|stream| !stream.is_away(far)).await;
    pair.hears_by_bus(far).await;
}

#[tokio::test]
async fn a_stream_that_is_ahead_of_its_ledger_begins_again() {
    let Some(url) = test_redis_url() else { return };
    let test = TestApp::start().await;
    let pair = Pair::over(&test, &url).await;
    let mut connection = connect(&url).await;
    for (number, id) in ["9000-0", "18446744073709551615-18446744073709551615"].into_iter().enumerate() {
        let acme = test.tenant(&format!("acme-{number}")).await.id();
        let mut follower = pair.follow(acme).await;
        pair.follows(acme, &mut follower).await;
        let counted = METRICS.stream_foreign.get();
        run(&mut connection, &format!("XADD {} {id} batch nonsense", key(acme))).await;
        until(async || METRICS.stream_foreign.get() >= counted + 2).await;
        // Positions of the ledger come over the bus again.
        until(async || {
            let position = pair.record(acme).await;
            assert_eq!(next(&mut follower).await, position);
            pair.there.newest_position(acme) == position
        })
        .await;
    }
}

#[tokio::test]
async fn streams_are_bounded_expire_and_are_read_over_one_connection() {
    if test_redis_url().is_none() {
        return;
    }
    let redis = Redis::start(false);
    let writer = RedisStream::connect(&redis.url()).await.expect("redis");
    let reader = RedisStream::connect(&redis.url()).await.expect("redis");
    let tenants: Vec<TenantId> = (0..20).map(|_| TenantId(Uuid::now_v7())).collect();
    let mut listeners = Vec::new();
    for tenant in &tenants {
        listeners.push(reader.listen(*tenant).await.expect("listening"));
    }
    for (tenant, listener) in tenants.iter().zip(&mut listeners) {
        writer.publish(*tenant, batch(1)).await.expect("published");
        hears(listener, &writer, *tenant, 1).await;
    }
    let mut connection = connect(&redis.url()).await;
    let is_reading = |client: &&str| client.contains(" cmd=xread ");
    until(async || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.expect("the clients");
        let reading = clients.lines().filter(is_reading).count();
        assert!(reading <= 1, "{clients}");
        reading == 1
    })
    .await;

    let last = 3 * i64::try_from(ENTRIES_KEPT).expect("a number");
    for position in 2..=last {
        writer.publish(tenants[0], batch(position)).await.expect("published");
    }
    hears(&mut listeners[0], &writer, tenants[0], last).await;
    let length: usize = redis::cmd("XLEN").arg(key(tenants[0])).query_async(&mut connection).await.expect("a length");
    // Whole nodes of 100 entries are dropped.
    assert!((ENTRIES_KEPT..=ENTRIES_KEPT + 100).contains(&length), "{length}");
    for tenant in &tenants {
        let seconds: u64 = redis::cmd("TTL").arg(key(*tenant)).query_async(&mut connection).await.expect("a time");
        assert!((1..=IDLE_EXPIRY.as_secs()).contains(&seconds), "{seconds}");
    }
}
