//! Mutations of KPIs.
//!
//! They are serialized per tenant under its head lock: two changes, each valid on its own, might refer to each other. A
//! change begins a new policy epoch, so that cached answers and live subscriptions are recomputed.

use async_graphql::{Context, InputObject, MaybeUndefined, Object};

use super::graphql::Kpi;
use super::save::{check, check_count, check_units};
use super::{KpiFormat, store};
use crate::alerts;
use crate::audit::{Change, Entry, change};
use crate::auth::Permission;
use crate::clock::Timestamp;
use crate::error::{Code, Error, Result};
use crate::graphql::context::{Requires, app};
use crate::graphql::given::{cleared, given};
use crate::ledger::store::begin_policy_epoch;
use crate::metrics::kpis::definitions::read_formulas;
use crate::metrics::measured::Measured;

const DESCRIPTION_CHARS_MAX: usize = 2_000;
const DECIMALS_MAX: i32 = 4;

#[derive(Default)]
pub struct KpiMutation;

/// The definition of a new KPI.
#[derive(InputObject)]
struct KpiInput {
    /// The formula, in the KPI language (docs/kpis-language.md); at most 4096 bytes.
    formula: String,
    /// Its description, at most 2000 characters.
    description: Option<String>,
    /// How it should be displayed.
    #[graphql(default_with = "Some(KpiFormat::Plain)")]
    format: Option<KpiFormat>,
    /// How many decimals should be displayed, 0 to 4.
    #[graphql(default_with = "Some(2)")]
    decimals: Option<i32>,
}

/// Changes of a KPI. What is omitted stays as it is.
#[derive(InputObject)]
struct KpiChanges {
    /// The formula, in the KPI language (docs/kpis-language.md); at most 4096 bytes.
    formula: MaybeUndefined<String>,
    /// Its description, at most 2000 characters; null for none.
    description: MaybeUndefined<String>,
    /// How it should be displayed.
    format: MaybeUndefined<KpiFormat>,
    /// How many decimals should be displayed, 0 to 4.
    decimals: MaybeUndefined<i32>,
}

#[Object]
impl KpiMutation {
    /// Defines a KPI. Needs ANALYTICS_ADVANCED. Errors: CONFLICT (the name is taken, or the limit of 200 is reached), BAD_USER_INPUT; for a mistake in the formula `extensions` has `formulaCode`, `kpi`, `line`, `column`, `length` and `suggestion`.
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn create_kpi(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Its name: 1 to 64 letters, digits and underscores, and not the name of a metric. It cannot be changed later."
        )]
        name: String,
        #[graphql(desc = "The KPI's definition.")] input: KpiInput,
    ) -> async_graphql::Result<Kpi> {
        let change = change(ctx).await?;
        begin_policy_epoch(&change).await?;
        let kpis = store::list(&change).await?;
        if kpis.iter().any(|kpi| kpi.name == name) {
            return Err(Error::new(Code::Conflict, "there is already a KPI with this name").into());
        }
        check_count(kpis.len())?;
        let now = app(ctx)?.clock.now();
        let kpi = input.into_kpi(name, now);
        save(change, kpi, true).await.map_err(Into::into)
    }

    /// Changes a KPI; what `input` leaves out stays as it is. KPIs that use it and alert rules that watch it follow. Needs ANALYTICS_ADVANCED. Errors: NOT_FOUND; CONFLICT (an ABOVE or BELOW alert rule watches it, or a KPI built on it, whose unit would change); BAD_USER_INPUT as for `createKpi`, also if a KPI that uses it would no longer be valid, or if an alert rule that watches it does not accept such a formula.
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn update_kpi(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The KPI's name.")] name: String,
        #[graphql(desc = "What changes.")] input: KpiChanges,
    ) -> async_graphql::Result<Kpi> {
        let change = change(ctx).await?;
        begin_policy_epoch(&change).await?;
        let before = store::get_kpi(&change, &name).await?;
        let kpi = input.apply(before.clone(), app(ctx)?.clock.now())?;
        if kpi == (super::Kpi { updated_at: kpi.updated_at, ..before.clone() }) {
            return Ok(Kpi::new(&read_formulas(&change).await?, before)?);
        }
        save(change, kpi, false).await.map_err(Into::into)
    }

    /// Deletes a KPI and returns its name. Needs ANALYTICS_ADVANCED. Errors: NOT_FOUND, CONFLICT (another KPI uses it, or an alert rule watches it).
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn delete_kpi(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The KPI's name.")] name: String,
    ) -> async_graphql::Result<String> {
        let change = change(ctx).await?;
        begin_policy_epoch(&change).await?;
        store::get_kpi(&change, &name).await?;
        if let Some(user) = read_formulas(&change).await?.users(&name).next() {
            return Err(Error::new(Code::Conflict, format!("the KPI {user} uses it")).into());
        }
        if let Some(rule) = alerts::store::find_watching(&change, &Measured::Kpi(name.clone())).await? {
            return Err(Error::new(Code::Conflict, format!("the alert {rule} watches it")).into());
        }
        let before = change.see(&store::LOGGED, name.as_str()).await?;
        store::delete(&change, &name).await?;
        change.commit(Entry::of("kpi.delete", &name).before(before)).await?;
        Ok(name)
    }
}

impl KpiInput {
    fn into_kpi(self, name: String, now: Timestamp) -> super::Kpi {
        super::Kpi {
            name,
            formula: self.formula,
            description: self.description,
            format: self.format.unwrap_or(KpiFormat::Plain),
            decimals: self.decimals.unwrap_or(2),
            created_at: now,
            updated_at: now,
        }
    }
}

impl KpiChanges {
    /// Error: BAD_USER_INPUT.
    fn apply(self, old: super::Kpi, now: Timestamp) -> Result<super::Kpi> {
        Ok(super::Kpi {
            formula: given("formula", self.formula)?.unwrap_or(old.formula),
            description: cleared(self.description, old.description),
            format: given("format", self.format)?.unwrap_or(old.format),
            decimals: given("decimals", self.decimals)?.unwrap_or(old.decimals),
            updated_at: now,
            ..old
        })
    }
}

/// Error: BAD_USER_INPUT.
fn check_display(kpi: &super::Kpi) -> Result<()> {
    let is_good = |text: &str| text.chars().count() <= DESCRIPTION_CHARS_MAX && !text.contains('\0');
    if !kpi.description.as_deref().is_none_or(is_good) {
        return Err(Error::bad_input("description", format!("must have at most {DESCRIPTION_CHARS_MAX} characters")));
    }
    if kpi.formula.contains('\0') {
        return Err(Error::bad_input("formula", "a NUL in the formula"));
    }
    if !(0..=DECIMALS_MAX).contains(&kpi.decimals) {
        return Err(Error::bad_input("decimals", format!("must be from 0 to {DECIMALS_MAX}")));
    }
    Ok(())
}

/// Validates and stores a KPI in a transaction that has locked the head.
async fn save(change: Change, kpi: super::Kpi, is_new: bool) -> Result<Kpi> {
    check_display(&kpi)?;
    let (formulas, hourly) = (read_formulas(&change).await?, alerts::store::list_hourly_kpis(&change).await?);
    let checked = check(&formulas, &hourly, &kpi.name, &kpi.formula)?;
    if !is_new {
        let rules = alerts::store::list(&change).await?;
        check_units(&formulas, &checked.kpis, &kpi.name, rules.iter().map(|(rule, _)| rule))?;
    }
    let before = change.see(&store::LOGGED, kpi.name.as_str()).await?;
    store::save(&change, &kpi).await?;
    let after = change.see(&store::LOGGED, kpi.name.as_str()).await?;
    let action = if is_new { "kpi.create" } else { "kpi.update" };
    let entry = Entry::of(action, &kpi.name).before(before).after(after);
    let saved = Kpi::new(&checked.kpis, kpi)?;
    change.commit(entry).await?;
    Ok(saved)
}
