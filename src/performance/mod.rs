//! Sales of salespeople and teams, compared with their quotas.

pub mod graphql;
mod quota;
mod store;

use async_graphql::ID;

use crate::clock::Timestamp;
use crate::db::TenantTx;
use crate::error::{Code, Error, Result};
use crate::ledger::organization::{find_organization, list_organizations};
use crate::metrics::input::DateRange;
use crate::metrics::period::Span;
use crate::money::Money;
use crate::people::list_members_in;
use crate::people::quotas::{Holder, list_overlapping};

use self::store::Sums;

/// Sales of a person or a team in a period.
#[derive(Clone, Debug)]
pub struct Performance {
    pub span: Span,
    pub deals_won: i64,
    pub deals_lost: i64,
    pub activities: i64,
    /// `None` if they are of several currencies.
    amounts: Option<Amounts>,
}

/// Amounts of one currency.
#[derive(Clone, Debug, PartialEq)]
pub struct Amounts {
    pub currency: String,
    pub revenue: Money,
    /// Sum of the quotas, prorated to the period.
    pub quota: Option<Money>,
}

impl Amounts {
    /// Revenue relative to quota.
    pub fn quota_attainment(&self) -> Option<f64> {
        let quota = self.quota.filter(|quota| *quota != Money::ZERO)?;
        Some(self.revenue.0 as f64 / quota.0 as f64)
    }
}

impl Performance {
    /// Error: MIXED_CURRENCIES.
    pub fn amounts(&self) -> Result<&Amounts> {
        self.amounts.as_ref().ok_or_else(|| {
            let message = "the deals and quotas of the period have several currencies; ask about one organization, or for numbers of deals alone";
            Error::new(Code::MixedCurrencies, message)
        })
    }

    /// Deals won relative to deals closed.
    pub fn conversion_rate(&self) -> Option<f64> {
        let closed = self.deals_won + self.deals_lost;
        (closed != 0).then(|| self.deals_won as f64 / closed as f64)
    }

    /// Error: MIXED_CURRENCIES.
    pub fn average_deal_size(&self) -> Result<Option<Money>> {
        Ok(self.amounts()?.revenue.per(self.deals_won))
    }
}

/// Reads the performance of `holder`, in one organization or all; for a team, what each member sold while belonging to it.
///
/// Amounts are in one currency: that of the organizations in which the deals were closed and, if there is a quota or no
/// deal, the default one's. Quotas and activities are for all organizations together. Errors: BAD_USER_INPUT (period), NOT_FOUND (holder,
/// organization).
pub async fn performance(
    tx: &TenantTx,
    holder: Holder,
    period: &DateRange,
    organization: Option<&ID>,
    now: Timestamp,
) -> Result<Performance> {
    let organizations = list_organizations(tx).await?;
    let default = find_organization(&organizations, None)
        .ok_or_else(|| Error::internal("a tenant without a default organization"))?;
    let only = match organization {
        Some(id) => Some(
            find_organization(&organizations, Some(id))
                .ok_or_else(|| Error::not_found("organization").about("organizationId"))?,
        ),
        None => None,
    };
    let span = period.resolve("period", now, default.timezone)?;
    holder.check(tx).await?;
    let owners = match holder {
        Holder::User(id) => vec![(id, span)],
        Holder::Team(id) => list_members_in(tx, id, span).await?,
    };
    let mut by_organization = store::read(tx, &owners, default).await?;
    // Activities are nobody's but the person's.
    let activities = whole(by_organization.values().map(|sums| sums.activities).sum())?;
    let mut quota = None;
    match only {
        Some(only) => by_organization.retain(|org_no, _| *org_no == only.org_no),
        None => {
            let (first_day, end_day) = quota::days(span, default.timezone);
            let quotas = list_overlapping(tx, holder, first_day, end_day).await?;
            quota = quota::share(&quotas, first_day, end_day)?;
        }
    }

    let with_deals = organizations.iter().filter(|o| by_organization.get(&o.org_no).is_some_and(Sums::has_deals));
    let mut currencies: Vec<&str> = with_deals.map(|o| o.currency.as_str()).collect();
    if currencies.is_empty() || quota.is_some() {
        currencies.push(&only.unwrap_or(default).currency);
    }
    let sum = |of: fn(&Sums) -> i128| whole(by_organization.values().map(of).sum());
    let amounts = match currencies.iter().all(|currency| *currency == currencies[0]) {
        true => Some(Amounts { currency: currencies[0].to_owned(), revenue: Money(sum(|s| s.revenue)?), quota }),
        false => None,
    };
    Ok(Performance { span, deals_won: sum(|s| s.deals_won)?, deals_lost: sum(|s| s.deals_lost)?, activities, amounts })
}

fn whole(sum: i128) -> Result<i64> {
    i64::try_from(sum).map_err(|_| Error::sum_out_of_range())
}
