//! Errors in the settings of key-encryption keys, found at startup; they never contain a secret.

use std::path::PathBuf;

use crate::secret_file::TooOpen;

/// Why the configured key-encryption keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("no key-encryption key is given")]
    NoKey,
    #[error("{source_name} is not a key: 32 bytes in base64, as `openssl rand -base64 32` makes them")]
    NotAKey { source_name: String },
    #[error("the key file {path} cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: std::io::ErrorKind },
    #[error("the key file {path} {why}")]
    TooOpen { path: PathBuf, why: TooOpen },
    #[error("the address of Vault is not a URL that begins with https (http only to this machine)")]
    BadAddress,
    #[error("a mount or key of Vault has letters, digits, `-`, `_` and `.` in its name, not {0:?}")]
    BadName(String),
    #[error("the token of Vault has characters that no header can carry")]
    BadToken,
    #[error("the authority of Vault is not a certificate in PEM")]
    BadAuthority,
    #[error("no HTTP client: {0}")]
    NoClient(String),
}
