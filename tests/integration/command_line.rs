//! The program itself: exit codes, messages, and an import that is interrupted.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use salespulse::db::{Db, Owner, TenantId, get};
use salespulse::ledger::store::read_head;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::support::{KEK, SECRET, TestApp};

const MAPPING: &str = r#"
name = "shop"
[[feeds]]
name = "orders"
fact = "order"
file = { path = "orders.csv" }
id = "{#}"
time = "{time}"
amount = "{amount}"
"#;

/// The program in a folder of its own, with its own SQLite file there.
pub struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    pub fn new() -> Self {
        Program { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_salespulse"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        // None of the settings of whoever runs the tests; the path is for what the system needs.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("SALESPULSE_JWT_SECRET", SECRET).env("SALESPULSE_KEK", KEK).envs(settings.iter().copied());
        command
    }

    fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        self.command(arguments, settings).output().expect("the program runs")
    }

    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The one line of a failure.
    pub fn fail(&self, code: i32, arguments: &[&str], settings: &[(&str, &str)]) -> String {
        let output = self.run(arguments, settings);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let message = String::from_utf8(output.stderr).expect("text");
        assert!(message.starts_with("salespulse: ") && message.trim_end().lines().count() == 1, "{message}");
        message
    }

    pub async fn database(&self) -> Db {
        let url = format!("sqlite://{}", self.path().join("data/salespulse.db").display());
        Db::connect(&url, 1).await.expect("connected")
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path().join(file), text).expect("written");
    }
}

#[test]
fn bad_settings_end_with_2() {
    let program = Program::new();
    let fail = |name, value| program.fail(2, &["serve"], &[(name, value)]);
    assert!(fail("SALESPULSE_LISTN", "x").contains("SALESPULSE_LISTN: no such setting"));
    assert!(fail("DATABASE_URL", "mysql://x").contains("DATABASE_URL"));
    assert!(fail("DATABASE_URL", "postgres://u:hidden@host:port/x").contains("DATABASE_URL cannot be read"));
    assert!(!fail("DATABASE_URL", "postgres://u:hidden@host:port/x").contains("hidden"));
    assert!(fail("SALESPULSE_JWT_SECRET", "please change me: changeme changeme").contains("can be guessed"));
    let keyless = [("SALESPULSE_JWT_SECRET", ""), ("DATABASE_URL", "postgres://u@127.0.0.1:1/x")];
    assert!(program.fail(2, &["serve"], &keyless).contains("no key to sign tokens"));
    assert!(fail("SALESPULSE_LOG_LEVEL", "info,=x=").contains("SALESPULSE_LOG_LEVEL"));
    assert!(fail("SALESPULSE_LOG_LEVEL", "warning").contains("\"warning\" is none of error, warn"));
    program.write(".env", "DATABSE_URL=sqlite://a.db\n");
    assert!(program.fail(2, &["serve"], &[]).contains("DATABSE_URL: no such setting"));
    program.write(".env", "SALESPULSE_JWT_SECRET=\"hidden\n");
    let message = program.fail(2, &["serve"], &[]);
    assert!(message.contains(".env") && !message.contains("hidden"), "{message}");
}

#[test]
fn a_setting_that_is_not_utf8_is_refused_and_a_byte_order_mark_is_none() {
    let program = Program::new();
    let url = OsStr::from_bytes(b"sqlite://\xff.db");
    let output = program.command(&["migrate"], &[]).env("DATABASE_URL", url).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "salespulse: DATABASE_URL: must be UTF-8\n");
    program.write(".env", "\u{feff}DATABASE_URL=sqlite://marked.db\n");
    program.succeed(&["migrate"]);
    assert!(program.path().join("marked.db").exists());
}

#[test]
fn a_database_is_where_its_url_says_however_it_is_written() {
    let program = Program::new();
    program.write("shop.toml", &format!("{MAPPING}customer = \"{{#}}\"\ncustomer_name = \"{{time}}\"\n"));
    program.write("orders.csv", "time,amount\n2026-01-01,1\n");
    for (url, file) in [("sqlite:deep/x.db", "deep/x.db"), ("sqlite://my%20data/x.db", "my data/x.db")] {
        // The key that encrypts customers is created beside the database.
        let settings = [("DATABASE_URL", url), ("SALESPULSE_KEK", "")];
        for arguments in [&["migrate"][..], &["import", "--tenant", "acme", "--create-tenant", "shop.toml"]] {
            let output = program.run(arguments, &settings);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        }
        let (file, kek) = (program.path().join(file), program.path().join(format!("{file}.kek")));
        assert!(file.exists() && kek.exists(), "{url}");
    }
}

#[test]
fn output_that_cannot_be_written_stops_no_work_and_a_reader_may_leave() {
    let program = Program::new();
    let shell = |script: &str| {
        let command = program.command(&[], &[]);
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).arg(command.get_program()).current_dir(program.path()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).output().expect("bash runs")
    };
    let left = shell("\"$0\" schema | head -n 1; exit ${PIPESTATUS[0]}");
    assert_eq!((left.status.code(), left.stderr.as_slice()), (Some(0), &b""[..]), "{left:?}");
    // Nor does a log that cannot be written.
    assert_eq!(shell("\"$0\" migrate 2> /dev/full").status.code(), Some(0));
    program.succeed(&["tenant", "create", "acme"]);
    program.write("shop.toml", MAPPING);
    program.write("orders.csv", "time,amount\n2026-01-01,1\n");
    let full = shell("\"$0\" import --tenant acme shop.toml > /dev/full");
    assert_eq!(full.status.code(), Some(1));
    let message = String::from_utf8_lossy(&full.stderr);
    assert!(message.contains("salespulse: done, but the output cannot be written: No space left"), "{message}");
    assert_eq!(logged(&program, "import").len(), 1);
}

#[test]
fn an_import_that_does_not_begin_leaves_the_report_of_the_last_one_and_no_tenant() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.write("shop.toml", MAPPING);
    program.write("orders.csv", "time,amount\n2026-01-01,-1\n");
    program.write("orders.csv.rejected.csv", "an earlier run's\n");
    let create = ["import", "--create-tenant", "shop.toml", "--tenant"];
    let with = |slug| [&create[..], &[slug]].concat();
    assert!(program.fail(2, &with("Not A Slug"), &[]).contains("the slug must have"));
    assert!(program.fail(2, &with("acme"), &[("REDIS_URL", "redis://:port")]).contains("REDIS_URL"));
    program.fail(2, &with("acme"), &[("SALESPULSE_KEK", "short")]);
    assert_eq!(program.succeed(&["tenant", "list"]), "");
    let report = || std::fs::read_to_string(program.path().join("orders.csv.rejected.csv")).expect("a report");
    assert_eq!(report(), "an earlier run's\n");
    assert_eq!(program.run(&with("acme"), &[]).status.code(), Some(6));
    assert!(report().starts_with("line,feed,"));
}

#[test]
fn an_unreachable_database_ends_with_3() {
    let program = Program::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let url = format!("postgres://u:hidden@{free}/x");
    let message = program.fail(3, &["serve"], &[("DATABASE_URL", &url)]);
    assert!(message.contains("cannot connect to the database") && !message.contains("hidden"), "{message}");
    assert!(message.contains("is DATABASE_URL right?"), "{message}");
    let message = program.fail(3, &["migrate"], &[("SALESPULSE_OWNER_URL", &url)]);
    assert!(message.contains("is SALESPULSE_OWNER_URL right?"), "{message}");
    program.write("data", "a file where the folder should be");
    program.fail(3, &["migrate"], &[]);
}

#[test]
fn a_database_of_another_version_ends_with_4() {
    let program = Program::new();
    let none = program.fail(4, &["serve"], &[]);
    assert!(none.contains("there is no database at data/salespulse.db"), "{none}");
    assert!(!program.path().join("data").exists(), "a mistyped path makes no database");
    program.fail(4, &["migrate", "--status"], &[]);
    assert!(!program.path().join("data").exists());
    std::fs::create_dir(program.path().join("data")).expect("made");
    program.write("data/salespulse.db", "");
    assert!(program.succeed(&["migrate", "--status"]).starts_with("pending m0001"));
    assert!(program.fail(4, &["serve"], &[]).contains("run `salespulse migrate`"));
    program.succeed(&["migrate"]);
    assert!(program.succeed(&["migrate", "--status"]).starts_with("applied m0001"));
    program.succeed(&["migrate", "--down", "1"]);
    program.fail(4, &["verify"], &[]);
    let too_many = program.fail(2, &["migrate", "--down", "99"], &[]);
    assert!(too_many.contains("only 19 migrations are applied (nothing was reverted)"), "{too_many}");
    assert_eq!(program.run(&["migrate", "--down", "0"], &[]).status.code(), Some(2));
}

/// It holds personal data and hashes of passwords.
#[test]
fn a_database_is_open_to_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme"]);
    let mode = |file: &str| std::fs::metadata(program.path().join(file)).map(|of| of.permissions().mode() & 0o777).ok();
    assert_eq!((mode("data"), mode("data/salespulse.db")), (Some(0o700), Some(0o600)));
}

#[test]
fn a_demo_fills_no_database_that_is_not_its_own() {
    let program = Program::new();
    program.write(".env", "DATABASE_URL=sqlite://data/sales.db\n");
    let refused = program.fail(2, &["demo"], &[]);
    assert!(refused.contains("DATABASE_URL is set") && refused.contains("--use-database-url"), "{refused}");
    assert!(!program.path().join("data").exists());
}

/// A name is any 43 letters, digits, hyphens and underscores.
#[test]
fn keys_are_named_whatever_they_begin_with_and_none_is_lost() {
    let program = Program::new();
    std::thread::scope(|scope| {
        let new = || program.succeed(&["keys", "new"]);
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(new)).collect();
        let made: std::collections::BTreeSet<String> =
            threads.into_iter().map(|thread| thread.join().expect("made")).collect();
        let listed = program.succeed(&["keys", "list"]);
        assert_eq!(listed.lines().map(|line| format!("{line}\n")).collect::<std::collections::BTreeSet<_>>(), made);
    });
    for command in ["use", "remove"] {
        let unknown = program.fail(2, &["keys", command, "-Ti8U"], &[]);
        assert!(!unknown.contains("unexpected argument"), "{unknown}");
    }
}

#[test]
fn what_is_missing_is_told_with_its_alternative() {
    let program = Program::new();
    for (arguments, needed) in [
        (&["sealing", "rotate"][..], "<--tenant <TENANT>|--all>"),
        (&["retention", "--keep-months", "3"], "<--tenant <TENANT>|--all>"),
        (&["token", "--tenant", "acme"], "<--role <ROLE>|--user <EMAIL>>"),
        (&["sealing", "rotate", "--all", "--tenant", "acme"], "cannot be used with"),
    ] {
        let output = program.run(arguments, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(needed), "{told}");
    }
}

#[tokio::test]
async fn a_database_that_an_earlier_state_has_filled_is_refused() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    let url = format!("sqlite://{}", program.path().join("data/salespulse.db").display());
    let execute = async |sql: &str| {
        let owner = Owner::connect(&url).await.expect("connected");
        owner.connection().execute_unprepared(sql).await.expect("executed");
        owner.close().await.expect("closed");
    };
    let row = "INSERT INTO sales_metrics VALUES (x'01', 3, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, NULL, NULL, NULL)";
    // Nor does one go back to such a state that could not come forward again.
    execute(row).await;
    let why = program.fail(1, &["migrate", "--down", "10"], &[]);
    assert!(why.contains("this migration cannot be reverted in a database with sales"), "{why}");
    assert!(!program.succeed(&["migrate", "--status"]).contains("pending"));
    execute("DELETE FROM sales_metrics").await;
    program.succeed(&["migrate", "--down", "10"]);
    execute(row).await;
    let why = program.fail(1, &["migrate"], &[]);
    assert!(why.contains("salespulse: this database was filled by a state of SalesPulse before its release"), "{why}");
    program.fail(4, &["verify"], &[]);
}

#[test]
fn a_taken_port_ends_with_5_and_a_signal_with_0() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let settings = [("SALESPULSE_LISTEN", address.as_str())];
    assert!(program.fail(5, &["serve"], &settings).contains(&format!("the address {address} is taken")));
    drop(taken);
    let nobody = program.fail(1, &["health"], &settings);
    assert!(nobody.contains(&format!("nobody answers at {address}")), "{nobody}");
    let mut server = program.command(&["serve"], &settings).stderr(Stdio::null()).spawn().expect("started");
    wait_until(|| std::net::TcpStream::connect(&address).is_ok());
    assert_eq!(program.run(&["health"], &settings).status.code(), Some(0));
    signal("TERM", server.id());
    assert_eq!(server.wait().expect("ended").code(), Some(0));
}

/// SQLite ends a transaction by itself when a file cannot grow.
#[tokio::test]
async fn what_is_acknowledged_while_the_disk_fails_is_there() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme"]);
    let token = program.succeed(&["token", "--tenant", "acme", "--role", "admin"]).trim().to_owned();
    let address = {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("bound").to_string()
    };
    let settings = [("SALESPULSE_LISTEN", address.as_str())];
    let serve = program.command(&["serve"], &settings);
    // A write beyond the limit is to fail, and not to end the process.
    let mut server = Command::new("bash");
    server.args(["-c", "trap '' XFSZ; exec \"$0\" serve"]).arg(serve.get_program()).current_dir(program.path());
    server.env_clear().envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut server = server.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    wait_until(|| std::net::TcpStream::connect(&address).is_ok());
    let limit = |bytes: String| {
        let (process, size) = (server.id().to_string(), format!("--fsize={bytes}:unlimited"));
        assert!(Command::new("prlimit").args(["--pid", &process, &size]).status().expect("prlimit").success());
    };
    let db = program.database().await;
    let http = reqwest::Client::new();
    let (mut acknowledged, mut failed) = (0, 0);
    for batch in 0..12 {
        if batch == 2 {
            let log = std::fs::metadata(program.path().join("data/salespulse.db-wal")).expect("a log");
            limit((log.len() + 20_000).to_string());
        }
        if batch == 10 {
            limit("unlimited".to_owned());
        }
        let sale = |n: usize| {
            json!({ "eventId": format!("{batch}-{n}"), "occurredAt": "2026-06-10T10:00:00Z",
                    "orderPlaced": { "orderId": format!("{batch}-{n}"), "amount": "1.00" } })
        };
        let events = json!({ "events": (0..300).map(sale).collect::<Vec<_>>() }).to_string();
        let sent = http.post(format!("http://{address}/v1/events")).bearer_auth(&token);
        let answer = sent.header("content-type", "application/json").body(events).send().await.expect("an answer");
        if answer.status().is_success() {
            acknowledged += 300;
        } else {
            assert_eq!(answer.status(), 503);
            assert!(answer.text().await.expect("a body").contains("the disk of the database is full or read-only"));
            failed += 1;
        }
        let position = db.query_all_tenants("SELECT position FROM ledger_heads", []).await.expect("read");
        assert_eq!(get::<i64>(&position[0], 0).expect("a position"), acknowledged, "batch {batch}");
    }
    assert!(failed >= 2 && acknowledged >= 1_200, "{failed} {acknowledged}");
    signal("TERM", server.id());
    assert_eq!(server.wait().expect("ended").code(), Some(0));
    assert!(program.succeed(&["verify", "--tenant", "acme"]).contains("0 differ"));
}

#[test]
fn tokens_are_printed_alone() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme", "--timezone", "Europe/London", "--currency", "GBP"]);
    assert!(program.succeed(&["tenant", "list"]).starts_with("acme "));
    let token = program.succeed(&["token", "--tenant", "acme", "--role", "viewer"]);
    assert_eq!((token.lines().count(), token.split('.').count()), (1, 3));
    assert!(program.fail(2, &["token", "--tenant", "other", "--role", "viewer"], &[]).contains("no tenant other"));
    let created = json!({ "by": "operator", "slug": "acme", "name": "acme" });
    assert_eq!(logged(&program, "tenant.create"), [created]);
    assert_eq!(logged(&program, "token.create"), [json!({ "by": "operator", "hours": 1 })]);
    // A user is found however the address is written.
    let create =
        ["user", "create", "--tenant", "acme", "--email", "Ann@Acme.example", "--name", "Ann", "--role", "analyst"];
    let mut created = program.command(&create, &[]).stdin(Stdio::piped()).spawn().expect("it runs");
    let mut input = created.stdin.take().expect("an input");
    input.write_all(b"correct horse battery staple\n").expect("written");
    drop(input);
    assert!(created.wait().expect("it ends").success());
    assert_eq!(logged(&program, "user.create"), [json!({ "by": "operator", "role": "analyst" })]);
    program.succeed(&["token", "--tenant", "acme", "--user", "ANN@Acme.example"]);
    assert!(program.fail(2, &["token", "--tenant", "acme", "--user", "nobody"], &[]).contains("no active user nobody"));
    assert!(program.succeed(&["schema"]).contains("type Query"));
    assert!(program.fail(1, &["tenant", "create", "acme"], &[]).contains("already"));
    let (long, id) = ("a".repeat(61), "01a22652-15a7-750f-8097-b8e79f5e57eb");
    for (slug, name, why) in [
        (long.as_str(), "x", "the slug must have 1 to 60"),
        (id, "x", "the slug must not be an id"),
        ("new", "", "the name must have 1 to 200"),
        ("new", "a\nb", "the name must have 1 to 200"),
    ] {
        let told = program.fail(2, &["tenant", "create", slug, "--name", name], &[]);
        assert!(told.contains(why), "{told}");
    }
    assert!(program.succeed(&["retention", "--all", "--keep-months", "12", "--dry-run"]).contains("0 entries"));
}

/// In the database of the suite.
#[tokio::test]
async fn an_import_that_is_interrupted_goes_on_without_counting_twice() {
    const ROWS: usize = 60_000;
    let program = Program::new();
    let test = TestApp::start().await;
    let acme = test.tenant("acme").await;
    program.write("shop.toml", MAPPING);
    let mut file = std::fs::File::create(program.path().join("orders.csv")).expect("made");
    let rows: String = (0..ROWS).map(|i| format!("2026-01-{:02} 10:00,1.25\n", 1 + i % 28)).collect();
    file.write_all(format!("time,amount\n{rows}").as_bytes()).expect("written");
    let settings = [("DATABASE_URL", test.server_url())];
    let arguments = ["import", "--tenant", "acme", "shop.toml"];
    let position = async || {
        let tx = test.app.db.read(acme.id()).await.expect("a snapshot");
        read_head(&tx).await.expect("a head").position
    };

    let mut first = program.command(&arguments, &settings);
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let begun = Instant::now();
    while position().await == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing was recorded within a minute");
    }
    signal("INT", first.id());
    let first = first.wait_with_output().expect("ended");
    assert_eq!(first.status.code(), Some(130), "{first:?}");
    let first = counts(&String::from_utf8_lossy(&first.stdout));
    assert!(first[0] == first[1] && first[1] > 0 && first[1] < ROWS, "{first:?}");

    let second = program.run(&arguments, &settings);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    // read, accepted, repeated, repeated in this run, superseded, refused, skipped
    let second = counts(&String::from_utf8_lossy(&second.stdout));
    assert_eq!(second, [ROWS, ROWS - first[1], first[1], 0, 0, 0, 0]);
    assert_eq!(position().await, i64::try_from(ROWS).expect("fits"));
    acme.verified().await;
    let tx = test.app.db.read(acme.id()).await.expect("a snapshot");
    let sql = "SELECT after FROM audit_logs WHERE tenant_id = $1 AND action = 'import' ORDER BY id";
    let logged = tx.query(sql, []).await.expect("read");
    let accepted = logged.iter().map(|row| get::<Value>(row, 0).expect("JSON")["rowsAccepted"].take());
    assert_eq!(accepted.collect::<Vec<_>>(), [json!(first[1]), json!(ROWS - first[1])]);
}

#[test]
fn an_import_that_does_not_fit_changes_nothing() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.write("shop.toml", MAPPING);
    let import = ["import", "--tenant", "acme", "shop.toml", "--create-tenant"];
    let why = program.fail(1, &import, &[]);
    assert!(why.contains("orders.csv: cannot be read"), "{why}");
    program.write("orders.csv", "time,price\n2026-01-01,1\n");
    assert!(program.fail(1, &import, &[]).contains("there is no column amount"));
    assert_eq!(program.succeed(&["tenant", "list"]), "");

    program.write("orders.csv", "time,amount\n2026-01-01,1\n");
    let euros = [&import[..], &["--currency", "EUR", "--timezone", "Europe/Berlin"]].concat();
    assert_eq!(counts(&program.succeed(&euros))[1], 1);
    assert_eq!(counts(&program.succeed(&euros))[2], 1);
    let why = program.fail(2, &[&import[..], &["--currency", "USD"]].concat(), &[]);
    assert!(why.contains("there is a tenant acme already, with EUR and not USD (leave out --currency)"), "{why}");
    let why = program.fail(2, &[&import[..], &["--timezone", "Europe/London"]].concat(), &[]);
    assert!(why.contains("with Europe/Berlin and not Europe/London"), "{why}");
    let output = program.run(&["import", "--tenant", "acme", "shop.toml", "--currency", "EUR"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--create-tenant"));
}

#[test]
fn a_dry_run_needs_nothing_and_leaves_nothing() {
    let program = Program::new();
    program.write("shop.toml", &format!("{MAPPING}currency_sign = \"€\"\n"));
    program.write("orders.csv", "time,amount\n2026-01-01T23:30:00Z,\"€1,234.50\"\n2026-06-01,2\n");
    let printed =
        program.succeed(&["import", "--dry-run", "--timezone", "Europe/Berlin", "--currency", "EUR", "shop.toml"]);
    assert_eq!(counts(&printed)[..2], [2, 2]);
    let contents = "dry-run: orders 2, customers 0, units 0, gross revenue 1236.50 EUR, refunds 0.00 EUR, visits 0; \
                    from 2026-01-02 00:30:00 CET to 2026-06-01 02:00:00 CEST";
    let lines: Vec<_> = printed.lines().skip(1).collect();
    assert_eq!(lines, [contents, "dry run: nothing was recorded"]);
    let files = std::fs::read_dir(program.path()).expect("a folder").count();
    assert_eq!(files, 2, "beside the mapping and the file there is something else");

    program.write("orders.csv", "time,amount\n2026-06-01,(2)\n");
    let output = program.run(&["import", "--dry-run", "shop.toml"], &[]);
    assert_eq!(output.status.code(), Some(6));
    let refused = std::fs::read_to_string(program.path().join("orders.csv.rejected.csv")).expect("refused rows");
    assert!(refused.contains("is negative"), "{refused}");
}

#[tokio::test]
async fn a_dry_run_knows_the_organizations_and_rates_of_its_tenant() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme", "--currency", "GBP", "--timezone", "Europe/London"]);
    let default_id = {
        let db = program.database().await;
        let tenant = salespulse::tenancy::find_tenant(&db, "acme").await.expect("a query").expect("a tenant");
        let tx = db.write(tenant).await.expect("a transaction");
        for sql in [
            "INSERT INTO organizations (tenant_id, id, org_no, slug, name, timezone, currency, is_default, created_at) \
             VALUES ($1, x'00112233445566778899aabbccddeeff', 2, 'berlin', 'Berlin', 'Europe/Berlin', 'EUR', false, 0)",
            "INSERT INTO exchange_rates (tenant_id, from_currency, to_currency, valid_from, rate) \
             VALUES ($1, 'USD', 'GBP', 0, 50000000)",
        ] {
            tx.execute(sql, []).await.expect("inserted");
        }
        let sql = "SELECT id FROM organizations WHERE tenant_id = $1 AND is_default";
        let row = tx.query_one(sql, []).await.expect("a query").expect("an organization");
        tx.commit().await.expect("committed");
        get::<uuid::Uuid>(&row, 0).expect("an id")
    };
    let mapping = format!("{MAPPING}organization = \"{{shop}}\"\ncurrency = \"{{currency}}\"\n");
    program.write("shop.toml", &mapping);
    let rows = format!("2026-06-01,3,acme,USD\n2026-06-01,4,berlin,EUR\n2026-06-01,5,{default_id},GBP\n");
    program.write("orders.csv", &format!("time,amount,shop,currency\n{rows}"));
    let printed = program.succeed(&["import", "--dry-run", "--tenant", "acme", "shop.toml"]);
    assert!(printed.contains("\nacme: orders 2, customers 0, units 0, gross revenue 6.50 GBP,"), "{printed}");
    assert!(printed.contains("\nberlin: orders 1, customers 0, units 0, gross revenue 4.00 EUR,"), "{printed}");
    // It was not recorded: then it would be repeated.
    assert_eq!(counts(&program.succeed(&["import", "--tenant", "acme", "shop.toml"]))[..3], [3, 3, 0]);
    program.fail(2, &["import", "--dry-run", "--tenant", "nobody", "shop.toml"], &[]);
    let dollars = ["import", "--dry-run", "--tenant", "acme", "--currency", "USD", "shop.toml"];
    assert!(program.fail(2, &dollars, &[]).contains("with GBP and not USD"));
    let odd = program.path().join("100%");
    std::fs::create_dir(&odd).expect("a folder");
    let settings = [("TMPDIR", odd.to_str().expect("text"))];
    assert!(program.fail(1, &["import", "--dry-run", "shop.toml"], &settings).contains("see TMPDIR"));
    assert_eq!(std::fs::read_dir(odd).expect("a folder").count(), 0);
}

#[test]
fn an_import_that_waits_for_input_is_stopped() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme"]);
    program.write("shop.toml", &MAPPING.replace("orders.csv", "-"));
    let arguments = ["import", "--tenant", "acme", "shop.toml"];
    for input in ["", "time,amount\n2026-01-01,1\n"] {
        let mut command = program.command(&arguments, &[]);
        let mut import =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut stdin = import.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("written");
        // It tells how far it is when it has waited for a while.
        let mut told = BufReader::new(import.stderr.take().expect("a pipe"));
        let mut line = String::new();
        told.read_line(&mut line).expect("text");
        assert_eq!(line, "salespulse: 0 rows, 0 a second\n");
        signal("INT", import.id());
        let output = import.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(counts(&String::from_utf8_lossy(&output.stdout))[0], 0);
        drop(stdin);
    }
    let mut import = program.command(&arguments, &[]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    import.stdin.take().expect("a pipe").write_all(b"time,amount\n2026-01-01,1\n2026-01-01,x\n").expect("written");
    let output = import.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(program.path().join("stdin.rejected.csv").exists());
}

#[tokio::test]
async fn an_import_waits_for_others_who_write() {
    let program = Program::new();
    program.succeed(&["migrate"]);
    program.succeed(&["tenant", "create", "acme"]);
    program.write("shop.toml", MAPPING);
    program.write("orders.csv", "time,amount\n2026-01-01,1\n");
    let other = program.database().await;
    let writing = other.write(TenantId(uuid::Uuid::nil())).await.expect("a transaction");
    let settings = [("SALESPULSE_LOG_LEVEL", "info")];
    let mut command = program.command(&["import", "--tenant", "acme", "shop.toml"], &settings);
    let mut import = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // SQLite waits by itself for some seconds; then the import tries again.
    let mut told = BufReader::new(import.stderr.take().expect("a pipe")).lines();
    assert!(told.any(|line| line.expect("text").contains("the database is away, trying again")), "it did not wait");
    drop(writing);
    let output = import.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(counts(&String::from_utf8_lossy(&output.stdout))[1], 1);
}

/// What the audit log has of an action.
#[tokio::main(flavor = "current_thread")]
async fn logged(program: &Program, action: &str) -> Vec<Value> {
    let db = program.database().await;
    let sql = "SELECT after FROM audit_logs WHERE action = $1 ORDER BY id";
    let rows = db.query_all_tenants(sql, [action.into()]).await.expect("read");
    rows.iter().map(|row| get(row, 0).expect("JSON")).collect()
}

/// The counts of rows that an import prints.
fn counts(printed: &str) -> Vec<usize> {
    let rows = printed.split("rows: ").nth(1).and_then(|rest| rest.split(';').next()).expect("counts");
    rows.split(' ').filter_map(|word| word.parse().ok()).collect()
}

pub fn wait_until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it did not happen within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn signal(name: &str, process: u32) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().expect("kill runs");
    assert!(status.success());
}
