//! The processes, and how they are killed and started again.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait};
use salespulse::auth::Role;
use salespulse::auth::token::{Subject, Tokens};
use salespulse::clock::{Clock, SystemClock};
use salespulse::db::{Db, Owner, TenantId};
use salespulse::tenancy::{NewTenant, create_tenant};
use serde_json::{Value, json};

use crate::TENANTS;
use crate::client;

const SECRET: &str = "a secret of the chaos, long enough";
/// 32 bytes in base64.
const KEK: &str = "dGhlIGtleS1lbmNyeXB0aW9uIGtleSBvZiB0ZXN0cyE=";
/// Alert rules of each tenant that fire once, and that fire whenever the average crosses a threshold.
const RULES: usize = 40;
const RULES_OF_AVERAGES: usize = 5;

pub struct Tenant {
    pub id: TenantId,
    pub token: String,
    /// Where its log of alerts begins.
    pub alert_cursor: Value,
}

pub struct World {
    pub db_url: String,
    pub tenants: Vec<Tenant>,
    /// The two servers.
    pub servers: [Server; 2],
    pub redis: Mutex<Child>,
    redis_port: u16,
}

pub struct Server {
    pub address: SocketAddr,
    child: Mutex<Child>,
    db_url: String,
    redis_url: String,
}

#[expect(clippy::disallowed_methods, reason = "what servers.sh says")]
pub fn setting(name: &str) -> String {
    std::env::var(name).expect("it is run by `make chaos`")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Sends a signal by its name.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
    sent.expect("kill");
}

impl Server {
    fn new(db_url: &str, redis_url: &str) -> Server {
        let address = ([127, 0, 0, 1], free_port()).into();
        let child = Mutex::new(serve(address, db_url, redis_url));
        Server { address, child, db_url: db_url.to_owned(), redis_url: redis_url.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().expect("a lock").id()
    }

    /// Waits until it has ended, and starts it again.
    pub fn restart(&self) {
        let mut child = self.child.lock().expect("a lock");
        child.wait().expect("ended");
        *child = serve(self.address, &self.db_url, &self.redis_url);
    }

    /// Asks it to end, and waits until it has. Gives its exit code.
    pub fn terminate(&self) -> Option<i32> {
        signal("TERM", self.pid());
        self.child.lock().expect("a lock").wait().expect("ended").code()
    }

    fn is_running(&self) -> bool {
        matches!(self.child.lock().expect("a lock").try_wait(), Ok(None))
    }
}

fn serve(address: SocketAddr, db_url: &str, redis_url: &str) -> Child {
    let program = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.parent()?.join("salespulse")));
    Command::new(program.expect("a path"))
        .arg("serve")
        .env("DATABASE_URL", db_url)
        .env("REDIS_URL", redis_url)
        .env("SALESPULSE_LISTEN", address.to_string())
        .env("SALESPULSE_LOG_LEVEL", "off")
        .env("SALESPULSE_JWT_SECRET", SECRET)
        .env("SALESPULSE_KEK", KEK)
        .envs(
            ["USER_FIELDS_PER_MINUTE", "TENANT_FIELDS_PER_MINUTE", "USER_SOCKETS", "TENANT_SOCKETS", "ADDRESS_SOCKETS"]
                .map(|name| (format!("SALESPULSE_{name}"), "0")),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a build of salespulse beside the example")
}

fn redis(port: u16) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server")
}

impl World {
    pub async fn start() -> World {
        let db_url = setting("TEST_DATABASE_URL");
        let owner = Owner::connect(&setting("TEST_OWNER_URL")).await.expect("connected");
        Migrator::up(owner.connection(), None).await.expect("migrated");
        let db = Db::connect(&db_url, 2).await.expect("connected");
        let tokens = Tokens::new(SECRET, "salespulse");
        let now = SystemClock.now();
        let mut tenants = Vec::new();
        for n in 0..TENANTS {
            let slug = format!("chaos-{n}");
            let new = NewTenant { slug: &slug, name: &slug, timezone: chrono_tz::UTC, currency: "EUR" };
            let tenant = create_tenant(&db, &new, now).await.expect("a tenant");
            let (role, user) = tenant.users.iter().find(|(role, _)| *role == Role::Admin).expect("an admin");
            let token = tokens
                .mint(&Subject { tenant: tenant.id, user_id: *user, role: *role, session: None }, now, 24 * 3600)
                .expect("a token");
            tenants.push(Tenant { id: tenant.id, token, alert_cursor: Value::Null });
        }
        db.close().await.expect("closed");
        let redis_port = free_port();
        let redis = Mutex::new(redis(redis_port));
        let redis_url = format!("redis://127.0.0.1:{redis_port}");
        wait_for(redis_port);
        let servers = [(); 2].map(|()| Server::new(&db_url, &redis_url));
        let mut world = World { db_url, tenants, servers, redis, redis_port };
        world.all_up().await;
        let address = world.servers[0].address;
        for tenant in &mut world.tenants {
            let once = (0..RULES).map(|n| {
                format!(r#"metric: ORDERS_COUNT, threshold: "{}", windowMinutes: 1440, frequency: ONCE"#, n * 25)
            });
            // Amounts are around 50.
            let often = (0..RULES_OF_AVERAGES).map(|n| {
                format!(r#"metric: AVG_ORDER_VALUE, threshold: "{}", windowMinutes: 15, frequency: EVERY_TIME"#, 48 + n)
            });
            for rule in once.chain(often) {
                let create = format!(
                    r#"mutation {{ createAlert(input: {{ name: "rule", {rule}, condition: ABOVE, includeOpen: true }}) {{ id }} }}"#
                );
                client::post(address, &tenant.token, &create, json!({})).await.expect("a rule");
            }
            let start = client::post(address, &tenant.token, "{ alertCursor }", json!({})).await;
            tenant.alert_cursor = start.expect("a cursor")["alertCursor"].take();
        }
        world
    }

    /// Waits until both servers are ready.
    pub async fn all_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for server in &self.servers {
            if !server.is_running() {
                server.restart();
            }
            while !client::is_ready(server.address).await {
                assert!(Instant::now() < deadline, "a server does not get ready");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    pub fn kill_redis(&self) {
        let mut redis = self.redis.lock().expect("a lock");
        redis.kill().expect("killed");
        redis.wait().expect("ended");
    }

    pub fn start_redis(&self) {
        *self.redis.lock().expect("a lock") = redis(self.redis_port);
    }

    pub fn flush_redis(&self) {
        let flushed = Command::new("redis-cli")
            .args(["-p", &self.redis_port.to_string(), "FLUSHALL"])
            .stdout(Stdio::null())
            .status();
        flushed.expect("redis-cli");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let children = self.servers.iter().map(|server| &server.child).chain([&self.redis]);
        for child in children {
            let mut child = child.lock().expect("a lock");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn wait_for(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills PostgreSQL outright.
pub fn kill_postgres() {
    let file = std::fs::read_to_string(setting("TEST_POSTGRES_PID_FILE")).expect("a process id");
    let pid = file.lines().next().and_then(|pid| pid.parse().ok()).expect("a number");
    signal("KILL", pid);
}

/// Starts PostgreSQL, as often as it takes: what is left of the one before may still be there.
pub async fn start_postgres(url: &str) {
    let restart = setting("TEST_POSTGRES_RESTART");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        Command::new("bash").args(["-c", &restart]).status().expect("bash");
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Ok(db) = Db::connect(url, 1).await
                && db.ping().await.is_ok()
            {
                return;
            }
        }
        assert!(Instant::now() < deadline, "PostgreSQL does not start again");
    }
}
