//! Key-encryption keys: what wraps the tenants' keys, so that the database alone opens nothing.
//!
//! [`LocalKek`] holds them itself, from files or from settings; [`VaultTransit`] asks Vault, where they never leave. A
//! wrapped key is text, `provider:key:ciphertext`, bound to the tenant, purpose and version of the key within: in the row
//! of another it does not unwrap.

mod local;
mod setup;
mod vault;
mod wrapped;

use std::fmt;

use uuid::Uuid;

pub use local::LocalKek;
pub use setup::SetupError;
pub use vault::{VaultSettings, VaultTransit};

use super::key::{KeyBytes, NoRandomness};

/// Wraps and unwraps the keys of tenants.
#[async_trait::async_trait]
pub trait KeyEncryption: Send + Sync + 'static {
    /// The key as text that may be stored.
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError>;

    /// The key of a wrapped text that was made for the same name.
    async fn unwrap(&self, name: &KeyName, wrapped: &str) -> Result<KeyBytes, KekError>;

    /// The same key, wrapped by what wraps now: after the key-encryption key was rotated.
    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError>;
}

/// Which key is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    pub tenant: Uuid,
    pub purpose: Purpose,
    pub version: u32,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Data,
    Index,
}

impl fmt::Display for KeyName {
    /// The text that wrapped keys are bound to: it must never change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = match self.purpose {
            Purpose::Data => "data",
            Purpose::Index => "index",
        };
        write!(f, "salespulse/{}/{purpose}/{}", self.tenant.hyphenated(), self.version)
    }
}

/// Why a key cannot be wrapped or unwrapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// It may pass: no answer in time, no connection, sealed, overloaded.
    #[error("the key-encryption key cannot be reached: {0}")]
    Unavailable(String),
    #[error("access to the key-encryption key is denied: {0}")]
    Denied(String),
    #[error("the keeper of the key-encryption key refuses the request: {0}")]
    Refused(String),
    #[error("wrapped by {0}, which is not among the key-encryption keys here")]
    UnknownKek(String),
    #[error("the wrapped key does not unwrap: {0}")]
    BadWrapped(String),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_tenant_purpose_and_version() {
        let name = KeyName { tenant: Uuid::from_u128(0xa), purpose: Purpose::Data, version: 3 };
        assert_eq!(name.to_string(), "salespulse/00000000-0000-0000-0000-00000000000a/data/3");
        let index = KeyName { purpose: Purpose::Index, ..name };
        assert_eq!(index.to_string(), "salespulse/00000000-0000-0000-0000-00000000000a/index/3");
    }
}
