//! Limit on the size of a response, counted where its lists without pages are computed.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::parser::types::OperationType;
use async_graphql::{Context, SelectionField};

use super::context::operation;
use super::scalars::Json;
use crate::error::{Error, Result};

/// As many bytes of a stored document count as one value.
const DOCUMENT_BYTES: usize = 100;
/// Maximum number of values in all series, breakdowns and parts of orders of one request.
const VALUES_MAX: usize = 200_000;

/// Charges for that many values. Error: RATE_LIMITED.
type Pay = Box<dyn Fn(usize) -> Result<()> + Send + Sync>;

/// Number of values in the response to one request so far, and what it costs to compute KPIs among them.
#[derive(Default)]
pub struct Size {
    count: AtomicUsize,
    /// What a trial began with.
    before: usize,
    pay: Option<Pay>,
}

impl Size {
    /// For a response whose values are charged.
    pub fn paid(pay: impl Fn(usize) -> Result<()> + Send + Sync + 'static) -> Self {
        Size { pay: Some(Box::new(pay)), ..Size::default() }
    }

    /// The same, for a part of which it is not known yet whether it is given: nothing is charged.
    pub fn trial(&self) -> Size {
        let count = self.count();
        Size { count: AtomicUsize::new(count), before: count, pay: None }
    }

    /// Counts and charges what a trial has counted. Errors: as [`Size::take`].
    pub fn settle(&self, trial: &Size) -> Result<()> {
        self.take(trial.count() - trial.before, 1, "grain")
    }

    /// The number of values so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts `rows` of `fields` each, before they are computed; `argument` is what determines their number. Errors:
    /// BAD_USER_INPUT, when the total is too large; RATE_LIMITED.
    pub fn take(&self, rows: usize, fields: usize, argument: &'static str) -> Result<()> {
        let count = rows.saturating_mul(fields.max(1)).min(VALUES_MAX + 1);
        if self.count.fetch_add(count, Ordering::Relaxed).saturating_add(count) > VALUES_MAX {
            let message = format!(
                "more than {VALUES_MAX} values in all series, breakdowns, orders and stored documents; use coarser grains, shorter periods, smaller pages, fewer rows, fewer fields or shorter formulas"
            );
            return Err(Error::bad_input(argument, message));
        }
        self.pay(count)
    }

    /// Charges for values that are not part of a list. Error: RATE_LIMITED.
    pub fn pay(&self, values: usize) -> Result<()> {
        self.pay.as_ref().map_or(Ok(()), |pay| pay(values))
    }
}

/// A stored document as a field's value, counted by its length, except in subscriptions, which send one answer after the
/// other. Errors: BAD_USER_INPUT, RATE_LIMITED.
pub fn counted(ctx: &Context<'_>, document: Option<&serde_json::Value>) -> Result<Option<Json>> {
    let Some(document) = document else { return Ok(None) };
    if ctx.query_env.operation.node.ty != OperationType::Subscription {
        let taken = operation(ctx)?.size().take(document.to_string().len() / DOCUMENT_BYTES, 1, "");
        taken.map_err(|error| Error { argument: None, ..error })?;
    }
    Ok(Some(Json(document.clone())))
}

/// The number of fields selected within a field, on all levels.
pub fn fields_within(field: SelectionField<'_>) -> usize {
    field.selection_set().map(|field| 1 + fields_within(field)).sum()
}
