//! Encryption of personal data, field by field.
//!
//! Each tenant has data keys, of which the active one seals and the others only open, and an index key for searching by
//! equality. They are stored wrapped by a key-encryption key ([`kek`]) that the database never holds; a [`Keyring`] keeps
//! them unwrapped for a few minutes. [`seal`] and [`open`] turn text into stored bytes and back, bound to the place of the
//! value; [`blind_index`] gives what an equal value is found by. Who deletes a tenant's wrapped keys has erased the tenant.
//!
//! Nothing here knows a database or a clock: wrapped keys are handed in, and so is the time.

mod envelope;
mod index;
pub mod kek;
mod key;
mod keyring;

pub use envelope::{AssociatedData, OpenError, SealError, key_version, open, seal};
pub use index::{BlindIndex, Form, IndexKey, blind_index, fingerprint};
pub use key::{DataKey, DataKeys, KeyBytes, NoRandomness, SEALS_MAX, generate_key, is_worn_out};
pub use keyring::{Held, KEYS_TTL_MS, Keyring, TenantKeys, WrappedKey, WrappedKeys};
