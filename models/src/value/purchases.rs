//! What the models see of a customer's purchases.

use super::error::ValueError;

/// The longest history of a customer in days: a century.
pub const AGE_DAYS_MAX: u32 = 36_525;

/// What a customer spent on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Day {
    /// Days since any fixed day, the same for all customers.
    day: i32,
    amount_minor: i64,
}

/// What was given back of the purchase of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// The day of the purchase.
    pub of_day: i32,
    /// The day from which on it is known.
    pub day: i32,
    pub amount_minor: i64,
}

/// The days on which a customer bought, in ascending order. Orders of one day are one purchase, as in the papers: two
/// orders within an hour tell nothing about when the customer comes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurchaseDays {
    days: Vec<Day>,
    refunds: Vec<Refund>,
}

/// A customer's purchases up to some day, in the numbers that the models need: x, t_x and T of the papers, in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchases {
    repeats: u32,
    recency_days: u32,
    age_days: u32,
    repeat_minor: i64,
    total_minor: i64,
}

impl PurchaseDays {
    /// From orders in any sequence: the day and the amount of each, in the smallest unit of the currency.
    ///
    /// Errors: no order, days too far apart, amounts too large.
    pub fn from_orders(orders: impl IntoIterator<Item = (i32, i64)>) -> Result<PurchaseDays, ValueError> {
        PurchaseDays::with_refunds(orders, Vec::new())
    }

    /// The same, of whose amounts some was given back later.
    pub fn with_refunds(
        orders: impl IntoIterator<Item = (i32, i64)>,
        refunds: Vec<Refund>,
    ) -> Result<PurchaseDays, ValueError> {
        let mut orders: Vec<(i32, i64)> = orders.into_iter().collect();
        orders.sort_unstable();
        let (Some(first), Some(last)) = (orders.first(), orders.last()) else { return Err(ValueError::NoPurchases) };
        if first.0.abs_diff(last.0) > AGE_DAYS_MAX {
            return Err(ValueError::HistoryTooLong);
        }
        // When the sizes together fit, so does the sum of any of the amounts.
        let amounts = orders.iter().map(|order| order.1).chain(refunds.iter().map(|refund| refund.amount_minor));
        let sizes: i128 = amounts.map(|amount| i128::from(amount).abs()).sum();
        if sizes > i128::from(i64::MAX) {
            return Err(ValueError::AmountTooLarge);
        }
        let same_day = orders.chunk_by(|a, b| a.0 == b.0);
        let days = same_day.filter_map(|orders| {
            let amount_minor = orders.iter().map(|order| order.1).sum();
            orders.first().map(|order| Day { day: order.0, amount_minor })
        });
        Ok(PurchaseDays { days: days.collect(), refunds })
    }

    /// The day of the first purchase.
    pub fn first_day(&self) -> i32 {
        self.days.first().map_or(i32::MAX, |first| first.day)
    }

    /// The purchases up to the end of `day`, less what was given back by then; `None` before the first. An age of more than a
    /// century counts as one.
    pub fn until(&self, day: i32) -> Option<Purchases> {
        let seen = &self.days[..self.days_until(day)];
        let (first, last) = (seen.first()?, seen.last()?);
        let total_minor = self.spent(seen, day);
        Some(Purchases {
            repeats: count(seen.len() - 1),
            recency_days: first.day.abs_diff(last.day),
            age_days: first.day.abs_diff(day).min(AGE_DAYS_MAX),
            repeat_minor: total_minor - self.spent(&seen[..1], day),
            total_minor,
        })
    }

    /// The purchases after the end of `after` up to the end of `until`: on how many days, for how much, less what was given
    /// back of them by then.
    pub fn between(&self, after: i32, until: i32) -> (u32, i64) {
        let later = self.days.get(self.days_until(after)..self.days_until(until)).unwrap_or_default();
        (count(later.len()), self.spent(later, until))
    }

    /// What was spent on some days, as it is known at the end of `by`.
    fn spent(&self, days: &[Day], by: i32) -> i64 {
        let (Some(first), Some(last)) = (days.first(), days.last()) else { return 0 };
        let known = self.refunds.iter().filter(|r| r.day <= by && (first.day..=last.day).contains(&r.of_day));
        days.iter().map(|day| day.amount_minor).sum::<i64>() - known.map(|refund| refund.amount_minor).sum::<i64>()
    }

    fn days_until(&self, day: i32) -> usize {
        self.days.partition_point(|purchase| purchase.day <= day)
    }
}

/// A number of days; there are never more than in a century, and one.
fn count(days: usize) -> u32 {
    u32::try_from(days).unwrap_or(u32::MAX)
}

impl Purchases {
    /// From counted numbers.
    ///
    /// Shapes: `repeats` ≤ `recency_days` ≤ `age_days` ≤ [`AGE_DAYS_MAX`], and a customer has repeats exactly when the
    /// last purchase is later than the first. Error: anything else.
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

    /// x: days with a purchase after the first such day.
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

    /// All that was spent, in the smallest unit of the currency.
    pub fn total_minor(&self) -> i64 {
        self.total_minor
    }

    /// What was spent after the first day, in the smallest unit of the currency.
    pub fn repeat_minor(&self) -> i64 {
        self.repeat_minor
    }

    /// Mean spend of a repeat day, in the smallest unit of the currency; 0 without one. Not positive where all was given
    /// away or refunded.
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
        let refund = |of_day, day, amount_minor| Refund { of_day, day, amount_minor };
        let refunds = vec![refund(3, 12, 100), refund(10, 31, 700), refund(31, 35, 50)];
        let days = PurchaseDays::with_refunds([(3, 500), (10, 700), (31, 900)], refunds).expect("days");
        assert_eq!(days.until(11), Some(Purchases::new(1, 7, 8, 700, 1_200).expect("numbers")));
        assert_eq!(days.until(30), Some(Purchases::new(1, 7, 27, 700, 1_100).expect("numbers")));
        assert_eq!(days.until(35), Some(Purchases::new(2, 28, 32, 850, 1_250).expect("numbers")));
        assert_eq!([(2, 30), (10, 34), (10, 35)].map(|(after, until)| days.between(after, until).1), [1_100, 900, 850]);
        let large = PurchaseDays::with_refunds([(1, i64::MAX)], vec![refund(1, 1, 1)]);
        assert_eq!(large, Err(ValueError::AmountTooLarge));
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
