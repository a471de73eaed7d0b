//! Exchange rates: each is in force from a UTC day until the next one of its currency pair.

use std::collections::BTreeMap;

use async_graphql::{Context, InputObject, Object, SimpleObject};
use sea_orm::QueryResult;
use serde_json::{Value as Json, json};

use super::state::RATE_DECIMALS;
use crate::audit::{Entry, change};
use crate::auth::Permission;
use crate::calendar::{day_from_number, day_number};
use crate::db::{Column, OnConflict, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::context::{Requires, read};
use crate::graphql::page::Matching;
use crate::graphql::scalars::{Currency, Date};
use crate::money::{MoneyError, parse_decimal};

const RATES_MAX: usize = 1000;
/// Maximum currency pairs in the subject of an entry of the audit log, so that a filter takes it.
const PAIRS_MAX: usize = 20;

/// Rates by source currency, target currency and first day, in days since 1970-01-01.
pub type Rates = BTreeMap<(String, String, i32), i64>;

#[derive(Default)]
pub struct RateQuery;

#[Object]
impl RateQuery {
    /// The exchange rates that were set, by pair of currencies, the latest first; at most 1000 of them.
    #[graphql(guard = "Requires(Permission::SalesView)")]
    async fn exchange_rates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only rates from this currency.")] from: Option<Currency>,
        #[graphql(desc = "Only rates to this currency.")] to: Option<Currency>,
        #[graphql(desc = "Only rates that apply from this day or earlier.")] until: Option<Date>,
    ) -> async_graphql::Result<Vec<ExchangeRate>> {
        let mut matching = Matching::of("exchange_rates WHERE tenant_id = $1");
        for (condition, currency) in [("from_currency =", from), ("to_currency =", to)] {
            if let Some(Currency(currency)) = currency {
                matching.and(condition, currency);
            }
        }
        if let Some(Date(day)) = until {
            matching.and("valid_from <=", day_number(day));
        }
        let sql = format!(
            "SELECT from_currency, to_currency, valid_from, rate FROM {} \
             ORDER BY from_currency, to_currency, valid_from DESC LIMIT {RATES_MAX}",
            matching.from
        );
        let rows = read(ctx).await?.query(&sql, matching.values).await?;
        Ok(rows.iter().map(rate_from).map(|rate| Ok(rate?.into())).collect::<Result<_>>()?)
    }
}

#[derive(Default)]
pub struct RateMutation;

#[Object]
impl RateMutation {
    /// Sets exchange rates, each valid from a given day, and returns how many were set. They apply to events recorded afterwards. Needs SALES_EDIT.
    #[graphql(guard = "Requires(Permission::SalesEdit)")]
    async fn set_exchange_rates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The rates, at most 1000.")] rates: Vec<ExchangeRateInput>,
    ) -> async_graphql::Result<usize> {
        let rates = check(rates)?;
        let change = change(ctx).await?;
        let before = find(&change, &rates).await?;
        save(&change, &rates).await?;
        let before = (!before.is_empty()).then(|| told(&before));
        change.commit_if_changed(Entry::of("rates.set", pairs(&rates)).before(before).after(told(&rates))).await?;
        Ok(rates.len())
    }

    /// Deletes an exchange rate; the one before it then applies until the next. What was recorded stays as it is. Needs SALES_EDIT. Error: NOT_FOUND.
    #[graphql(guard = "Requires(Permission::SalesEdit)")]
    async fn delete_exchange_rate(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The currency converted from.")] from: Currency,
        #[graphql(desc = "The currency converted to.")] to: Currency,
        #[graphql(desc = "The first day on which it applies, in UTC.")] valid_from: Date,
    ) -> async_graphql::Result<ExchangeRate> {
        let change = change(ctx).await?;
        let wanted = Rates::from([((from.0, to.0, day_number(valid_from.0)), 0)]);
        let before = find(&change, &wanted).await?;
        let Some(deleted) = before.clone().pop_first() else {
            return Err(Error::not_found("exchange rate").into());
        };
        let sql = "DELETE FROM exchange_rates WHERE tenant_id = $1 AND from_currency = $2 AND to_currency = $3 AND valid_from = $4";
        let (from, to, day) = deleted.0.clone();
        change.execute(sql, [from.into(), to.into(), day.into()]).await?;
        change.commit(Entry::of("rates.delete", pairs(&before)).before(told(&before))).await?;
        Ok(deleted.into())
    }
}

/// What one unit of a currency is worth in another, from a given day until the next rate.
#[derive(SimpleObject)]
struct ExchangeRate {
    /// The currency converted from.
    from: Currency,
    /// The currency converted to.
    to: Currency,
    /// The first day on which it applies, in UTC.
    valid_from: Date,
    /// Units of `to` per unit of `from`, with eight decimals.
    rate: String,
}

impl From<((String, String, i32), i64)> for ExchangeRate {
    fn from(((from, to, day), units): ((String, String, i32), i64)) -> Self {
        ExchangeRate {
            from: Currency(from),
            to: Currency(to),
            valid_from: Date(day_from_number(day)),
            rate: decimal(units),
        }
    }
}

/// What one unit of a currency is worth in another, from a given day until the next rate.
#[derive(InputObject)]
struct ExchangeRateInput {
    /// The currency converted from.
    from: Currency,
    /// The currency converted to.
    to: Currency,
    /// The first day on which it applies, in UTC.
    valid_from: Date,
    /// Units of `to` per unit of `from`; positive, at most eight decimals.
    rate: String,
}

/// Of two rates for the same day the later wins. Error: BAD_USER_INPUT.
fn check(rates: Vec<ExchangeRateInput>) -> Result<Rates> {
    if rates.is_empty() || rates.len() > RATES_MAX {
        return Err(Error::bad_input("rates", format!("give 1 to {RATES_MAX} rates")));
    }
    let mut checked = Rates::new();
    for (index, rate) in rates.into_iter().enumerate() {
        let units = rate.units().map_err(|error| error.of_element("rates", index))?;
        checked.insert((rate.from.0, rate.to.0, day_number(rate.valid_from.0)), units);
    }
    Ok(checked)
}

impl ExchangeRateInput {
    /// Error: BAD_USER_INPUT.
    fn units(&self) -> Result<i64> {
        if self.from == self.to {
            return Err(Error::bad_input("to", "must be another currency than from"));
        }
        let units = parse_decimal(&self.rate, RATE_DECIMALS as usize).map_err(|error| {
            Error::bad_input(
                "rate",
                match error {
                    MoneyError::NotADecimal => "not a decimal number such as \"1.25\"",
                    MoneyError::TooPrecise => "more than eight decimals",
                    MoneyError::OutOfRange => "too large",
                },
            )
        })?;
        if units <= 0 {
            return Err(Error::bad_input("rate", "must be positive"));
        }
        Ok(units)
    }
}

/// The stored rates of the same pairs and days.
async fn find(tx: &TenantTx, rates: &Rates) -> Result<Rates> {
    let sql = "SELECT r.from_currency, r.to_currency, r.valid_from, r.rate FROM {keys} {each exchange_rates r: \
               r.from_currency = k.from_currency AND r.to_currency = k.to_currency AND r.valid_from = k.valid_from}";
    tx.query_by_keys(sql, &keys(rates)).await?.iter().map(rate_from).collect()
}

fn rate_from(row: &QueryResult) -> Result<((String, String, i32), i64)> {
    let day = i32::try_from(get::<i64>(row, 2)?).map_err(Error::internal)?;
    Ok(((get(row, 0)?, get(row, 1)?, day), get(row, 3)?))
}

fn keys(rates: &Rates) -> Table {
    Table::new()
        .with("from_currency", Column::Text(rates.keys().map(|(from, ..)| from.clone()).collect()))
        .with("to_currency", Column::Text(rates.keys().map(|(_, to, _)| to.clone()).collect()))
        .with("valid_from", Column::Int(rates.keys().map(|(.., day)| (*day).into()).collect()))
}

/// All rates.
pub async fn list(tx: &TenantTx) -> Result<Rates> {
    let sql = "SELECT from_currency, to_currency, valid_from, rate FROM exchange_rates WHERE tenant_id = $1";
    tx.query(sql, []).await?.iter().map(rate_from).collect()
}

pub async fn save(tx: &TenantTx, rates: &Rates) -> Result<()> {
    let rows = keys(rates).with("rate", Column::Int(rates.values().copied().collect()));
    tx.insert("exchange_rates", &rows, OnConflict::Replace("from_currency, to_currency, valid_from")).await?;
    Ok(())
}

/// Rates, for the audit log.
fn told(rates: &Rates) -> Json {
    let rates = rates.iter().map(|((from, to, day), units)| {
        json!({ "from": from, "to": to, "validFrom": day_from_number(*day).to_string(), "rate": decimal(*units) })
    });
    rates.collect()
}

/// A rate as a decimal number.
fn decimal(units: i64) -> String {
    let (scale, whole) = (RATE_DECIMALS as usize, 10_i64.pow(RATE_DECIMALS));
    format!("{}.{:0scale$}", units / whole, units % whole)
}

/// The currency pairs, as EUR/GBP, for the audit log; the first ones if there are many.
fn pairs(rates: &Rates) -> String {
    let mut pairs: Vec<String> = rates.keys().map(|(from, to, _)| format!("{from}/{to}")).collect();
    pairs.dedup();
    let more = pairs.len().saturating_sub(PAIRS_MAX);
    pairs.truncate(PAIRS_MAX);
    if more > 0 {
        pairs.push(format!("+{more}"));
    }
    pairs.join(" ")
}
