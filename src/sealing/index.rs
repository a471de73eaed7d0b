//! Blind indexes: equality search on encrypted values.
//!
//! HMAC-SHA256 of the value's normal form, truncated to 128 bits, with a key per tenant and column. It reveals to a
//! reader of the database which rows of one column of one tenant hold equal values, and nothing else.

use std::borrow::Cow;
use std::fmt;

use hmac::Mac;
use unicode_normalization::UnicodeNormalization;

use super::key::KeyBytes;
use crate::mac::keyed;

/// Stored next to the sealed value.
pub type BlindIndex = [u8; 16];

/// Domain separation for deriving a column's key.
const COLUMN_KEY_LABEL: &str = "salespulse/blind-index/v1/";
/// Domain separation for deriving a fingerprint's key.
const FINGERPRINT_KEY_LABEL: &str = "salespulse/fingerprint/v1/";

/// The index key of a tenant. Separate from the data keys, so that indexes survive their rotation.
pub struct IndexKey(KeyBytes);

impl IndexKey {
    pub fn new(key: KeyBytes) -> Self {
        IndexKey(key)
    }

    /// HMAC-SHA256 of `bytes` with a key derived from this one, `label` and `name`.
    fn tag(&self, label: &str, name: &str, bytes: &[u8]) -> [u8; 32] {
        let derived = keyed(self.0.as_slice()).chain_update(label).chain_update(name).finalize().into_bytes();
        keyed(KeyBytes::new(derived.into()).as_slice()).chain_update(bytes).finalize().into_bytes().into()
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey")
    }
}

/// Normal form of values: which ones count as equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Ignores case, compatibility forms (NFKC, Unicode Standard Annex 15) and surrounding whitespace.
    Text,
    /// Ignores everything but digits and a leading `+`.
    Phone,
}

/// The blind index of `column`, a name unique within the tenant, such as `customers.email`. `None` where the normal
/// form is empty, as for the phone number "none": such values are not equal to each other.
pub fn blind_index(key: &IndexKey, column: &str, form: Form, value: &str) -> Option<BlindIndex> {
    let normal = normal_form(form, value);
    if normal.is_empty() {
        return None;
    }
    key.tag(COLUMN_KEY_LABEL, column, normal.as_bytes()).first_chunk().copied()
}

/// A keyed fingerprint that recognizes identical bytes, but only with the tenant's key. `use_for` separates domains.
pub fn fingerprint(key: &IndexKey, use_for: &str, bytes: &[u8]) -> [u8; 32] {
    key.tag(FINGERPRINT_KEY_LABEL, use_for, bytes)
}

fn normal_form(form: Form, value: &str) -> String {
    let value = nfkc(value);
    let text = value.trim();
    match form {
        // NFKC again, since a lower-case letter may compose with its successor where the upper-case letter does not.
        Form::Text => nfkc(&text.to_lowercase()).into_owned(),
        Form::Phone => {
            // Digits of other scripts are kept: without them different numbers would be equal.
            let digits: String = text.chars().filter(|c| c.is_numeric()).collect();
            if text.starts_with('+') && !digits.is_empty() { format!("+{digits}") } else { digits }
        }
    }
}

/// ASCII is its own normal form, and the conversion is slow (50 ns per byte).
fn nfkc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(text.nfkc().collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> IndexKey {
        IndexKey::new(KeyBytes::new([byte; 32]))
    }

    fn text(value: &str) -> Option<BlindIndex> {
        blind_index(&key(1), "customers.name", Form::Text, value)
    }

    fn phone(value: &str) -> Option<BlindIndex> {
        blind_index(&key(1), "customers.phone", Form::Phone, value)
    }

    #[test]
    fn equal_normal_forms_have_equal_indexes() {
        assert_eq!(text(" Zo\u{eb} Q\u{a0}"), text("ZOE\u{308} q"));
        assert_eq!(text("ＡＣＭＥ ﬁne"), text("acme fine"));
        assert_eq!(text("T\u{308}"), text("\u{1e97}"));
        assert_ne!(text("zoë"), text("zoe"));
        assert_eq!(phone("+49 (30) 123-45"), phone("\u{ff0b}\u{ff14}9 30.123 45"));
        assert_ne!(phone("+493012345"), phone("493012345"));
        assert_ne!(phone("+٤٩ ١"), phone("+٤٩ ٢"));
    }

    #[test]
    fn nothing_is_not_equal_to_nothing() {
        assert_eq!([text(""), text(" \u{a0}"), phone("none"), phone(" + ")], [None; 4]);
        assert!(text("+").is_some());
    }

    #[test]
    fn tenants_and_columns_have_indexes_of_their_own() {
        let index = |tenant, column| blind_index(&key(tenant), column, Form::Text, "zoë@example.com");
        assert_eq!(index(1, "customers.email"), index(1, "customers.email"));
        assert_ne!(index(1, "customers.email"), index(2, "customers.email"));
        assert_ne!(index(1, "customers.email"), index(1, "customers.name"));
    }

    #[test]
    fn fingerprints_tell_keys_uses_and_every_byte_apart() {
        let of = |byte, use_for, bytes: &str| fingerprint(&key(byte), use_for, bytes.as_bytes());
        assert_eq!(of(1, "a", "zoe"), of(1, "a", "zoe"));
        for other in [of(2, "a", "zoe"), of(1, "b", "zoe"), of(1, "a", "Zoe"), of(1, "a", "zoe ")] {
            assert_ne!(of(1, "a", "zoe"), other);
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", key(0xab)), "IndexKey");
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(value in ".*", is_phone in any::<bool>()) {
            let form = if is_phone { Form::Phone } else { Form::Text };
            let normal = normal_form(form, &value);
            prop_assert_eq!(normal_form(form, &normal), normal);
        }

        #[test]
        fn case_and_blanks_at_the_ends_do_not_matter(value in "[a-zäéø@. ]{1,20}") {
            let shouted = format!(" {}\t", value.to_uppercase());
            prop_assert_eq!(text(&shouted), text(&value));
        }
    }
}
