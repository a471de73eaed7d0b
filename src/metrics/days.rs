//! The statement that reads day rollups.

use sea_orm::{QueryResult, Value};

use super::catalog::Needs;
use super::ranges::Ranges;
use super::read::Question;
use super::sums::{CellKey, Sums};
use crate::db::{Table, get};
use crate::error::{Error, Result};
use crate::ledger::entry::Segment;
use crate::ledger::rollup::set::CountedSet;
use crate::ledger::rollup::sketch::Sketch;
use crate::ledger::rollup::{IN_RANGE, Level, range_table};

/// Values bound to a statement after the tenant id.
#[derive(Default)]
struct Bound {
    values: Vec<Value>,
}

impl Bound {
    fn push(&mut self, value: i64) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len() + 1)
    }
}

/// The single statement that reads a query's day rollups.
pub struct DayStatement {
    pub sql: String,
    /// Bound before the ranges.
    pub values: Vec<Value>,
    pub ranges: Table,
    /// Rows start with organization and slot, because there are several buckets.
    pub has_slot: bool,
    /// Rows are stored ones with their sets; otherwise sums computed by the database.
    has_sets: bool,
    needs: Needs,
    by_line: bool,
}

const SUMS: [&str; 7] = ["orders", "gross", "discount", "units", "refunds", "refunds_by_order", "visits"];

impl DayStatement {
    pub fn new(question: &Question<'_>, ranges: &Ranges, level: Level) -> Self {
        let by_line = level.by_line();
        let has_sets = question.needs.sets(by_line);
        let has_slot = question.boundaries.len() > 2 || question.group.by_time();
        let mut keys: Vec<&str> = if has_slot { vec!["m.org_no", "m.slot"] } else { Vec::new() };
        keys.extend(question.group.dimensions.iter().filter_map(|dimension| dimension.column()));
        let mut columns: Vec<String> = keys.iter().map(|column| (*column).to_owned()).collect();
        if has_sets {
            columns.extend(SUMS.iter().map(|sum| format!("m.{sum}")));
            columns.push("m.segment".into());
            columns.push(if question.needs.customers { "m.customer_set" } else { "NULL" }.into());
            columns.push(
                if by_line && (question.needs.orders || question.needs.first_orders) { "m.order_set" } else { "NULL" }
                    .into(),
            );
            columns.push(if question.needs.order_values && !by_line { "m.order_values" } else { "NULL" }.into());
        } else {
            columns.extend(SUMS.iter().map(|sum| format!("CAST(SUM(m.{sum}) AS bigint)")));
            let new = Segment::New as i32;
            columns.push(format!("CAST(SUM(CASE WHEN m.segment = {new} THEN m.orders ELSE 0 END) AS bigint)"));
        }
        let mut bound = Bound::default();
        let mut sql = format!(
            "SELECT {} FROM {{keys}} {{each sales_metrics m: {IN_RANGE} AND m.level = {}}} WHERE true",
            columns.join(", "),
            level as i32
        );
        let allowed = question.filter.lists().map(|list| (list, "IN"));
        let excluded = question.filter.excluded().filter(|(_, list)| !list.is_empty()).map(|list| (list, "NOT IN"));
        for ((dimension, list), is_in) in allowed.chain(excluded) {
            let Some(column) = dimension.column() else { continue };
            let numbers: Vec<String> = list.iter().map(|number| bound.push(*number)).collect();
            sql.push_str(&format!(" AND {column} {is_in} ({})", numbers.join(", ")));
        }
        if !has_sets && !keys.is_empty() {
            sql.push_str(&format!(" GROUP BY {}", keys.join(", ")));
        }
        DayStatement {
            sql,
            values: bound.values,
            ranges: range_table(ranges.days()),
            has_slot,
            has_sets,
            needs: question.needs,
            by_line,
        }
    }
}

/// Adds a row of [`DayStatement`] whose sums start at `index`.
pub fn add_row(
    sums: &mut Sums<'_>,
    key: CellKey,
    row: &QueryResult,
    index: usize,
    statement: &DayStatement,
) -> Result<()> {
    let is_first = statement.has_sets && get::<i32>(row, index + 7)? == Segment::New as i32;
    let set = |offset: usize| get::<Option<Vec<u8>>>(row, index + offset).map(Option::unwrap_or_default);
    if statement.has_sets && sums.counts() {
        let (customers, orders) = (CountedSet::from_bytes(&set(8)?)?, CountedSet::from_bytes(&set(9)?)?);
        sums.count_sets(&key, &customers, &orders, is_first);
    }
    let cell = sums.cell(key);
    let sum = |offset: usize| get::<Option<i64>>(row, index + offset).map(|sum| i128::from(sum.unwrap_or(0)));
    let orders = sum(0)?;
    cell.orders += orders;
    cell.gross += sum(1)?;
    cell.discount += sum(2)?;
    cell.units += sum(3)?;
    cell.refunds += sum(4)?;
    cell.refunds_by_order += sum(5)?;
    cell.visits += sum(6)?;
    if !statement.has_sets {
        cell.first_orders += sum(7)?;
        return Ok(());
    }
    if is_first {
        cell.first_orders += orders;
    }
    if statement.needs.customers {
        cell.customers |= CountedSet::members_of(&set(8)?)?;
    }
    if statement.by_line {
        cell.add_orders(&CountedSet::members_of(&set(9)?).map_err(Error::internal)?, is_first);
    } else if statement.needs.order_values {
        cell.order_values.merge(&Sketch::from_bytes(&set(10)?)?);
    }
    Ok(())
}
