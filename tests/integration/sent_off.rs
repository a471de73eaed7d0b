//! How long open sockets stay when their user may no longer come in.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use salespulse::auth::Role;
use serde_json::Value;

use crate::socket::Socket;
use crate::support::{CONNECTIONS_MAX, Server, TestApp};

/// At each of two servers.
const SOCKETS: usize = 100;
/// A second is what is promised; the machine may be busy with other tests.
const WAIT_MAX: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn who_may_no_longer_come_in_is_gone_from_all_sockets_of_all_servers() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let servers = [Server::start(&test).await, Server::of(test.another().await).await];
    let update = |role: Role, input: &str| {
        let id = acme.actor(role).caller.user_id;
        format!("mutation {{ updateUser(id: \"{id}\", input: {{{input}}}) {{ state }} }}")
    };
    for (what, role, by, mutation) in [
        ("another role", Role::Analyst, Role::Admin, update(Role::Analyst, "role: VIEWER")),
        ("deactivation", Role::Viewer, Role::Admin, update(Role::Viewer, "isActive: false")),
        ("logout", Role::Manager, Role::Manager, "mutation { logoutEverywhere }".to_owned()),
    ] {
        let token = acme.actor(role).token();
        let mut sockets = join_all(servers.iter().map(|server| {
            let token = &token;
            join_all((0..SOCKETS).map(move |_| Socket::open(server, token)))
        }))
        .await;
        let began = Instant::now();
        acme.actor(by).query(&mutation).await;
        let closed = join_all(sockets.iter_mut().map(|sockets| async {
            let codes = join_all(sockets.iter_mut().map(Socket::closed)).await;
            assert!(codes.iter().all(|code| *code == 4403), "{codes:?}");
            began.elapsed()
        }))
        .await;
        println!(
            "{what}: {SOCKETS} sockets of its server gone after {:?}, of another after {:?}",
            closed[0], closed[1]
        );
        assert!(closed.iter().all(|took| *took < WAIT_MAX), "{what}: {closed:?}");
    }
    for server in servers {
        server.stop().await;
    }
}

async fn exchange(socket: &mut Socket, id: &str) {
    socket.subscribe(id, "{ __typename }", Value::Null).await;
    socket.next(id).await;
}

/// To find out takes a read, which the next message must not interrupt.
#[tokio::test]
async fn who_keeps_sending_is_gone_too() {
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    let server = Server::start(&test).await;
    let mut socket = Socket::open(&server, &acme.viewer().token()).await;
    let mut all_connections = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        all_connections.push(test.app.db.read(acme.id()).await.expect("begun"));
    }
    let id = acme.viewer().caller.user_id;
    acme.admin()
        .query(&format!("mutation {{ updateUser(id: \"{id}\", input: {{isActive: false}}) {{ state }} }}"))
        .await;
    for id in ["1", "2"] {
        exchange(&mut socket, id).await;
    }
    // By now the server waits for a connection. After it we do, for good.
    let mut next = Box::pin(test.app.db.read(acme.id()));
    assert!(futures_util::poll!(&mut next).is_pending());
    for id in ["3", "4", "5", "6"] {
        exchange(&mut socket, id).await;
    }
    all_connections.pop();
    let closed = tokio::time::timeout(Duration::from_secs(10), socket.closed()).await;
    assert_eq!(closed.expect("it is closed"), 4403);
    drop((next, all_connections));
    server.stop().await;
}
