//! Two tenants that have some of everything: equal in all names chosen by clients, different in all the rest, so that
//! any leak between them is detectable.

use serde_json::Value as Json;
use uuid::Uuid;

use super::client::{Client, Transport};
use crate::app::App;
use crate::auth::token::Subject;
use crate::auth::{Role, standing};
use crate::clock::{MINUTE, Timestamp};
use crate::customer_value;
use crate::db::{TenantId, get};
use crate::error::{Error, Result};
use crate::integrations::quarantine::{self, Kept, Why};
use crate::tenancy::{self, NewTenant};
use crate::users::{NewUser, insert_user};

/// A user of both tenants, with a different password in each.
pub const EMAIL: &str = "canary@isolation.invalid";
const TOKEN_SECS: i64 = 3600;
const MINUTES_A_DAY: i64 = 24 * 60;

/// One of the two tenants.
pub struct Canary {
    pub slug: &'static str,
    pub tenant: TenantId,
    /// Contained in every text that is the tenant's own.
    pub word: &'static str,
    /// Multiplier of the tenant's amounts.
    factor: u32,
    user: Uuid,
    /// Valid for this run.
    pub password: String,
    is_new: bool,
}

impl Canary {
    /// Creates the tenant, unless it exists from an earlier run, and admits its user.
    pub async fn ensure(app: &App, slug: &'static str, word: &'static str, factor: u32) -> Result<Canary> {
        let now = app.clock.now();
        let found = tenancy::find_tenant(&app.db, slug).await?;
        let tenant = match found {
            Some(tenant) => tenant,
            None => {
                let new = NewTenant { slug, name: word, timezone: chrono_tz::UTC, currency: "USD" };
                tenancy::create_tenant(&app.db, &new, now).await?.id
            }
        };
        let password = Uuid::new_v4().to_string();
        let hash = app.passwords.hash(password.clone()).await?;
        let tx = app.db.write(tenant).await?;
        let sql =
            "UPDATE users SET is_active = true, password_hash = $3 WHERE tenant_id = $1 AND email = $2 RETURNING id";
        let user = match tx.query_one(sql, [EMAIL.into(), hash.clone().into()]).await? {
            Some(row) => get(&row, 0)?,
            None => {
                let role = Role::Admin;
                let new = NewUser { email: EMAIL, name: word, role, password_hash: Some(hash), is_invited: false };
                insert_user(&tx, new, now).await?
            }
        };
        standing::begin_epoch(&tx, now).await?;
        tx.commit().await?;
        app.access_cache.changed(tenant);
        Ok(Canary { slug, tenant, word, factor, user, password, is_new: found.is_none() })
    }

    /// Deactivates the tenant's user and gives up pending deliveries; the tenant stays for the next run.
    pub async fn leave(app: &App, slug: &str) -> Result<()> {
        let Some(tenant) = tenancy::find_tenant(&app.db, slug).await? else { return Ok(()) };
        let tx = app.db.write(tenant).await?;
        let sql = "UPDATE users SET is_active = false, password_hash = NULL WHERE tenant_id = $1 AND email = $2";
        tx.execute(sql, [EMAIL.into()]).await?;
        let now = app.clock.now();
        let sql = "UPDATE api_keys SET revoked_at = $2 WHERE tenant_id = $1 AND name = 'tried' AND revoked_at IS NULL";
        tx.execute(sql, [now.0.into()]).await?;
        standing::begin_epoch(&tx, now).await?;
        tx.commit().await?;
        app.access_cache.changed(tenant);
        give_up(app, tenant).await
    }

    /// A token with all permissions of the tenant's admins.
    pub fn token(&self, app: &App) -> Result<String> {
        let subject = Subject { tenant: self.tenant, user_id: self.user, role: Role::Admin, session: None };
        app.tokens.mint(&subject, app.clock.now(), TOKEN_SECS).map_err(Error::internal)
    }

    /// Creates what the tenant lacks, and more sales.
    pub async fn fill(&self, app: &App, client: &Client, run: &str) -> Result<()> {
        if self.is_new {
            self.furnish(app, client, run).await?;
        }
        self.sell_much(app, client, run).await
    }

    /// Creates what every tenant has only once.
    async fn furnish(&self, app: &App, client: &Client, run: &str) -> Result<()> {
        let (token, now) = (self.token(app)?, app.clock.now());
        let ask = async |template: &str| self.change(client, &token, &self.written(template, run, now)).await;
        for part in self.history(now) {
            ask(&part).await?;
        }
        ask(FIRST_SALE).await?;
        for part in Canary::more_parts(now) {
            ask(&part).await?;
        }
        for template in SETTINGS {
            ask(template).await?;
        }
        let team = ask("{ teams { id } }").await?;
        let id = team["teams"][0]["id"].as_str().unwrap_or_default();
        for template in OF_TEAM {
            ask(&template.replace("{team}", id)).await?;
        }
        self.add_rest(app, now).await
    }

    /// Records sales, some of which will be in rollups and some, through a session, in the tail; fits the customer model.
    pub async fn sell_much(&self, app: &App, client: &Client, run: &str) -> Result<()> {
        let (token, now) = (self.token(app)?, app.clock.now());
        let ask = async |template: &str| self.change(client, &token, &self.written(template, run, now)).await;
        ask(SALES).await?;
        app.ledger.fold(self.tenant).await?;
        let signed_in = ask(SIGN_IN).await?;
        let session = signed_in["login"]["accessToken"].as_str().unwrap_or_default();
        self.change(client, session, &self.written(MORE_SALES, run, now)).await?;
        give_up(app, self.tenant).await?;
        self.refit(app).await
    }

    /// More than three weeks of sales as training data for forecasts, in as many parts as the factor, each with a channel,
    /// a region, a category, a product and a customer of its own. The tenants' fairs are on different days. What follows
    /// is therefore numbered differently in the tenants, and each number stands for the same kind of thing in both.
    fn history(&self, now: Timestamp) -> Vec<String> {
        let factor = i64::from(self.factor);
        let amount = |day: i64| if day == self.fair_day() { 70 } else { 7 + day % 7 };
        let visits = |number: i64| -> String {
            let at = minutes_before(now, 3 * MINUTES_A_DAY);
            let visit =
                |n| format!(r#" {{ eventId: "visit-{n}", occurredAt: "{at}", visitsCounted: {{ count: 1 }} }}"#);
            (0..number).map(visit).collect()
        };
        let part = |part: i64| {
            let days = (3..=21 + factor).filter(|day| day % factor == part);
            let sales: String = days.map(|day| sale(now, "past", part, day, amount(day))).collect();
            // Both ledgers end at the same position: answers are cached by it.
            record(&(sales + &if part == 0 { visits(7 - factor) } else { String::new() }))
        };
        (0..factor).map(part).collect()
    }

    /// More of such parts, which have numbers here that the other tenant has given to what both have.
    fn more_parts(now: Timestamp) -> impl Iterator<Item = String> {
        (0..7).map(move |part| record(&sale(now, "more", part, 4, 5)))
    }

    /// Days before now.
    fn fair_day(&self) -> i64 {
        i64::from(self.factor) + 5
    }

    /// Fits the customer model now, so that no server does it during the run.
    pub async fn refit(&self, app: &App) -> Result<()> {
        let tx = app.db.write(self.tenant).await?;
        tx.execute("UPDATE customer_models SET fitted_at = NULL WHERE tenant_id = $1", []).await?;
        tx.commit().await?;
        customer_value::refit(app, self.tenant).await
    }

    /// Records one more sale.
    pub async fn sell(&self, app: &App, client: &Client) -> Result<()> {
        let event = Uuid::now_v7().simple().to_string();
        self.change(client, &self.token(app)?, &self.written(SALE, &event, app.clock.now())).await?;
        Ok(())
    }

    /// Executes a document that must succeed; returns its data.
    pub async fn change(&self, client: &Client, token: &str, document: &str) -> Result<Json> {
        let answer = client.ask(Transport::Post, token, document).await?;
        let results = answer["data"]["recordEvents"]["results"].as_array();
        let is_refused = results.is_some_and(|all| all.iter().any(|result| result["outcome"] != "APPLIED"));
        if answer["errors"].is_null() && !is_refused {
            return Ok(answer["data"].clone());
        }
        Err(Error::internal(format!("{}: {document} gave {answer}", self.slug)))
    }

    /// Adds the traces of an import, an unintelligible webhook, and a sign-in at a provider.
    async fn add_rest(&self, app: &App, now: Timestamp) -> Result<()> {
        let keys = app.keys.get(self.tenant).await?.ok_or_else(|| Error::internal("the canary has no keys"))?;
        let tx = app.db.write(self.tenant).await?;
        let sql = "INSERT INTO data_sources (tenant_id, id, kind, name, created_at) VALUES ($1, $2, 'csv', $3, $4)";
        tx.execute(sql, [Uuid::now_v7().into(), self.word.into(), now.0.into()]).await?;
        if let Some(row) = tx.query_one("SELECT id FROM integrations WHERE tenant_id = $1", []).await? {
            let body = serde_json::json!({ "note": self.word }).to_string();
            let kept = Kept {
                integration_id: get(&row, 0)?,
                delivery_id: self.word,
                topic: self.word,
                happened_at: now,
                body: &body,
            };
            let why = Why { code: "UNCLEAR".to_owned(), reason: self.word.to_owned() };
            quarantine::keep(&tx, &keys, &kept, &why, now).await?;
        }
        let sql = "INSERT INTO user_identities (tenant_id, issuer, subject, user_id, created_at) \
                   VALUES ($1, 'https://id.invalid', $2, $3, $4)";
        tx.execute(sql, [self.word.into(), self.user.into(), now.0.into()]).await?;
        tx.commit().await
    }

    /// Fills in a template with values of this tenant and this run.
    pub fn written(&self, template: &str, run: &str, now: Timestamp) -> String {
        let fair = minutes_before(now, self.fair_day() * MINUTES_A_DAY);
        let mut text = template.to_owned();
        for (name, value) in [
            ("{word}", self.word.to_owned()),
            ("{slug}", self.slug.to_owned()),
            ("{run}", run.to_owned()),
            ("{email}", EMAIL.to_owned()),
            ("{secret}", SECRET.to_owned()),
            ("{user}", self.user.to_string()),
            ("{password}", self.password.clone()),
            ("{early}", minutes_before(now, 2 * MINUTES_A_DAY)),
            ("{late}", minutes_before(now, 10)),
            ("{factor}", self.factor.to_string()),
            ("{fair}", fair.split('T').next().unwrap_or_default().to_owned()),
        ] {
            text = text.replace(name, &value);
        }
        // Amounts are written as [7], meaning 7 times the tenant's factor.
        let mut parts = text.split('[');
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match part.split_once(']').and_then(|(inner, rest)| Some((inner.parse::<u32>().ok()?, rest))) {
                Some((amount, rest)) => out.push_str(&format!("\"{}.00\"{rest}", amount * self.factor)),
                None => out.push_str(&format!("[{part}")),
            }
        }
        out
    }
}

fn minutes_before(now: Timestamp, minutes: i64) -> String {
    Timestamp(now.0 - minutes * MINUTE).to_utc().unwrap_or_default().to_rfc3339()
}

/// A sale of a part of a tenant's past.
fn sale(now: Timestamp, name: &str, part: i64, day: i64, amount: i64) -> String {
    let (at, id) = (minutes_before(now, day * MINUTES_A_DAY), format!("{name}-{part}-{day}"));
    let of = format!("{name}-{part} of {{word}}");
    format!(
        r#" {{ eventId: "{id}", occurredAt: "{at}", orderPlaced: {{ orderId: "{id}", amount: [{amount}],
            channel: "{of}", region: "{of}", customer: {{ id: "{of}" }},
            lines: [{{ productId: "{of}", category: "{of}", amount: [{amount}] }}] }} }}"#
    )
}

fn record(events: &str) -> String {
    format!("mutation {{ recordEvents(events: [{events}]) {{ results {{ outcome reason }} }} }}")
}

/// Gives up pending deliveries, so that none is sent, and each can be retried.
async fn give_up(app: &App, tenant: TenantId) -> Result<()> {
    let tx = app.db.write(tenant).await?;
    let sql = "UPDATE deliveries SET state = 'DEAD', next_at = NULL WHERE tenant_id = $1 AND next_at IS NOT NULL";
    tx.execute(sql, []).await?;
    tx.commit().await
}

/// Signs incoming and outgoing webhooks of both tenants.
pub const SECRET: &str = "a secret that is long enough";

/// What it has is in both tenants, under different numbers.
const FIRST_SALE: &str = r#"mutation { recordEvents(events: [{ eventId: "first", occurredAt: "{late}", orderPlaced: { orderId: "first", amount: [3],
        channel: "web", region: "north", customer: { id: "first", name: "First of {word}" },
        lines: [{ productId: "tea", category: "drinks", amount: [3] }] } }]) { results { outcome reason } } }"#;

/// Created once per tenant. The alert fires with the sales that follow.
const SETTINGS: [&str; 12] = [
    r#"mutation { updateProduct(input: { sku: "tea", title: "tea of {word}", category: "drinks", inventory: 7 }) { id } }"#,
    r#"mutation { setExchangeRates(rates: [{ from: "JPY", to: "USD", validFrom: "2020-01-01", rate: "0.01" },
        { from: "SEK", to: "USD", validFrom: "2020-01-01", rate: "0.1" }]) }"#,
    r#"mutation { createOrganization(input: { slug: "second", name: "second of {word}", timezone: "Asia/Tokyo", currency: "USD" }) { id } }"#,
    r#"mutation { createTeam(input: { name: "team", memberIds: ["{user}"] }) { id } }"#,
    r#"mutation { createDashboard(input: { name: "board of {word}", description: "of {word}", sharing: TENANT,
        widgets: [{ key: "w", kind: NUMBER, title: "of {word}", metrics: [TOTAL_REVENUE], layout: { x: 0, y: 0, width: 2, height: 2 } }] }) { id } }"#,
    r#"mutation { createAlert(input: { name: "alert of {word}", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "1.00", includeOpen: true,
        recipients: [{ channel: WEBHOOK, target: "https://{slug}.isolation.invalid/hook", secret: "{secret}" }] }) { id } }"#,
    r#"mutation { createApiKey(input: { name: "key of {word}", permissions: [SALES_VIEW] }) { key { id } } }"#,
    r#"mutation { createIntegration(kind: SHOPIFY, secret: "{secret}", input: { name: "shop", channel: "of {word}" }) { id } }"#,
    r#"mutation { createKpi(name: "canary", input: { formula: "count(orders) * {factor}", description: "of {word}" }) { name } }"#,
    r#"mutation { createKpi(name: "tried", input: { formula: "count(orders)", description: "of {word}" }) { name } }"#,
    r#"mutation { setCalendarEvent(input: { name: "fair", days: [{ first: "{fair}" }] }) { id } }"#,
    r#"mutation { requestPasswordReset(tenant: "{slug}", email: "{email}") }"#,
];

/// The member has left the team and come back.
const OF_TEAM: [&str; 3] = [
    r#"mutation { setQuota(input: { teamId: "{team}", start: "2020-01-01", end: "2040-01-01", amount: [1000] }) { id } }"#,
    r#"mutation { updateTeam(id: "{team}", input: { name: "team", memberIds: [], membersFrom: "2021-01-01T00:00:00Z" }) { id } }"#,
    r#"mutation { updateTeam(id: "{team}", input: { name: "team", memberIds: ["{user}"], membersFrom: "2022-01-01T00:00:00Z" }) { id } }"#,
];

/// Names of orders, customers and products are the same in both tenants.
const SALES: &str = r#"mutation { recordEvents(events: [
    { eventId: "{run}-1", occurredAt: "{early}", orderPlaced: { orderId: "{run}-1", amount: [20], discount: [1], channel: "web", region: "north",
        customer: { id: "ann", name: "Ann of {word}", email: "ann@{slug}.invalid", phone: "+44 20 7946 0000", address: "a street of {word}" },
        lines: [{ productId: "tea", title: "tea of {word}", category: "drinks", quantity: 2, amount: [15], cost: [9] },
                { productId: "cup", title: "cup of {word}", category: "things of {word}", amount: [5] }] } }
    { eventId: "{run}-2", occurredAt: "{early}", orderPlaced: { orderId: "{run}-2", amount: [30], channel: "shop", region: "south of {word}",
        customer: { id: "bob", name: "Bob of {word}", email: "bob@{slug}.invalid" } } }
    { eventId: "{run}-3", occurredAt: "{early}", organizationId: "second", orderPlaced: { orderId: "{run}-3", amount: [4000], currency: "JPY", channel: "web", customer: { id: "ann" } } }
    { eventId: "{run}-4", occurredAt: "{early}", visitsCounted: { count: 50, channel: "web", region: "north" } }
    { eventId: "{run}-5", occurredAt: "{early}", productViewed: { productId: "tea", count: 9 } }
    { eventId: "{run}-6", occurredAt: "{early}", dealClosed: { dealId: "{run}-d", owner: "{email}", won: true, amount: [70] } }
    { eventId: "{run}-7", occurredAt: "{early}", activityLogged: { owner: "{email}", activity: "call of {word}", count: 3 } }
  ]) { results { outcome reason } } }"#;

const SALE: &str = r#"mutation { recordEvents(events: [{ eventId: "{run}", occurredAt: "{late}", orderPlaced: { orderId: "{run}", amount: [13],
    customer: { id: "ann" }, region: "live of {word}" } }]) { results { outcome reason } } }"#;

/// Recorded after the fold: these are in the tail, and reverse a part of what is in the rollups.
const MORE_SALES: &str = r#"mutation { recordEvents(events: [
    { eventId: "{run}-8", occurredAt: "{late}", orderPlaced: { orderId: "{run}-8", amount: [11], channel: "web", region: "north", customer: { id: "ann" },
        lines: [{ productId: "tea", amount: [11] }] } }
    { eventId: "{run}-9", occurredAt: "{late}", refundIssued: { refundId: "{run}-r", orderId: "{run}-1", amount: [5], lines: [{ productId: "tea", amount: [5] }] } }
    { eventId: "{run}-10", occurredAt: "{late}", orderCancelled: { orderId: "{run}-2" } }
  ]) { results { outcome reason } } }"#;

const SIGN_IN: &str =
    r#"mutation { login(tenant: "{slug}", email: "{email}", password: "{password}") { accessToken refreshToken } }"#;
