//! What every stream does, in-process and on Redis.

use std::sync::Arc;
use std::time::Duration;

use salespulse::db::TenantId;
use salespulse::stream::memory::MemoryStream;
use salespulse::stream::redis::RedisStream;
use salespulse::stream::{Batch, EventStream, Heard, Listener};
use uuid::Uuid;

use crate::support::test_redis_url;

fn batch(position: i64) -> Arc<Batch> {
    let entries = Some(Arc::default());
    Arc::new(Batch { first: position, last: position, watermark: None, policy_epoch: 0, last_alert_no: 0, entries })
}

/// The position that the listener hears of next.
async fn next(listener: &mut Listener) -> i64 {
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.next()).await.expect("within 10 s");
    match heard {
        Some(Heard::Batch(batch)) => batch.last,
        other => panic!("{other:?}"),
    }
}

/// Listens until `position` has been told; gives all that was heard.
async fn up_to(listener: &mut Listener, position: i64) -> Vec<i64> {
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| *last < position) {
        heard.push(next(listener).await);
    }
    heard
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
        let heard = up_to(listener, 3).await;
        assert_eq!(heard.last(), Some(&3));
    }
    writer.publish(other, batch(7)).await.expect("published");
    assert_eq!(next(&mut foreign).await, 7, "a listener hears of its own tenant only");

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
    assert_eq!(listener.next().await, Some(Heard::Missed));
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
async fn without_redis_connecting_says_so() {
    let error = RedisStream::connect("redis://127.0.0.1:1").await.err().expect("refused");
    assert!(error.to_string().contains("the stream is not available"), "{error}");
}
