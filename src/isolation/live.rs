//! Subscriptions and cursors across tenants.

use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::canary::Canary;
use super::client::Transport;
use super::{Answers, Run};
use crate::error::{Error, Result};

const HEARD_WAIT: Duration = Duration::from_millis(500);

const METRICS: &str =
    "asOf { position } totalRevenue ordersCount uniqueCustomers series(grain: DAY) { start totalRevenue }
    breakdown(by: [REGION]) { rows { key totalRevenue } }";

/// On each transport: the other tenant's subscriptions are refused, its cursors are none, and its sales and alerts are not heard of.
pub async fn run(run: &mut Run<'_>, own: &Canary, other: &Canary) -> Result<()> {
    let tokens = (own.token(run.app)?, other.token(run.app)?);
    for transport in Transport::SUBSCRIPTIONS {
        let mut refused = Answers::new();
        for field in ["metricsUpdated", "alertTriggered"] {
            let document = format!("subscription {{ {field}(tenantId: \"{}\") {{ __typename }} }}", other.tenant.0);
            let answer = run.client.open(transport, &tokens.0, &document).await?.next().await?;
            if answer["errors"].is_null() || !answer["data"].is_null() {
                run.report.findings.push(format!("{transport:?}: {field} of another tenant gives {answer}"));
            }
            refused.insert(field.to_owned(), answer);
        }
        run.look_for(other, &refused);
        metrics(run, transport, own, other, &tokens).await?;
        alerts(run, transport, own, other, &tokens).await?;
    }
    Ok(())
}

/// A subscriber hears of its own sale next, whatever the other tenant has sold before, and what it is told is what a query says.
async fn metrics(
    run: &mut Run<'_>,
    transport: Transport,
    own: &Canary,
    other: &Canary,
    (token, other_token): &(String, String),
) -> Result<()> {
    let period = run.period.clone();
    let subscription = |of: &Canary, after: &str| {
        format!(
            "subscription {{ metricsUpdated(tenantId: \"{}\", period: {period}{after}) {{ {METRICS} }} }}",
            of.tenant.0
        )
    };
    let mut answers = run.client.open(transport, token, &subscription(own, "")).await?;
    let first = answers.next().await?;
    if !first["errors"].is_null() {
        return Err(Error::internal(format!("{transport:?}: a subscription gave {first}")));
    }
    let others = run.client.open(transport, other_token, &subscription(other, "")).await?.next().await?;
    record(run, transport, other, other_token).await?;
    record(run, transport, own, token).await?;
    let next = answers.next().await?;
    let position = |answer: &Json| {
        answer["data"]["metricsUpdated"]["asOf"]["position"].as_str().and_then(|p| p.parse::<i64>().ok())
    };
    if position(&next) != position(&first).map(|position| position + 1) {
        run.report.findings.push(format!("{transport:?}: after {first} a subscriber heard of {next}"));
    }
    let query = format!("{{ salesMetrics(period: {period}) {{ {METRICS} }} }}");
    let asked = run.client.ask(Transport::Post, token, &query).await?;
    if asked["data"]["salesMetrics"] != next["data"]["metricsUpdated"] {
        run.report.findings.push(format!("{transport:?}: a subscriber was told {next}, and a query {asked}"));
    }
    // What the other tenant's cursor stands for is nothing here.
    let cursor = others["extensions"]["cursor"].as_str().unwrap_or_default();
    let resumed =
        run.client.open(transport, token, &subscription(own, &format!(", after: \"{cursor}\""))).await?.next().await?;
    if resumed["extensions"]["reset"] != json!(true) {
        run.report.findings.push(format!("{transport:?}: another tenant's cursor {cursor:?} was taken: {resumed}"));
    }
    let answers = [first, next, asked, resumed].into_iter().enumerate();
    run.look_for(other, &answers.map(|(number, answer)| (format!("{transport:?} {number}"), answer)).collect());
    Ok(())
}

async fn record(run: &Run<'_>, transport: Transport, of: &Canary, token: &str) -> Result<()> {
    let template = format!(
        r#"mutation {{ recordEvents(events: [{{ eventId: "{{run}}-{transport:?}", occurredAt: "{{late}}",
            orderPlaced: {{ orderId: "{{run}}-{transport:?}", amount: [13], customer: {{ id: "ann" }}, region: "live of {{word}}" }} }}]) {{ results {{ outcome reason }} }} }}"#
    );
    of.change(&run.client, token, &of.written(&template, &run.name, run.app.clock.now())).await?;
    Ok(())
}

/// The next alert that a subscriber hears of is its own, and the other tenant's cursors are none.
async fn alerts(
    run: &mut Run<'_>,
    transport: Transport,
    own: &Canary,
    other: &Canary,
    (token, other_token): &(String, String),
) -> Result<()> {
    let (cursor, foreign) = (alert_cursor(run, own, token).await?, alert_cursor(run, other, other_token).await?);
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

fn alerts_after(of: &Canary, cursor: &str) -> String {
    let after = if cursor.is_empty() { String::new() } else { format!(", after: \"{cursor}\"") };
    format!("subscription {{ alertTriggered(tenantId: \"{}\"{after}) {{ id name state value }} }}", of.tenant.0)
}

/// The cursor of an alert that is heard of. When a subscription begins cannot be seen, so alerts are made until one is heard.
async fn alert_cursor(run: &Run<'_>, of: &Canary, token: &str) -> Result<String> {
    let mut answers = run.client.open(Transport::Socket, token, &alerts_after(of, "")).await?;
    loop {
        fire(run, of, token).await?;
        if let Ok(heard) = tokio::time::timeout(HEARD_WAIT, answers.next()).await {
            return Ok(heard?["extensions"]["cursor"].as_str().unwrap_or_default().to_owned());
        }
    }
}

/// An alert that is there only for this.
async fn fire(run: &Run<'_>, of: &Canary, token: &str) -> Result<()> {
    let now = run.app.clock.now();
    let ask = async |template: &str| of.change(&run.client, token, &of.written(template, &run.name, now)).await;
    let made = ask(
        r#"mutation { createAlert(input: { name: "live alert of {word}", metric: TOTAL_REVENUE, condition: ABOVE, threshold: "1.00",
            includeOpen: true }) { id } }"#,
    )
    .await?;
    let event = Uuid::now_v7().simple();
    ask(&format!(
        r#"mutation {{ recordEvents(events: [{{ eventId: "{event}", occurredAt: "{{late}}", orderPlaced: {{ orderId: "{event}", amount: [2] }} }}])
            {{ results {{ outcome reason }} }} }}"#
    ))
    .await?;
    let id = made["createAlert"]["id"].as_str().unwrap_or_default();
    ask(&format!("mutation {{ deleteAlert(id: \"{id}\") }}")).await?;
    Ok(())
}
