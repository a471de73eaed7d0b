//! What row-level security costs: the same queries with it and without, in turns.

use std::time::Duration;

use salespulse::db::Owner;
use sea_orm::ConnectionTrait;

use crate::http::Load;
use crate::queries::{Bench, DAYS, Served, TOTALS, unaided};
use crate::report::Report;

const ROUNDS: usize = 6;
const LENGTH: Duration = Duration::from_secs(2);

/// Switches row-level security of all tables on or off.
pub async fn set(owner: &Owner, is_up: bool) {
    let verb = if is_up { "ENABLE" } else { "DISABLE" };
    let sql = format!(
        "DO $$ DECLARE name text; BEGIN
           FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relforcerowsecurity LOOP
             EXECUTE format('ALTER TABLE %I {verb} ROW LEVEL SECURITY', name);
           END LOOP;
         END $$"
    );
    owner.connection().execute_unprepared(&sql).await.expect("switched");
}

/// The medians of several rounds, of queries that the database adds up.
pub async fn report(bench: &Bench<'_>, owner: &Owner) {
    let served = Served::of(&unaided(bench.app), bench.tenant).await;
    let columns = ["what", "p50 with", "without", "ratio", "p95 with", "without", "ratio"];
    let mut report = Report::begin(&format!("PostgreSQL: row-level security, {ROUNDS} rounds in turns, ms"), &columns);
    for (name, query) in [("90 days by channel", DAYS), ("90 days", TOTALS)] {
        for clients in [1, 32] {
            let [mut with, mut without] = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (is_up, loads) in [(true, &mut with), (false, &mut without)] {
                    set(owner, is_up).await;
                    loads.push(served.fresh(query, clients, LENGTH).await);
                }
            }
            set(owner, true).await;
            let mut row = vec![format!("{name}, {clients} clients")];
            for get in [|load: &Load| load.p50, |load: &Load| load.p95] {
                let [with, without] = [&with, &without].map(|loads| median(loads.iter().map(get)));
                row.extend([with * 1e3, without * 1e3, with / without].map(|number| format!("{number:.2}")));
            }
            report.row(&row);
        }
    }
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
