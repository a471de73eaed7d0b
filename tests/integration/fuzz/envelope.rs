//! Sealed values and wrapped keys, which whoever can write to the database may change.

use futures_util::FutureExt;
use proptest::prelude::*;
use salespulse::sealing::kek::{KeyEncryption, KeyName, LocalKek, Purpose};
use salespulse::sealing::{AssociatedData, DataKey, DataKeys, KeyBytes, key_version, open, seal};
use uuid::Uuid;

use super::{any_bytes, edited, edits, flipped, fuzz};
use crate::support::KEK;

/// Versions 1 and 2 of one key, so that only the version in the associated data tells them apart.
fn keys() -> DataKeys {
    let key = |version| DataKey::new(version, &KeyBytes::new([0x42; 32]));
    DataKeys::new(key(2), vec![key(1)])
}

#[test]
fn a_value_opens_as_it_was_sealed_and_no_other_opens() {
    let keys = keys();
    let place = || (any::<u128>(), "[a-z]{1,6}", "[a-z]{1,6}", any_bytes());
    let inputs = (any::<String>(), place(), place(), edits(any_bytes()));
    fuzz(inputs, |(text, mine, others, edits)| {
        let place_of = |(tenant, table, column, row): &(u128, String, String, Vec<u8>),
                        look: &dyn Fn(&AssociatedData<'_>)| {
            look(&AssociatedData { tenant: Uuid::from_u128(*tenant), table, column, row });
        };
        place_of(&mine, &|place| {
            let sealed = seal(keys.active(), place, &text).expect("sealed");
            assert_eq!((key_version(&sealed), open(&keys, place, &sealed).as_deref()), (Ok(2), Ok(text.as_str())));
            let forged = flipped(&sealed).chain([edited(&sealed, &edits)]).filter(|other| *other != sealed);
            for forged in forged {
                assert!(open(&keys, place, &forged).is_err(), "{sealed:?} and {forged:?}");
            }
            // The parts of its place, taken over one by one and moved into each other.
            let (tenant, table, column, row) = others.clone();
            let moved = [
                (tenant, mine.1.clone(), mine.2.clone(), mine.3.clone()),
                (mine.0, table, mine.2.clone(), mine.3.clone()),
                (mine.0, mine.1.clone(), column, mine.3.clone()),
                (mine.0, mine.1.clone(), mine.2.clone(), row),
                (mine.0, format!("{}{}", mine.1, mine.2), String::new(), mine.3.clone()),
            ];
            for moved in moved.iter().filter(|moved| **moved != mine) {
                place_of(moved, &|place| assert!(open(&keys, place, &sealed).is_err(), "{moved:?}"));
            }
        });
    });
}

#[test]
fn no_bytes_open_that_were_not_sealed() {
    let keys = keys();
    let place = AssociatedData { tenant: Uuid::from_u128(1), table: "customers", column: "email", row: &[0, 0, 0, 42] };
    let formed = any_bytes().prop_map(|bytes| [&[1, 0, 0, 0, 2], bytes.as_slice()].concat());
    fuzz(prop_oneof![any_bytes(), formed], |bytes| {
        let version = key_version(&bytes);
        assert!(open(&keys, &place, &bytes).is_err());
        assert!(version.is_err() || bytes.len() >= 33, "{version:?} of {} bytes", bytes.len());
    });
}

#[test]
fn a_key_unwraps_as_it_was_wrapped_and_no_other_unwraps() {
    let kek = LocalKek::from_texts([KEK]).expect("a key");
    let inserted = "[A-Za-z0-9+/=:. ]{1,6}".prop_map(String::into_bytes);
    fuzz((any::<[u8; 32]>(), any::<u128>(), 1..9u32, edits(inserted)), |(key, tenant, version, edits)| {
        let name = |version| KeyName { tenant: Uuid::from_u128(tenant), purpose: Purpose::Data, version };
        let unwrap = |version, text: &str| kek.unwrap(&name(version), text).now_or_never().expect("at once");
        let wrapped = kek.wrap(&name(version), &KeyBytes::new(key)).now_or_never().expect("at once").expect("wrapped");
        assert_eq!(unwrap(version, &wrapped).expect("unwrapped").as_slice(), key);
        assert!(unwrap(version + 1, &wrapped).is_err());
        let forged = flipped(wrapped.as_bytes()).chain([edited(wrapped.as_bytes(), &edits)]);
        for forged in forged.filter_map(|other| String::from_utf8(other).ok()).filter(|other| *other != wrapped) {
            assert!(unwrap(version, &forged).is_err(), "{wrapped} and {forged}");
        }
    });
}
