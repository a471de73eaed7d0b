//! The real server, as one process or two, and what the system says of a process.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use migration::{Migrator, MigratorTrait};
use salespulse::auth::Role;
use salespulse::auth::token::{Subject, Tokens};
use salespulse::clock::{Clock, SystemClock};
use salespulse::db::{Db, Owner, TenantId};
use salespulse::tenancy::{NewTenant, create_tenant};

const SECRET: &str = "a secret of the benchmark, long enough";
/// 32 bytes in base64.
const KEK: &str = "dGhlIGtleS1lbmNyeXB0aW9uIGtleSBvZiB0ZXN0cyE=";

/// Where servers keep their data.
pub struct Database {
    pub what: &'static str,
    url: String,
    owner_url: String,
    redis: Option<String>,
    processes: usize,
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    pub fn sqlite() -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("live.db").display());
        let what = "one process, SQLite, in-process stream";
        Database { what, owner_url: url.clone(), url, redis: None, processes: 1, _folder: Some(folder) }
    }

    /// As a server connects.
    pub async fn connect(&self) -> Db {
        Db::connect(&self.url, 2).await.expect("connected")
    }

    #[expect(clippy::disallowed_methods, reason = "the settings of the benchmark")]
    pub fn from_environment() -> Option<Database> {
        let setting = |name| std::env::var(name).ok();
        let (url, owner_url) = (setting("TEST_DATABASE_URL")?, setting("TEST_OWNER_URL")?);
        let redis = setting("TEST_REDIS_URL")?;
        let what = "two processes, PostgreSQL, Redis; sockets spread over both";
        Some(Database { what, url, owner_url, redis: Some(redis), processes: 2, _folder: None })
    }
}

pub struct Tenant {
    pub id: String,
    pub token: String,
}

impl Tenant {
    pub fn id(&self) -> TenantId {
        TenantId(self.id.parse().expect("an id"))
    }
}

/// What the servers sign tokens with.
pub fn tokens() -> Tokens {
    Tokens::new(SECRET, "salespulse")
}

pub struct Servers {
    pub processes: Vec<Process>,
    pub tenants: Vec<Tenant>,
}

impl Servers {
    /// Starts them with new tenants.
    pub async fn start(database: &Database, tenants: usize) -> Servers {
        let owner = Owner::connect(&database.owner_url).await.expect("connected");
        Migrator::up(owner.connection(), None).await.expect("migrated");
        owner.close().await.expect("closed");
        let db = database.connect().await;
        let tokens = tokens();
        let now = SystemClock.now();
        let mut made = Vec::new();
        for n in 0..tenants {
            let slug = format!("live-{}-{n}", now.0);
            let new = NewTenant { slug: &slug, name: &slug, timezone: chrono_tz::UTC, currency: "EUR" };
            let tenant = create_tenant(&db, &new, now).await.expect("a tenant");
            let (role, user) = tenant.users.iter().find(|(role, _)| *role == Role::Admin).expect("an admin");
            let token = tokens
                .mint(&Subject { tenant: tenant.id, user_id: *user, role: *role, session: None }, now, 24 * 3600)
                .expect("a token");
            made.push(Tenant { id: tenant.id.0.to_string(), token });
        }
        db.close().await.expect("closed");
        let processes = (0..database.processes).map(|_| serve(database)).collect();
        Servers { processes, tenants: made }
    }
}

fn serve(database: &Database) -> Process {
    let program = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.parent()?.join("salespulse")));
    let program = program.filter(|path| path.exists()).expect("a build of salespulse beside the benchmark");
    let port = free_port();
    let mut command = Command::new(program);
    command
        .arg("serve")
        .env("DATABASE_URL", &database.url)
        .env("SALESPULSE_LISTEN", format!("127.0.0.1:{port}"))
        .env("SALESPULSE_LOG_LEVEL", "warn")
        .env("SALESPULSE_JWT_SECRET", SECRET)
        .env("SALESPULSE_KEK", KEK)
        .envs(
            ["USER_FIELDS_PER_MINUTE", "TENANT_FIELDS_PER_MINUTE", "USER_SOCKETS", "TENANT_SOCKETS", "ADDRESS_SOCKETS"]
                .map(|name| (format!("SALESPULSE_{name}"), "0")),
        );
    if let Some(redis) = &database.redis {
        command.env("REDIS_URL", redis);
    }
    Process::start(command, port)
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A process that ends with this value.
#[derive(Clone)]
pub struct Process {
    pub port: u16,
    child: Arc<Ended>,
}

struct Ended(std::sync::Mutex<Child>, u32);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Ok(child) = self.0.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Process {
    /// Starts it and waits until its port takes connections.
    pub fn start(mut command: Command, port: u16) -> Process {
        let child = command.stdout(Stdio::null()).spawn().expect("started");
        let id = child.id();
        let process = Process { port, child: Arc::new(Ended(std::sync::Mutex::new(child), id)) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        process
    }

    /// What it holds in memory.
    pub fn resident_kib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.1)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.trim().split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
    }

    /// The time that it has used of the cores, in ticks of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.1)).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        Duration::from_millis(10 * (fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)))
    }
}
