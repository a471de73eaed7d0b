//! Message authentication: HMAC-SHA256 (RFC 2104).

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The code of what it will be given, with a key of any length.
pub fn keyed(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(key) {
        Ok(keyed) => keyed,
        Err(_) => unreachable!("a key may have any length"),
    }
}
