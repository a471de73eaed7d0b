//! Whatever guard between tenants is taken away, `salespulse verify isolation` misses it. Release builds have no such switch.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use salespulse::app::App;
use salespulse::db::Db;
use salespulse::error::Result;
use salespulse::guard::Guard;
use salespulse::isolation::client::Transport;
use salespulse::isolation::{Extent, Report, verify};
use salespulse::server::Options;
use sha2::{Digest, Sha256};

use crate::support::{TestApp, is_on_postgres, kek, test_redis_url};

/// Where a statement says whose rows it means: what stands there, and what it becomes without.
const GUARDS: [(&str, &str); 3] = [
    ("tenant_id = $1", "$1 IS NOT NULL"),
    ("tenant_id\" = $1", "tenant_id\" IS NOT NULL OR $1 IS NULL"),
    ("tenant_id\" = ?", "tenant_id\" IS NOT ?"),
];

/// A statement, and the same without one of its guards.
type Mutant = (String, String);

/// All ways to take one guard from a statement.
fn mutants(sql: &str) -> Vec<Mutant> {
    let mut all = Vec::new();
    for (guard, without) in GUARDS {
        for (at, _) in sql.match_indices(guard) {
            // The alias of the table goes with the column.
            let start =
                sql[..at].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).map_or(0, |i| i + 1);
            let start = if guard.contains('"') { at } else { start };
            all.push((sql.to_owned(), format!("{}{without}{}", &sql[..start], &sql[at + guard.len()..])));
        }
    }
    all
}

/// The command by POST alone, until something is found, in processes that send `mutate` of each statement, whether or not it is
/// narrowed to a tenant.
async fn verify_mutated(
    test: &TestApp,
    mutate: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) -> Result<Report> {
    verify_prepared(test, |db| {
        db.mutate(mutate);
        db.give_up_scoping();
    })
    .await
}

async fn verify_prepared(test: &TestApp, prepare: impl FnOnce(&mut Db)) -> Result<Report> {
    let App { mut db, clock, tokens, .. } = test.app.clone();
    prepare(&mut db);
    let process = async || {
        let stream = salespulse::stream::connect(test_redis_url().as_deref()).await.expect("a stream");
        App::new(db.clone(), clock.clone(), stream, tokens.clone(), kek())
    };
    let extent = Extent { transports: &[Transport::Post], ends_when_found: true };
    verify(&process().await, &process().await, &Options::default(), &extent).await
}

/// What the command finds when a mutant stands for its statement. One that it cannot be carried out with is noticed, too: the
/// tenants then disturb each other.
enum Found {
    Something,
    Nothing(String),
    /// The command could not be carried out.
    Failed(String),
}

/// Tries a mutant, on a thread of its own.
async fn tried(mutant: Mutant) -> Found {
    let without = mutant.1.clone();
    let verified = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let test = TestApp::start().await;
            verify_mutated(&test, move |sql| (sql == mutant.0).then(|| mutant.1.clone())).await
        })
    });
    match verified.await.expect("no panic") {
        Ok(report) if report.findings.is_empty() => Found::Nothing(without),
        Ok(_) => Found::Something,
        Err(error) => Found::Failed(format!("{error:?}: {without}")),
    }
}

/// What shows nothing without its guard: there are no rows; the row was looked up before, or is found again by a random id;
/// both tenants are at the same fit, position or oldest key; rows of products are only asked
/// for by the numbers of the tenant's own; a count is only held against the most there may be; what another
/// tenant has sealed cannot be opened; all organizations have the same currency and rates; a position is found, and of the tenant
/// that was there first; the command itself ends with it.
const SAME_WITHOUT: [&str; 27] = [
    "(SELECT g.currency FROM organizations g WHERE $1 IS NOT NULL AND g.org_no = o.org_no)",
    "SELECT currency FROM organizations WHERE $1 IS NOT NULL AND is_default",
    "(SELECT r.rate FROM exchange_rates r WHERE $1 IS NOT NULL",
    "SELECT id FROM integrations WHERE $1 IS NOT NULL",
    "SELECT COUNT(*) FROM integrations WHERE $1 IS NOT NULL",
    "SELECT COUNT(*) FROM alerts WHERE $1 IS NOT NULL",
    "SELECT count(*) FROM api_keys WHERE $1 IS NOT NULL",
    "SELECT COUNT(*) AS num_items FROM (SELECT \"teams\"",
    "received_at, body FROM quarantine WHERE $1 IS NOT NULL AND id > $2",
    "CROSS JOIN sales_performance p ON $1 IS NOT NULL",
    "SELECT id, role, tokens_from FROM users WHERE $1 IS NOT NULL",
    "DELETE FROM user_identities WHERE $1 IS NOT NULL",
    "(SELECT m.fit_no FROM customer_models m WHERE $1 IS NOT NULL)",
    "SELECT 1 FROM customer_models WHERE $1 IS NOT NULL AND fit_no",
    "SELECT MIN(fit_no) FROM customer_predictions WHERE $1 IS NOT NULL",
    "UPDATE customer_models",
    "SELECT min(alert_no) FROM alert_events WHERE $1 IS NOT NULL",
    "SELECT oldest_key FROM ledger_heads WHERE $1 IS NOT NULL",
    "AND c.email_index = $2",
    "other_revenue",
    "SELECT position FROM ledger_events WHERE $1 IS NOT NULL",
    "SELECT position FROM orders WHERE $1 IS NOT NULL",
    "UPDATE api_keys SET revoked_at = $2 WHERE $1 IS NOT NULL AND name = 'tried'",
    "UPDATE users SET is_active = false, password_hash = NULL WHERE $1 IS NOT NULL",
    "UPDATE deliveries SET state = 'DEAD', next_at = NULL WHERE $1 IS NOT NULL",
    "SELECT u.id, u.invited_at IS NULL AND (u.is_active",
    "AND m.level = 8 ORDER BY m.org_no, m.slot",
];

/// What holds a random id or a hash, which no other tenant has.
const RANDOM: [&str; 9] =
    ["id", "team_id", "user_id", "owner_id", "actor_id", "through_id", "alert_id", "integration_id", "hash"];

/// Whether a mutant shows nothing: the missing guard is followed by the condition for a random id, or it is among
/// [`SAME_WITHOUT`].
fn is_same_without(mutant: &str) -> bool {
    let after = mutant.split_once("$1 IS NOT NULL AND ").or_else(|| mutant.split_once("tenant_id\" IS NOT ? AND "));
    let column = after.and_then(|(_, condition)| condition.split_once(" = ")).map(|(column, _)| column);
    let column = column.and_then(|column| column.rsplit('.').next()).map(|column| column.trim_matches('"'));
    column.is_some_and(|column| RANDOM.contains(&column)) || SAME_WITHOUT.iter().any(|without| mutant.contains(without))
}

/// All mutants take an hour: SALESPULSE_TEST_MUTANTS=all tries them, names of [`Guard`]s those, and other texts, separated by
/// `|`, the statements that contain one of them.
fn tried_too() -> Option<String> {
    std::env::var("SALESPULSE_TEST_MUTANTS").ok()
}

/// Whether a mutant is tried in each run: one of a hundred, which stay the same when statements come and go.
fn is_tried_always(mutant: &Mutant) -> bool {
    Sha256::digest(&mutant.1)[0] < 2
}

/// All statements that the command sends for tenants, without one of their guards each.
async fn list_mutants(test: &TestApp) -> Vec<Mutant> {
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let statements = Arc::clone(&seen);
    let report = verify_mutated(test, move |sql| {
        statements.lock().expect("no panic").insert(sql.to_owned());
        None
    });
    report.await.expect("it runs");
    let all: Vec<Mutant> = seen.lock().expect("no panic").iter().flat_map(|sql| mutants(sql)).collect();
    assert!(all.len() > 100, "{}", all.len());
    all
}

/// A statement without its guard is not sent at all, and the command fails.
#[tokio::test]
async fn no_statement_is_sent_without_its_guard() {
    let test = TestApp::start().await;
    let all = list_mutants(&test).await;
    let sent: Vec<&String> =
        all.iter().map(|(_, without)| without).filter(|sql| test.app.db.is_narrowed(sql)).collect();
    assert!(sent.is_empty(), "{} of {}: {sent:#?}", sent.len(), all.len());
    let (sql, without) = all.into_iter().find(|(sql, _)| sql.contains("FROM sales_metrics")).expect("rollups are read");
    let mutate = move |sent: &str| (sent == sql).then(|| without.clone());
    let verified = verify_prepared(&test, |db| db.mutate(mutate)).await;
    assert!(verified.map_or(true, |report| !report.findings.is_empty()));
}

/// Neither are answers the same if it is sent. On SQLite, where no database stands in the way.
#[tokio::test]
async fn a_guard_that_is_gone_is_missed() {
    if is_on_postgres() {
        return;
    }
    let test = TestApp::start().await;
    let all = list_mutants(&test).await;
    let is_asked_for = |mutant: &Mutant| match tried_too() {
        Some(which) => which == "all" || which.split('|').any(|part| mutant.1.contains(part)),
        None => is_tried_always(mutant),
    };
    let mutants: Vec<Mutant> = all.iter().filter(|mutant| is_asked_for(mutant)).cloned().collect();
    let is_of_guards =
        tried_too().is_some_and(|text| Guard::ALL.iter().any(|guard| text.contains(&format!("{guard:?}"))));
    assert!(is_of_guards || !mutants.is_empty(), "none of {}", all.len());
    let (number, mut failed, mut same, mut survivors) = (mutants.len(), 0, 0, Vec::new());
    let mut found = stream::iter(mutants).map(tried).buffer_unordered(2);
    while let Some(found) = found.next().await {
        match found {
            Found::Something => {}
            Found::Nothing(mutant) if is_same_without(&mutant) => same += 1,
            Found::Nothing(mutant) => survivors.push(mutant),
            Found::Failed(why) => {
                failed += 1;
                println!("{why:.600}");
            }
        }
    }
    println!("{number} tried, of which {failed} kept the command from being carried out; {same} show nothing");
    assert!(failed < number || number == 0, "nothing was tried");
    assert!(survivors.is_empty(), "{} of {number} are not missed: {survivors:#?}", survivors.len());
}

/// Guards that are no part of a statement. Not among them is what shows nothing without its tenant: fitted models, which are kept by
/// all numbers that they are made from; budgets, which the command has none of; secrets, of which each has 256 bits that are its
/// own. Sealed values and batches in Redis name their tenant beside the key or stream that is the tenant's: other tests show that
/// such a one is refused elsewhere (`sealed`, `streams`). Two are tried in each run.
///
/// On SQLite, as above, unless they are asked for: what they guard is the same.
#[tokio::test]
async fn a_guard_outside_of_statements_that_is_gone_is_missed() {
    if tried_too().is_none() && is_on_postgres() {
        return;
    }
    let tried = tried_too().unwrap_or_else(|| "ResponseCache, Cohorts".to_owned());
    let is_tried = |guard: &Guard| {
        (tried == "all" || tried.contains(&format!("{guard:?}")))
            && (*guard != Guard::Streams || test_redis_url().is_some())
    };
    let mut survivors = Vec::new();
    for guard in Guard::ALL.into_iter().filter(is_tried) {
        let test = TestApp::start().await;
        guard.take_away();
        let began = Instant::now();
        let report = verify_mutated(&test, |_| None).await;
        let found = report.map_or_else(|error| vec![format!("{error:?}")], |report| report.findings);
        println!(
            "{guard:?}: {:?}, {} findings, the first: {:.300}",
            began.elapsed(),
            found.len(),
            found.first().map_or("", String::as_str)
        );
        if found.is_empty() {
            survivors.push(guard);
        }
    }
    assert!(survivors.is_empty(), "not missed: {survivors:?}");
}
