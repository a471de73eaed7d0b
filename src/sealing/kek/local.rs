//! Key-encryption keys held by the server: from files, or from environment settings.
//!
//! A key is identified by a fingerprint, not by its origin: what was wrapped by a key from a file can be unwrapped by
//! the same key from the environment. Wrapping is AES-256-GCM, with the nonce in front, the tag behind, and the name of
//! the key as associated data.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;
use zeroize::Zeroizing;

use super::super::key::{KeyBytes, generate_nonce};
use super::wrapped::Wrapped;
use super::{KekError, KeyEncryption, KeyName, SetupError};
use crate::mac::keyed;
use crate::secret_file;

const PROVIDER: &str = "local";
/// A key in base64 has 44 characters; anything much longer is not a key.
const KEY_FILE_BYTES_MAX: usize = 128;

/// Wraps with the first of its keys, unwraps with all of them.
pub struct LocalKek {
    active: Kek,
    others: Vec<Kek>,
}

struct Kek {
    /// Identifies the key without revealing it: 64 bits of an HMAC, in hexadecimal.
    id: String,
    cipher: Box<Aes256Gcm>,
}

impl LocalKek {
    /// Keys as text, 32 bytes in base64 each. The first wraps; the others are from before a rotation.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SetupError> {
        Self::from_keys(texts.into_iter().enumerate().map(|(at, text)| Kek::read(text, || format!("text {}", at + 1))))
    }

    /// Keys from files, one each, in the same format and order. On Unix the files must not be accessible to others.
    pub fn from_files<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<Self, SetupError> {
        let read = |path: &Path| Kek::read(&read_file(path)?, || format!("the key file {}", path.display()));
        Self::from_keys(paths.into_iter().map(read))
    }

    fn from_keys(mut keys: impl Iterator<Item = Result<Kek, SetupError>>) -> Result<Self, SetupError> {
        let active = keys.next().ok_or(SetupError::NoKey)??;
        Ok(LocalKek { active, others: keys.collect::<Result<_, _>>()? })
    }
}

impl fmt::Debug for LocalKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<&str> = self.others.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("LocalKek").field("active", &self.active.id).field("others", &others).finish()
    }
}

#[async_trait::async_trait]
impl KeyEncryption for LocalKek {
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError> {
        self.active.wrap(name, key)
    }

    async fn unwrap(&self, name: &KeyName, wrapped: &str) -> Result<KeyBytes, KekError> {
        let wrapped = Wrapped::read(wrapped)?;
        let mut keys = std::iter::once(&self.active).chain(&self.others);
        match keys.find(|key| wrapped.provider == PROVIDER && wrapped.kek_id == key.id) {
            Some(key) => key.unwrap(name, wrapped.ciphertext),
            None => Err(wrapped.unknown()),
        }
    }

    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError> {
        let key = self.unwrap(name, wrapped).await?;
        self.wrap(name, &key).await
    }
}

impl Kek {
    fn read(text: &str, source_name: impl FnOnce() -> String) -> Result<Self, SetupError> {
        let mut key = KeyBytes::default();
        if STANDARD.decode_slice(text.trim_ascii(), key.as_mut_slice()) != Ok(32) {
            return Err(SetupError::NotAKey { source_name: source_name() });
        }
        let fingerprint = keyed(key.as_slice()).chain_update("salespulse/kek-id/v1").finalize().into_bytes();
        let id = hex::encode(&fingerprint[..8]);
        Ok(Kek { id, cipher: Box::new(Aes256Gcm::new(key.as_slice().into())) })
    }

    fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError> {
        let (nonce, name) = (generate_nonce()?, name.to_string());
        let payload = Payload { msg: key.as_slice(), aad: name.as_bytes() };
        let Ok(sealed) = self.cipher.encrypt(&nonce.into(), payload) else {
            unreachable!("32 bytes are never too long")
        };
        let ciphertext = STANDARD.encode([nonce.as_slice(), &sealed].concat());
        Ok(Wrapped { provider: PROVIDER, kek_id: &self.id, ciphertext: &ciphertext }.to_string())
    }

    fn unwrap(&self, name: &KeyName, ciphertext: &str) -> Result<KeyBytes, KekError> {
        let bad =
            || KekError::BadWrapped("it was changed, or belongs to another tenant, purpose or version".to_owned());
        let bytes = STANDARD.decode(ciphertext).map_err(|_| bad())?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>().ok_or_else(bad)?;
        let name = name.to_string();
        let payload = Payload { msg: sealed, aad: name.as_bytes() };
        let key = self.cipher.decrypt(nonce.into(), payload).map(Zeroizing::new).map_err(|_| bad())?;
        key.as_slice().try_into().map(KeyBytes::new).map_err(|_| bad())
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, SetupError> {
    let unreadable = |error: std::io::Error| SetupError::Unreadable { path: path.to_owned(), reason: error.kind() };
    let file = File::open(path).map_err(unreadable)?;
    let too_open = |why| SetupError::TooOpen { path: path.to_owned(), why };
    secret_file::check(&file.metadata().map_err(unreadable)?).map_err(too_open)?;
    // Allocated in full: growing would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX));
    file.take(KEY_FILE_BYTES_MAX as u64).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::*;
    use crate::secret_file::TooOpen;
    use uuid::Uuid;

    const NAME: KeyName = KeyName { tenant: Uuid::from_u128(1), purpose: Purpose::Data, version: 1 };

    fn text(byte: u8) -> String {
        STANDARD.encode([byte; 32])
    }

    fn kek(bytes: &[u8]) -> LocalKek {
        let texts: Vec<String> = bytes.iter().map(|byte| text(*byte)).collect();
        LocalKek::from_texts(texts.iter().map(String::as_str)).expect("keys")
    }

    fn key() -> KeyBytes {
        KeyBytes::new([0x5a; 32])
    }

    #[tokio::test]
    async fn a_key_unwraps_under_its_own_name_only() {
        let kek = kek(&[1]);
        let wrapped = kek.wrap(&NAME, &key()).await.expect("wrapped");
        assert_eq!(kek.unwrap(&NAME, &wrapped).await, Ok(key()));
        for other in [
            KeyName { tenant: Uuid::from_u128(2), ..NAME },
            KeyName { purpose: Purpose::Index, ..NAME },
            KeyName { version: 2, ..NAME },
        ] {
            assert!(matches!(kek.unwrap(&other, &wrapped).await, Err(KekError::BadWrapped(_))), "{other}");
        }
    }

    #[tokio::test]
    async fn rotated_keys_unwrap_and_the_first_wraps() {
        let (old, both, new) = (kek(&[1]), kek(&[2, 1]), kek(&[2]));
        let wrapped = old.wrap(&NAME, &key()).await.expect("wrapped");
        assert_eq!(both.unwrap(&NAME, &wrapped).await, Ok(key()));
        let unknown = new.unwrap(&NAME, &wrapped).await.expect_err("another key");
        assert_eq!(unknown, KekError::UnknownKek(format!("local key {}", old.active.id)));
        let rewrapped = both.rewrap(&NAME, &wrapped).await.expect("rewrapped");
        assert_eq!(new.unwrap(&NAME, &rewrapped).await, Ok(key()));
        assert!(matches!(old.unwrap(&NAME, &rewrapped).await, Err(KekError::UnknownKek(_))));
    }

    #[tokio::test]
    async fn what_was_changed_does_not_unwrap() {
        let kek = kek(&[1]);
        let wrapped = kek.wrap(&NAME, &key()).await.expect("wrapped");
        let (head, ciphertext) = wrapped.rsplit_once(':').expect("parts");
        let bytes = STANDARD.decode(ciphertext).expect("base64");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = format!("{head}:{}", STANDARD.encode(changed));
            assert!(matches!(kek.unwrap(&NAME, &changed).await, Err(KekError::BadWrapped(_))), "bit {bit}");
        }
        for changed in [head.to_owned(), format!("{head}:"), format!("{head}:AAAA"), format!("{head}:{ciphertext}A")] {
            assert!(matches!(kek.unwrap(&NAME, &changed).await, Err(KekError::BadWrapped(_))), "{changed}");
        }
        let of_vault = wrapped.replacen("local", "vault", 1);
        assert!(matches!(kek.unwrap(&NAME, &of_vault).await, Err(KekError::UnknownKek(_))));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        assert!(matches!(LocalKek::from_texts([]), Err(SetupError::NoKey)));
        let short = STANDARD.encode([7; 31]);
        for bad in ["", "secret of a person", short.as_str()] {
            let error = LocalKek::from_texts([text(1).as_str(), bad]).expect_err("no key").to_string();
            assert!(error.starts_with("text 2 is not a key") && (bad.is_empty() || !error.contains(bad)), "{error}");
        }
        let printed = format!("{:?}", kek(&[1, 2]));
        assert!(printed.starts_with("LocalKek") && !printed.contains(&text(1)[..8]), "{printed}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_key_file_must_be_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kek");
        std::fs::write(&path, format!("{}\n", text(1))).expect("written");
        for (mode, is_good) in
            [(0o600, true), (0o400, true), (0o440, true), (0o644, false), (0o602, false), (0o660, false)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
            let read = LocalKek::from_files([path.as_path()]);
            assert_eq!(read.is_ok(), is_good, "{mode:o}");
            assert!(is_good || matches!(read, Err(SetupError::TooOpen { why: TooOpen(found), .. }) if found == mode));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let of_file = LocalKek::from_files([path.as_path()]).expect("a key");
        let wrapped = of_file.wrap(&NAME, &key()).await.expect("wrapped");
        assert_eq!(kek(&[1]).unwrap(&NAME, &wrapped).await, Ok(key()));
        std::fs::write(&path, "A".repeat(1_000_000)).expect("written");
        assert!(matches!(LocalKek::from_files([path.as_path()]), Err(SetupError::NotAKey { .. })));
        let missing = folder.path().join("missing");
        assert!(matches!(LocalKek::from_files([missing.as_path()]), Err(SetupError::Unreadable { .. })));
    }
}
