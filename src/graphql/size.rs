//! How large the answer to a request gets.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Values in all series and breakdowns of one request.
const VALUES_MAX: usize = 200_000;

/// Takes the price of so many values. Error: RATE_LIMITED.
type Pay = Box<dyn Fn(usize) -> Result<()> + Send + Sync>;

/// How many values the answer to one request has so far.
#[derive(Default)]
pub struct Size {
    count: AtomicUsize,
    pay: Option<Pay>,
}

impl Size {
    /// Of an answer whose values are paid for.
    pub fn paid(pay: impl Fn(usize) -> Result<()> + Send + Sync + 'static) -> Self {
        Size { count: AtomicUsize::default(), pay: Some(Box::new(pay)) }
    }

    /// How many values there are by now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts `rows` of `fields` each, before they are made. Errors: BAD_USER_INPUT, when there are too many in all;
    /// RATE_LIMITED.
    pub fn take(&self, rows: usize, fields: usize) -> Result<()> {
        let count = rows.saturating_mul(fields.max(1)).min(VALUES_MAX + 1);
        if self.count.fetch_add(count, Ordering::Relaxed).saturating_add(count) > VALUES_MAX {
            let message = format!(
                "more than {VALUES_MAX} values in all series and breakdowns; take coarser grains, shorter periods or fewer fields"
            );
            return Err(Error::bad_input("grain", message));
        }
        self.pay.as_ref().map_or(Ok(()), |pay| pay(count))
    }
}
