//! Limit on the size of a response, counted where its lists without pages are computed.

use std::sync::Arc;
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
    /// What has been charged for values that are not counted.
    credit: AtomicUsize,
    pay: Option<Pay>,
    /// Of what this is a part.
    whole: Option<Arc<Size>>,
}

impl Size {
    /// For a response whose values are charged.
    pub fn paid(pay: impl Fn(usize) -> Result<()> + Send + Sync + 'static) -> Self {
        Size { pay: Some(Box::new(pay)), ..Size::default() }
    }

    /// A part that may turn out not to be given: what it takes is taken of the whole, too.
    pub fn part(whole: &Arc<Size>) -> Size {
        Size { whole: Some(Arc::clone(whole)), ..Size::default() }
    }

    /// Takes back what a part has taken: as much is not charged again.
    pub fn take_back(&self, part: &Size) {
        self.count.fetch_sub(part.count(), Ordering::Relaxed);
        self.credit.fetch_add(part.count(), Ordering::Relaxed);
    }

    /// The number of values so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts `rows` of `fields` each, before they are computed; `argument` is what determines their number. Errors:
    /// BAD_USER_INPUT, when the total is too large; RATE_LIMITED.
    pub fn take(&self, rows: usize, fields: usize, argument: &'static str) -> Result<()> {
        let count = rows.saturating_mul(fields.max(1)).min(VALUES_MAX + 1);
        if let Some(whole) = &self.whole {
            whole.take(count, 1, argument)?;
            self.count.fetch_add(count, Ordering::Relaxed);
            return Ok(());
        }
        if self.count.fetch_add(count, Ordering::Relaxed).saturating_add(count) > VALUES_MAX {
            let message = format!(
                "more than {VALUES_MAX} values in all series, breakdowns, orders and stored documents; use coarser grains, shorter periods, smaller pages, fewer rows, fewer fields or shorter formulas"
            );
            return Err(Error::bad_input(argument, message));
        }
        let left = |credit: usize| Some(credit.saturating_sub(count));
        let credit = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or_default();
        self.pay(count.saturating_sub(credit))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_twice_is_paid_once() {
        let paid = Arc::new(AtomicUsize::new(0));
        let pays = Arc::clone(&paid);
        let whole = Arc::new(Size::paid(move |values| {
            pays.fetch_add(values, Ordering::Relaxed);
            Ok(())
        }));
        let taken = |size: &Size, rows| size.take(rows, 2, "first").is_ok();
        let part = Size::part(&whole);
        assert!(taken(&whole, 1) && taken(&part, 10));
        assert_eq!((whole.count(), paid.load(Ordering::Relaxed)), (22, 22));
        whole.take_back(&part);
        assert_eq!(whole.count(), 2);
        assert!(taken(&whole, 4) && taken(&whole, 10));
        assert_eq!((whole.count(), paid.load(Ordering::Relaxed)), (30, 30));
        assert!(!taken(&Size::part(&whole), VALUES_MAX));
    }
}
