//! Cohort retention: of the customers who first bought in a month, how many buy again in each later month.

use std::collections::BTreeMap;

use super::error::ValueError;

/// A calendar month, counted from any fixed one.
pub type Month = i32;

/// The maximum age of a cohort: a century.
const OFFSET_MAX: u32 = 1_200;

/// The months in which a customer bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveMonths {
    /// The month of the first purchase ever.
    pub first: Month,
    /// Each month with a purchase, in any order, and its revenue in the smallest currency unit.
    pub active: Vec<(Month, i64)>,
}

/// A cohort in one month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Customers of the cohort who bought in the month.
    pub active: u64,
    pub revenue_minor: i128,
}

/// The customers who first bought in one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    pub month: Month,
    pub customers: u64,
    /// By months since the first, from 0 to the last month observed.
    pub cells: Vec<Cell>,
}

/// A point of the retention curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Months since the first.
    pub offset: usize,
    /// Customers of all cohorts observed that long.
    pub customers: u64,
    /// The share of them who bought in that month: the cohorts' retention, weighted by size.
    pub retention: f64,
}

/// Cohorts by month, followed up to one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    until: Month,
    cohorts: BTreeMap<Month, Cohort>,
}

impl Cohort {
    /// The share of the cohort that bought in each month.
    pub fn retention(&self) -> impl Iterator<Item = f64> {
        self.cells.iter().map(|cell| cell.active as f64 / self.customers as f64)
    }
}

impl Retention {
    /// An empty table up to the month `until`. An incomplete month undercounts customers: exclude it by an earlier
    /// `until`, along with its purchases.
    pub fn until(until: Month) -> Retention {
        Retention { until, cohorts: BTreeMap::new() }
    }

    /// Adds a customer. Error: a month before the customer's first or after the last one observed, or a first month
    /// more than a century before it.
    pub fn add(&mut self, customer: &ActiveMonths) -> Result<(), ValueError> {
        let last_offset = offset(customer.first, self.until).ok_or(ValueError::ActivityOutsideCohort)?;
        let cohort = self.cohorts.entry(customer.first).or_insert_with(|| Cohort {
            month: customer.first,
            customers: 0,
            cells: vec![Cell::default(); last_offset + 1],
        });
        cohort.add(&customer.active)
    }

    /// The nonempty cohorts, by month.
    pub fn cohorts(&self) -> impl Iterator<Item = &Cohort> {
        self.cohorts.values().filter(|cohort| cohort.customers > 0)
    }

    /// The retention curve, as long as any cohort was observed.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let length = self.cohorts().map(|cohort| cohort.cells.len()).max().unwrap_or(0);
        (0..length).map(|offset| self.point(offset)).collect()
    }

    fn point(&self, offset: usize) -> CurvePoint {
        let (mut customers, mut active) = (0, 0);
        for cohort in self.cohorts() {
            if let Some(cell) = cohort.cells.get(offset) {
                customers += cohort.customers;
                active += cell.active;
            }
        }
        CurvePoint { offset, customers, retention: active as f64 / customers as f64 }
    }
}

impl Cohort {
    /// Adds a customer's months, with duplicates counted once; adds nothing on error.
    fn add(&mut self, active: &[(Month, i64)]) -> Result<(), ValueError> {
        let mut months = BTreeMap::<usize, i128>::new();
        for (month, revenue_minor) in active {
            let offset = offset(self.month, *month).filter(|offset| *offset < self.cells.len());
            *months.entry(offset.ok_or(ValueError::ActivityOutsideCohort)?).or_default() += i128::from(*revenue_minor);
        }
        for (offset, revenue_minor) in months {
            let cell = &mut self.cells[offset];
            cell.active += 1;
            cell.revenue_minor += revenue_minor;
        }
        self.customers += 1;
        Ok(())
    }
}

/// Months from `first` to `month`; `None` where that is earlier, or more than a century later.
fn offset(first: Month, month: Month) -> Option<usize> {
    let months = first.abs_diff(month);
    (month >= first && months <= OFFSET_MAX).then_some(months as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(customers: &[ActiveMonths], until: Month) -> Result<Retention, ValueError> {
        let mut table = Retention::until(until);
        customers.iter().try_for_each(|customer| table.add(customer))?;
        Ok(table)
    }

    fn customer(first: Month, active: &[(Month, i64)]) -> ActiveMonths {
        ActiveMonths { first, active: active.to_vec() }
    }

    #[test]
    fn cohorts_are_followed_month_by_month() {
        let customers =
            [customer(3, &[(3, 100), (5, 50)]), customer(3, &[(5, 10), (3, 200), (5, 20)]), customer(4, &[(4, 70)])];
        let retention = table(&customers, 5).expect("a table");
        let cells = |cells: &[(u64, i128)]| -> Vec<Cell> {
            cells.iter().map(|&(active, revenue_minor)| Cell { active, revenue_minor }).collect()
        };
        // 50 + 10 + 20 in the second month after the third.
        let third = Cohort { month: 3, customers: 2, cells: cells(&[(2, 300), (0, 0), (2, 80)]) };
        let fourth = Cohort { month: 4, customers: 1, cells: cells(&[(1, 70), (0, 0)]) };
        assert_eq!(retention.cohorts().collect::<Vec<_>>(), [&third, &fourth]);
        assert_eq!(third.retention().collect::<Vec<_>>(), [1.0, 0.0, 1.0]);
        let curve: Vec<_> = retention.curve().iter().map(|point| (point.customers, point.retention)).collect();
        assert_eq!(curve, [(3, 1.0), (3, 0.0), (2, 1.0)]);
    }

    #[test]
    fn months_out_of_the_table_are_refused() {
        for (first, month) in [(3, 2), (3, 6), (6, 6), (-1_196, 5), (i32::MAX, i32::MIN)] {
            let refused = table(&[customer(first, &[(month, 1)])], 5);
            assert_eq!(refused, Err(ValueError::ActivityOutsideCohort));
        }
        assert_eq!(table(&[], 5).map(|retention| retention.curve()), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(customers in prop::collection::vec((0i32..12, prop::collection::btree_map(0i32..12, any::<i64>(), 0..12)), 0..40)) {
            let customers: Vec<_> = customers
                .into_iter()
                .map(|(first, active)| ActiveMonths { first, active: active.into_iter().map(|(after, revenue)| (first + after, revenue)).collect() })
                .collect();
            let retention = table(&customers, 24).expect("a table");
            let revenue: i128 = retention.cohorts().flat_map(|cohort| &cohort.cells).map(|cell| cell.revenue_minor).sum();
            let expected: i128 = customers.iter().flat_map(|customer| &customer.active).map(|month| i128::from(month.1)).sum();
            prop_assert_eq!(revenue, expected);
            prop_assert!(retention.curve().iter().all(|point| (0.0..=1.0).contains(&point.retention)));
            prop_assert_eq!(retention.cohorts().map(|cohort| cohort.customers).sum::<u64>(), customers.len() as u64);
        }
    }
}
