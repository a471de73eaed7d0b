//! Predictions for one customer, and how the customer ranks among the others.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object, SimpleObject};
use chrono::Days;
use models::value::{Discount, HORIZON_DAYS_MAX, Scale, Segment, Terms, ValueError};

use super::model::CustomerModel;
use super::store::{Model, Prediction, PredictionsByNumber, TheModel};
use super::terms;
use crate::calendar::day_from_number;
use crate::error::{Error, Result};
use crate::graphql::context::operation;
use crate::graphql::loader::load;
use crate::graphql::scalars::{Date, Decimal};

/// Predictions for one customer, as of the position and day of the model.
pub struct CustomerForecasts {
    model: Arc<Model>,
    prediction: Arc<Prediction>,
}

/// Predictions for one customer, as of the position and day of the model.
#[Object]
impl CustomerForecasts {
    /// The model they come from, with its quality.
    async fn model(&self) -> CustomerModel {
        CustomerModel::new(&self.model)
    }

    /// Revenue expected in the next 365 days; null if nobody has paid yet.
    async fn expected_revenue(&self) -> Option<Decimal> {
        let Prediction { purchases, .. } = self.prediction.as_ref();
        let fit = &self.model.content.fit;
        let spend = fit.spend.as_ref()?.model.expected_spend(purchases);
        let expected = fit.purchases.model.expected_purchases(purchases, terms::PURCHASES_DAYS);
        Some(Decimal(terms::to_money(expected * spend)))
    }

    /// The probability that the customer has not left for good. One minus this is not the churn.
    async fn p_alive(&self) -> f64 {
        self.model.content.fit.purchases.model.p_alive(&self.prediction.purchases)
    }

    /// The probability that the customer makes no purchase in the next `horizonDays` days. Error: BAD_USER_INPUT.
    async fn churn(
        &self,
        #[graphql(desc = "How many days, 1 to 3650.", default_with = "Some(90)")] horizon_days: Option<i32>,
    ) -> async_graphql::Result<f64> {
        let days = horizon(horizon_days, terms::CHURN_DAYS)?;
        Ok(self.model.content.fit.purchases.model.churn(&self.prediction.purchases, days))
    }

    /// The purchases expected in the next `horizonDays` days; orders on the same day are one purchase. Error: BAD_USER_INPUT.
    async fn expected_purchases(
        &self,
        #[graphql(desc = "How many days, 1 to 3650.", default_with = "Some(365)")] horizon_days: Option<i32>,
    ) -> async_graphql::Result<f64> {
        let days = horizon(horizon_days, terms::PURCHASES_DAYS)?;
        Ok(self.model.content.fit.purchases.model.expected_purchases(&self.prediction.purchases, days))
    }

    /// The day by which a customer who has not left will have bought again with a probability of 50%; null if beyond ten years.
    async fn next_purchase_date(&self) -> Option<Date> {
        let fit = &self.model.content.fit;
        let days = fit.purchases.model.median_days_to_next(&self.prediction.purchases)?;
        day_from_number(fit.as_of_day).checked_add_days(Days::new(days.into())).map(Date)
    }

    /// The expected average value of a future purchase; null if nobody has paid yet.
    async fn expected_spend(&self) -> Option<Decimal> {
        let spend = self.model.content.fit.spend.as_ref()?;
        Some(Decimal(terms::to_money(spend.model.expected_spend(&self.prediction.purchases))))
    }

    /// Customer lifetime value: what all purchases expected within `months` are worth today, each month's discounted from its end. Past purchases are not included. Null if nobody has paid yet. Error: BAD_USER_INPUT.
    async fn lifetime_value(
        &self,
        #[graphql(desc = "How many months to look ahead, 1 to 120.", default_with = "Some(36)")] months: Option<i32>,
        #[graphql(
            desc = "The discount rate per year, 0 to 1: with 0.1 an amount a year later is worth 1/1.1 of it today.",
            default_with = "Some(0.1)"
        )]
        discount_rate: Option<f64>,
        #[graphql(desc = "The profit margin, 0 to 1: the share of revenue that is kept.", default_with = "Some(1.0)")]
        margin: Option<f64>,
    ) -> async_graphql::Result<Option<Decimal>> {
        let months = months.map_or(terms::LIFETIME_MONTHS, |months| u32::try_from(months).unwrap_or(0));
        let discount = Discount::Annual(discount_rate.unwrap_or(terms::DISCOUNT_RATE));
        let terms =
            Terms::new(terms::CHURN_DAYS, months, discount, margin.unwrap_or(terms::MARGIN)).map_err(bad_terms)?;
        let predicted = self.model.content.fit.predict(&self.prediction.purchases, &terms);
        Ok(predicted.lifetime_value_minor.map(terms::to_money).map(Decimal))
    }
}

impl CustomerForecasts {
    /// The predictions for a customer, where a model is fitted that includes the customer.
    pub async fn find(ctx: &Context<'_>, customer_no: i64) -> Result<Option<Self>> {
        operation(ctx)?.depends_on_more();
        let Some(prediction) = load::<PredictionsByNumber>(ctx, customer_no).await? else { return Ok(None) };
        Ok(load::<TheModel>(ctx, ()).await?.map(|model| CustomerForecasts { model, prediction }))
    }
}

fn horizon(days: Option<i32>, default: u32) -> Result<u32> {
    let days = days.map_or(default, |days| u32::try_from(days).unwrap_or(0));
    if (1..=HORIZON_DAYS_MAX).contains(&days) {
        Ok(days)
    } else {
        Err(Error::bad_input("horizonDays", ValueError::HorizonOutOfRange.to_string()))
    }
}

fn bad_terms(error: ValueError) -> Error {
    let argument = match error {
        ValueError::MonthsOutOfRange => "months",
        ValueError::DiscountOutOfRange => "discountRate",
        _ => "margin",
    };
    Error::bad_input(argument, error.to_string())
}

/// How a customer compares with all others: quintiles from 1 to 5, where 5 is best, as of the model.
#[derive(SimpleObject)]
pub struct CustomerRfm {
    /// How recently the customer bought, 1 to 5.
    recency: i32,
    /// How often the customer bought, counted in days with a purchase: 1 to 5.
    frequency: i32,
    /// How much the customer spent in total: 1 to 5.
    monetary: i32,
    /// The segment that follows from the scores.
    segment: RfmSegment,
    /// The method, and the version of its implementation. It counts and predicts nothing, so it has no calibration.
    method: String,
    /// The model with which the scores were computed: at its time, as of its position and day, by the quintiles of the customers in its sample.
    model: CustomerModel,
}

impl CustomerRfm {
    /// The ranking of a customer, where a model is fitted that includes the customer.
    pub async fn find(ctx: &Context<'_>, customer_no: i64) -> Result<Option<Self>> {
        operation(ctx)?.depends_on_more();
        let Some(prediction) = load::<PredictionsByNumber>(ctx, customer_no).await? else { return Ok(None) };
        let rfm = prediction.rfm;
        Ok(load::<TheModel>(ctx, ()).await?.map(|model| CustomerRfm {
            recency: rfm.recency.into(),
            frequency: rfm.frequency.into(),
            monetary: rfm.monetary.into(),
            segment: rfm.segment.into(),
            method: Scale::VERSION.to_owned(),
            model: CustomerModel::new(&model),
        }))
    }
}

/// A segment of customers by their scores of recency, frequency and monetary value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Segment")]
pub enum RfmSegment {
    /// Bought recently, buys often, and spends a lot.
    Champion,
    /// Buys often, and has not been away for long.
    Loyal,
    /// Bought recently and more than once, but no more often than others.
    PotentialLoyalist,
    /// Bought for the first time recently: within 90 days before the last purchase of all customers, and on two days at most.
    New,
    /// Has not been away for long, but does not buy often.
    NeedsAttention,
    /// Used to buy often or spend a lot, but has been away for long.
    AtRisk,
    /// Bought little, and a long time ago.
    Hibernating,
    /// Bought little, and longest ago.
    Lost,
}
