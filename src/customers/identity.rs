//! Identifying data of a customer, unsealed field by field for those permitted to see it.

use async_graphql::{Context, Object};

use crate::auth::Permission;
use crate::db::TenantTx;
use crate::error::Result;
use crate::graphql::context::{app, caller, operation, read};
use crate::personal::{Access, Field, Keys, open};
use crate::sealing::{OpenError, key_version};

/// The sealed columns of one row.
#[derive(Clone)]
pub struct Identity {
    pub customer_no: i64,
    /// In the order of [`Field::ALL`].
    pub sealed: [Option<Vec<u8>>; 4],
}

/// Part of [`super::Customer`].
#[Object(name = "CustomerIdentity")]
impl Identity {
    /// The customer's name, if known. Null without PERSONAL_VIEW and for customers who were erased; null with the error DECRYPTION_FAILED if the stored value was tampered with.
    async fn name(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(self.read_field(ctx, Field::Name).await?)
    }

    /// The customer's e-mail address; null in the same cases as `name`.
    async fn email(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(self.read_field(ctx, Field::Email).await?)
    }

    /// The customer's phone number; null in the same cases as `name`.
    async fn phone(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(self.read_field(ctx, Field::Phone).await?)
    }

    /// The customer's postal address; null in the same cases as `name`.
    async fn address(&self, ctx: &Context<'_>) -> async_graphql::Result<Option<String>> {
        Ok(self.read_field(ctx, Field::Address).await?)
    }
}

impl Identity {
    async fn read_field(&self, ctx: &Context<'_>, field: Field) -> Result<Option<String>> {
        if !caller(ctx)?.may(Permission::PersonalView) {
            return Ok(None);
        }
        let Some(sealed) = self.sealed(field) else { return Ok(None) };
        operation(ctx)?.has_personal_data();
        let (keys, tenant) = (&app(ctx)?.keys, caller(ctx)?.tenant);
        if let Some(keys) = keys.find(tenant) {
            match open(&keys, tenant, self.customer_no, field, sealed) {
                Err(OpenError::UnknownKeyVersion(_)) => {}
                opened => return Ok(Some(opened?)),
            }
        }
        // Keys not cached, or rotated by another process.
        self.open(keys, read(ctx).await?.as_ref(), field).await
    }

    /// The stored bytes of a field.
    pub fn sealed(&self, field: Field) -> Option<&[u8]> {
        self.sealed.get(field as usize)?.as_deref()
    }

    /// A field's text, unsealed with the keys that `tx` sees; `None` if there is none or the tenant was erased. Errors:
    /// DECRYPTION_FAILED, SERVICE_UNAVAILABLE.
    pub async fn open(&self, keys: &Keys, tx: &TenantTx, field: Field) -> Result<Option<String>> {
        let Some(sealed) = self.sealed(field) else { return Ok(None) };
        match keys.load(tx).await? {
            Access::Keys(held) => {
                match (open(&held.keys, tx.tenant(), self.customer_no, field, sealed), held.trouble) {
                    // Another process rotated, and the new key cannot be unwrapped at present.
                    (Err(OpenError::UnknownKeyVersion(_)), Some(trouble)) => Err(trouble.into()),
                    (opened, _) => Ok(Some(opened?)),
                }
            }
            Access::Erased => Ok(None),
            Access::Never => Err(OpenError::UnknownKeyVersion(key_version(sealed)?).into()),
        }
    }
}
