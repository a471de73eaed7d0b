//! Keys in memory: zeroized on drop, never printed.

use std::fmt;

use aes_gcm::{Aes256Gcm, KeyInit};
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// The bytes of a 256-bit key.
pub type KeyBytes = Zeroizing<[u8; 32]>;

/// A data key is retired after it has sealed this many values. With random nonces NIST SP 800-38D, section 8.3, allows
/// 2^32; half of it is a margin for seals that the estimate from positions misses, such as those of quarantined bodies.
pub const SEALS_MAX: u64 = 1 << 31;

/// Whether a data key that has sealed so many values must be rotated.
pub fn is_worn_out(seals: u64) -> bool {
    seals >= SEALS_MAX
}

/// The operating system provided no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

/// Generates a data or index key.
pub fn generate_key() -> Result<KeyBytes, NoRandomness> {
    let mut key = KeyBytes::default();
    OsRng.try_fill_bytes(key.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(key)
}

/// A random 96-bit nonce, by SP 800-38D, section 8.2.2.
pub(super) fn generate_nonce() -> Result<[u8; 12], NoRandomness> {
    let mut nonce = [0; 12];
    OsRng.try_fill_bytes(&mut nonce).map_err(|_| NoRandomness)?;
    Ok(nonce)
}

/// A data key of one tenant, which seals and opens its values.
pub struct DataKey {
    version: u32,
    // Boxed, so that moving the key leaves no copy of it behind.
    cipher: Box<Aes256Gcm>,
}

// The cipher zeroizes its round keys only with a feature of the crate `aes`; without it this does not compile.
const _: () = {
    const fn is_wiped<T: ZeroizeOnDrop>() {}
    is_wiped::<aes::Aes256>();
};

impl DataKey {
    pub fn new(version: u32, key: &KeyBytes) -> Self {
        DataKey { version, cipher: Box::new(Aes256Gcm::new(key.as_slice().into())) }
    }

    pub fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn cipher(&self) -> &Aes256Gcm {
        &self.cipher
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey(version {})", self.version)
    }
}

/// The data keys of one tenant.
#[derive(Debug)]
pub struct DataKeys {
    active: DataKey,
    others: Vec<DataKey>,
}

impl DataKeys {
    /// `active` seals and opens, `others` only open.
    pub fn new(active: DataKey, others: Vec<DataKey>) -> Self {
        DataKeys { active, others }
    }

    /// The key that seals new values.
    pub fn active(&self) -> &DataKey {
        &self.active
    }

    pub fn find(&self, version: u32) -> Option<&DataKey> {
        std::iter::once(&self.active).chain(&self.others).find(|key| key.version == version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_worn_out_at_half_of_what_random_nonces_allow() {
        assert!(!is_worn_out((1 << 31) - 1));
        assert!(is_worn_out(1 << 31) && is_worn_out(u64::MAX));
    }

    #[test]
    fn keys_and_nonces_do_not_repeat() {
        assert_ne!(generate_key(), generate_key());
        assert_ne!(generate_nonce(), generate_nonce());
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = DataKey::new(3, &KeyBytes::new([0xab; 32]));
        assert_eq!(format!("{key:?}"), "DataKey(version 3)");
    }

    #[test]
    fn keys_are_found_by_version() {
        let key = |version| DataKey::new(version, &KeyBytes::default());
        let keys = DataKeys::new(key(3), vec![key(1), key(2)]);
        assert_eq!(keys.active().version(), 3);
        assert_eq!([0, 1, 2, 3, 4].map(|version| keys.find(version).is_some()), [false, true, true, true, false]);
    }
}
