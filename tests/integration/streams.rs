//! What every stream does, in-process and on Redis.

use std::sync::Arc;
use std::time::Duration;

use salespulse::app::App;
use salespulse::audit::By;
use salespulse::db::TenantId;
use salespulse::ledger::event::{Fact, VisitsCounted};
use salespulse::stream::memory::MemoryStream;
use salespulse::stream::redis::RedisStream;
use salespulse::stream::{CommittedBatch, EventStream, Listener, ListenerEvent};
use salespulse::telemetry::metrics::METRICS;
use uuid::Uuid;

use crate::ledger::event;
use crate::redis_servers::{Redis, cluster};
use crate::stream_faults::Pair;
use crate::support::{Server, TestApp, kek, test_redis_url};

pub fn batch(position: i64) -> Arc<CommittedBatch> {
    let entries = Some(Arc::default());
    Arc::new(CommittedBatch {
        first: position,
        last: position,
        watermark: None,
        policy_epoch: 0,
        last_alert_no: 0,
        entries,
    })
}

/// The position that the listener hears of next.
pub async fn next(listener: &mut Listener) -> i64 {
    let heard = tokio::time::timeout(Duration::from_secs(20), listener.next()).await.expect("within 20 s");
    match heard {
        Some(ListenerEvent::CommittedBatch(batch)) => batch.last,
        other => panic!("{other:?}"),
    }
}

/// Listens until `position` was heard of. A bus may lose a batch, so it is sent again while nothing is heard.
pub async fn hears(listener: &mut Listener, writer: &dyn EventStream, tenant: TenantId, position: i64) {
    for _ in 0..20 {
        while let Ok(heard) = tokio::time::timeout(Duration::from_secs(1), listener.next()).await {
            match heard {
                Some(ListenerEvent::CommittedBatch(batch)) if batch.last == position => return,
                Some(ListenerEvent::CommittedBatch(batch)) => {
                    assert!(batch.last < position, "{batch:?} of another tenant")
                }
                other => panic!("{other:?}"),
            }
        }
        writer.publish(tenant, batch(position)).await.expect("published again");
    }
    panic!("position {position} was never heard of");
}

/// The contract; `writer` and `reader` may be two processes.
async fn keeps_the_contract(writer: &dyn EventStream, reader: &dyn EventStream) {
    let (one, other) = (TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7()));
    writer.publish(one, batch(1)).await.expect("published without listeners");
    let mut first = reader.listen(one).await.expect("listening");
    let mut second = reader.listen(one).await.expect("listening");
    let mut foreign = reader.listen(other).await.expect("listening");
    assert!(reader.listening().contains(&one));

    writer.publish(one, batch(2)).await.expect("published");
    writer.publish(one, batch(2)).await.expect("twice is harmless");
    writer.publish(one, batch(1)).await.expect("late is harmless");
    writer.publish(one, batch(3)).await.expect("published");
    for listener in [&mut first, &mut second] {
        hears(listener, writer, one, 3).await;
    }
    // Batches of the first tenant would be beyond it.
    writer.publish(other, batch(1)).await.expect("published");
    hears(&mut foreign, writer, other, 1).await;

    drop((first, second));
    assert!(!reader.listening().contains(&one));
}

#[tokio::test]
async fn in_process_streams_keep_the_contract() {
    let stream = MemoryStream::default();
    keeps_the_contract(&stream, &stream).await;
}

#[tokio::test]
async fn a_slow_listener_is_told_that_it_missed_something() {
    let stream = MemoryStream::default();
    let tenant = TenantId(Uuid::now_v7());
    let mut listener = stream.listen(tenant).await.expect("listening");
    for position in 0..5000 {
        stream.publish(tenant, batch(position)).await.expect("published");
    }
    assert_eq!(listener.next().await, Some(ListenerEvent::Missed));
}

#[tokio::test]
async fn redis_streams_keep_the_contract_within_and_between_processes() {
    let Some(url) = test_redis_url() else { return };
    let one: Arc<dyn EventStream> = Arc::new(RedisStream::connect(&url).await.expect("redis"));
    let other = RedisStream::connect(&url).await.expect("redis");
    keeps_the_contract(one.as_ref(), one.as_ref()).await;
    keeps_the_contract(one.as_ref(), &other).await;
}

#[tokio::test]
async fn a_cluster_of_redis_keeps_the_contract_for_tenants_of_all_nodes() {
    if test_redis_url().is_none() {
        return;
    }
    let nodes = cluster();
    let urls = nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",");
    // What the nodes know of each other spreads after the cluster was made.
    let connect = async || {
        let stream = RedisStream::connect(&urls).await.expect("URLs");
        while stream.is_degraded() {
            tokio::task::yield_now().await;
        }
        stream
    };
    let (one, other) = (connect().await, connect().await);
    // Tenants fall on nodes by chance.
    for _ in 0..6 {
        keeps_the_contract(&one, &other).await;
    }
}

#[tokio::test]
async fn while_redis_is_away_others_batches_come_from_the_ledger() {
    if test_redis_url().is_none() {
        return;
    }
    let mut redis = Redis::start(false);
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await.id();
    let pair = Pair::over(&test, &redis.url()).await;
    let mut follower = pair.watcher.feeds.follow(acme).await.expect("followed").0;
    pair.follows(acme, &mut follower).await;
    redis.kill();
    pair.follows(acme, &mut follower).await;
    pair.until(|stream| stream.is_degraded()).await;
    pair.follows(acme, &mut follower).await;
    redis.restart();
    pair.until(|stream| !stream.is_degraded()).await;
    pair.follows(acme, &mut follower).await;
}

#[tokio::test]
async fn an_entry_that_is_no_batch_of_the_tenant_is_passed_over() {
    let Some(url) = test_redis_url() else { return };
    let stream = RedisStream::connect(&url).await.expect("redis");
    let (one, other) = (TenantId(Uuid::now_v7()), TenantId(Uuid::now_v7()));
    let mut listener = stream.listen(one).await.expect("listening");
    let client = redis::Client::open(url.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("redis");
    let key = format!("salespulse:{{{}}}:batches", one.0);
    let foreign = batch(2).to_json(other, 1000).expect("JSON");
    let counted = METRICS.stream_foreign.get();
    for (id, json) in [("1-0", "nonsense"), ("2-0", &foreign)] {
        let added = redis::cmd("XADD").arg(&key).arg(id).arg("batch").arg(json).exec_async(&mut connection).await;
        added.expect("added");
    }
    let own = batch(3).to_json(one, 1000).expect("JSON");
    let added = redis::cmd("XADD").arg(&key).arg("3-0").arg("batch").arg(own).exec_async(&mut connection).await;
    added.expect("added");
    assert_eq!(next(&mut listener).await, 3);
    assert!(METRICS.stream_foreign.get() >= counted + 2);
}

#[tokio::test]
async fn a_server_starts_without_redis_and_uses_the_one_that_comes() {
    if test_redis_url().is_none() {
        return;
    }
    let mut redis = Redis::start(false);
    redis.kill();
    let connect = async || Arc::new(RedisStream::connect(&redis.url()).await.expect("a URL")) as Arc<dyn EventStream>;
    let (here, there) = (connect().await, connect().await);
    assert!(here.is_degraded() && there.is_degraded());

    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let clock = Arc::<salespulse::clock::ManualClock>::clone(&test.clock);
    let app = App::new(test.app.db.clone(), clock, Arc::clone(&here), test.app.tokens.clone(), kek());
    let server = Server::of(app.clone()).await;
    let status = async || {
        let ready = reqwest::get(format!("http://{}/ready", server.address)).await.expect("answered");
        let ready: serde_json::Value = serde_json::from_str(&ready.text().await.expect("a text")).expect("JSON");
        ready["status"].clone()
    };
    assert_eq!(status().await, "degraded");
    let mut own = here.listen(acme.id()).await.expect("listening");
    let mut other = there.listen(acme.id()).await.expect("listening");
    let fact = Fact::VisitsCounted(VisitsCounted { count: 1, ..VisitsCounted::default() });
    let visit = event("e1", "2026-06-15T11:00:00Z", fact);
    app.ledger.record(acme.id(), By::default(), vec![visit], false).await.expect("recorded");
    assert_eq!(next(&mut own).await, 1);

    redis.restart();
    while here.is_degraded() || there.is_degraded() {
        tokio::task::yield_now().await;
    }
    hears(&mut other, here.as_ref(), acme.id(), 2).await;
    assert_eq!(status().await, "ready");
    server.stop().await;
}

#[tokio::test]
async fn a_url_that_cannot_be_read_is_told_at_once() {
    for url in ["redis://localhost:port", "localhost", ","] {
        assert!(RedisStream::connect(url).await.is_err(), "{url}");
    }
}
