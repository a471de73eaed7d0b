//! How long 1,000 subscribed sockets of many users stay open once their user may no longer come in: half are sent off, in three
//! ways, then the others' tokens end in one second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use salespulse::auth::Role;
use salespulse::auth::sessions::{self, Client as Origin};
use salespulse::auth::token::Subject;
use salespulse::clock::{Clock, SECOND, SystemClock};
use salespulse::db::TenantId;
use salespulse::users::{NewUser, insert_user};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::clients::{Client, DOCUMENTS, record, subscribed};
use crate::http;
use crate::process::{Database, Servers, tokens};
use crate::report::Report;

const USERS: usize = 200;
/// One session's, spread over the processes.
const SOCKETS_EACH: usize = 5;
const TOKEN_SECS: i64 = 600;
/// The end that the last tokens have, from when they are made.
const LAST_SECS: i64 = 5;
/// A second is what is promised.
const WAIT_MAX: Duration = Duration::from_secs(15);

struct User {
    id: Uuid,
    session: Uuid,
    token: String,
    sockets: Vec<Socket>,
}

/// A subscribed socket that is read by a task of its own.
struct Socket {
    sink: SplitSink<Client, Message>,
    /// When the server closed it, and by which code.
    closed: JoinHandle<(Instant, u16)>,
}

#[derive(Clone, Copy)]
enum Way {
    Logout,
    Role,
    Deactivation,
}

impl Way {
    const ALL: [Way; 3] = [Way::Logout, Way::Role, Way::Deactivation];

    fn what(self) -> &'static str {
        match self {
            Way::Logout => "the session ended",
            Way::Role => "another role",
            Way::Deactivation => "deactivated",
        }
    }
}

pub async fn run(database: &Database) {
    let columns =
        ["sent off by", "sockets", "p50 ms", "p99 ms", "max ms", "not closed by 4403", "others that went too"];
    let title = format!("{} sockets of {USERS} users: {}", USERS * SOCKETS_EACH, database.what);
    let mut report = Report::begin(&title, &columns);
    let servers = Servers::start(database, 1).await;
    let updates = Arc::new(AtomicUsize::new(0));
    let mut users = open_all(database, &servers, &updates).await;
    let mut staying = users.split_off(USERS / 2);
    let mut going = users.into_iter();
    for (n, way) in Way::ALL.into_iter().enumerate() {
        let share = USERS / 2 * (n + 1) / Way::ALL.len() - USERS / 2 * n / Way::ALL.len();
        let mut after = Vec::new();
        for user in going.by_ref().take(share) {
            send_off(&servers, way, &user).await;
            after.extend(user.sockets.into_iter().map(|socket| (socket, Instant::now())));
        }
        report.row(&row(way.what(), after, &staying).await);
    }
    // Who stays hears on.
    let others = staying.len() * SOCKETS_EACH;
    updates.store(0, Ordering::Relaxed);
    record(&servers.processes[0], &servers.tenants[0].token, 1).await;
    let heard = async {
        while updates.load(Ordering::Relaxed) < others {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let all_heard = tokio::time::timeout(WAIT_MAX, heard).await.is_ok();

    let (now, tenant) = (SystemClock.now(), servers.tenants[0].id());
    let end_secs = now.0.div_euclid(SECOND) + LAST_SECS;
    for user in &mut staying {
        let token = token(tenant, user.id, user.session, end_secs - SystemClock.now().0.div_euclid(SECOND));
        let ping = json!({ "type": "ping", "payload": { "Authorization": format!("Bearer {token}") } }).to_string();
        for socket in &mut user.sockets {
            socket.sink.send(Message::text(ping.clone())).await.expect("open");
        }
    }
    let left = u64::try_from(end_secs * SECOND - SystemClock.now().0).expect("in time");
    let end = Instant::now() + Duration::from_micros(left);
    let after = staying.into_iter().flat_map(|user| user.sockets).map(|socket| (socket, end)).collect();
    report.row(&row("the end of the token", after, &[]).await);
    println!(
        "\n{others} others: {}",
        if all_heard { "all heard of the next sale" } else { "NOT ALL HEARD OF THE NEXT SALE" }
    );
}

async fn open_all(database: &Database, servers: &Servers, updates: &Arc<AtomicUsize>) -> Vec<User> {
    let tenant = servers.tenants[0].id();
    let mut users = Vec::with_capacity(USERS);
    for (n, (id, session)) in make_users(database, tenant).await.into_iter().enumerate() {
        let token = token(tenant, id, session, TOKEN_SECS);
        let opened = (0..SOCKETS_EACH).map(|k| {
            let port = servers.processes[(n + k) % servers.processes.len()].port;
            subscribed(port, &token, &servers.tenants[0].id, DOCUMENTS[0])
        });
        let clients = futures_util::future::join_all(opened).await;
        let sockets = clients.into_iter().map(|client| Socket::read(client, Arc::clone(updates))).collect();
        users.push(User { id, session, token, sockets });
    }
    users
}

/// Users and their sessions, before any server has looked who there is.
async fn make_users(database: &Database, tenant: TenantId) -> Vec<(Uuid, Uuid)> {
    let (db, now) = (database.connect().await, SystemClock.now());
    let tx = db.write(tenant).await.expect("a transaction");
    let mut made = Vec::with_capacity(USERS);
    for n in 0..USERS {
        let email = format!("user-{n}@bench.invalid");
        let new = NewUser { email: &email, name: &email, role: Role::Analyst, password_hash: None, is_invited: false };
        let id = insert_user(&tx, new, now).await.expect("a user");
        let session = sessions::open(&tx, id, Role::Analyst, &Origin::default(), now).await.expect("a session").id;
        made.push((id, session));
    }
    tx.commit().await.expect("committed");
    db.close().await.expect("closed");
    made
}

fn token(tenant: TenantId, user_id: Uuid, session: Uuid, lifetime_secs: i64) -> String {
    let subject = Subject { tenant, user_id, role: Role::Analyst, session: Some(session) };
    tokens().mint(&subject, SystemClock.now(), lifetime_secs).expect("a token")
}

impl Socket {
    fn read(client: Client, updates: Arc<AtomicUsize>) -> Socket {
        let (sink, mut stream) = client.split();
        let closed = tokio::spawn(async move {
            let mut code = 0;
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Text(text) if text.contains("\"next\"") => drop(updates.fetch_add(1, Ordering::Relaxed)),
                    Message::Close(frame) => {
                        code = frame.map_or(0, |frame| frame.code.into());
                        break;
                    }
                    _ => {}
                }
            }
            (Instant::now(), code)
        });
        Socket { sink, closed }
    }
}

/// Returns when the first process has acknowledged it.
async fn send_off(servers: &Servers, way: Way, user: &User) {
    let (token, mutation) = match way {
        Way::Logout => (&user.token, "mutation { logout }".to_owned()),
        Way::Role => (&servers.tenants[0].token, update(user, "role: VIEWER")),
        Way::Deactivation => (&servers.tenants[0].token, update(user, "isActive: false")),
    };
    let address = ([127, 0, 0, 1], servers.processes[0].port).into();
    let answer = http::answer(address, "/graphql", token, &json!({ "query": mutation }).to_string()).await;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert!(answer["errors"].is_null(), "{answer}");
}

fn update(user: &User, input: &str) -> String {
    format!("mutation {{ updateUser(id: \"{}\", input: {{ {input} }}) {{ state }} }}", user.id)
}

/// How long sockets took to close after the moment beside each.
async fn row(what: &str, after: Vec<(Socket, Instant)>, staying: &[User]) -> Vec<String> {
    let (mut times, mut wrong, count) = (Vec::with_capacity(after.len()), 0, after.len());
    for (socket, moment) in after {
        // The sink is held until the socket has closed: without it this end would.
        let Socket { sink: _sink, closed } = socket;
        match tokio::time::timeout(WAIT_MAX, closed).await {
            Ok(Ok((at, 4403))) => times.push(at.saturating_duration_since(moment)),
            _ => wrong += 1,
        }
    }
    times.sort_unstable();
    let ms = |per_mille: usize| {
        let at = times.len().saturating_sub(1) * per_mille / 1000;
        times.get(at).map_or("–".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
    };
    let gone = staying.iter().flat_map(|user| &user.sockets).filter(|socket| socket.closed.is_finished()).count();
    [what.to_owned(), count.to_string(), ms(500), ms(990), ms(1000), wrong.to_string(), gone.to_string()].into()
}
