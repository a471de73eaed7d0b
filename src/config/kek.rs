//! Settings of the key-encryption key.

use std::path::PathBuf;

use super::ConfigError;
use super::values::Values;

/// The source of the key-encryption key.
#[derive(Clone)]
pub enum KekSource {
    /// The first file holds the wrapping key; the others only unwrap. Empty when not set.
    Files(Vec<PathBuf>),
    /// Keys as text, in the same order.
    Texts(Vec<String>),
    Vault {
        url: String,
        mount: String,
        key: String,
        token: String,
        /// CA certificates for Vault's certificate.
        authority: Option<PathBuf>,
    },
}

impl KekSource {
    /// Files, unless one of the others is set.
    pub(super) fn from_values(values: &Values<'_>) -> Result<Self, ConfigError> {
        match (values.some("SALESPULSE_VAULT_URL"), values.some("SALESPULSE_KEK")) {
            (Some(_), Some(_)) => Err(ConfigError::bad(
                "SALESPULSE_KEK",
                "cannot be set together with SALESPULSE_VAULT_URL; set one of them",
            )),
            (Some(url), None) => Ok(KekSource::Vault {
                url,
                mount: values.text("SALESPULSE_VAULT_MOUNT"),
                key: values.text("SALESPULSE_VAULT_KEY"),
                token: values.text("SALESPULSE_VAULT_TOKEN"),
                authority: values.some("SALESPULSE_VAULT_CA").map(PathBuf::from),
            }),
            (None, Some(texts)) => Ok(KekSource::Texts(texts.split(',').map(|text| text.trim().to_owned()).collect())),
            (None, None) => {
                let files = values.some("SALESPULSE_KEK_FILES").unwrap_or_default();
                let paths = files.split(',').map(str::trim).filter(|path| !path.is_empty());
                Ok(KekSource::Files(paths.map(PathBuf::from).collect()))
            }
        }
    }
}
