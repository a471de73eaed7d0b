//! Verification of tenant isolation: two tenants created for it are asked everything that can be asked, over every
//! transport, before and after the other one has data; what one answers must not depend on the other.
//!
//! That a response does not change is a stronger test than that it contains nothing of the other tenant: it also
//! detects a leaked sum, count or name. The questions are generated from the schema ([`questions`]). A second
//! application instance is asked the same in another order: what one has wrongly cached, the other has not.

mod answers;
mod ask;
mod batches;
mod canary;
mod changes;
pub mod client;
mod elsewhere;
mod live;
mod questions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::future::try_join_all;
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::answers::{Answers, code, difference, first_of_each, list_ids};
use self::ask::Which;
use self::canary::Canary;
use self::changes::CHANGES;
use self::client::{Client, Transport};
use self::questions::{Examples, Question, Schema};
use crate::app::App;
use crate::clock::{MINUTE, Timestamp};
use crate::contract;
use crate::db::{TenantId, wall};
use crate::error::{Error, Result};
use crate::ledger::verify::verify as verify_rollups;
use crate::server::{Options, router};

/// What was done, and the findings.
#[derive(Default)]
pub struct Report {
    /// Questions generated from the schema.
    pub questions: usize,
    /// Responses that were compared.
    pub compared: usize,
    /// Questions that were answered with an error, so less was compared; each with its code.
    pub refused: Vec<String>,
    /// Mutations attempted on the other tenant's objects.
    pub changes: usize,
    /// Batches that were compared with their ledger.
    pub batches: usize,
    /// The same for batches from another process; `None` where streams are confined to each process.
    pub shared_batches: Option<usize>,
    /// Tables in which the tenants have no rows, so that they are untested.
    pub empty: Vec<String>,
    /// Leaks between the tenants.
    pub findings: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "NOT ISOLATED: {finding}")?;
        }
        writeln!(f, "{} questions, {} answers compared", self.questions, self.compared)?;
        writeln!(f, "{} questions are refused: {}", self.refused.len(), self.refused.join(", "))?;
        writeln!(f, "{} changes tried on another tenant", self.changes)?;
        write!(f, "{} batches of sales compared in one process, ", self.batches)?;
        match self.shared_batches {
            Some(batches) => writeln!(f, "{batches} that came from another by Redis")?,
            None => writeln!(f, "none come from another without REDIS_URL")?,
        }
        writeln!(f, "nothing known of the tables without rows: {}", self.empty.join(", "))?;
        write!(f, "{} findings", self.findings.len())
    }
}

/// How much is tried.
pub struct Extent<'a> {
    /// What queries are asked over.
    pub transports: &'a [Transport],
    /// Whether the run ends after the part that has found something.
    pub ends_when_found: bool,
}

/// The run: its application instances and its findings so far.
struct Run<'a> {
    app: &'a App,
    client: Client,
    /// A second instance on the same database, and on the same stream where that is shared.
    beside: &'a App,
    beside_client: Client,
    extent: &'a Extent<'a>,
    questions: Vec<Question>,
    /// The types of ids that each question knows, by its name.
    types: BTreeMap<String, BTreeSet<String>>,
    /// Part of every client-chosen name in this run.
    name: String,
    /// The queried period: a `DateRange` that contains all sales.
    period: String,
    report: Report,
}

/// Serves the API on its own port while the handle is alive.
async fn serve(app: &App, options: &Options) -> Result<(Client, AbortOnDropHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::internal)?;
    let client = Client::new(listener.local_addr().map_err(Error::internal)?);
    let served = axum::serve(listener, router(app.clone(), options)).into_future();
    Ok((client, AbortOnDropHandle::new(tokio::spawn(async move { drop(served.await) }))))
}

/// Tests the two tenants on `app`, and on a second instance `beside` it on the same database. Their clock must stand
/// still, so that no response changes by itself. Both serve `options` meanwhile.
/// Error: what prevented the run from continuing.
pub async fn verify(app: &App, beside: &App, options: &Options, extent: &Extent<'_>) -> Result<Report> {
    let (client, _served) = serve(app, options).await?;
    let (beside_client, _beside_served) = serve(beside, options).await?;
    let now = app.clock.now();
    let at = |minutes: i64| Timestamp(now.0 + minutes * MINUTE).to_utc().unwrap_or_default().to_rfc3339();
    let (start, end) = (at(-5 * 24 * 60), at(0));
    let period = format!("{{start: \"{start}\", end: \"{end}\"}}");
    let examples = Examples {
        start: &start,
        end: &end,
        later: &at(1),
        named: NAMED,
        together: &[
            ("comparison", "period", ("to", "CUSTOM")),
            ("salesPerformance", "period", ("userId", questions::ID)),
        ],
        objects: &[("DateRange", &period)],
        needed: &[("AlertRuleInput", "metric", "TOTAL_REVENUE"), ("AlertRuleInput", "threshold", "\"1.00\"")],
    };
    let schema = Schema::read(&contract::running(), &examples).map_err(|error| Error::internal(error.to_string()))?;
    let questions = schema.questions().map_err(|error| Error::internal(error.to_string()))?;
    let untried = schema.field_names("Mutation").into_iter();
    let untried = untried.filter(|field| !CHANGES.iter().any(|change| change.field == *field));
    let findings = untried.map(|field| format!("not tested: the mutation {field} is not tried")).collect();
    let report = Report { questions: questions.len(), findings, ..Report::default() };
    let name = Uuid::now_v7().simple().to_string();
    let types = BTreeMap::new();
    let mut run =
        Run { app, client, beside, beside_client, extent, questions, types, name, period: period.clone(), report };
    let ended = run.go().await;
    for slug in [OWN, OTHER] {
        Canary::leave(app, slug).await?;
    }
    ended.map(|()| run.report)
}

/// The tenants' slugs.
const OWN: &str = "isolation-b";
const OTHER: &str = "isolation-a";

/// Number of concurrent requests.
const BURST: usize = 32;

/// Values of arguments and input fields by name.
const NAMED: &[(&str, &str)] = &[
    ("channels", "\"web\""),
    ("regions", "\"north\""),
    ("productCategories", "\"drinks\""),
    ("category", "\"drinks\""),
    ("sku", "\"tea\""),
    ("externalId", "\"first\""),
    ("maxAmount", "\"50.00\""),
    ("lifetimeValueMax", "\"1000000.00\""),
    ("products", "\"tea\""),
    // In recordings that begin elsewhere in the two tenants; one of them ends where another one of the other does.
    ("position", "\"20\""),
    ("eventId", "\"past-1-22\""),
    ("action", "\"dashboard.\""),
    ("subject", "\"canary\""),
    ("target", "\"https://isolation.invalid/\""),
    ("secret", "\"a secret that is long enough\""),
    ("name", "\"canary\""),
    ("grain", "HOUR"),
];

impl Run<'_> {
    async fn go(&mut self) -> Result<()> {
        let app = self.app;
        self.report.findings.extend(wall::list_holes(&app.db).await?);
        let own = Canary::ensure(app, OWN, "canary-bravo", 3).await?;
        own.fill(app, &self.client, &self.name).await?;
        let exported = self.export(&own, 0).await?;
        self.learn_types(&own).await?;
        // All transports execute what they are asked in the same way.
        let which = |transport| if transport == Transport::Post { Which::All } else { Which::Whole };
        let mut alone = BTreeMap::new();
        for &transport in self.extent.transports {
            alone.insert(transport, self.ask(which(transport), &self.client, transport, &own).await?);
        }
        self.note_refused(&alone[&Transport::Post]);

        let rows = self.list_rows(&own).await?;
        let other = Canary::ensure(app, OTHER, "canary-alpha", 7).await?;
        other.fill(app, &self.client, &self.name).await?;
        self.compare("after the other tenant was filled", &rows, &self.list_rows(&own).await?);
        // The same fits of both, as often.
        own.refit(app).await?;
        other.refit(app).await?;
        let others = self.ask(Which::All, &self.client, Transport::Post, &other).await?;
        self.look_for(&own, &others);
        // By now the other tenant's questions have populated the caches.
        for &transport in self.extent.transports {
            let answers = self.ask(which(transport), &self.client, transport, &own).await?;
            self.compare(&format!("{transport:?}"), &alone[&transport], &answers);
            self.look_for(&other, &answers);
        }
        if self.is_enough() {
            return Ok(());
        }
        let (at_once, _) = tokio::join!(self.ask_whole(&own), self.ask_whole(&other));
        self.compare("at the same time", &self.only_whole(&alone[&Transport::Post]), &at_once?);
        // One instance has cached the first tenant's responses only, so the other one must cache the second's.
        let elsewhere = self.ask(Which::All, &self.beside_client, Transport::Post, &other).await?;
        self.compare("in another process", &others, &elsewhere);
        // The first instance may still have what it answered alone in its cache; this one computes it anew.
        let anew = self.ask(Which::All, &self.beside_client, Transport::Post, &own).await?;
        self.compare("computed anew", &alone[&Transport::Post], &anew);
        if self.is_enough() {
            return Ok(());
        }

        self.export(&other, 0).await?;
        let exported_again = self.export(&own, 1).await?;
        self.compare("export", &exported, &exported_again);
        self.look_for(&other, &exported_again);
        // From here on the tenants record sales.
        self.ask_in_a_burst(&own, &other).await?;

        let mut foreign = list_ids(&others);
        let known = list_ids(&alone[&Transport::Post]);
        // Sequential ids may be equal in both tenants; those of the other are no secret then.
        foreign.retain(|(ty, id)| Uuid::parse_str(id).is_ok() && !known.contains(&(ty.clone(), id.clone())));
        let foreign = first_of_each(&foreign);
        self.ask_by_foreign_ids(&own, &other, &foreign).await?;
        if self.is_enough() {
            return Ok(());
        }
        live::run(self, &own, &other).await?;
        batches::run(self, &own, &other).await?;
        self.sign_in_elsewhere(&own, &other).await?;
        let shops =
            [&alone[&Transport::Post], &others].map(|answers| first_of_each(&list_ids(answers)).remove("Integration"));
        self.send_elsewhere(&own, &other, shops).await?;
        self.look_at_deliveries(&own, &other).await?;
        let (before, rows) = (self.ask_whole(&other).await?, self.list_rows(&other).await?);
        own.sell_much(app, &self.client, &Uuid::now_v7().simple().to_string()).await?;
        self.change_by_foreign_ids(&own, &other, &foreign).await?;
        let when = "after the other tenant's changes";
        self.compare(when, &rows, &self.list_rows(&other).await?);
        let after = self.ask_whole(&other).await?;
        self.compare(when, &before, &after);
        for tenant in [own.tenant, other.tenant] {
            let differences = verify_rollups(&app.db, tenant).await?.differences;
            self.report.findings.extend(differences.iter().map(|difference| format!("rollups: {difference}")));
        }
        self.look_at_rows(own.tenant, other.tenant).await
    }

    /// Whether the run may end here.
    fn is_enough(&self) -> bool {
        self.extent.ends_when_found && !self.report.findings.is_empty()
    }

    fn note_refused(&mut self, answers: &Answers) {
        for (question, answer) in answers.iter().filter(|(_, answer)| answer["data"].is_null()) {
            self.report.refused.push(format!("{question} ({})", code(answer).unwrap_or("?")));
        }
        self.check_asked(answers);
    }

    /// Checks that no question was rejected as invalid, which would test nothing.
    fn check_asked(&mut self, answers: &Answers) {
        let wrong = answers.iter().filter(|(_, answer)| code(answer) == Some("GRAPHQL_VALIDATION_FAILED"));
        self.report.findings.extend(wrong.map(|(asked, _)| format!("not tested: {asked} is not a valid question")));
    }

    /// The same questions must have the same responses.
    fn compare(&mut self, when: &str, expected: &Answers, found: &Answers) {
        for (question, answer) in found {
            self.report.compared += 1;
            match expected.get(question) {
                Some(expected) if expected == answer => {}
                expected => {
                    let (was, is) = difference(expected.unwrap_or(&Json::Null), answer);
                    self.report.findings.push(format!("{when}: {question} was {was} and is {is}"));
                }
            }
        }
        for question in expected.keys().filter(|question| !found.contains_key(*question)) {
            self.report.findings.push(format!("{when}: {question} is not answered any more"));
        }
    }

    /// The responses must contain none of the other tenant's texts.
    fn look_for(&mut self, other: &Canary, answers: &Answers) {
        let id = other.tenant.0.to_string();
        for (question, answer) in answers {
            let text = answer.to_string();
            if text.contains(other.word) || text.contains(&id) {
                self.report.findings.push(format!("{question} shows {}", other.word));
            }
        }
    }

    /// Concurrent requests of both tenants must see the newest sale: responses are cached until a ledger has moved, and
    /// many requests share one read of its head.
    async fn ask_in_a_burst(&mut self, own: &Canary, other: &Canary) -> Result<()> {
        let (token, other_token) = (own.token(self.app)?, other.token(self.app)?);
        let document = format!("{{ salesMetrics(period: {}) {{ ordersCount totalRevenue }} }}", self.period);
        let ask = async |token: &str, document: &str| self.client.ask(Transport::Post, token, document).await;
        let burst = || {
            let requesters = [&token, &other_token].into_iter().cycle().take(BURST);
            try_join_all(requesters.map(|token| ask(token, &document)))
        };
        // From now on responses are cached and connections are open, so that the next requests arrive together.
        burst().await?;
        own.sell(self.app, &self.client).await?;
        let answers = burst().await?;
        // Phrased differently, so that it is not cached.
        let expected = Answers::from([("in a burst".to_owned(), ask(&token, &format!("query {document}")).await?)]);
        for answer in answers.into_iter().step_by(2) {
            self.compare("beside the other tenant", &expected, &Answers::from([("in a burst".to_owned(), answer)]));
        }
        Ok(())
    }

    /// The other tenant's objects must be answered like nonexistent ones.
    async fn ask_by_foreign_ids(
        &mut self,
        own: &Canary,
        other: &Canary,
        foreign: &BTreeMap<String, String>,
    ) -> Result<()> {
        let token = own.token(self.app)?;
        let mut found = Answers::new();
        let mut expected = Answers::new();
        for (question, ty, id) in self.list_with_ids(foreign) {
            let name = format!("{} of a foreign {ty}", question.name);
            let (foreign, nothing) = self.ask_both(&token, id, |id| question.with_id(id)).await?;
            found.insert(name.clone(), foreign);
            expected.insert(name, nothing);
        }
        self.compare("by ids", &expected, &found);
        self.look_for(other, &found);
        Ok(())
    }

    /// The export of a customer of both tenants; of the audit entries only the number, except for the earlier exports.
    async fn export(&mut self, of: &Canary, earlier: usize) -> Result<Answers> {
        let document = r#"mutation { exportCustomer(customerId: "c1") }"#;
        let mut answer = self.client.ask(Transport::Post, &of.token(self.app)?, document).await?;
        if answer["data"]["exportCustomer"].is_null() {
            self.report.findings.push(format!("not tested: there is no export, but {answer}"));
        }
        let audit = &mut answer["data"]["exportCustomer"]["audit"];
        *audit = audit.as_array().map_or(0, Vec::len).saturating_sub(earlier).into();
        Ok(Answers::from([(document.to_owned(), answer)]))
    }

    /// Outgoing deliveries contain data of their own tenant only.
    async fn look_at_deliveries(&mut self, own: &Canary, other: &Canary) -> Result<()> {
        let tx = self.app.db.read(own.tenant).await?;
        let rows = tx.query("SELECT target, subject, text, body FROM deliveries WHERE tenant_id = $1", []).await?;
        let told = |row| (0..4).map(|index| crate::db::get::<String>(row, index)).collect::<Result<Vec<_>>>();
        let told = rows.iter().map(told).collect::<Result<Vec<_>>>()?;
        self.look_for(other, &Answers::from([("what is told outside".to_owned(), told.into())]));
        Ok(())
    }

    /// Mutations with the other tenant's ids are rejected like those with nonexistent ids.
    async fn change_by_foreign_ids(
        &mut self,
        own: &Canary,
        other: &Canary,
        foreign: &BTreeMap<String, String>,
    ) -> Result<()> {
        let token = own.token(self.app)?;
        let mut found = Answers::new();
        let mut expected = Answers::new();
        for change in CHANGES {
            self.report.changes += 1;
            let document = own.written(change.document, &self.name, self.app.clock.now());
            let name = format!("{} {document}", change.field);
            let Some((ty, id)) = foreign.iter().find(|(ty, _)| document.contains(&format!("{{{ty}}}"))) else {
                let answer = self.client.ask(Transport::Post, &token, &document).await?;
                found.insert(name, answer);
                continue;
            };
            let with_id = |id: &str| document.replace(&format!("{{{ty}}}"), id);
            let (foreign, nothing) = self.ask_both(&token, id, with_id).await?;
            found.insert(name.clone(), foreign);
            expected.insert(name, nothing);
        }
        self.look_for(other, &found);
        self.check_asked(&found);
        found.retain(|name, _| expected.contains_key(name));
        self.compare("changes", &expected, &found);
        Ok(())
    }

    /// All rows of a tenant, by table. Its tail is folded first: otherwise a server would do so at any time.
    async fn list_rows(&self, of: &Canary) -> Result<Answers> {
        self.app.ledger.fold(of.tenant).await?;
        let tx = self.app.db.read(of.tenant).await?;
        let mut tables = Answers::new();
        for (table, row) in self.app.db.list_tenant_tables().await? {
            let sql = format!("SELECT {row} FROM {table} t WHERE t.tenant_id = $1 ORDER BY 1");
            let rows = tx.query(&sql, []).await?;
            let rows = rows.iter().map(|row| crate::db::get::<String>(row, 0)).collect::<Result<Vec<_>>>()?;
            tables.insert(format!("the table {table}"), rows.into());
        }
        Ok(tables)
    }

    /// Both tenants have rows in every table; under row-level security a transaction of one sees none of the other's.
    async fn look_at_rows(&mut self, own: TenantId, other: TenantId) -> Result<()> {
        let tx = self.app.db.read(own).await?;
        for (table, _) in self.app.db.list_tenant_tables().await? {
            if wall::count_visible(&tx, &table, own).await? == 0 {
                self.report.empty.push(table.clone());
            }
            if self.app.db.is_postgres() && wall::count_visible(&tx, &table, other).await? > 0 {
                self.report.findings.push(format!("a transaction of one tenant sees the other's rows of {table}"));
            }
        }
        Ok(())
    }
}
