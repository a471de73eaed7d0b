//! `kpis`, `kpi`, `validateKpi` and their types.

use async_graphql::{Context, Object, SimpleObject};
use models::kpis::Kpis;

use super::save::{Mistake, check, too_many_views};
use super::{KpiFormat, store};
use crate::alerts::store::list_hourly_kpis;
use crate::auth::Permission;
use crate::error::{Error, Result};
use crate::graphql::context::{Needs, read};
use crate::graphql::scalars::DateTime;
use crate::metrics::kpis::definitions::read_formulas;
use crate::metrics::kpis::graphql::KpiUnit;

#[derive(Default)]
pub struct KpiQuery;

#[Object]
impl KpiQuery {
    /// The tenant's KPIs, by name; at most 200.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn kpis(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Kpi>> {
        let tx = read(ctx).await?;
        let (formulas, kpis) = (read_formulas(&tx).await?, store::list(&tx).await?);
        Ok(kpis.into_iter().map(|kpi| Kpi::new(&formulas, kpi)).collect::<Result<_>>()?)
    }

    /// A KPI. Error: NOT_FOUND.
    #[graphql(guard = "Needs(Permission::SalesView)")]
    async fn kpi(&self, ctx: &Context<'_>, #[graphql(desc = "Its name.")] name: String) -> async_graphql::Result<Kpi> {
        let tx = read(ctx).await?;
        let kpi = store::get_kpi(&tx, &name).await?;
        Ok(Kpi::new(&read_formulas(&tx).await?, kpi)?)
    }

    /// Checks a formula as if it were saved, and says where it is wrong; not whether alerts are compared in another unit. Needs ANALYTICS_ADVANCED.
    #[graphql(guard = "Needs(Permission::AnalyticsAdvanced)")]
    async fn validate_kpi(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name that it is to have, of a new KPI or of one that is to be changed.")] name: String,
        #[graphql(desc = "The formula.")] formula: String,
    ) -> async_graphql::Result<KpiValidation> {
        let tx = read(ctx).await?;
        let (kpis, hourly) = (read_formulas(&tx).await?, list_hourly_kpis(&tx).await?);
        Ok(match check(&kpis, &hourly, &name, &formula) {
            Ok(checked) => {
                KpiValidation { unit: Some(checked.unit.into()), formula: Some(checked.formula), mistake: None }
            }
            Err(mistake) => KpiValidation { unit: None, formula: None, mistake: Some(mistake.into()) },
        })
    }
}

/// A metric that the tenant defines by a formula. It is asked by its name wherever metrics are: `kpi(name:)`.
#[derive(SimpleObject)]
pub struct Kpi {
    /// Its name, which formulas may use.
    name: String,
    /// Its formula, as it was written.
    formula: String,
    /// What it means.
    description: Option<String>,
    /// Its unit, which follows from the formula.
    unit: KpiUnit,
    /// How it is meant to be shown.
    format: KpiFormat,
    /// How many decimals are meant to be shown.
    decimals: i32,
    /// The KPIs whose formulas name it.
    used_by: Vec<String>,
    /// When it was created.
    created_at: DateTime,
    /// When it was last changed.
    updated_at: DateTime,
}

impl Kpi {
    pub fn new(formulas: &Kpis, kpi: super::Kpi) -> Result<Self> {
        let formula = formulas.find(&kpi.name).ok_or_else(|| Error::internal("a KPI without a formula"))?;
        Ok(Kpi {
            unit: formulas.plan(formula).map_err(Error::internal)?.unit().into(),
            used_by: formulas.users(&kpi.name).map(str::to_owned).collect(),
            name: kpi.name,
            formula: kpi.formula,
            description: kpi.description,
            format: kpi.format,
            decimals: kpi.decimals,
            created_at: DateTime(kpi.created_at),
            updated_at: DateTime(kpi.updated_at),
        })
    }
}

/// What is found of a formula.
#[derive(SimpleObject)]
struct KpiValidation {
    /// The unit of the KPI; null where there is a mistake.
    unit: Option<KpiUnit>,
    /// The formula in its canonical form; null where there is a mistake.
    formula: Option<String>,
    /// The first mistake; null where it may be saved.
    mistake: Option<KpiMistake>,
}

/// A mistake in a name or a formula. The same is told in `extensions` where saving is refused.
#[derive(SimpleObject)]
struct KpiMistake {
    /// What kind of mistake: BAD_NAME, TOO_MANY_VIEWS, or a code of the language's.
    code: String,
    /// For its author.
    message: String,
    /// The KPI whose formula would be wrong: this one, or one that names it. Null where the name is wrong.
    kpi: Option<String>,
    /// What could stand there instead.
    suggestion: Option<String>,
    /// The line, from 1.
    line: Option<usize>,
    /// The column in characters, from 1.
    column: Option<usize>,
    /// How many characters it is about.
    length: Option<usize>,
}

impl From<Mistake> for KpiMistake {
    fn from(mistake: Mistake) -> Self {
        let plain = |code: &str, message, kpi| KpiMistake {
            code: code.to_owned(),
            message,
            kpi,
            suggestion: None,
            line: None,
            column: None,
            length: None,
        };
        match mistake {
            Mistake::Name(message) => plain("BAD_NAME", message, None),
            Mistake::TooManyViews { kpi, is_hourly } => plain("TOO_MANY_VIEWS", too_many_views(is_hourly), Some(kpi)),
            Mistake::Formula { kpi, error } => KpiMistake {
                suggestion: error.suggestion,
                line: Some(error.line),
                column: Some(error.column),
                length: Some(error.length),
                ..plain(error.code.as_str(), error.message, Some(kpi))
            },
        }
    }
}
