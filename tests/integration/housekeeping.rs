//! What is removed when it is long over, and what is not.

use salespulse::accounts::mailed::{self, Purpose};
use salespulse::auth::Role;
use salespulse::auth::sessions::{Client, open};
use salespulse::clock::{Clock, DAY, SystemClock, Timestamp};
use salespulse::db::get;
use salespulse::housekeeping::{RetentionDays, tidy};
use serde_json::json;
use uuid::Uuid;

use crate::socket::Socket;
use crate::support::{Server, TestApp, TestTenant};

async fn count(acme: &TestTenant<'_>, table: &str) -> i64 {
    let tx = acme.test.app.db.read(acme.id()).await.expect("begun");
    let sql = format!("SELECT count(*) FROM {table} WHERE tenant_id = $1");
    get(&tx.query_one(&sql, []).await.expect("read").expect("a row"), 0).expect("a count")
}

/// Writes a row that has been there since now, as ids tell.
async fn write(acme: &TestTenant<'_>, sql: &str) {
    let tx = acme.test.app.db.write(acme.id()).await.expect("begun");
    tx.execute(sql, [Uuid::now_v7().into()]).await.expect("written");
    tx.commit().await.expect("committed");
}

async fn write_alert(acme: &TestTenant<'_>, alert_no: i64) {
    let sql = format!(
        "INSERT INTO alert_events (tenant_id, id, alert_no, alert_id, name, metric, state, threshold, position, triggered_at) \
         VALUES ($1, $2, {alert_no}, $2, 'A', 'ORDERS_COUNT', 'FIRING', 0, 1, 0)"
    );
    write(acme, &sql).await;
    let sql = format!("UPDATE ledger_heads SET last_alert_no = {alert_no} WHERE tenant_id = $1 AND $2 IS NOT NULL");
    write(acme, &sql).await;
}

#[tokio::test]
async fn what_is_long_over_is_removed_and_nothing_else() {
    let test = TestApp::start().await;
    let (acme, other) = (test.tenant("acme").await, test.tenant("other").await);
    let now = SystemClock.now();
    let later = |days: i64| test.clock.set(Timestamp(now.0 + days * DAY));
    later(0);
    for tenant in [&acme, &other] {
        let tx = test.app.db.write(tenant.id()).await.expect("begun");
        let viewer = tenant.viewer().caller.user_id;
        // More than go at once.
        for _ in 0..25 {
            open(&tx, viewer, Role::Viewer, &Client::default(), now).await.expect("opened");
        }
        mailed::send(&test.app, &tx, viewer, "viewer@acme.example", Purpose::Reset).await.expect("sent");
        tx.commit().await.expect("committed");
        let sql = "INSERT INTO deliveries (tenant_id, id, channel, target, subject, text, body, state, attempts, created_at) \
                   VALUES ($1, $2, 'EMAIL', '', '', '', '', 'DEAD', 12, 0)";
        write(tenant, sql).await;
        write_alert(tenant, 1).await;
    }
    let tables = ["sessions", "refresh_tokens", "mailed_tokens", "deliveries", "alert_events"];
    let counts = async |tenant: &TestTenant<'_>| {
        let mut counts = Vec::new();
        for table in tables {
            counts.push(count(tenant, table).await);
        }
        counts
    };
    let tidy = async |days| {
        later(days);
        tidy(&test.app, RetentionDays::default()).await.expect("tidied")
    };
    assert_eq!(tidy(7).await, 0);
    assert_eq!(counts(&acme).await, [25, 25, 1, 2, 1]);
    // The link was good for an hour, and is kept for a week after that.
    assert_eq!(tidy(8).await, 2);
    assert_eq!(counts(&acme).await, [25, 25, 0, 2, 1]);
    assert_eq!(tidy(61).await, 50);
    assert_eq!(counts(&acme).await, [0, 0, 0, 2, 1]);
    // The mail is still to be sent.
    assert_eq!(tidy(91).await, 2);
    assert_eq!(counts(&acme).await, [0, 0, 0, 1, 1]);
    assert_eq!(tidy(366).await, 2);
    assert_eq!(counts(&acme).await, [0, 0, 0, 1, 0]);
    assert_eq!(counts(&acme).await, counts(&other).await);
    assert_eq!(tidy(1000).await, 0);
}

#[tokio::test]
async fn who_missed_alerts_that_were_removed_is_told() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    for alert_no in 1..=3 {
        write_alert(&acme, alert_no).await;
    }
    let history = acme.viewer().query("{ alertHistory { nodes { cursor } } }").await;
    let cursors = history["alertHistory"]["nodes"].as_array().expect("alerts");
    let cursors: Vec<_> = cursors.iter().rev().map(|alert| alert["cursor"].clone()).collect();
    write(&acme, "DELETE FROM alert_events WHERE tenant_id = $1 AND alert_no <= 2 AND $2 IS NOT NULL").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let live = "subscription($t: ID!, $after: String) { alertTriggered(tenantId: $t, after: $after) { cursor } }";
    socket.subscribe("gap", live, json!({ "t": acme.id().0, "after": cursors[0] })).await;
    assert_eq!(socket.next("gap").await["errors"][0]["extensions"]["code"], "RESUME_GAP");
    socket.subscribe("whole", live, json!({ "t": acme.id().0, "after": cursors[1] })).await;
    assert_eq!(socket.next("whole").await["data"]["alertTriggered"]["cursor"], cursors[2]);
    server.stop().await;
}
