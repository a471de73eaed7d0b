//! `salespulse verify isolation`: it finds nothing, and whatever guard is taken away is missed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use salespulse::app::App;
use salespulse::clock::{SECOND, Timestamp};
use salespulse::isolation::client::Transport;
use salespulse::isolation::verify;
use salespulse::server::Options;
use sha2::{Digest, Sha256};

use crate::support::{NOW, TestApp, kek};

/// Tables in which the tenants made for it have nothing: it is of tenants with several currencies, of whom many questions
/// cannot be asked.
const EMPTY: [&str; 1] = ["other_revenue"];

#[tokio::test]
async fn nothing_of_a_tenant_shows_in_another() {
    let test = TestApp::start().await;
    let report = verify(&test.app, &Options::default(), &Transport::QUERIES).await.expect("it runs");
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.questions > 200 && report.compared > 5 * report.questions, "{report}");
    assert_eq!(report.empty, EMPTY, "{report}");
    // It may be run again, with the tenants that are there.
    test.clock.set(Timestamp(NOW.0 + SECOND));
    let again = verify(&test.app, &Options::default(), &Transport::QUERIES).await.expect("it runs again");
    assert!(again.findings.is_empty(), "{again}");
}

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

/// Whether the command misses nothing when `mutant` stands for its statement.
async fn survives(mutant: &Mutant) -> bool {
    let test = TestApp::start().await;
    let mut app: App = test.app.clone();
    let mutant = mutant.clone();
    app.db.mutate(move |sql| (sql == mutant.0).then(|| mutant.1.clone()));
    let app = App::new(app.db, app.clock, app.stream, app.tokens, kek());
    verify(&app, &Options::default(), &[Transport::Post]).await.is_ok_and(|report| report.findings.is_empty())
}

/// What shows nothing without its guard: there are no rows; the row is pinned by a random id, or was looked up before, or is
/// found again by one; both tenants are at the same fit; a count is only held against the most there may be.
const SAME_WITHOUT: [&str; 9] = [
    "SELECT COUNT(*) FROM integrations WHERE $1 IS NOT NULL",
    "SELECT topic, code, received_at, tried_at FROM quarantine WHERE $1 IS NOT NULL AND id = $2",
    "CROSS JOIN sales_performance p ON $1 IS NOT NULL",
    "DELETE FROM alerts WHERE $1 IS NOT NULL AND id = $2",
    "SELECT user_id FROM team_members WHERE $1 IS NOT NULL AND team_id = $2",
    "SELECT id, role, tokens_from FROM users WHERE $1 IS NOT NULL",
    "(SELECT m.fit_no FROM customer_models m WHERE $1 IS NOT NULL)",
    "UPDATE customer_models SET claimed_until = $3 WHERE $1 IS NOT NULL",
    "SELECT COUNT(*) AS num_items FROM (SELECT \"teams\"",
];

/// Whether a mutant is tried in each run: two of a hundred, which stay the same when statements come and go.
fn is_tried_always(mutant: &Mutant) -> bool {
    Sha256::digest(&mutant.1)[0] < 5
}

/// On SQLite, where there is no second wall that would hold; release builds send what is written.
#[cfg(debug_assertions)]
#[tokio::test]
async fn a_guard_that_is_gone_is_missed() {
    if std::env::var("TEST_DATABASE_URL").is_ok_and(|url| !url.is_empty()) {
        return;
    }
    let test = TestApp::start().await;
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let mut app = test.app.clone();
    let statements = Arc::clone(&seen);
    app.db.mutate(move |sql| {
        statements.lock().expect("no panic").insert(sql.to_owned());
        None
    });
    let app = App::new(app.db, app.clock, app.stream, app.tokens, kek());
    verify(&app, &Options::default(), &[Transport::Post]).await.expect("it runs");
    let all: Vec<Mutant> = seen.lock().expect("no panic").iter().flat_map(|sql| mutants(sql)).collect();
    assert!(all.len() > 100, "{}", all.len());
    // All of them take an hour: SALESPULSE_TEST_MUTANTS=all tries them.
    let tries_all = std::env::var("SALESPULSE_TEST_MUTANTS").is_ok_and(|which| which == "all");
    let tried: Vec<&Mutant> = all.iter().filter(|mutant| tries_all || is_tried_always(mutant)).collect();
    assert!(!tried.is_empty(), "none of {}", all.len());
    let mut survivors = Vec::new();
    for mutant in tried {
        if survives(mutant).await && !SAME_WITHOUT.iter().any(|without| mutant.1.contains(without)) {
            survivors.push(&mutant.1);
        }
    }
    assert!(survivors.is_empty(), "{} of {} are not missed: {survivors:#?}", survivors.len(), all.len());
}
