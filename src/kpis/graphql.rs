//! `kpis`, `kpi`, `validateKpi` and their types.

use async_graphql::{Context, Object, SimpleObject};
use models::kpis::Kpis;

use super::save::{Mistake, check, too_many_views};
use super::{KpiFormat, store};
use crate::alerts::store::list_hourly_kpis;
use crate::auth::Permission;
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, read};
use crate::graphql::scalars::DateTime;
use crate::metrics::kpis::definitions::read_formulas;
use crate::metrics::kpis::graphql::KpiUnit;

#[derive(Default)]
pub struct KpiQuery;

#[Object]
impl KpiQuery {
    /// The tenant's KPIs, sorted by name; at most 200.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn kpis(&self, ctx: &Context<'_>) -> async_graphql::Result<Vec<Kpi>> {
        let tx = read(ctx).await?;
        let (formulas, kpis) = (read_formulas(&tx).await?, store::list(&tx).await?);
        Ok(kpis.into_iter().map(|kpi| Kpi::new(&formulas, kpi)).collect::<Result<_>>()?)
    }

    /// A KPI by its name. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn kpi(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The KPI's name.")] name: String,
    ) -> async_graphql::Result<Kpi> {
        let tx = read(ctx).await?;
        let kpi = store::get_kpi(&tx, &name).await?;
        Ok(Kpi::new(&read_formulas(&tx).await?, kpi)?)
    }

    /// Checks a formula as saving it would, and says where it is wrong. Whether alert rules depend on the present unit of the KPI is not checked. Needs ANALYTICS_ADVANCED.
    #[graphql(guard = "Requires(Permission::AnalyticsAdvanced)")]
    async fn validate_kpi(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The KPI's name: that of a new KPI, or of an existing one to be changed.")] name: String,
        #[graphql(desc = "The formula to check.")] formula: String,
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

/// A metric that the tenant defines by a formula. Its values are available by name wherever metrics are: `kpi(name:)`.
#[derive(SimpleObject)]
pub struct Kpi {
    /// Its name, by which formulas can refer to it.
    name: String,
    /// Its formula, as entered.
    formula: String,
    /// Its description.
    description: Option<String>,
    /// Its unit, which follows from the formula.
    unit: KpiUnit,
    /// How it should be displayed.
    format: KpiFormat,
    /// How many decimals should be displayed.
    decimals: i32,
    /// The names of the KPIs whose formulas use it.
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

/// The result of checking a formula.
#[derive(SimpleObject)]
struct KpiValidation {
    /// The unit of the KPI; null if there is a mistake.
    unit: Option<KpiUnit>,
    /// The formula in its canonical form; null if there is a mistake.
    formula: Option<String>,
    /// The first mistake; null if the KPI can be saved.
    mistake: Option<KpiFormulaError>,
}

/// A mistake in the name or formula of a KPI. When saving is refused, `extensions` of the error has the same details.
#[derive(SimpleObject)]
struct KpiFormulaError {
    /// The kind of mistake: BAD_NAME, TOO_MANY_VIEWS, or a code of the KPI language.
    code: String,
    /// An explanation for the author of the formula.
    message: String,
    /// The KPI whose formula would be wrong: this one, or one that uses it. Null if the name is wrong.
    kpi: Option<String>,
    /// What may have been meant; null without a suggestion.
    suggestion: Option<String>,
    /// The line, counting from 1.
    line: Option<usize>,
    /// The column in characters, counting from 1.
    column: Option<usize>,
    /// The length of the wrong part in characters.
    length: Option<usize>,
}

impl From<Mistake> for KpiFormulaError {
    fn from(mistake: Mistake) -> Self {
        let plain = |code: &str, message, kpi| KpiFormulaError {
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
            Mistake::Formula { kpi, error } => KpiFormulaError {
                suggestion: error.suggestion,
                line: Some(error.line),
                column: Some(error.column),
                length: Some(error.length),
                ..plain(error.code.as_str(), error.message, Some(kpi))
            },
        }
    }
}
