//! Isolation of subscriptions and cursors.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::canary::Canary;
use super::client::{Client, Transport};
use super::{Answers, Run};
use crate::error::{Error, Result};

const REFUSED_WAIT: Duration = Duration::from_secs(5);

const METRICS: &str =
    "asOf { position } totalRevenue ordersCount uniqueCustomers series(grain: DAY) { start totalRevenue }
    breakdown(by: [REGION]) { rows { key totalRevenue } }";

/// On each transport: the other tenant's subscriptions are rejected, its cursors are invalid, and its sales and alerts
/// are not received, nor are its sales in another process.
pub async fn run(run: &mut Run<'_>, own: &Canary, other: &Canary) -> Result<()> {
    let tokens = (own.token(run.app)?, other.token(run.app)?);
    let (client, beside) = (run.client.clone(), run.beside_client.clone());
    for transport in Transport::SUBSCRIPTIONS {
        let when = format!("{transport:?}");
        metrics(run, &when, (&client, transport), own, other, &tokens).await?;
        alerts(run, transport, own, other, &tokens).await?;
    }
    if run.beside.stream.is_shared() {
        metrics(run, "by another process", (&beside, Transport::Socket), own, other, &tokens).await?;
    }
    Ok(())
}

/// While both tenants are subscribed through `at`, each next receives its own sale, whatever the other has sold before,
/// with the state that a query returns.
async fn metrics(
    run: &mut Run<'_>,
    when: &str,
    (client, transport): (&Client, Transport),
    own: &Canary,
    other: &Canary,
    (token, other_token): &(String, String),
) -> Result<()> {
    let period = run.period.clone();
    let question = |of: &Canary, after: &Json| {
        let field = format!("metricsUpdated(tenantId: \"{}\", period: {period}, after: $after)", of.tenant.0);
        json!({ "query": format!("subscription ($after: Cursor) {{ {field} {{ {METRICS} }} }}"), "variables": { "after": after } })
    };
    let open = async |token: &str, of: &Canary, after: &Json| client.open(transport, token, &question(of, after)).await;
    let mut subscribers = Vec::new();
    for (of, token) in [(own, token), (other, other_token)] {
        let mut answers = open(token, of, &Json::Null).await?;
        let first = answers.next().await?;
        if !first["errors"].is_null() {
            return Err(Error::internal(format!("{when}: a subscription gave {first}")));
        }
        subscribers.push((of, token, answers, first));
    }
    // The very subscription that the other tenant has.
    let alert =
        json!({ "query": format!("subscription {{ alertTriggered(tenantId: \"{}\") {{ id }} }}", other.tenant.0) });
    for question in [question(other, &Json::Null), alert] {
        let mut answers = client.open(transport, token, &question).await?;
        // A subscription that is not rejected may have nothing to send.
        let refused = tokio::time::timeout(REFUSED_WAIT, answers.next()).await.unwrap_or(Ok(Json::Null))?;
        if refused["errors"].is_null() || !refused["data"].is_null() {
            run.report.findings.push(format!("{when}: {question} of another tenant gives {refused}"));
        }
    }
    other.sell(run.app, &run.client).await?;
    own.sell(run.app, &run.client).await?;
    let mut cursors = Vec::new();
    for (of, token, mut answers, mut first) in subscribers {
        let next = answers.next().await?;
        let position = |answer: &Json| {
            answer["data"]["metricsUpdated"]["asOf"]["position"].as_str().and_then(|p| p.parse::<i64>().ok())
        };
        if position(&next) != position(&first).map(|position| position + 1) {
            run.report.findings.push(format!("{when}: after {first} a subscriber of {} heard of {next}", of.word));
        }
        let query = format!("{{ salesMetrics(period: {period}) {{ {METRICS} }} }}");
        let asked = run.client.ask(Transport::Post, token, &query).await?;
        if asked["data"]["salesMetrics"] != next["data"]["metricsUpdated"] {
            run.report.findings.push(format!("{when}: a subscriber was told {next}, and a query {asked}"));
        }
        cursors.push(first["extensions"]["cursor"].take());
        let not_of = if of.tenant == own.tenant { other } else { own };
        let answers = [("first", first), ("next", next), ("asked", asked)];
        run.look_for(not_of, &answers.into_iter().map(|(name, answer)| (format!("{when}: {name}"), answer)).collect());
    }
    // A tenant's own cursor is resumed; the other one's is invalid here.
    for (cursor, is_reset) in cursors.iter().zip([Json::Null, json!(true)]) {
        let resumed = open(token, own, cursor).await?.next().await?;
        if !resumed["errors"].is_null() || resumed["extensions"]["reset"] != is_reset {
            run.report.findings.push(format!("{when}: after the cursor {cursor}, reset was not {is_reset}: {resumed}"));
        }
        run.look_for(other, &Answers::from([(format!("{when}: resumed"), resumed)]));
    }
    Ok(())
}

/// The next alert a subscriber receives is its own, and the other tenant's cursors are invalid.
async fn alerts(
    run: &mut Run<'_>,
    transport: Transport,
    own: &Canary,
    other: &Canary,
    (token, other_token): &(String, String),
) -> Result<()> {
    let (cursor, foreign) = (alert_cursor(run, token).await?, alert_cursor(run, other_token).await?);
    fire(run, other, other_token).await?;
    fire(run, own, token).await?;
    let next = run.client.open(transport, token, &alerts_after(own, &cursor)).await?.next().await?;
    let name = next["data"]["alertTriggered"]["name"].as_str().unwrap_or_default();
    if !name.contains(own.word) {
        run.report.findings.push(format!("{transport:?}: a subscriber heard of the alert {next}"));
    }
    let resumed = run.client.open(transport, token, &alerts_after(own, &foreign)).await?.next().await?;
    if resumed["errors"][0]["extensions"]["code"] != "RESUME_GAP" {
        run.report.findings.push(format!("{transport:?}: another tenant's cursor {foreign:?} was taken: {resumed}"));
    }
    run.look_for(other, &Answers::from([("alerts".to_owned(), next), ("resumed alerts".to_owned(), resumed)]));
    Ok(())
}

fn alerts_after(of: &Canary, cursor: &str) -> Json {
    let arguments = format!("tenantId: \"{}\", after: \"{cursor}\"", of.tenant.0);
    json!({ "query": format!("subscription {{ alertTriggered({arguments}) {{ id name state value }} }}") })
}

/// Where the alerts of the token's tenant end.
async fn alert_cursor(run: &Run<'_>, token: &str) -> Result<String> {
    let answer = run.client.ask(Transport::Post, token, "{ alertCursor }").await?;
    let cursor = answer["data"]["alertCursor"].as_str().map(str::to_owned);
    cursor.ok_or_else(|| Error::internal(format!("alertCursor gave {answer}")))
}

/// Fires an alert created only for this.
async fn fire(run: &Run<'_>, of: &Canary, token: &str) -> Result<()> {
    let now = run.app.clock.now();
    let ask = async |template: &str| of.change(&run.client, token, &of.written(template, &run.name, now)).await;
    let made = ask(
        r#"mutation { createAlert(input: { name: "live alert of {word}", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "1.00",
            includeOpen: true }) { id } }"#,
    )
    .await?;
    of.sell(run.app, &run.client).await?;
    let id = made["createAlert"]["id"].as_str().unwrap_or_default();
    ask(&format!("mutation {{ deleteAlert(id: \"{id}\") }}")).await?;
    Ok(())
}
