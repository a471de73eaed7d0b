//! The stored forms stay what they are: values made by another implementation (the Python package `cryptography` 48 and the
//! standard library's `hmac`) out of the same description.

use salespulse::sealing::kek::{KeyEncryption, KeyName, LocalKek, Purpose};
use salespulse::sealing::{AssociatedData, DataKey, DataKeys, Form, IndexKey, KeyBytes, blind_index, open};
use uuid::Uuid;

const TENANT: Uuid = Uuid::from_u128(0x0190_a5b8_0000_7000_8000_0000_0000_0001);

/// The bytes 0, 1, 2, ... 31.
fn key() -> KeyBytes {
    KeyBytes::new(std::array::from_fn(|at| at as u8))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

#[test]
fn a_sealed_value_is_opened() {
    // Key version 7, nonce 100, 101, ... 111.
    let sealed = from_hex(
        "01000000076465666768696a6b6c6d6e6f12741dcd59d52cf15b223a90bb081a91\
         27ec6565e6523e006dd807ba35c3c5ac6c7b8aef63a2",
    );
    let row = 42_i64.to_be_bytes();
    let place = AssociatedData { tenant: TENANT, table: "customers", column: "email", row: &row };
    let keys = DataKeys::new(DataKey::new(7, &key()), Vec::new());
    assert_eq!(open(&keys, &place, &sealed).as_deref(), Ok("Zoë <zoe@example.com>"));
}

#[test]
fn a_blind_index_is_the_same() {
    let index = |column, form, value| blind_index(&IndexKey::new(key()), column, form, value).map(|index| hex(&index));
    let email = index("customers.email", Form::Text, " ZOË＠Example.com ");
    assert_eq!(email.as_deref(), Some("4c2f486f4420560d6d51843b306762d1"));
    let phone = index("customers.phone", Form::Phone, "+49 (30) 123-45");
    assert_eq!(phone.as_deref(), Some("db7f3827d264498226484ba43389c459"));
}

#[tokio::test]
async fn a_wrapped_key_is_unwrapped() {
    // The key-encryption key is 32 bytes 0xa5.
    let kek = LocalKek::from_texts(["paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU="]).expect("a key");
    let name = KeyName { tenant: TENANT, purpose: Purpose::Data, version: 7 };
    let wrapped =
        "local:a986db2c21af65ea:ZGVmZ2hpamtsbW5vN8lzNSrC2FMqFA4K6CUiBjTGNGlXBqa18Q2PhbGGzxh5v8SD+G/UmSxNYoPD+77Q";
    assert_eq!(kek.unwrap(&name, wrapped).await, Ok(key()));
}
