//! The encrypted columns of `customers`.

use std::fmt;

use crate::db::TenantId;
use crate::error::Result;
use crate::sealing::{self, AssociatedData, BlindIndex, Form, IndexKey, TenantKeys, blind_index, fingerprint};

/// Part of the associated data of a sealed value, with tenant, column and row.
const TABLE: &str = "customers";

/// A sealed column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Name,
    Email,
    Phone,
    Address,
}

impl Field {
    pub const ALL: [Field; 4] = [Field::Name, Field::Email, Field::Phone, Field::Address];

    pub fn column(self) -> &'static str {
        match self {
            Field::Name => "name",
            Field::Email => "email",
            Field::Phone => "phone",
            Field::Address => "address",
        }
    }

    fn place(self, tenant: TenantId, row: &[u8; 8]) -> AssociatedData<'_> {
        AssociatedData { tenant: tenant.0, table: TABLE, column: self.column(), row }
    }
}

/// A customer's details as stated by a source; none of them is blank.
#[derive(Clone, Default, PartialEq)]
pub struct CustomerDetails {
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
}

impl CustomerDetails {
    pub fn get(&self, field: Field) -> Option<&str> {
        match field {
            Field::Name => &self.name,
            Field::Email => &self.email,
            Field::Phone => &self.phone,
            Field::Address => &self.address,
        }
        .as_deref()
    }

    /// Takes the values present in `newer`; keeps the others.
    pub fn take_over(&mut self, newer: CustomerDetails) {
        for (value, newer) in [
            (&mut self.name, newer.name),
            (&mut self.email, newer.email),
            (&mut self.phone, newer.phone),
            (&mut self.address, newer.address),
        ] {
            if newer.is_some() {
                *value = newer;
            }
        }
    }

    /// A keyed hash of the details of `customer_no`, by which the same ones are recognized; `None` if there are none. Two
    /// customers with the same details have different ones: names are not to be compared.
    pub fn print(&self, key: &IndexKey, customer_no: i64) -> Option<[u8; 16]> {
        let mut text = customer_no.to_be_bytes().to_vec();
        for field in Field::ALL {
            // The length tells the fields apart, and is that of no value where there is none.
            let value = self.get(field);
            text.extend(value.map_or(u64::MAX, |value| value.len() as u64).to_be_bytes());
            text.extend(value.unwrap_or_default().as_bytes());
        }
        let is_said = Field::ALL.into_iter().any(|field| self.get(field).is_some());
        is_said.then(|| fingerprint(key, "customers.details", &text)).and_then(|print| print.first_chunk().copied())
    }

    /// The sealed form for the row of `customer_no`.
    pub fn seal(&self, keys: &TenantKeys, tenant: TenantId, customer_no: i64) -> Result<SealedDetails> {
        let row = customer_no.to_be_bytes();
        let mut sealed = SealedDetails::default();
        for (field, bytes) in Field::ALL.into_iter().zip(&mut sealed.values) {
            if let Some(text) = self.get(field) {
                *bytes = sealing::seal(keys.data.active(), &field.place(tenant, &row), text)?;
                sealed.key_version = Some(keys.data.active().version());
            }
        }
        let index = |field| self.get(field).and_then(|text| find_index(&keys.index, field, text));
        sealed.email_index = index(Field::Email);
        sealed.phone_index = index(Field::Phone);
        sealed.print = self.print(&keys.index, customer_no);
        Ok(sealed)
    }
}

impl fmt::Debug for CustomerDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerDetails")
    }
}

/// [`CustomerDetails`] in stored form; absent values are empty.
#[derive(Default)]
pub struct SealedDetails {
    /// In the order of [`Field::ALL`].
    pub values: [Vec<u8>; 4],
    pub email_index: Option<BlindIndex>,
    pub phone_index: Option<BlindIndex>,
    pub print: Option<[u8; 16]>,
    /// Version of the sealing key; `None` where nothing was sealed.
    pub key_version: Option<u32>,
}

/// Opens a sealed column of the row of `customer_no`. Error: DECRYPTION_FAILED.
pub fn open(
    keys: &TenantKeys,
    tenant: TenantId,
    customer_no: i64,
    field: Field,
    sealed: &[u8],
) -> Result<String, sealing::OpenError> {
    sealing::open(&keys.data, &field.place(tenant, &customer_no.to_be_bytes()), sealed)
}

/// The blind index of a field's value; `None` for a value with nothing to compare, and for fields that are not
/// searchable.
pub fn find_index(key: &IndexKey, field: Field, value: &str) -> Option<BlindIndex> {
    match field {
        Field::Email => blind_index(key, "customers.email", Form::Text, value),
        Field::Phone => blind_index(key, "customers.phone", Form::Phone, value),
        Field::Name | Field::Address => None,
    }
}

/// Replaces the source's id of an erased customer: later events still match it, but without the tenant's key it does
/// not reveal the id.
pub fn erased_id(key: &IndexKey, external_id: &str) -> String {
    let print = fingerprint(key, "customers.external_id", external_id.as_bytes());
    format!("erased:{}", hex::encode(print))
}
