//! Key-encryption keys for envelope encryption: they wrap the tenants' keys, so that the database alone reveals
//! nothing.
//!
//! [`LocalKek`] holds them itself, from files or settings; [`VaultTransit`] uses Vault, which they never leave. A
//! wrapped key is text, `provider:key:ciphertext`, bound to the tenant, purpose and version of the key: it does not
//! unwrap in another row.

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

/// Wraps and unwraps the tenants' keys.
#[async_trait::async_trait]
pub trait KeyEncryption: Send + Sync + 'static {
    /// The wrapped key, as text to be stored.
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError>;

    /// The key of a text that was wrapped for the same name.
    async fn unwrap(&self, name: &KeyName, wrapped: &str) -> Result<KeyBytes, KekError>;

    /// The same key, wrapped by the current key-encryption key: after a rotation of the latter.
    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError>;
}

/// Identifies the wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName {
    pub tenant: Uuid,
    pub purpose: Purpose,
    pub version: u32,
}

/// The purpose of a key.
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
    /// Transient: timeout, no connection, sealed, overloaded.
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
