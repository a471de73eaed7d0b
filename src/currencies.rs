//! Totals in several currencies: amounts of different currencies are never added, so those of customers and products
//! are in the default organization's currency, with sales in others listed separately.

use std::collections::HashMap;

use async_graphql::{Context, SimpleObject};

use crate::db::{Column, Table, TenantTx, get};
use crate::error::{Error, Result};
use crate::graphql::loader::{BatchLoad, load, load_known};
use crate::graphql::scalars::{Currency, Decimal};
use crate::ledger::changes::Holder;

/// An amount and its currency.
#[derive(Clone, SimpleObject)]
pub struct CurrencyAmount {
    /// The currency.
    currency: Currency,
    /// The amount.
    amount: Decimal,
}

/// The default organization's currency.
pub async fn home_currency(ctx: &Context<'_>) -> Result<Currency> {
    load_known::<HomeCurrency>(ctx, ()).await
}

/// The revenue of a customer or product in other currencies.
pub async fn other_revenue(ctx: &Context<'_>, holder: Holder, no: i64) -> Result<Vec<CurrencyAmount>> {
    Ok(load::<OtherRevenue>(ctx, (holder, no)).await?.unwrap_or_default())
}

/// Loads the default organization's currency.
struct HomeCurrency;

impl BatchLoad for HomeCurrency {
    type Key = ();
    type Value = Currency;

    async fn load(tx: &TenantTx, _: &[()]) -> Result<HashMap<(), Currency>> {
        let sql = "SELECT currency FROM organizations WHERE tenant_id = $1 AND is_default";
        let row = tx.query_one(sql, []).await?;
        row.iter().map(|row| Ok(((), Currency(get(row, 0)?)))).collect()
    }
}

/// Loads revenue in other currencies by holder.
struct OtherRevenue;

impl BatchLoad for OtherRevenue {
    type Key = (Holder, i64);
    type Value = Vec<CurrencyAmount>;

    async fn load(tx: &TenantTx, keys: &[(Holder, i64)]) -> Result<HashMap<(Holder, i64), Vec<CurrencyAmount>>> {
        let sql = "SELECT r.holder, r.holder_no, r.currency, r.amount FROM {keys} \
                   {each other_revenue r: r.holder = k.holder AND r.holder_no = k.no AND r.amount <> 0} \
                   ORDER BY r.holder, r.holder_no, r.currency";
        let keys = Table::new()
            .with("holder", Column::Int(keys.iter().map(|(holder, _)| *holder as i64).collect()))
            .with("no", Column::Int(keys.iter().map(|(_, no)| *no).collect()));
        let mut found: HashMap<(Holder, i64), Vec<CurrencyAmount>> = HashMap::new();
        for row in tx.query_by_keys(sql, &keys).await? {
            let holder = Holder::from_repr(get(&row, 0)?);
            let holder = holder.ok_or_else(|| Error::internal("revenue of an unknown kind of holder"))?;
            let amount = CurrencyAmount { currency: Currency(get(&row, 2)?), amount: Decimal(get(&row, 3)?) };
            found.entry((holder, get(&row, 1)?)).or_default().push(amount);
        }
        Ok(found)
    }
}
