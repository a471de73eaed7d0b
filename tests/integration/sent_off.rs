//! How long open sockets stay when their user may no longer come in.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use salespulse::auth::Role;

use crate::socket::Socket;
use crate::support::{Server, TestApp};

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
