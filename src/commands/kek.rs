//! Loading of the configured key-encryption key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use crate::config::{Config, KekSource};
use crate::db::{Db, sqlite_file};
use crate::privacy::wrapping::{CheckError, check, list_keks};
use crate::sealing::generate_key;
use crate::sealing::kek::{KekError, KeyEncryption, LocalKek, SetupError, VaultSettings, VaultTransit};
use crate::secret_file;

const VAULT_WAIT: Duration = Duration::from_secs(5);

/// The configured key-encryption key, which unwraps the stored keys; created for a single server with nothing stored
/// yet.
pub async fn open(config: &Config, db: &Db) -> Result<Arc<dyn KeyEncryption>, Failure> {
    let kek: Arc<dyn KeyEncryption> = match &config.kek {
        KekSource::Files(paths) => {
            let paths = if paths.is_empty() { vec![default_file(config, db).await?] } else { paths.clone() };
            Arc::new(
                LocalKek::from_files(paths.iter().map(AsRef::as_ref)).map_err(|e| bad("SALESPULSE_KEK_FILES", &e))?,
            )
        }
        KekSource::Texts(texts) => {
            Arc::new(LocalKek::from_texts(texts.iter().map(String::as_str)).map_err(|e| bad("SALESPULSE_KEK", &e))?)
        }
        KekSource::Vault { url, mount, key, token, authority } => {
            let read = |path: &PathBuf| {
                std::fs::read(path).map_err(|error| {
                    Failure::new(Exit::BadConfig, format!("SALESPULSE_VAULT_CA: {}: {error}", path.display()))
                })
            };
            let settings = VaultSettings {
                address: url.clone(),
                mount: mount.clone(),
                key: key.clone(),
                token: token.clone(),
                authority_pem: authority.as_ref().map(read).transpose()?,
                answer_wait: VAULT_WAIT,
            };
            Arc::new(VaultTransit::new(&settings).map_err(|e| bad("SALESPULSE_VAULT_URL", &e))?)
        }
    };
    match check(db, kek.as_ref()).await {
        Ok(()) => Ok(kek),
        // It may become available again, and only sealed data has to wait for it.
        Err(CheckError::Kek(error @ KekError::Unavailable(_))) => {
            tracing::warn!(%error, "personal data cannot be read or recorded yet");
            Ok(kek)
        }
        Err(CheckError::Kek(error)) => Err(Failure::new(
            Exit::BadConfig,
            format!("the key-encryption key is not the right one: {error} ({ADVICE})"),
        )),
        Err(CheckError::Stored(error)) => Err(error.into()),
    }
}

const ADVICE: &str = "see SALESPULSE_KEK_FILES in .env.example, and docs/operations.md";

fn bad(setting: &str, error: &SetupError) -> Failure {
    Failure::new(Exit::BadConfig, format!("{setting}: {error} ({ADVICE})"))
}

/// The key file next to a SQLite database, created if missing, unless stored keys were wrapped by another key.
async fn default_file(config: &Config, db: &Db) -> Result<PathBuf, Failure> {
    let Some(database) = sqlite_file(&config.database_url) else {
        let message = "there is no key-encryption key for personal data: create one with `salespulse sealing new-kek FILE` and give it \
                       to every server as SALESPULSE_KEK_FILES=FILE, or set SALESPULSE_KEK or SALESPULSE_VAULT_URL";
        return Err(Failure::new(Exit::BadConfig, message));
    };
    let mut path = database.into_os_string();
    path.push(".kek");
    let path = PathBuf::from(path);
    if path.exists() {
        return Ok(path);
    }
    if let Some((kek, _)) = list_keks(db).await?.first() {
        let message = format!(
            "the key-encryption key {} is missing, and the database has keys that {kek} has wrapped: restore it ({ADVICE})",
            path.display()
        );
        return Err(Failure::new(Exit::BadConfig, message));
    }
    if create(&path)? {
        tracing::info!(path = %path.display(), "created a key-encryption key for personal data; keep a copy of it");
    }
    Ok(path)
}

/// Creates a new key-encryption key in a file that only its owner can read. Error: there is such a file.
pub fn write_new(path: &Path) -> Result<(), Failure> {
    if create(path)? {
        return Ok(());
    }
    Err(Failure::new(Exit::BadConfig, format!("{} already exists and is kept", path.display())))
}

/// `false` if there is a file already, which is kept.
fn create(path: &Path) -> Result<bool, Failure> {
    let key = generate_key().map_err(Failure::failed)?;
    let text = Zeroizing::new(STANDARD.encode(key.as_slice()) + "\n");
    match secret_file::create(path, &text) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Failure::new(Exit::BadConfig, format!("{}: {error}", path.display()))),
    }
}
