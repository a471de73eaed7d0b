//! A customer's purchases as seen by the models.

use std::ops::RangeInclusive;

use super::error::ValueError;

/// The longest history of a customer in days: a century.
pub const AGE_DAYS_MAX: u32 = 36_525;

/// An order of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// Days since any fixed day, the same for all customers.
    pub day: i32,
    /// In the smallest currency unit.
    pub amount_minor: i64,
    /// The day of its cancellation; as known from then on, the order never existed.
    pub cancelled_on: Option<i32>,
}

/// A refund of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The day of the order.
    pub of_day: i32,
    /// The day from which on it is known.
    pub day: i32,
    pub amount_minor: i64,
    /// The day on which the order was cancelled, and the refund with it.
    pub cancelled_on: Option<i32>,
}

/// The orders of a customer. Those of one day count as one purchase, as in the papers: two orders within an hour carry
/// no information about the next return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseDays {
    /// By day, ascending.
    orders: Vec<Order>,
    refunds: Vec<Refund>,
}

/// A customer's purchases up to some day, in the sufficient statistics of the models: x, t_x and T of the papers, in
/// days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchases {
    repeats: u32,
    recency_days: u32,
    age_days: u32,
    repeat_minor: i64,
    total_minor: i64,
}

impl PurchaseDays {
    /// From orders in any sequence: day and amount of each, in the smallest currency unit.
    ///
    /// Errors: no order, days too far apart, amounts too large.
    pub fn from_orders(orders: impl IntoIterator<Item = (i32, i64)>) -> Result<PurchaseDays, ValueError> {
        let order = |(day, amount_minor)| Order { day, amount_minor, cancelled_on: None };
        PurchaseDays::new(orders.into_iter().map(order).collect(), Vec::new())
    }

    /// From orders, their cancellations and refunds, in any sequence. Errors: as for [`Self::from_orders`].
    pub fn new(mut orders: Vec<Order>, refunds: Vec<Refund>) -> Result<PurchaseDays, ValueError> {
        orders.sort_unstable();
        let (Some(first), Some(last)) = (orders.first(), orders.last()) else { return Err(ValueError::NoPurchases) };
        if first.day.abs_diff(last.day) > AGE_DAYS_MAX {
            return Err(ValueError::HistoryTooLong);
        }
        // If the sum of absolute values fits, so does the sum of any subset.
        let amounts =
            orders.iter().map(|order| order.amount_minor).chain(refunds.iter().map(|refund| refund.amount_minor));
        let sizes: i128 = amounts.map(|amount| i128::from(amount).abs()).sum();
        if sizes > i128::from(i64::MAX) {
            return Err(ValueError::AmountTooLarge);
        }
        Ok(PurchaseDays { orders, refunds })
    }

    /// The purchases up to the end of `day`, as known then; `None` before the first. The age is capped at a century.
    pub fn until(&self, day: i32) -> Option<Purchases> {
        let mut days = self.days_known(day);
        let first = days.next()?;
        let (last, repeats) = days.fold((first, 0), |(_, repeats), day| (day, repeats + 1));
        let total_minor = self.spent(i32::MIN..=day, day);
        Some(Purchases {
            repeats,
            recency_days: first.abs_diff(last),
            age_days: first.abs_diff(day).min(AGE_DAYS_MAX),
            repeat_minor: total_minor - self.spent(first..=first, day),
            total_minor,
        })
    }

    /// The purchases after the end of `after` up to the end of `until`, as known then: number of days and amount.
    pub fn between(&self, after: i32, until: i32) -> (u32, i64) {
        let days = self.days_known(until).filter(|day| *day > after).fold(0, |days, _| days + 1);
        (days, self.spent(after.saturating_add(1)..=until, until))
    }

    /// The orders that exist at the end of `by`, as known then.
    fn known(&self, by: i32) -> impl Iterator<Item = &Order> {
        self.orders
            .iter()
            .take_while(move |order| order.day <= by)
            .filter(move |order| is_there(order.cancelled_on, by))
    }

    /// Their distinct days.
    fn days_known(&self, by: i32) -> impl Iterator<Item = i32> {
        let mut last = None;
        self.known(by).map(|order| order.day).filter(move |day| last.replace(*day) != Some(*day))
    }

    /// The spend on some days, as known at the end of `by`.
    fn spent(&self, days: RangeInclusive<i32>, by: i32) -> i64 {
        let orders = self.known(by).filter(|order| days.contains(&order.day));
        let refunds = self.refunds.iter().filter(|refund| refund.day <= by && is_there(refund.cancelled_on, by));
        let refunds = refunds.filter(|refund| days.contains(&refund.of_day));
        orders.map(|order| order.amount_minor).sum::<i64>() - refunds.map(|refund| refund.amount_minor).sum::<i64>()
    }
}

/// Whether it was not yet cancelled at the end of a day.
fn is_there(cancelled_on: Option<i32>, by: i32) -> bool {
    cancelled_on.is_none_or(|day| day > by)
}

impl Purchases {
    /// From aggregated numbers.
    ///
    /// Constraints: `repeats` ≤ `recency_days` ≤ `age_days` ≤ [`AGE_DAYS_MAX`], and a customer has repeats exactly when
    /// the last purchase is later than the first. Error: anything else.
    pub fn new(
        repeats: u32,
        recency_days: u32,
        age_days: u32,
        repeat_minor: i64,
        total_minor: i64,
    ) -> Result<Purchases, ValueError> {
        let is_ordered = repeats <= recency_days && recency_days <= age_days && age_days <= AGE_DAYS_MAX;
        if !is_ordered || (repeats == 0) != (recency_days == 0) {
            return Err(ValueError::ImpossibleHistory);
        }
        Ok(Purchases { repeats, recency_days, age_days, repeat_minor, total_minor })
    }

    /// x: purchase days after the first.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// t_x: days from the first to the last purchase.
    pub fn recency_days(&self) -> u32 {
        self.recency_days
    }

    /// T: days since the first purchase.
    pub fn age_days(&self) -> u32 {
        self.age_days
    }

    /// Days since the last purchase.
    pub fn silent_days(&self) -> u32 {
        self.age_days - self.recency_days
    }

    /// Days with a purchase.
    pub fn purchase_days(&self) -> u32 {
        self.repeats + 1
    }

    /// Total spend, in the smallest currency unit.
    pub fn total_minor(&self) -> i64 {
        self.total_minor
    }

    /// Spend after the first day, in the smallest currency unit.
    pub fn repeat_minor(&self) -> i64 {
        self.repeat_minor
    }

    /// Mean spend per repeat day, in the smallest currency unit; 0 without one. Not positive where everything was free
    /// or refunded.
    pub fn mean_spend(&self) -> f64 {
        if self.repeats == 0 { 0.0 } else { self.repeat_minor as f64 / f64::from(self.repeats) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_one_day_are_one_purchase() {
        // Days 3 (500 + 200), 10 (1000 - 300) and 31 (900): two repeat days of (700 + 900) / 2.
        let days = PurchaseDays::from_orders([(10, 1_000), (3, 500), (31, 900), (3, 200), (10, -300)]).expect("days");
        let all = days.until(40).expect("a customer");
        assert_eq!(all, Purchases::new(2, 28, 37, 1_600, 2_300).expect("numbers"));
        assert_eq!((all.mean_spend(), all.silent_days(), all.purchase_days()), (800.0, 9, 3));
    }

    #[test]
    fn later_purchases_are_not_seen() {
        let days = PurchaseDays::from_orders([(3, 500), (10, 700), (31, 900)]).expect("days");
        assert_eq!(days.until(2), None);
        assert_eq!(days.until(3), Some(Purchases::new(0, 0, 0, 0, 500).expect("numbers")));
        assert_eq!(days.until(30), Some(Purchases::new(1, 7, 27, 700, 1_200).expect("numbers")));
        let between = [(3, 31), (2, 30), (31, 99), (31, 3)].map(|(after, until)| days.between(after, until));
        assert_eq!(between, [(2, 1_600), (2, 1_200), (0, 0), (0, 0)]);
    }

    #[test]
    fn what_is_given_back_later_is_not_known_before() {
        let refund = |of_day, day, amount_minor| Refund { of_day, day, amount_minor, cancelled_on: None };
        let order = |day, amount_minor| Order { day, amount_minor, cancelled_on: None };
        let refunds = vec![refund(3, 12, 100), refund(10, 31, 700), refund(31, 35, 50)];
        let days = PurchaseDays::new(vec![order(3, 500), order(10, 700), order(31, 900)], refunds).expect("days");
        assert_eq!(days.until(11), Some(Purchases::new(1, 7, 8, 700, 1_200).expect("numbers")));
        assert_eq!(days.until(30), Some(Purchases::new(1, 7, 27, 700, 1_100).expect("numbers")));
        assert_eq!(days.until(35), Some(Purchases::new(2, 28, 32, 850, 1_250).expect("numbers")));
        assert_eq!([(2, 30), (10, 34), (10, 35)].map(|(after, until)| days.between(after, until).1), [1_100, 900, 850]);
        let large = PurchaseDays::new(vec![order(1, i64::MAX)], vec![refund(1, 1, 1)]);
        assert_eq!(large, Err(ValueError::AmountTooLarge));
    }

    #[test]
    fn what_is_cancelled_later_is_an_order_until_then() {
        let order = |day, amount_minor, cancelled_on| Order { day, amount_minor, cancelled_on };
        let orders =
            vec![order(3, 500, Some(20)), order(10, 700, None), order(10, 100, Some(15)), order(31, 900, Some(31))];
        // Refunds of a cancelled order do not count in addition, before or after.
        let refund = |day| Refund { of_day: 3, day, amount_minor: 50, cancelled_on: Some(20) };
        let days = PurchaseDays::new(orders, vec![refund(12), refund(25)]).expect("days");
        let known = |day, numbers: [i64; 5]| {
            let [repeats, recency, age] = [0, 1, 2].map(|i| u32::try_from(numbers[i]).expect("a number"));
            let expected = Purchases::new(repeats, recency, age, numbers[3], numbers[4]).expect("numbers");
            assert_eq!(days.until(day), Some(expected), "by day {day}");
        };
        known(9, [0, 0, 6, 0, 500]);
        known(14, [1, 7, 11, 800, 1_250]);
        known(19, [1, 7, 16, 700, 1_150]);
        known(20, [0, 0, 10, 0, 700]);
        // Cancelled on its day, it never existed.
        known(40, [0, 0, 30, 0, 700]);
        assert_eq!(
            [(3, 14), (3, 20), (2, 19), (2, 40)].map(|(after, until)| days.between(after, until)),
            [(1, 800), (1, 700), (2, 1_150), (1, 700)]
        );
        let none = PurchaseDays::new(vec![order(3, 500, Some(20))], Vec::new()).expect("days");
        assert_eq!((none.until(20), none.between(2, 20)), (None, (0, 0)));
    }

    #[test]
    fn impossible_histories_are_refused() {
        assert_eq!(PurchaseDays::from_orders([]), Err(ValueError::NoPurchases));
        assert_eq!(PurchaseDays::from_orders([(i32::MIN, 1), (i32::MAX, 1)]), Err(ValueError::HistoryTooLong));
        assert_eq!(PurchaseDays::from_orders([(1, i64::MAX), (2, i64::MIN)]), Err(ValueError::AmountTooLarge));
        for (repeats, recency, age) in [(3, 2, 9), (1, 10, 9), (0, 1, 9), (1, 1, AGE_DAYS_MAX + 1)] {
            assert_eq!(Purchases::new(repeats, recency, age, 0, 0), Err(ValueError::ImpossibleHistory));
        }
    }

    #[test]
    fn customer_of_long_ago_is_a_century_old() {
        let days = PurchaseDays::from_orders([(i32::MIN, 1)]).expect("days");
        assert_eq!(days.until(i32::MAX).map(|purchases| purchases.age_days()), Some(AGE_DAYS_MAX));
    }
}
