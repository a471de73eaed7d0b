//! Refits tenants' models when their data has changed enough.
//!
//! Makes two passes over a tenant's purchases, each in its own snapshot, so that none is held while a fit waits for its
//! turn: the first over a sample of customers, to fit the models; the second over all, page by page, so that memory
//! does not grow with the tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use models::value::{
    Backtest, Fit, Kind, Prediction as Predicted, PurchaseDays, Purchases, Scale, Segment, Terms, fit,
};

use super::history::{Histories, History};
use super::retention::Counting;
use super::store::{self, Claim, Content, Prediction, SegmentTotals};
use super::terms;
use crate::app::App;
use crate::calendar::day_of;
use crate::clock::{MINUTE, Timestamp};
use crate::db::TenantId;
use crate::error::{Code, Error, Result};
use crate::ledger::organization::{find_organization, list_organizations};
use crate::ledger::store::{Head, read_head};
use crate::money::Money;
use crate::predictions::pool::yielding;
use crate::telemetry::metrics::METRICS;

/// How often due models are looked for.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often a claim's renewal is checked.
const LOOK: Duration = Duration::from_secs(1);
/// How long a failed fit is not retried.
const FAILED_PAUSE: i64 = 60 * MINUTE;
/// Maximum number of customers that models are fitted to; beyond it a sample is taken. With so many the parameters are
/// accurate to a percent.
const SAMPLE_CUSTOMERS: i64 = 100_000;
/// Approximate number of orders of these customers.
const SAMPLE_ORDERS: i64 = 1_000_000;

/// Runs until dropped. Fits one model at a time, at lower priority than requests.
pub async fn keep_fitted(app: App) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = refit_due(&app).await {
            tracing::warn!(source = error.cause(), "looking for due customer models failed");
        }
    }
}

/// Fits all models that are due. Several processes may do so at once: each model is fitted by one of them.
pub async fn refit_due(app: &App) -> Result<()> {
    loop {
        let due = store::list_due(&app.db, app.clock.now()).await?;
        METRICS.set_due("customer_models", due.len());
        let (looked_at, mut done) = (due.len(), 0);
        for tenant in due {
            match refit(app, tenant).await {
                Ok(()) => done += 1,
                Err(error) => {
                    tracing::warn!(tenant = %tenant.0, source = error.cause(), "customers' model not fitted");
                }
            }
        }
        // There may be more. Where none can be fitted, the next tick retries.
        if looked_at < store::DUE_MAX || done == 0 {
            return Ok(());
        }
    }
}

/// Fits the tenant's model, if it is due and not claimed by another process.
pub async fn refit(app: &App, tenant: TenantId) -> Result<()> {
    let tx = app.db.write(tenant).await?;
    let claim = store::claim(&tx, app.clock.now()).await?;
    tx.commit().await?;
    let Some(claim) = claim else { return Ok(()) };
    let run = Run { app, tenant, claim };
    // Concurrently: a fit may wait for long, and so may writes to a busy database.
    let done = tokio::select! {
        done = run.run() => done,
        () = run.keep_claim() => Ok(()),
    };
    let tx = app.db.read(tenant).await?;
    let (last_customer_no, is_given) = (read_head(&tx).await?.last_customer_no, store::is_published(&tx, claim).await?);
    drop(tx);
    if is_given {
        store::remove_older(&app.db, tenant, claim, last_customer_no).await?;
    } else {
        store::remove(&app.db, tenant, claim.fit_no, last_customer_no).await?;
    }
    if done.as_ref().is_err_and(|error| error.code != Code::ServiceUnavailable) {
        // It would fail again with the same orders.
        let tx = app.db.write(tenant).await?;
        store::renew(&tx, claim, Timestamp(app.clock.now().0 + FAILED_PAUSE)).await?;
        tx.commit().await?;
    }
    done
}

struct Run<'a> {
    app: &'a App,
    tenant: TenantId,
    claim: Claim,
}

impl Run<'_> {
    /// Renews the claim while polled; resolves when it was taken over.
    async fn keep_claim(&self) {
        let mut renewed_at = self.app.clock.now();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.app.clock.now();
            if now.0 - renewed_at.0 < store::CLAIM / 4 {
                continue;
            }
            match self.renew(now).await {
                Ok(true) => renewed_at = now,
                Ok(false) => return,
                Err(error) => tracing::warn!(tenant = %self.tenant.0, source = error.cause(), "claim not renewed"),
            }
        }
    }

    async fn renew(&self, now: Timestamp) -> Result<bool> {
        let tx = self.app.db.write(self.tenant).await?;
        let is_ours = store::renew(&tx, self.claim, now).await?;
        tx.commit().await?;
        Ok(is_ours)
    }

    async fn run(&self) -> Result<()> {
        let tx = self.app.db.read(self.tenant).await?;
        let head = read_head(&tx).await?;
        let organizations = list_organizations(&tx).await?;
        let no_home = || Error::internal("a tenant without a default organization");
        let home = find_organization(&organizations, None).ok_or_else(no_home)?;
        let now = self.app.clock.now();
        let day = day_of(now, home.timezone);
        let mut sample: Vec<PurchaseDays> = Vec::new();
        let mut histories = Histories::new(&tx, &organizations, home, sample_step(&head));
        while let Some(page) = histories.next().await? {
            sample.extend(page.iter().filter_map(History::days));
        }
        drop(histories);
        drop(tx);
        let fit = move || {
            let known: Vec<Purchases> = sample.iter().filter_map(|days| days.until(day)).collect();
            // Customers who have not bought today still may.
            let backtest = Backtest { until_day: day - 1, horizon_days: terms::CHURN_DAYS };
            let fit = fit(&sample, day, Kind::MbgNbd, backtest).ok()?;
            Some((fit, Scale::of(&known)))
        };
        let Some((fit, scale)) = self.app.predictions.pool.run_in_background(fit).await? else {
            let tx = self.app.db.write(self.tenant).await?;
            store::publish(&tx, self.claim, head.position, now, None).await?;
            tx.commit().await?;
            return Ok(());
        };
        let tx = self.app.db.read(self.tenant).await?;
        let position = read_head(&tx).await?.position;
        let mut scorer = Scorer { fit, scale, terms: terms::kept()?, day };
        let (mut retention, mut totals) = (Counting::before_month_of(day), Totals::default());
        let mut histories = Histories::new(&tx, &organizations, home, 1);
        while let Some(page) = histories.next().await? {
            page.iter().for_each(|history| retention.add(history));
            let (back, predictions) = yielding(move || {
                let predictions: Vec<Prediction> = page.iter().filter_map(|history| scorer.score(history)).collect();
                (scorer, predictions)
            })
            .await?;
            scorer = back;
            totals.add(&predictions);
            let tx = self.app.db.write(self.tenant).await?;
            if !store::add(&tx, self.claim, &predictions, self.app.clock.now()).await? {
                return Ok(());
            }
            tx.commit().await?;
        }
        let (customers, segments) = totals.finish().ok_or_else(Error::sum_out_of_range)?;
        let content = Content { fit: scorer.fit, currency: home.currency.clone(), customers, segments };
        let retention = retention.finish().ok_or_else(Error::sum_out_of_range)?;
        let tx = self.app.db.write(self.tenant).await?;
        store::publish(&tx, self.claim, position, now, Some((&content, &retention))).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// The sampling step: one of this many customers is in the sample.
fn sample_step(head: &Head) -> i64 {
    let share = |all: i64, max: i64| all.div_euclid(max) + i64::from(all % max != 0);
    share(head.last_customer_no, SAMPLE_CUSTOMERS).max(share(head.last_order_no, SAMPLE_ORDERS)).max(1)
}

/// Scores customers one at a time.
struct Scorer {
    fit: Fit,
    scale: Scale,
    terms: Terms,
    day: i32,
}

impl Scorer {
    /// `None` for a customer whose first purchase is after that day.
    fn score(&self, history: &History) -> Option<Prediction> {
        let purchases = history.days()?.until(self.day)?;
        let Predicted { churn, lifetime_value_minor, .. } = self.fit.predict(&purchases, &self.terms);
        Some(Prediction {
            customer_no: history.customer_no,
            purchases,
            rfm: self.scale.score(&purchases),
            churn_millionths: (churn * 1e6).round_ties_even() as i64,
            lifetime_value: lifetime_value_minor.map_or(Money::ZERO, terms::to_money),
        })
    }
}

/// Sums over customers by segment.
#[derive(Default)]
struct Totals(BTreeMap<Segment, (i64, i128, i128)>);

impl Totals {
    fn add(&mut self, predictions: &[Prediction]) {
        for prediction in predictions {
            let (customers, revenue, value) = self.0.entry(prediction.rfm.segment).or_default();
            *customers += 1;
            *revenue += i128::from(prediction.purchases.total_minor());
            *value += i128::from(prediction.lifetime_value.0);
        }
    }

    /// The total number of customers, and totals by segment; `None` if a sum overflows 64 bits.
    fn finish(self) -> Option<(i64, Vec<SegmentTotals>)> {
        let customers = self.0.values().map(|(customers, ..)| customers).sum();
        let segments = Segment::ALL.into_iter().map(|segment| {
            let (customers, revenue, value) = self.0.get(&segment).copied().unwrap_or_default();
            let (revenue, lifetime_value) = (Money::from_sum(revenue)?, Money::from_sum(value)?);
            Some(SegmentTotals { segment, customers, revenue, lifetime_value })
        });
        Some((customers, segments.collect::<Option<_>>()?))
    }
}
