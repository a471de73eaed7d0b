//! Input errors.

use super::lifetime::{DISCOUNT_MAX, MONTHS_MAX};
use super::model::HORIZON_DAYS_MAX;
use super::purchases::AGE_DAYS_MAX;

/// Why an input is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("no customer has bought by that day")]
    NoCustomers,
    #[error("a customer has at least one purchase")]
    NoPurchases,
    #[error("purchases of one customer lie more than {AGE_DAYS_MAX} days apart")]
    HistoryTooLong,
    #[error("the amounts of one customer add up to more than 64 bits hold")]
    AmountTooLarge,
    #[error("repeat days, days to the last purchase and age must be in ascending order, the first two zero together")]
    ImpossibleHistory,
    #[error("a parameter is not a positive finite number in the model's range")]
    ParameterOutOfRange,
    #[error("a horizon is 1 to {HORIZON_DAYS_MAX} days")]
    HorizonOutOfRange,
    #[error("a lifetime is 1 to {MONTHS_MAX} months")]
    MonthsOutOfRange,
    #[error("a discount rate is 0 to {DISCOUNT_MAX}")]
    DiscountOutOfRange,
    #[error("a margin is 0 to 1")]
    MarginOutOfRange,
    #[error("a customer's months lie between the first purchase and the last month observed, a century at most")]
    ActivityOutsideCohort,
}
