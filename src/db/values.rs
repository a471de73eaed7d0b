//! Times and amounts as values of columns: whole numbers.

use sea_orm::{ColIdx, QueryResult, TryGetError, TryGetable, Value};

use crate::clock::Timestamp;
use crate::money::Money;

macro_rules! whole_number {
    ($type:ident) => {
        impl TryGetable for $type {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                i64::try_get_by(row, index).map($type)
            }
        }

        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                value.0.into()
            }
        }
    };
}

whole_number!(Timestamp);
whole_number!(Money);
