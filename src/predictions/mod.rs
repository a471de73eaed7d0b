//! Predictions: what the models of the crate `models` make of a tenant's metrics. They are fitted in a [`pool`] of their own,
//! never where requests are answered.

pub mod pool;

use pool::Pool;

/// What a process has for predictions. Cheap to clone.
#[derive(Clone, Default)]
pub struct Predictions {
    /// Where models are fitted.
    pub pool: Pool,
}

impl Predictions {
    pub fn new(pool: Pool) -> Self {
        Predictions { pool }
    }
}
