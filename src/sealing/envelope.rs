//! The stored form of a sealed value: `0x01`, the key's version (u32, big-endian), a 12-byte nonce, the ciphertext, a
//! 16-byte tag; AES-256-GCM (NIST SP 800-38D).
//!
//! The associated data are "v1", the location of the value and the key's version, each length-prefixed (u64,
//! big-endian), so that the encoding is unambiguous. Bytes moved to another row, column, table or tenant do not open
//! there.

use aes_gcm::AeadInPlace;
use uuid::Uuid;

use super::key::{DataKey, DataKeys, NoRandomness, generate_nonce};

/// The first byte of a sealed value.
const ENVELOPE_VERSION: u8 = 1;
const VERSION_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 1 + VERSION_BYTES + NONCE_BYTES;

/// The location of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssociatedData<'a> {
    pub tenant: Uuid,
    pub table: &'a str,
    pub column: &'a str,
    /// The row's id within the tenant: the bytes of a UUID, or of a big-endian number.
    pub row: &'a [u8],
}

/// Why a text cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("longer than 64 GiB, the limit of GCM")]
    TooLong,
}

/// Why a sealed value cannot be opened. Reveals nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the sealed value is cut short")]
    Truncated,
    #[error("a sealed value of form {0}, which is not known here")]
    UnknownEnvelope(u8),
    #[error("sealed with version {0} of the data key, which the tenant does not have")]
    UnknownKeyVersion(u32),
    #[error("the sealed value was changed, or belongs to another place or key")]
    BadTag,
    #[error("the sealed value is not UTF-8")]
    NotText,
}

/// Seals `text` for its location. Nondeterministic: each call uses a fresh nonce.
pub fn seal(key: &DataKey, place: &AssociatedData<'_>, text: &str) -> Result<Vec<u8>, SealError> {
    let nonce = generate_nonce()?;
    // Allocated in full: growing would leave copies of the plaintext behind.
    let mut sealed = Vec::with_capacity(HEADER_BYTES + text.len() + TAG_BYTES);
    sealed.push(ENVELOPE_VERSION);
    sealed.extend(key.version().to_be_bytes());
    sealed.extend(nonce);
    sealed.extend(text.as_bytes());
    let (_, body) = sealed.split_at_mut(HEADER_BYTES);
    let tag = key
        .cipher()
        .encrypt_in_place_detached(&nonce.into(), &associated_data(place, key.version()), body)
        .map_err(|_| SealError::TooLong)?;
    sealed.extend(tag);
    Ok(sealed)
}

/// Opens a value that was sealed for this location with one of `keys`.
pub fn open(keys: &DataKeys, place: &AssociatedData<'_>, sealed: &[u8]) -> Result<String, OpenError> {
    let envelope = Envelope::read(sealed)?;
    let key = keys.find(envelope.key_version).ok_or(OpenError::UnknownKeyVersion(envelope.key_version))?;
    let mut text = envelope.ciphertext.to_vec();
    // Verifies the tag before decrypting: unauthenticated plaintext never exists.
    key.cipher()
        .decrypt_in_place_detached(
            envelope.nonce.into(),
            &associated_data(place, envelope.key_version),
            &mut text,
            envelope.tag.into(),
        )
        .map_err(|_| OpenError::BadTag)?;
    String::from_utf8(text).map_err(|_| OpenError::NotText)
}

/// The version of the data key in a sealed value's header, by which a rotation finds what to reseal.
pub fn key_version(sealed: &[u8]) -> Result<u32, OpenError> {
    Envelope::read(sealed).map(|envelope| envelope.key_version)
}

struct Envelope<'a> {
    key_version: u32,
    nonce: &'a [u8; NONCE_BYTES],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Envelope<'a> {
    fn read(sealed: &'a [u8]) -> Result<Self, OpenError> {
        let (form, rest) = sealed.split_first().ok_or(OpenError::Truncated)?;
        if *form != ENVELOPE_VERSION {
            return Err(OpenError::UnknownEnvelope(*form));
        }
        let (version, rest) = rest.split_first_chunk::<VERSION_BYTES>().ok_or(OpenError::Truncated)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(OpenError::Truncated)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(OpenError::Truncated)?;
        Ok(Envelope { key_version: u32::from_be_bytes(*version), nonce, ciphertext, tag })
    }
}

fn associated_data(place: &AssociatedData<'_>, key_version: u32) -> Vec<u8> {
    let version = key_version.to_be_bytes();
    let parts: [&[u8]; 6] =
        [b"v1", place.tenant.as_bytes(), place.table.as_bytes(), place.column.as_bytes(), place.row, &version];
    let mut data = Vec::with_capacity(128);
    for part in parts {
        data.extend((part.len() as u64).to_be_bytes());
        data.extend(part);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::super::key::KeyBytes;
    use super::*;

    fn keys() -> DataKeys {
        DataKeys::new(DataKey::new(7, &KeyBytes::new([0x42; 32])), Vec::new())
    }

    const PLACE: AssociatedData<'_> =
        AssociatedData { tenant: Uuid::from_u128(1), table: "customers", column: "email", row: &[0, 9] };

    #[test]
    fn the_parts_of_a_place_cannot_flow_into_each_other() {
        let data = associated_data(&AssociatedData { table: "ab", column: "c", ..PLACE }, 7);
        assert_ne!(data, associated_data(&AssociatedData { table: "a", column: "bc", ..PLACE }, 7));
    }

    #[test]
    fn a_sealed_value_is_its_text_and_33_bytes() {
        let sealed = seal(keys().active(), &PLACE, "zoë").expect("sealed");
        assert_eq!((sealed.len(), &sealed[..5]), (4 + 33, [1, 0, 0, 0, 7].as_slice()));
        assert_eq!(key_version(&sealed), Ok(7));
        assert_eq!(open(&keys(), &PLACE, &sealed).as_deref(), Ok("zoë"));
        assert_ne!(sealed, seal(keys().active(), &PLACE, "zoë").expect("sealed"));
    }

    #[test]
    fn what_is_no_sealed_value_is_told_apart() {
        let sealed = seal(keys().active(), &PLACE, "").expect("sealed");
        assert_eq!(open(&keys(), &PLACE, &sealed).as_deref(), Ok(""));
        assert_eq!(open(&keys(), &PLACE, &[]), Err(OpenError::Truncated));
        assert_eq!(open(&keys(), &PLACE, &sealed[..32]), Err(OpenError::Truncated));
        assert_eq!(open(&keys(), &PLACE, b"clear text"), Err(OpenError::UnknownEnvelope(b'c')));
        let other = DataKeys::new(DataKey::new(8, &KeyBytes::new([0x42; 32])), Vec::new());
        assert_eq!(open(&other, &PLACE, &sealed), Err(OpenError::UnknownKeyVersion(7)));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let mut body = [0xff];
        let (nonce, keys) = ([0; 12], keys());
        let data = associated_data(&PLACE, 7);
        let tag = keys.active().cipher().encrypt_in_place_detached(&nonce.into(), &data, &mut body).expect("sealed");
        let sealed = [&[1, 0, 0, 0, 7], nonce.as_slice(), &body, &tag].concat();
        assert_eq!(open(&keys, &PLACE, &sealed), Err(OpenError::NotText));
    }
}
