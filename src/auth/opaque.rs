//! Opaque secrets: refresh tokens, API keys, and the tokens of mailed links. They carry the tenant, so that they are
//! looked up under its row isolation; the database stores only their hashes, except for links in mail that is still to
//! be sent.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::TenantId;
use crate::mac::keyed;

/// The purpose of a secret, and the prefix of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Obtains new access tokens.
    Refresh,
    /// Authenticates a program.
    ApiKey,
    /// Sent by mail, single-use.
    Once,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Kind::Refresh => "spr_",
            Kind::ApiKey => "spk_",
            Kind::Once => "spo_",
        }
    }
}

/// A 256-bit secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque {
    kind: Kind,
    pub tenant: TenantId,
    secret: [u8; 32],
}

impl Opaque {
    pub fn random(kind: Kind, tenant: TenantId) -> Self {
        Opaque { kind, tenant, secret: rand::random() }
    }

    /// Parses a secret of this kind.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let (tenant, secret) = text.strip_prefix(kind.prefix())?.split_once('_')?;
        let tenant = Uuid::try_parse(tenant).ok().filter(|id| id.simple().to_string() == tenant)?;
        let secret = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
        Some(Opaque { kind, tenant: TenantId(tenant), secret })
    }

    pub fn to_text(&self) -> String {
        let Opaque { kind, tenant: TenantId(tenant), secret } = self;
        format!("{}{}_{}", kind.prefix(), tenant.simple(), URL_SAFE_NO_PAD.encode(secret))
    }

    /// The hash to store. The secret's entropy rules out guessing it from the hash, so no slow hash is needed.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.to_text()).into()
    }

    /// The successor of this secret. Deriving it takes both this secret and the salt, which is stored.
    pub fn successor(&self, salt: &[u8]) -> Self {
        Opaque { secret: keyed(&self.secret).chain_update(salt).finalize().into_bytes().into(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_gives_its_secret_and_no_other_kind() {
        let tenant = TenantId(Uuid::from_u128(7));
        let key = Opaque::random(Kind::ApiKey, tenant);
        let text = key.to_text();
        assert!(Opaque::parse(Kind::ApiKey, &text) == Some(key.clone()));
        assert!(Opaque::parse(Kind::Refresh, &text).is_none());
        for bad in
            ["", "spk_", "spk_7_x", &text[1..], &text[..text.len() - 1], &format!("{text}A"), &text.to_uppercase()]
        {
            assert!(Opaque::parse(Kind::ApiKey, bad).is_none(), "{bad}");
        }
        assert!(key.successor(b"a") == key.successor(b"a") && key.successor(b"a") != key.successor(b"b"));
    }
}
