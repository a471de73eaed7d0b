//! Access tokens: JWT, HS256.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Caller, Permission, Role};
use crate::clock::{SECOND, Timestamp};
use crate::db::TenantId;
use crate::graphql::cursor::{Cursors, derive_key};

/// A token is at most this long.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Clocks may differ by this much.
const LEEWAY_SECS: i64 = 10;

/// Tokens whose signatures are remembered as good.
const REMEMBERED_MAX: u64 = 10_000;

/// Signs and verifies tokens with one key.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    issuer: String,
    cursors: Cursors,
    /// Whom tokens with good signatures speak for, and when they were issued, in seconds. Their times are checked each
    /// time they are used.
    remembered: Cache<String, (Arc<Caller>, i64)>,
}

/// The token is not good; why is nobody's business but the log's.
#[derive(Debug, thiserror::Error)]
#[error("token refused: {0}")]
pub struct BadToken(&'static str);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Claims {
    user_id: Uuid,
    tenant_id: Uuid,
    role: Role,
    permissions: Vec<Permission>,
    exp: i64,
    iat: i64,
    iss: String,
    aud: String,
}

impl Tokens {
    pub fn new(secret: &str, issuer: &str) -> Self {
        Tokens {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            issuer: issuer.to_owned(),
            cursors: Cursors::new(&derive_key(secret, "cursors")),
            remembered: Cache::new(REMEMBERED_MAX),
        }
    }

    /// What signs the cursors of live answers, with a key made from the tokens'.
    pub fn cursors(&self) -> Cursors {
        self.cursors.clone()
    }

    /// A token for `user_id` that ends `lifetime_secs` after `now`.
    pub fn mint(
        &self,
        tenant: TenantId,
        user_id: Uuid,
        role: Role,
        now: Timestamp,
        lifetime_secs: i64,
    ) -> Result<String, BadToken> {
        let iat = now.0.div_euclid(SECOND);
        let claims = Claims {
            user_id,
            tenant_id: tenant.0,
            role,
            permissions: role.permissions().to_vec(),
            exp: iat + lifetime_secs,
            iat,
            iss: self.issuer.clone(),
            aud: self.issuer.clone(),
        };
        let header = Header { typ: Some("at+jwt".into()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(|_| BadToken("cannot be signed"))
    }

    /// Who the token speaks for, if its signature, issuer, audience and times are good.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Caller>, BadToken> {
        let (caller, issued_at_secs) = match self.remembered.get(token) {
            Some(remembered) => remembered,
            None => {
                let signed = self.check_signature(token)?;
                self.remembered.insert(token.to_owned(), signed.clone());
                signed
            }
        };
        let now_secs = now.0.div_euclid(SECOND);
        if caller.expires_at_secs + LEEWAY_SECS <= now_secs {
            return Err(BadToken("expired"));
        }
        if issued_at_secs > now_secs + LEEWAY_SECS {
            return Err(BadToken("issued in the future"));
        }
        Ok(caller)
    }

    fn check_signature(&self, token: &str) -> Result<(Arc<Caller>, i64), BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken("too long"));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.issuer]);
        // Times are checked by our own clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|_| BadToken("not a token of ours"))?
            .claims;
        let permissions =
            claims.role.permissions().iter().copied().filter(|p| claims.permissions.contains(p)).collect();
        let caller = Caller {
            tenant: TenantId(claims.tenant_id),
            user_id: claims.user_id,
            role: claims.role,
            permissions,
            expires_at_secs: claims.exp,
        };
        Ok((Arc::new(caller), claims.iat))
    }
}

/// The token of an `Authorization` header value: `Bearer <token>`.
pub fn from_header(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000 * SECOND);

    fn tokens(secret: &str) -> Tokens {
        Tokens::new(secret, "salespulse")
    }

    #[test]
    fn a_token_speaks_for_its_user() {
        let tenant = TenantId(Uuid::from_u128(1));
        let ours = tokens("0123456789abcdef0123456789abcdef");
        let token = ours.mint(tenant, Uuid::from_u128(2), Role::Analyst, NOW, 900).expect("signed");
        let caller = ours.verify(&token, NOW).expect("good");
        assert_eq!((caller.tenant, caller.user_id, caller.role), (tenant, Uuid::from_u128(2), Role::Analyst));
        assert!(caller.may(Permission::SalesView) && !caller.may(Permission::SalesEdit));
        assert!(tokens("another secret of thirty-two bytes").verify(&token, NOW).is_err());
        assert!(ours.verify(&token, Timestamp(NOW.0 + 911 * SECOND)).is_err());
        assert!(ours.verify(&token, Timestamp(NOW.0 - 60 * SECOND)).is_err());
        assert!(ours.verify(&format!("{token}x"), NOW).is_err());
    }
}
