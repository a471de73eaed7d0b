//! The text of a wrapped key: `provider:key:ciphertext`.

use std::fmt;

use super::KekError;

/// The parts of a wrapped key. Only the ciphertext may contain colons.
#[derive(Debug, PartialEq)]
pub(super) struct Wrapped<'a> {
    pub(super) provider: &'a str,
    /// The provider's key that wrapped it.
    pub(super) kek_id: &'a str,
    pub(super) ciphertext: &'a str,
}

impl<'a> Wrapped<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, KekError> {
        let parts = text.split_once(':').and_then(|(provider, rest)| {
            let (kek_id, ciphertext) = rest.split_once(':')?;
            Some(Wrapped { provider, kek_id, ciphertext })
        });
        parts.ok_or_else(|| KekError::BadWrapped("not the text of a wrapped key".to_owned()))
    }

    /// The error when the wrapping key is not available.
    pub(super) fn unknown(&self) -> KekError {
        KekError::UnknownKek(format!("{} key {}", self.provider, self.kek_id))
    }
}

impl fmt::Display for Wrapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.provider, self.kek_id, self.ciphertext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_they_are_written() {
        let text = "vault:transit/main:vault:v1:AAAA";
        let parts = Wrapped { provider: "vault", kek_id: "transit/main", ciphertext: "vault:v1:AAAA" };
        assert_eq!(Wrapped::read(text).as_ref(), Ok(&parts));
        assert_eq!(parts.to_string(), text);
        for text in ["", "vault", "vault:transit"] {
            assert!(matches!(Wrapped::read(text), Err(KekError::BadWrapped(_))), "{text}");
        }
    }
}
