//! Storage form of a tenant's retention cohorts.

use chrono::{Datelike, NaiveDate};
use models::value::{ActiveMonths, CurvePoint, Month, Retention};
use serde::{Deserialize, Serialize};

use super::history::History;
use crate::calendar::day_from_number;

/// Months per year.
const YEAR: i32 = 12;

/// Retention by month of the first purchase, up to the last complete month.
#[derive(Serialize, Deserialize)]
pub struct Table {
    pub cohorts: Vec<Cohort>,
    pub curve: Vec<Point>,
}

/// The customers who first bought in one month.
#[derive(Serialize, Deserialize)]
pub struct Cohort {
    /// The first day of the month.
    pub month: NaiveDate,
    pub customers: i64,
    /// By months since the first: number of buyers, and revenue.
    pub cells: Vec<(i64, i64)>,
}

#[derive(Serialize, Deserialize)]
pub struct Point {
    pub customers: i64,
    pub retention: f64,
}

/// Accumulates customers one at a time.
pub struct Counting {
    retention: Retention,
    until: Month,
}

impl Counting {
    /// Up to the month before that of `day`, which is incomplete.
    pub fn before_month_of(day: i32) -> Counting {
        let until = month_of(day) - 1;
        Counting { retention: Retention::until(until), until }
    }

    /// Customers without a purchase by then, or with a history longer than the horizon, are excluded.
    pub fn add(&mut self, history: &History) {
        let months = history.amounts().map(|(day, amount)| (month_of(day), amount));
        let active: Vec<(Month, i64)> = months.filter(|(month, _)| *month <= self.until).collect();
        if let Some(first) = active.iter().map(|(month, _)| *month).min() {
            // The only error is a history that is too long, which is not counted.
            let _ = self.retention.add(&ActiveMonths { first, active });
        }
    }

    /// `None` if a sum overflows 64 bits.
    pub fn finish(&self) -> Option<Table> {
        let count = |n: u64| i64::try_from(n).ok();
        let cohorts = self.retention.cohorts().map(|cohort| {
            let cells = cohort.cells.iter();
            let cells = cells.map(|cell| Some((count(cell.active)?, i64::try_from(cell.revenue_minor).ok()?)));
            let (month, customers) = (first_day(cohort.month)?, count(cohort.customers)?);
            Some(Cohort { month, customers, cells: cells.collect::<Option<_>>()? })
        });
        let point = |point: CurvePoint| Some(Point { customers: count(point.customers)?, retention: point.retention });
        let curve = self.retention.curve().into_iter().map(point);
        Some(Table { cohorts: cohorts.collect::<Option<_>>()?, curve: curve.collect::<Option<_>>()? })
    }
}

/// Months since the year 0.
fn month_of(day: i32) -> Month {
    let date = day_from_number(day);
    date.year() * YEAR + date.month0().cast_signed()
}

fn first_day(month: Month) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(month.div_euclid(YEAR), month.rem_euclid(YEAR).cast_unsigned() + 1, 1)
}
