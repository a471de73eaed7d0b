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
        let [vault, texts, files] =
            ["SALESPULSE_VAULT_URL", "SALESPULSE_KEK", "SALESPULSE_KEK_FILES"].map(|name| values.some(name));
        match (vault, texts, files) {
            (Some(url), None, None) => Ok(KekSource::Vault {
                url,
                mount: values.text("SALESPULSE_VAULT_MOUNT"),
                key: values.text("SALESPULSE_VAULT_KEY"),
                token: values.text("SALESPULSE_VAULT_TOKEN"),
                authority: values.some("SALESPULSE_VAULT_CA").map(PathBuf::from),
            }),
            (None, Some(texts), None) => {
                Ok(KekSource::Texts(texts.split(',').map(|text| text.trim().to_owned()).collect()))
            }
            (None, None, files) => {
                let files = files.unwrap_or_default();
                let paths = files.split(',').map(str::trim).filter(|path| !path.is_empty());
                Ok(KekSource::Files(paths.map(PathBuf::from).collect()))
            }
            (vault, ..) => {
                let name = if vault.is_some() { "SALESPULSE_VAULT_URL" } else { "SALESPULSE_KEK" };
                let why = "cannot be set together with another source of the key-encryption key; set one of \
                           SALESPULSE_KEK_FILES, SALESPULSE_KEK and SALESPULSE_VAULT_URL";
                Err(ConfigError::bad(name, why))
            }
        }
    }
}
