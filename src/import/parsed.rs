//! The content of rows, before they become an event.

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::ledger::event::{Customer, Line};

/// The content of one row, or of all rows of a fact so far.
#[derive(Clone, Debug)]
pub struct ParsedRow {
    pub id: String,
    pub at: Timestamp,
    pub organization: Option<String>,
    pub currency: Option<String>,
    pub channel: Option<String>,
    pub region: Option<String>,
    pub customer: Option<Customer>,
    pub order: Option<String>,
    /// `None` where the feed has none, or the row's is empty: the first.
    pub version: Option<i64>,
    pub count: i64,
    pub amount: Option<i128>,
    pub discount: Option<i128>,
    pub lines: Vec<Line>,
}

impl ParsedRow {
    pub fn version(&self) -> i64 {
        self.version.unwrap_or(1)
    }

    /// Merges another row: the highest version wins; within it, amounts and lines add up, the earliest time counts,
    /// otherwise the first value present. Error: it contradicts the fact.
    pub fn add(&mut self, row: ParsedRow) -> Result<(), String> {
        match row.version().cmp(&self.version()) {
            Ordering::Less => return Ok(()),
            Ordering::Greater => {
                *self = row;
                return Ok(());
            }
            Ordering::Equal => {}
        }
        let id_of = |customer: &Option<Customer>| customer.as_ref().map(|customer| customer.id.clone());
        agree("customer", id_of(&self.customer).as_deref(), id_of(&row.customer).as_deref())?;
        for (key, known, other) in [
            ("currency", &self.currency, &row.currency),
            ("organization", &self.organization, &row.organization),
            ("order", &self.order, &row.order),
        ] {
            agree(key, known.as_deref(), other.as_deref())?;
        }
        self.at = self.at.min(row.at);
        self.count = self.count.checked_add(row.count).ok_or("`count` is too large")?;
        for (sum, added) in [(&mut self.amount, row.amount), (&mut self.discount, row.discount)] {
            if let Some(added) = added {
                *sum = Some(sum.unwrap_or(0) + added);
            }
        }
        for (text, other) in [
            (&mut self.organization, row.organization),
            (&mut self.currency, row.currency),
            (&mut self.channel, row.channel),
            (&mut self.region, row.region),
            (&mut self.order, row.order),
        ] {
            if text.is_none() {
                *text = other;
            }
        }
        if self.customer.is_none() {
            self.customer = row.customer;
        }
        self.lines.extend(row.lines);
        Ok(())
    }
}

fn agree(key: &str, known: Option<&str>, other: Option<&str>) -> Result<(), String> {
    match (known, other) {
        (Some(known), Some(other)) if known != other => {
            Err(format!("`{key}` is {other:?}, and was {known:?} in a row before with the same id"))
        }
        _ => Ok(()),
    }
}
