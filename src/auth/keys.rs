//! Signing keys of access tokens: Ed25519 keys in a file, of which the first signs and all verify, so that a new key
//! can be put in front of the old one; or one secret for HS256.

use std::io::ErrorKind;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::secret_file;

const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why a key file cannot be used. No variant contains key material.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("cannot be written: {0}")]
    Unwritable(std::io::Error),
    #[error("key {0} is not an Ed25519 key in PKCS#8 PEM")]
    NoKey(usize),
    #[error("has no key of that name")]
    Unknown,
    #[error("has no keys")]
    Empty,
    #[error("signs with this key; let another sign first (keys use)")]
    Signs,
}

/// A key and its ID.
#[derive(Clone)]
pub struct NamedKey {
    /// The thumbprint of the public key (RFC 7638).
    pub id: String,
    pub key: SigningKey,
}

impl NamedKey {
    pub fn new(key: SigningKey) -> Self {
        let canonical = json!({ "crv": "Ed25519", "kty": "OKP", "x": public(&key) }).to_string();
        NamedKey { id: URL_SAFE_NO_PAD.encode(Sha256::digest(canonical)), key }
    }

    pub fn random() -> Self {
        NamedKey::new(SigningKey::from_bytes(&rand::random()))
    }

    /// The public key as a JWK (RFC 8037).
    pub fn to_jwk(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": public(&self.key), "kid": self.id, "alg": "EdDSA", "use": "sig" })
    }

    fn to_pem(&self) -> Option<String> {
        self.key.to_pkcs8_pem(LineEnding::LF).ok().map(|pem| pem.to_string())
    }
}

fn public(key: &SigningKey) -> String {
    URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes())
}

/// Reads a key file; the signing key comes first.
pub fn read(path: &Path) -> Result<Vec<NamedKey>, KeysError> {
    let text = secret_file::read(path).map_err(KeysError::Unreadable)?;
    let text = String::from_utf8_lossy(&text);
    let parts: Vec<&str> = text.split_inclusive(PEM_END).filter(|part| !part.trim().is_empty()).collect();
    let keys = parts
        .iter()
        .enumerate()
        .map(|(n, pem)| SigningKey::from_pkcs8_pem(pem.trim()).map(NamedKey::new).map_err(|_| KeysError::NoKey(n + 1)));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err(KeysError::Empty) } else { Ok(keys) }
}

/// Adds a new key to a file, creating it if necessary, and returns the key's ID. The new key verifies; the first one
/// still signs.
pub fn add(path: &Path) -> Result<String, KeysError> {
    let _lock = secret_file::lock_folder(path).map_err(KeysError::Unwritable)?;
    let mut keys = if path.exists() { read(path)? } else { Vec::new() };
    let new = NamedKey::random();
    let id = new.id.clone();
    keys.push(new);
    write(path, &keys)?;
    Ok(id)
}

/// Creates a file with one key, unless there is one.
pub fn create(path: &Path) -> Result<(), KeysError> {
    let pem = NamedKey::random().to_pem().unwrap_or_default();
    match secret_file::create(path, &pem) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(KeysError::Unwritable),
    }
}

/// Makes a key of a file the signing key, by moving it to the front.
pub fn promote(path: &Path, id: &str) -> Result<(), KeysError> {
    let _lock = secret_file::lock_folder(path).map_err(KeysError::Unwritable)?;
    let mut keys = read(path)?;
    let at = keys.iter().position(|key| key.id == id).ok_or(KeysError::Unknown)?;
    keys[..=at].rotate_right(1);
    write(path, &keys)
}

/// Removes a key from a file; tokens it signed become invalid.
pub fn remove(path: &Path, id: &str) -> Result<(), KeysError> {
    let _lock = secret_file::lock_folder(path).map_err(KeysError::Unwritable)?;
    let mut keys = read(path)?;
    match keys.iter().position(|key| key.id == id).ok_or(KeysError::Unknown)? {
        0 => return Err(KeysError::Signs),
        at => keys.remove(at),
    };
    write(path, &keys)
}

fn write(path: &Path, keys: &[NamedKey]) -> Result<(), KeysError> {
    let pems: String = keys.iter().filter_map(NamedKey::to_pem).collect();
    secret_file::write(path, &pems).map_err(KeysError::Unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_added_then_signs_then_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/keys.pem");
        let ids = || read(&path).expect("read").into_iter().map(|key| key.id).collect::<Vec<_>>();
        let [first, second, third] = [(); 3].map(|()| add(&path).expect("made"));
        assert_eq!(ids(), [first.clone(), second.clone(), third.clone()]);
        promote(&path, &third).expect("promoted");
        assert_eq!(ids(), [third.clone(), first.clone(), second.clone()]);
        remove(&path, &first).expect("removed");
        assert_eq!(ids(), [third.clone(), second.clone()]);
        assert!(matches!(promote(&path, &first), Err(KeysError::Unknown)));
        remove(&path, &second).expect("removed");
        assert!(matches!(remove(&path, &third), Err(KeysError::Signs)));
        assert_eq!(ids(), [third]);
    }

    #[test]
    fn a_file_of_keys_that_is_there_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.pem");
        let id = || read(&path).expect("read").remove(0).id;
        create(&path).expect("made");
        let first = id();
        create(&path).expect("kept");
        assert_eq!(id(), first);
    }

    #[test]
    fn what_is_no_key_is_told_without_showing_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys.pem");
        secret_file::write(&path, "hush").expect("written");
        assert_eq!(read(&path).err().expect("refused").to_string(), "key 1 is not an Ed25519 key in PKCS#8 PEM");
        secret_file::write(&path, "").expect("written");
        assert!(matches!(read(&path), Err(KeysError::Empty)));
    }

    /// The key and thumbprint of RFC 8037, appendix A.
    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64");
        let key = NamedKey::new(SigningKey::from_bytes(&seed.try_into().expect("32 bytes")));
        assert_eq!(key.to_jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
