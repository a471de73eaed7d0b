//! Personal data of customers, between plaintext and storage: which columns of `customers` are sealed, and the tenants'
//! keys, stored wrapped in `tenant_keys`. The encryption itself is described in [`crate::sealing`].

mod fields;
mod keys;
pub mod store;
mod texts;

pub use fields::{CustomerDetails, Field, SealedDetails, erased_id, find_index, open};
pub use keys::{Access, Keys};
pub use texts::{INTEGRATION_SECRETS, QUARANTINED_BODIES, SEALED_COLUMNS, SealedColumn};

use crate::error::{Code, Error};
use crate::sealing::kek::KekError;
use crate::sealing::{OpenError, SealError};

impl From<KekError> for Error {
    fn from(error: KekError) -> Self {
        let (code, message) = match error {
            KekError::BadWrapped(_) => (Code::DecryptionFailed, UNOPENED),
            _ => (Code::ServiceUnavailable, "personal data cannot be reached now; try again"),
        };
        Error::new(code, message).with_source(error)
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        Error::new(Code::DecryptionFailed, UNOPENED).with_source(error)
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        Error::internal(error)
    }
}

const UNOPENED: &str = "a stored value cannot be opened: it was changed, or belongs elsewhere";
