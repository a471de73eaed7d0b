//! Field-level envelope encryption of personal data.
//!
//! Each tenant has data keys, of which the active one seals and the others only open, and an index key for equality
//! search. They are stored wrapped by a key-encryption key ([`kek`]) that is never in the database; a [`Keyring`]
//! caches them unwrapped for a few minutes. [`seal`] and [`open`] convert text to stored bytes and back, bound to the
//! location of the value; [`blind_index`] makes equal values searchable. Deleting a tenant's wrapped keys erases the
//! tenant (crypto-shredding).
//!
//! This module depends on neither a database nor a clock: wrapped keys and the time are passed in.

mod envelope;
mod index;
pub mod kek;
mod key;
mod keyring;

pub use envelope::{AssociatedData, OpenError, SealError, key_version, open, seal};
pub use index::{BlindIndex, Form, IndexKey, blind_index, fingerprint};
pub use key::{DataKey, DataKeys, KeyBytes, NoRandomness, SEALS_MAX, generate_key, is_worn_out};
pub use keyring::{Held, KEYS_TTL_MS, Keyring, TenantKeys, WrappedKey, WrappedKeys};
