//! Cursors of live answers: opaque to clients, authenticated, and valid for one tenant and one query only.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::clock::Timestamp;
use crate::db::TenantId;
use crate::guard::Guard;
use crate::mac::keyed;

/// Length of a MAC, in bytes.
const TAG_BYTES: usize = 16;
const MARK_BYTES: usize = 24;

/// The position of a live answer: in the ledger or the alert log, what else it depends on, and until when the passage
/// of time alone does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub position: i64,
    pub part: i64,
    pub until: Option<Timestamp>,
}

impl Mark {
    /// Whether it is of a state that `other` comes before, whatever time it is.
    pub fn is_ahead_of(&self, other: &Mark) -> bool {
        (self.position, self.part) > (other.position, other.part)
    }
}

/// Encodes and decodes cursors. Cheap to clone.
#[derive(Clone)]
pub struct Cursors(Arc<[Hmac<Sha256>]>);

impl Cursors {
    /// The first of `keys` signs; all verify. The keys are secret and shared by all processes.
    pub fn new(keys: &[[u8; 32]]) -> Self {
        Cursors(keys.iter().map(|key| keyed(key)).collect())
    }

    /// Encodes `mark` as a cursor for the tenant's query `scope`.
    pub fn write(&self, tenant: TenantId, scope: &[u8], mark: Mark) -> String {
        let mut bytes = Vec::with_capacity(MARK_BYTES + TAG_BYTES);
        for number in [mark.position, mark.part, mark.until.map_or(i64::MAX, |until| until.0)] {
            bytes.extend(number.to_be_bytes());
        }
        if let Some(key) = self.0.first() {
            let tag = tag(key, tenant, scope, &bytes).finalize().into_bytes();
            bytes.extend(&tag[..TAG_BYTES]);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The mark of a cursor that was issued for the same tenant and query.
    pub fn read(&self, tenant: TenantId, scope: &[u8], cursor: &str) -> Option<Mark> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (mark, signature) = bytes.split_at_checked(MARK_BYTES)?;
        if signature.len() != TAG_BYTES {
            return None;
        }
        let is_ours = |key| tag(key, tenant, scope, mark).verify_truncated_left(signature).is_ok();
        if !self.0.iter().any(is_ours) {
            return None;
        }
        let number = |at: usize| mark[at..at + 8].try_into().map(i64::from_be_bytes).ok();
        let until = number(16)?;
        Some(Mark { position: number(0)?, part: number(8)?, until: (until != i64::MAX).then_some(Timestamp(until)) })
    }
}

fn tag(key: &Hmac<Sha256>, tenant: TenantId, scope: &[u8], mark: &[u8]) -> Hmac<Sha256> {
    // Tenant and mark have fixed lengths, so the encoding is unambiguous.
    key.clone().chain_update(tenant.at(Guard::Cursors).0.as_bytes()).chain_update(mark).chain_update(scope)
}

/// Derives a key for one purpose from a secret; it reveals nothing about the secret.
pub fn derive_key(secret: impl AsRef<[u8]>, purpose: &str) -> [u8; 32] {
    let start: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(Sha256::default(), secret)).into();
    keyed(&start).chain_update(purpose).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_cursor_is_read_where_it_was_written_for_and_nowhere_else() {
        let (one, other) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
        let cursors = Cursors::new(&[derive_key("a secret", "cursors")]);
        for until in [None, Some(Timestamp(5))] {
            let mark = Mark { position: 7, part: 1, until };
            let cursor = cursors.write(one, b"question", mark);
            assert_eq!(cursors.read(one, b"question", &cursor), Some(mark));
            assert_eq!(cursors.read(other, b"question", &cursor), None);
            assert_eq!(cursors.read(one, b"another", &cursor), None);
            let another = derive_key("another", "cursors");
            assert_eq!(Cursors::new(&[another]).read(one, b"question", &cursor), None);
            let rotated = Cursors::new(&[another, derive_key("a secret", "cursors")]);
            assert_eq!(rotated.read(one, b"question", &cursor), Some(mark));
            let forged = cursors.write(one, b"question", Mark { position: 8, ..mark });
            assert_eq!(cursors.read(one, b"question", &format!("{}{}", &forged[..20], &cursor[20..])), None);
        }
        for text in ["", "x", "ä", &"A".repeat(54), &"A".repeat(5000)] {
            assert_eq!(cursors.read(one, b"question", text), None);
        }
    }
}
