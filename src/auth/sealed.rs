//! State sealed for storage in the browser, so that it can be neither read nor modified there (AES-256-GCM).

use std::sync::Arc;

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NONCE_BYTES: usize = 12;

/// Seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct Seals(Arc<[Aes256Gcm]>);

impl Seals {
    /// The first of `keys` seals; all can open. The keys are secret and shared by all processes.
    pub fn new(keys: &[[u8; 32]]) -> Self {
        Seals(keys.iter().map(|key| Aes256Gcm::new(key.into())).collect())
    }

    /// Seals as URL-safe text (letters, digits, `-` and `_`); `None` without a key.
    pub fn seal(&self, bytes: &[u8]) -> Option<String> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let sealed = self.0.first()?.encrypt(&nonce.into(), bytes).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens a sealed text.
    pub fn open(&self, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        self.0.iter().find_map(|key| key.decrypt(nonce.into(), sealed).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_by_its_key_and_unchanged_only() {
        let [old, new] = [[1; 32], [2; 32]];
        let text = Seals::new(&[old]).seal(b"mine").expect("sealed");
        assert_eq!(Seals::new(&[new, old]).open(&text).as_deref(), Some(b"mine".as_slice()));
        assert!(Seals::new(&[new]).open(&text).is_none());
        for n in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[n] = if changed[n] == b'A' { b'B' } else { b'A' };
            assert!(Seals::new(&[old]).open(std::str::from_utf8(&changed).expect("text")).is_none(), "{n}");
        }
        assert!(Seals::new(&[old]).open(&text[..10]).is_none());
    }
}
