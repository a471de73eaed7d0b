//! Tests as actors: `TestApp::start().await.tenant("acme").await.admin().query("{ me { id } }")`.

use std::sync::Arc;

use async_graphql::{Response, Variables};
use migration::{Migrator, MigratorTrait};
use salespulse::app::App;
use salespulse::audit::By;
use salespulse::auth::token::{Subject, Tokens};
use salespulse::auth::{Caller, Role, Through};
use salespulse::clock::{ManualClock, SECOND, Timestamp};
use salespulse::db::{Db, Owner, TenantId, TenantTx, migrations, word};
use salespulse::graphql::documents::Documents;
use salespulse::graphql::endpoint::Requester;
use salespulse::graphql::executor::Executor;
use salespulse::graphql::params::Params;
use salespulse::ledger::Answer;
use salespulse::ledger::event::{Event, Outcome};
use salespulse::ledger::store::begin_policy_epoch;
use salespulse::ledger::verify::verify;
use salespulse::sealing::kek::{KeyEncryption, LocalKek};
use salespulse::server::{Listeners, Options};
use salespulse::tenancy::{CreatedTenant, NewTenant, create_tenant};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const SECRET: &str = "a secret of the tests, long enough";
/// The key-encryption key of the tests: 32 bytes in base64.
pub const KEK: &str = "dGhlIGtleS1lbmNyeXB0aW9uIGtleSBvZiB0ZXN0cyE=";

/// What wraps the keys of tenants.
pub fn kek() -> Arc<dyn KeyEncryption> {
    Arc::new(LocalKek::from_texts([KEK]).expect("a key"))
}

/// A server's parts over a database of its own.
pub struct TestApp {
    pub app: App,
    pub clock: Arc<ManualClock>,
    pub executor: Executor,
    owner_url: String,
    server_url: String,
    _files: Option<tempfile::TempDir>,
}

pub struct TestTenant<'a> {
    pub test: &'a TestApp,
    pub created: CreatedTenant,
}

#[derive(Clone)]
pub struct Actor<'a> {
    test: &'a TestApp,
    pub caller: Caller,
}

/// Connections for reading, and as many for writing.
pub const CONNECTIONS_MAX: u32 = 4;
/// 2026-06-15T12:00:00Z, where the tests' clocks start.
pub const NOW: Timestamp = Timestamp(1_781_524_800 * SECOND);

/// A time as it is written.
pub fn at(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).expect("a time").to_utc().into()
}

/// A database as its owner and as a server reaches it.
pub struct Urls {
    pub owner: String,
    pub server: String,
}

/// The PostgreSQL that the suite runs on, if it does.
fn postgres() -> Option<Urls> {
    let url = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    Some(Urls { owner: url("TEST_OWNER_URL")?, server: url("TEST_DATABASE_URL")? })
}

/// Whether the suite runs on PostgreSQL.
pub fn is_on_postgres() -> bool {
    postgres().is_some()
}

/// Where the suite runs on Redis.
pub fn test_redis_url() -> Option<String> {
    std::env::var("TEST_REDIS_URL").ok().filter(|url| !url.is_empty())
}

/// The same parts behind HTTP, on a free port.
pub struct Server {
    pub address: std::net::SocketAddr,
    /// Of the second listener.
    pub monitor: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start(test: &TestApp) -> Server {
        Server::of(test.app.clone()).await
    }

    /// Another process with parts of its own over the same database, or the same one.
    pub async fn of(app: App) -> Server {
        Server::with(app, Options { graphiql: true, ..Options::default() }).await
    }

    pub async fn with(app: App, options: Options) -> Server {
        let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (api, monitor) = (bind().await, bind().await);
        let at = |listener: &tokio::net::TcpListener| listener.local_addr().expect("an address");
        let (address, monitor_address) = (at(&api), at(&monitor));
        let stop = CancellationToken::new();
        let listeners = Listeners { api, monitor: Some(monitor) };
        let ending = stop.clone();
        let task = tokio::spawn(async move {
            salespulse::server::run(app, options, listeners, ending).await.expect("all tasks of the server run");
        });
        Server { address, monitor: monitor_address, stop, task }
    }

    /// Asks the server to end.
    pub fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    /// Ends the server; open sockets do not hold it up.
    pub async fn stop(self) {
        self.begin_to_stop();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), self.task).await;
        ended.expect("within 20 s").expect("no panic");
    }
}

fn executor(app: &App) -> Executor {
    Executor::new(salespulse::schema::build(app.clone()), app.tokens.cursors(), Documents::default())
}

impl TestApp {
    pub async fn start() -> TestApp {
        let (urls, files) = match postgres() {
            Some(server) => (postgres_database(&server).await, None),
            None => {
                let files = tempfile::tempdir().expect("a temporary folder");
                let url = format!("sqlite://{}", files.path().join("test.db").display());
                let owner = Owner::connect(&url).await.expect("connect");
                migrations::up(&owner).await.expect("migrate");
                owner.close().await.expect("close");
                (Urls { owner: url.clone(), server: url }, Some(files))
            }
        };
        TestApp::over(urls, files).await
    }

    /// A server's parts over a database that is there.
    pub async fn over(urls: Urls, files: Option<tempfile::TempDir>) -> TestApp {
        TestApp::with_kek(urls, files, kek()).await
    }

    /// Another process over the same database: its own parts, its own clock, and what wraps keys for it.
    pub async fn beside(&self, kek: Arc<dyn KeyEncryption>) -> TestApp {
        let urls = Urls { owner: self.owner_url.clone(), server: self.server_url.clone() };
        TestApp::with_kek(urls, None, kek).await
    }

    /// Takes back a migration with those after it, and makes them again. Another process, as the columns are others for
    /// the connections from before.
    pub async fn migrated_again(&self, name: &str) -> TestApp {
        let owner = self.owner().await;
        let after = Migrator::migrations().iter().rev().position(|migration| migration.name() == name);
        let steps = u32::try_from(after.expect("a migration") + 1).expect("few");
        Migrator::down(owner.connection(), Some(steps)).await.expect("down");
        Migrator::up(owner.connection(), None).await.expect("up");
        owner.close().await.expect("closed");
        self.beside(kek()).await
    }

    async fn with_kek(urls: Urls, files: Option<tempfile::TempDir>, kek: Arc<dyn KeyEncryption>) -> TestApp {
        let db = Db::connect(&urls.server, CONNECTIONS_MAX).await.expect("connect");
        let clock = ManualClock::at(NOW);
        let stream = salespulse::stream::connect(test_redis_url().as_deref()).await.expect("a stream");
        let app = App::new(db, Arc::<ManualClock>::clone(&clock), stream, Tokens::new(SECRET, "salespulse"), kek);
        TestApp { executor: executor(&app), app, clock, owner_url: urls.owner, server_url: urls.server, _files: files }
    }

    /// The same with other parts.
    pub fn rewired(self, change: impl FnOnce(App) -> App) -> TestApp {
        let app = change(self.app.clone());
        TestApp { executor: executor(&app), app, ..self }
    }

    /// The parts of another process over the same database.
    pub async fn another(&self) -> App {
        let db = Db::connect(&self.server_url, CONNECTIONS_MAX).await.expect("connect");
        let stream = salespulse::stream::connect(test_redis_url().as_deref()).await.expect("a stream");
        App::new(db, Arc::<ManualClock>::clone(&self.clock), stream, Tokens::new(SECRET, "salespulse"), kek())
    }

    /// A connection of whoever owns the tables.
    pub async fn owner(&self) -> Owner {
        Owner::connect(&self.owner_url).await.expect("connect")
    }

    pub fn owner_url(&self) -> &str {
        &self.owner_url
    }

    pub fn server_url(&self) -> &str {
        &self.server_url
    }

    /// A tenant in UTC and GBP.
    pub async fn tenant(&self, slug: &str) -> TestTenant<'_> {
        self.tenant_in(slug, chrono_tz::UTC, "GBP").await
    }

    pub async fn tenant_in(&self, slug: &str, timezone: chrono_tz::Tz, currency: &str) -> TestTenant<'_> {
        let new = NewTenant { slug, name: slug, timezone, currency };
        let created = create_tenant(&self.app.db, &new, NOW).await.expect("tenant");
        TestTenant { test: self, created }
    }
}

impl<'a> TestTenant<'a> {
    /// The same tenant, of another process.
    pub fn of<'b>(&self, test: &'b TestApp) -> TestTenant<'b> {
        TestTenant { test, created: self.created.clone() }
    }

    pub fn id(&self) -> TenantId {
        self.created.id
    }

    pub fn actor(&self, role: Role) -> Actor<'a> {
        let user_id = self.created.users.iter().find(|(r, _)| *r == role).map(|(_, id)| *id).expect("a user");
        let permissions = role.permissions().to_vec();
        let expires_at_secs = NOW.0 / SECOND + 3600;
        let through = Through::Token { issued_at_secs: NOW.0 / SECOND };
        let caller = Caller { tenant: self.id(), user_id, role, permissions, expires_at_secs, through };
        Actor { test: self.test, caller }
    }

    pub fn admin(&self) -> Actor<'a> {
        self.actor(Role::Admin)
    }

    pub fn viewer(&self) -> Actor<'a> {
        self.actor(Role::Viewer)
    }

    /// A second organization.
    pub async fn organization(&self, slug: &str, timezone: chrono_tz::Tz, currency: &str) {
        let tx = self.settings().await;
        let sql = "INSERT INTO organizations (tenant_id, id, org_no, slug, name, timezone, currency, is_default, created_at) \
                   VALUES ($1, $2, 2, $3, $3, $4, $5, false, 0)";
        let values = [Uuid::now_v7().into(), slug.into(), timezone.name().into(), currency.into()];
        tx.execute(sql, values).await.expect("organization");
        tx.commit().await.expect("commit");
    }

    /// One more user with `role`; gives its id.
    pub async fn another_user(&self, role: Role) -> Uuid {
        let tx = self.settings().await;
        let id = Uuid::now_v7();
        let sql = "INSERT INTO users (tenant_id, id, email, name, role, is_active, created_at) VALUES ($1, $2, $3, $3, $4, true, 0)";
        let values = [id.into(), format!("{id}@example.com").into(), word(role).expect("a word")];
        tx.execute(sql, values).await.expect("user");
        tx.commit().await.expect("commit");
        id
    }

    /// A transaction that changes settings.
    async fn settings(&self) -> TenantTx {
        let tx = self.test.app.db.write(self.id()).await.expect("transaction");
        begin_policy_epoch(&tx).await.expect("an epoch");
        tx
    }

    /// Gives the default organization another slug and name.
    pub async fn rename_default(&self, slug: &str) {
        let tx = self.settings().await;
        let sql = "UPDATE organizations SET slug = $2, name = $2 WHERE tenant_id = $1 AND is_default";
        tx.execute(sql, [slug.into()]).await.expect("renamed");
        tx.commit().await.expect("commit");
    }

    /// Records events as one call; every one of them gets its outcome.
    pub async fn record(&self, events: Vec<Event>) -> Answer {
        self.test.app.ledger.record(self.id(), By::default(), events, false).await.expect("recorded")
    }

    /// Records events that all must be applied.
    pub async fn apply(&self, events: Vec<Event>) -> Answer {
        let answer = self.record(events).await;
        for outcome in &answer.outcomes {
            assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        }
        answer
    }

    /// Every rollup is the sum of its entries, as they are and when the tail is folded too.
    pub async fn verified(&self) {
        self.verified_as_is().await;
        self.fold().await;
        self.verified_as_is().await;
    }

    /// Adds the tail to the rollups now.
    pub async fn fold(&self) {
        self.test.app.ledger.fold(self.id()).await.expect("folded");
    }

    pub async fn verified_as_is(&self) {
        let report = verify(&self.test.app.db, self.id()).await.expect("verify runs");
        assert!(report.differences.is_empty(), "{:#?}", report.differences);
    }
}

impl Actor<'_> {
    /// A token of a day.
    pub fn token(&self) -> String {
        let Caller { tenant, user_id, role, .. } = self.caller;
        let subject = Subject { tenant, user_id, role, session: None };
        self.test.app.tokens.mint(&subject, NOW, 24 * 3600).expect("a token")
    }

    /// The same caller in another process.
    pub fn within<'b>(&self, test: &'b TestApp) -> Actor<'b> {
        Actor { test, caller: self.caller.clone() }
    }

    pub async fn run(&self, query: &str, variables: Value) -> Response {
        let variables = Variables::from_json(variables);
        self.request(Params { query: Some(query.to_owned()), variables, ..Params::default() }).await
    }

    pub async fn request(&self, params: Params) -> Response {
        match self.test.executor.prepare(params, Some(&self.caller)) {
            Ok(prepared) => {
                let requester = Requester {
                    caller: Some(Arc::new(self.caller.clone())),
                    client: Arc::default(),
                    size: Arc::default(),
                };
                self.test.executor.run(prepared, requester).await.0
            }
            Err(refusal) => Response::from_errors(vec![refusal.to_error()]),
        }
    }

    /// The data of a query without errors.
    pub async fn query(&self, query: &str) -> Value {
        self.query_with(query, Value::Null).await
    }

    pub async fn query_with(&self, query: &str, variables: Value) -> Value {
        let response = self.run(query, variables).await;
        assert!(response.errors.is_empty(), "{:?}", response.errors);
        response.data.into_json().expect("json")
    }

    /// The code of the one error of a query, and the argument it is about.
    pub async fn error(&self, query: &str) -> (String, Option<String>) {
        let response = self.run(query, Value::Null).await;
        assert_eq!(response.errors.len(), 1, "{query}: {response:?}");
        let extensions = response.errors[0].extensions.as_ref().expect("extensions");
        let text = |name: &str| match extensions.get(name) {
            Some(async_graphql::Value::String(text)) => Some(text.clone()),
            _ => None,
        };
        (text("code").expect("a code"), text("argument"))
    }

    /// The query is refused for `argument` with BAD_USER_INPUT.
    pub async fn refused(&self, query: &str, argument: &str) {
        assert_eq!(self.error(query).await, ("BAD_USER_INPUT".into(), Some(argument.into())), "{query}");
    }

    /// The code of the one error of a query.
    pub async fn error_code(&self, query: &str) -> String {
        let response = self.run(query, Value::Null).await;
        assert_eq!(response.errors.len(), 1, "{response:?}");
        let extensions = response.errors[0].extensions.as_ref().expect("extensions");
        match extensions.get("code") {
            Some(async_graphql::Value::String(code)) => code.clone(),
            other => panic!("no code: {other:?}"),
        }
    }
}

/// What `work` gives, within a time that nothing takes unless it is broken.
pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), work).await.expect("within 30 s")
}

/// A database of its own, copied from a template that is migrated once per set of migrations.
async fn postgres_database(server: &Urls) -> Urls {
    use sea_orm::{ConnectionTrait, Statement};
    let names: Vec<String> = Migrator::migrations().iter().map(|m| m.name().to_owned()).collect();
    let version = env!("CARGO_PKG_VERSION").replace('.', "_");
    let stamp = std::fs::metadata(std::env::current_exe().expect("exe")).and_then(|m| m.modified()).expect("modified");
    let stamp = stamp.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let template = format!("template_{version}_{}_{stamp}", names.len());
    let admin = Owner::connect(&server.owner).await.expect("connect to the server");
    let connection = admin.connection();
    let run = async |sql: String| connection.execute_unprepared(&sql).await.expect("admin statement");
    run("SELECT pg_advisory_lock(815)".into()).await;
    let exists = format!("SELECT 1 FROM pg_database WHERE datname = '{template}'");
    let statement = Statement::from_string(sea_orm::DbBackend::Postgres, exists);
    if connection.query_one_raw(statement).await.expect("look-up").is_none() {
        let making = format!("{template}_making");
        run(format!("DROP DATABASE IF EXISTS {making}")).await;
        run(format!("CREATE DATABASE {making}")).await;
        let owner = Owner::connect(&with_database(&server.owner, &making)).await.expect("connect to the template");
        migrations::up(&owner).await.expect("migrate");
        owner.close().await.expect("close");
        run(format!("ALTER DATABASE {making} RENAME TO {template}")).await;
    }
    let name = format!("test_{}", Uuid::now_v7().simple());
    run(format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    run("SELECT pg_advisory_unlock(815)".into()).await;
    admin.close().await.expect("close");
    Urls { owner: with_database(&server.owner, &name), server: with_database(&server.server, &name) }
}

pub fn with_database(url: &str, name: &str) -> String {
    let (base, _) = url.rsplit_once('/').expect("a database in the URL");
    format!("{base}/{name}")
}
