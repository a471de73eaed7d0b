//! What an attacker who can write to the database may try with sealed values.

use proptest::prelude::*;
use salespulse::sealing::{AssociatedData, DataKey, DataKeys, KeyBytes, OpenError, key_version, open, seal};
use uuid::Uuid;

const PLACE: AssociatedData<'_> =
    AssociatedData { tenant: Uuid::from_u128(1), table: "customers", column: "email", row: &[0, 0, 0, 42] };
const TEXT: &str = "zoe@example.com";

/// Versions 1 and 2 of one key, so that only the version in the associated data tells them apart.
fn keys() -> DataKeys {
    let key = |version| DataKey::new(version, &KeyBytes::new([0x42; 32]));
    DataKeys::new(key(2), vec![key(1)])
}

fn sealed(place: &AssociatedData<'_>, text: &str) -> Vec<u8> {
    seal(keys().active(), place, text).expect("sealed")
}

#[test]
fn a_value_does_not_open_in_another_row_column_table_or_tenant() {
    let value = sealed(&PLACE, TEXT);
    assert_eq!(open(&keys(), &PLACE, &value).as_deref(), Ok(TEXT));
    for other in [
        AssociatedData { row: &[0, 0, 0, 43], ..PLACE },
        AssociatedData { row: &[], ..PLACE },
        AssociatedData { column: "name", ..PLACE },
        AssociatedData { table: "users", ..PLACE },
        // The same key: it is the place that differs.
        AssociatedData { tenant: Uuid::from_u128(2), ..PLACE },
        // The same bytes in all, cut elsewhere.
        AssociatedData { table: "customerse", column: "mail", ..PLACE },
    ] {
        assert_eq!(open(&keys(), &other, &value), Err(OpenError::BadTag), "{other:?}");
    }
}

#[test]
fn a_value_does_not_open_under_another_version() {
    let mut value = sealed(&PLACE, TEXT);
    assert_eq!(key_version(&value), Ok(2));
    value[4] = 1;
    assert_eq!(open(&keys(), &PLACE, &value), Err(OpenError::BadTag));
    value[4] = 3;
    assert_eq!(open(&keys(), &PLACE, &value), Err(OpenError::UnknownKeyVersion(3)));
}

#[test]
fn a_value_does_not_open_with_the_nonce_of_another() {
    let (mut value, other) = (sealed(&PLACE, TEXT), sealed(&PLACE, TEXT));
    value[5..17].copy_from_slice(&other[5..17]);
    assert_eq!(open(&keys(), &PLACE, &value), Err(OpenError::BadTag));
}

#[test]
fn a_value_does_not_open_when_it_is_cut_or_longer() {
    let value = sealed(&PLACE, TEXT);
    for end in 0..value.len() {
        let expected = if end < 33 { OpenError::Truncated } else { OpenError::BadTag };
        assert_eq!(open(&keys(), &PLACE, &value[..end]), Err(expected), "{end}");
    }
    let longer = [value.as_slice(), &[0]].concat();
    assert_eq!(open(&keys(), &PLACE, &longer), Err(OpenError::BadTag));
    assert!(open(&keys(), &PLACE, &value[1..]).is_err());
}

#[test]
fn errors_do_not_show_the_text() {
    let value = sealed(&PLACE, TEXT);
    let error = open(&keys(), &AssociatedData { row: &[], ..PLACE }, &value).expect_err("another row");
    assert!(!format!("{error} {error:?}").contains("zoe"));
}

proptest! {
    #[test]
    fn any_text_opens_as_it_was_sealed(text in any::<String>(), tenant in any::<u128>(), row in any::<Vec<u8>>()) {
        let place = AssociatedData { tenant: Uuid::from_u128(tenant), row: &row, ..PLACE };
        let value = sealed(&place, &text);
        prop_assert_eq!(value.len(), text.len() + 33);
        prop_assert_eq!(open(&keys(), &place, &value), Ok(text));
    }

    #[test]
    fn a_value_does_not_open_when_any_one_bit_is_flipped(text in ".{0,40}") {
        let (value, keys) = (sealed(&PLACE, &text), keys());
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&keys, &PLACE, &flipped).is_err(), "bit {}", bit);
        }
    }

    #[test]
    fn no_bytes_open_that_were_not_sealed(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), is_formed in any::<bool>()) {
        if is_formed && bytes.len() >= 5 {
            bytes[..5].copy_from_slice(&[1, 0, 0, 0, 2]);
        }
        prop_assert!(open(&keys(), &PLACE, &bytes).is_err());
        let _ = key_version(&bytes);
    }
}
