//! The settings of the key-encryption key.

use std::path::PathBuf;

use super::ConfigError;

/// Where the key-encryption key is.
#[derive(Clone)]
pub enum KekSource {
    /// The first file has the key that wraps; those of the others only unwrap. None where it is not set.
    Files(Vec<PathBuf>),
    /// Keys as texts, in the same order.
    Texts(Vec<String>),
    Vault {
        url: String,
        mount: String,
        key: String,
        token: String,
        /// Certificates of the authority that signed Vault's.
        authority: Option<PathBuf>,
    },
}

impl KekSource {
    /// Files, unless one of the others is set.
    pub(super) fn from_settings(text: impl Fn(&'static str) -> String) -> Result<Self, ConfigError> {
        let some = |name| Some(text(name)).filter(|value| !value.is_empty());
        match (some("SALESPULSE_VAULT_URL"), some("SALESPULSE_KEK")) {
            (Some(_), Some(_)) => {
                let why = "goes not with SALESPULSE_VAULT_URL; set one of them".to_owned();
                Err(ConfigError::Bad { name: "SALESPULSE_KEK", why })
            }
            (Some(url), None) => Ok(KekSource::Vault {
                url,
                mount: text("SALESPULSE_VAULT_MOUNT"),
                key: text("SALESPULSE_VAULT_KEY"),
                token: text("SALESPULSE_VAULT_TOKEN"),
                authority: some("SALESPULSE_VAULT_CA").map(PathBuf::from),
            }),
            (None, Some(texts)) => Ok(KekSource::Texts(texts.split(',').map(|text| text.trim().to_owned()).collect())),
            (None, None) => {
                let files = some("SALESPULSE_KEK_FILES").unwrap_or_default();
                let paths = files.split(',').map(str::trim).filter(|path| !path.is_empty());
                Ok(KekSource::Files(paths.map(PathBuf::from).collect()))
            }
        }
    }
}
