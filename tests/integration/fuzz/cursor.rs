//! Cursors of live answers, which clients keep and send back.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use salespulse::auth::cursor::{Cursors, Mark, derive_key};
use salespulse::clock::Timestamp;
use salespulse::db::TenantId;
use uuid::Uuid;

use super::{any_bytes, edited, edits, flipped, fuzz};

fn mark() -> impl Strategy<Value = Mark> {
    let until = proptest::option::of((i64::MIN..i64::MAX).prop_map(Timestamp));
    (any::<i64>(), any::<i64>(), until).prop_map(|(position, part, until)| Mark { position, part, until })
}

fn tenant() -> impl Strategy<Value = TenantId> {
    any::<u128>().prop_map(|id| TenantId(Uuid::from_u128(id)))
}

#[test]
fn a_cursor_is_read_as_it_was_written_and_no_other_is_read() {
    let (key, next) = (derive_key("a secret", "cursors"), derive_key("another", "cursors"));
    let (cursors, rotated, strange) = (Cursors::new(&[key]), Cursors::new(&[next, key]), Cursors::new(&[next]));
    let inputs = (tenant(), any_bytes(), mark(), tenant(), any_bytes(), edits(any_bytes()));
    fuzz(inputs, |(tenant, scope, mark, other_tenant, other_scope, edits)| {
        let cursor = cursors.write(tenant, &scope, mark);
        let read = |cursor: &str| cursors.read(tenant, &scope, cursor);
        assert_eq!((read(&cursor), rotated.read(tenant, &scope, &cursor)), (Some(mark), Some(mark)));
        assert_eq!(strange.read(tenant, &scope, &cursor), None);
        assert_eq!(cursors.read(other_tenant, &scope, &cursor).is_some(), other_tenant == tenant);
        assert_eq!(cursors.read(tenant, &other_scope, &cursor).is_some(), other_scope == scope);
        let longer = [scope.as_slice(), b"\0"].concat();
        assert_eq!(cursors.read(tenant, &longer, &cursor), None);

        let bytes = URL_SAFE_NO_PAD.decode(&cursor).expect("base64");
        let in_bytes = flipped(&bytes).chain([edited(&bytes, &edits)]).filter(|other| *other != bytes);
        let in_bytes = in_bytes.map(|other| URL_SAFE_NO_PAD.encode(other));
        let in_text = flipped(cursor.as_bytes()).chain([edited(cursor.as_bytes(), &edits)]);
        let in_text = in_text.filter_map(|other| String::from_utf8(other).ok()).filter(|other| *other != cursor);
        for forged in in_bytes.chain(in_text) {
            assert_eq!(read(&forged), None, "{cursor} and {forged}");
        }
    });
}

#[test]
fn no_text_is_a_cursor_that_was_not_written() {
    let cursors = Cursors::new(&[derive_key("a secret", "cursors")]);
    let texts = prop_oneof![any::<String>(), "[A-Za-z0-9_-]{54}", "[A-Za-z0-9+/=_-]{0,200}"];
    fuzz((tenant(), any_bytes(), texts), |(tenant, scope, text)| {
        assert_eq!(cursors.read(tenant, &scope, &text), None);
    });
}
