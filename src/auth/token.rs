//! Access tokens: JWTs signed with EdDSA by a key of a file, or with HS256 by a secret (RFC 7519, 8725, 9068).

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys::NamedKey;
use super::sealed::Seals;
use super::{Caller, Permission, Role, Through};
use crate::auth::cursor::{Cursors, derive_key};
use crate::clock::{SECOND, Timestamp};
use crate::db::TenantId;

/// Maximum length of a token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Tolerated clock skew.
const LEEWAY_SECS: i64 = 10;

/// Maximum number of tokens whose verified signatures are cached.
const REMEMBERED_MAX: u64 = 10_000;

/// Signs and verifies tokens.
#[derive(Clone)]
pub struct Tokens {
    signer: Signer,
    /// By key ID; HS256 tokens have none.
    verifiers: Arc<HashMap<Option<String>, (Algorithm, DecodingKey)>>,
    /// The public keys, as a JSON Web Key Set.
    key_set: Arc<str>,
    issuer: String,
    cursors: Cursors,
    seals: Seals,
    /// Subjects of tokens with verified signatures, and when these were issued, in seconds. The times are checked on
    /// every use.
    remembered: Cache<String, (Arc<Caller>, i64)>,
}

#[derive(Clone)]
struct Signer {
    algorithm: Algorithm,
    key_id: Option<String>,
    key: EncodingKey,
}

/// The token is invalid; the reason is for the log only.
#[derive(Debug, thiserror::Error)]
#[error("token refused: {0}")]
pub struct BadToken(&'static str);

/// The accepted header fields. Embedded keys, key URLs and extensions are rejected.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    #[serde(rename = "alg")]
    _alg: Algorithm,
    typ: Option<String>,
    kid: Option<String>,
}

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
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<Uuid>,
    /// The session; operator-issued tokens have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
}

/// The subject of a token.
#[derive(Clone, Copy)]
pub struct Subject {
    pub tenant: TenantId,
    pub user_id: Uuid,
    pub role: Role,
    pub session: Option<Uuid>,
}

impl Tokens {
    /// Signs with HS256 by a secret.
    pub fn new(secret: &str, issuer: &str) -> Self {
        Tokens::with_keys(&[], Some(secret), issuer)
    }

    /// Signs with the first of `keys`, otherwise with the secret; all of them verify.
    pub fn with_keys(keys: &[NamedKey], secret: Option<&str>, issuer: &str) -> Self {
        let mut verifiers = HashMap::new();
        for NamedKey { id, key } in keys {
            let verifier = DecodingKey::from_ed_der(key.verifying_key().as_bytes());
            verifiers.insert(Some(id.clone()), (Algorithm::EdDSA, verifier));
        }
        if let Some(secret) = secret {
            verifiers.insert(None, (Algorithm::HS256, DecodingKey::from_secret(secret.as_bytes())));
        }
        let signer = match keys.first().and_then(|key| Some((key, key.key.to_pkcs8_der().ok()?))) {
            Some((NamedKey { id, .. }, der)) => Signer {
                algorithm: Algorithm::EdDSA,
                key_id: Some(id.clone()),
                key: EncodingKey::from_ed_der(der.as_bytes()),
            },
            None => {
                let key = EncodingKey::from_secret(secret.unwrap_or_default().as_bytes());
                Signer { algorithm: Algorithm::HS256, key_id: None, key }
            }
        };
        // As with tokens, the first signs and all verify.
        let roots = keys.iter().map(|key| key.key.to_bytes().to_vec());
        let roots = roots.chain(secret.map(|secret| secret.as_bytes().to_vec()));
        let roots: Vec<Vec<u8>> = roots.collect();
        let keys_for = |purpose| roots.iter().map(|root| derive_key(root, purpose)).collect::<Vec<_>>();
        let key_set = serde_json::json!({ "keys": keys.iter().map(NamedKey::to_jwk).collect::<Vec<_>>() });
        Tokens {
            signer,
            verifiers: Arc::new(verifiers),
            key_set: key_set.to_string().into(),
            issuer: issuer.to_owned(),
            cursors: Cursors::new(&keys_for("cursors")),
            seals: Seals::new(&keys_for("seals")),
            remembered: Cache::new(REMEMBERED_MAX),
        }
    }

    /// The codec for cursors of live answers, keyed by a derivation of the token keys.
    pub fn cursors(&self) -> Cursors {
        self.cursors.clone()
    }

    /// The sealer for short-lived browser cookies, keyed by a derivation of the token keys.
    pub fn seals(&self) -> Seals {
        self.seals.clone()
    }

    /// The public keys with which others can verify tokens (RFC 7517).
    pub fn key_set(&self) -> &str {
        &self.key_set
    }

    /// Issues a token that expires `lifetime_secs` after `now`.
    pub fn mint(&self, subject: &Subject, now: Timestamp, lifetime_secs: i64) -> Result<String, BadToken> {
        let iat = now.0.div_euclid(SECOND);
        let claims = Claims {
            user_id: subject.user_id,
            tenant_id: subject.tenant.0,
            role: subject.role,
            permissions: subject.role.permissions().to_vec(),
            exp: iat + lifetime_secs,
            iat,
            iss: self.issuer.clone(),
            aud: self.issuer.clone(),
            jti: Some(Uuid::new_v4()),
            sid: subject.session,
        };
        let Signer { algorithm, key_id, key } = &self.signer;
        let header = Header { typ: Some("at+jwt".into()), kid: key_id.clone(), ..Header::new(*algorithm) };
        jsonwebtoken::encode(&header, &claims, key).map_err(|_| BadToken("cannot be signed"))
    }

    /// The token's subject, if its signature, issuer, audience and times are valid.
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
        if is_over(&caller, now) {
            return Err(BadToken("expired"));
        }
        if issued_at_secs > now_secs + LEEWAY_SECS {
            return Err(BadToken("issued in the future"));
        }
        Ok(caller)
    }

    /// Whether the token in an `Authorization` value was once accepted here, and has expired since.
    pub fn has_expired(&self, authorization: &str, now: Timestamp) -> bool {
        let known = from_header(authorization).and_then(|token| self.remembered.get(token));
        known.is_some_and(|(caller, _)| is_over(&caller, now))
    }

    fn check_signature(&self, token: &str) -> Result<(Arc<Caller>, i64), BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken("too long"));
        }
        let header = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let header: StrictHeader = header
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or(BadToken("a header that is not understood"))?;
        if header.typ.is_some_and(|typ| !["at+jwt", "jwt"].contains(&typ.to_ascii_lowercase().as_str())) {
            return Err(BadToken("no access token"));
        }
        // The algorithm is determined by the key, not by the token.
        let (algorithm, key) = self.verifiers.get(&header.kid).ok_or(BadToken("no key of ours"))?;
        let mut validation = Validation::new(*algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.issuer]);
        // Times are checked against the injected clock.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
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
            through: match claims.sid {
                Some(session) => Through::Session(session),
                None => Through::Token { issued_at_secs: claims.iat },
            },
        };
        Ok((Arc::new(caller), claims.iat))
    }
}

fn is_over(caller: &Caller, now: Timestamp) -> bool {
    caller.expires_at_secs.saturating_add(LEEWAY_SECS) <= now.0.div_euclid(SECOND)
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
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const SUBJECT: Subject = Subject {
        tenant: TenantId(Uuid::from_u128(1)),
        user_id: Uuid::from_u128(2),
        role: Role::Analyst,
        session: None,
    };

    #[test]
    fn a_token_speaks_for_its_user() {
        let key = NamedKey::random();
        let by_key = Tokens::with_keys(std::slice::from_ref(&key), None, "salespulse");
        let by_secret = Tokens::new(SECRET, "salespulse");
        for ours in [by_key, by_secret] {
            let token = ours.mint(&SUBJECT, NOW, 900).expect("signed");
            let caller = ours.verify(&token, NOW).expect("good");
            assert_eq!((caller.tenant, caller.user_id, caller.role), (SUBJECT.tenant, SUBJECT.user_id, Role::Analyst));
            assert!(caller.may(Permission::SalesView) && !caller.may(Permission::SalesEdit));
            assert!(Tokens::new("another secret of thirty-two bytes", "salespulse").verify(&token, NOW).is_err());
            assert!(Tokens::with_keys(&[NamedKey::random()], Some(SECRET), "other").verify(&token, NOW).is_err());
            assert!(ours.verify(&token, Timestamp(NOW.0 + 911 * SECOND)).is_err());
            assert!(ours.verify(&token, Timestamp(NOW.0 - 60 * SECOND)).is_err());
            assert!(ours.verify(&format!("{token}x"), NOW).is_err());
        }
    }

    #[test]
    fn a_new_key_in_front_leaves_older_tokens_and_cursors_good() {
        let (old, new) = (NamedKey::random(), NamedKey::random());
        let before = Tokens::with_keys(std::slice::from_ref(&old), None, "salespulse");
        let after = Tokens::with_keys(&[new, old], None, "salespulse");
        let token = before.mint(&SUBJECT, NOW, 900).expect("signed");
        assert!(after.verify(&token, NOW).is_ok());
        assert!(before.verify(&after.mint(&SUBJECT, NOW, 900).expect("signed"), NOW).is_err());
    }

    /// A token with this header and these claims, signed with the secret.
    fn forged(header: &str, claims: &str) -> String {
        use hmac::{Hmac, Mac};
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key").chain_update(&text);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn a_header_or_claim_that_is_not_ours_is_refused() {
        let ours = Tokens::new(SECRET, "salespulse");
        let id = Uuid::from_u128(1);
        let claims = |more: &str| {
            format!(
                r#"{{"userId":"{id}","tenantId":"{id}","role":"viewer","permissions":["sales.view"],"exp":1800000900,"iat":1800000000,
                "iss":"salespulse","aud":"salespulse"{more}}}"#
            )
        };
        assert!(ours.verify(&forged(r#"{"alg":"HS256","typ":"JWT"}"#, &claims("")), NOW).is_ok());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS384"}"#,
            r#"{"alg":"EdDSA"}"#,
            r#"{"alg":"HS256","kid":"another"}"#,
            r#"{"alg":"HS256","typ":"id+jwt"}"#,
            r#"{"alg":"HS256","jku":"https://evil.example/keys"}"#,
            r#"{"alg":"HS256","x5u":"https://evil.example/cert"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","zip":"DEF"}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#,
        ] {
            assert!(ours.verify(&forged(header, &claims("")), NOW).is_err(), "{header}");
        }
        for more in [r#","role":"admin""#, r#","admin":true"#, r#","sid":"7""#] {
            assert!(ours.verify(&forged(r#"{"alg":"HS256"}"#, &claims(more)), NOW).is_err(), "{more}");
        }
        for (good, wrong) in [
            (r#""aud":"salespulse""#, r#""aud":"another""#),
            (r#""iss":"salespulse""#, r#""iss":"another""#),
            (r#""aud":"salespulse""#, r#""aud":["another"]"#),
            (r#""exp":1800000900"#, r#""exp":1799999990"#),
            (r#""iat":1800000000"#, r#""iat":1800000011"#),
            (r#"["sales.view"]"#, r#"["sales.all"]"#),
            (r#""role":"viewer""#, r#""role":"owner""#),
        ] {
            let claims = claims("").replace(good, wrong);
            assert!(ours.verify(&forged(r#"{"alg":"HS256"}"#, &claims), NOW).is_err(), "{wrong}");
        }
        for good in ["iss", "aud", "exp", "iat", "userId", "tenantId", "role", "permissions"] {
            let claims = claims("").replacen(&format!("\"{good}\":"), "\"jti\":", 1);
            assert!(ours.verify(&forged(r#"{"alg":"HS256"}"#, &claims), NOW).is_err(), "without {good}");
        }
        let unsigned = forged(r#"{"alg":"HS256"}"#, &claims(""));
        let (unsigned, _) = unsigned.rsplit_once('.').expect("three parts");
        assert!(ours.verify(&format!("{unsigned}."), NOW).is_err());
        assert!(ours.verify(unsigned, NOW).is_err());
        // A public key must not be accepted as an HS256 secret.
        let key = NamedKey::random();
        let keys = Tokens::with_keys(std::slice::from_ref(&key), None, "salespulse");
        let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, key.id);
        assert!(keys.verify(&forged(&header, &claims("")), NOW).is_err());
    }

    #[test]
    fn a_token_may_take_permissions_from_its_role_and_give_it_none() {
        let ours = Tokens::new(SECRET, "salespulse");
        let permissions = |role: &str, permissions: &str| {
            let id = Uuid::from_u128(1);
            let claims = format!(
                r#"{{"userId":"{id}","tenantId":"{id}","role":"{role}","permissions":[{permissions}],"exp":1800000900,
                "iat":1800000000,"iss":"salespulse","aud":"salespulse"}}"#
            );
            let token = forged(r#"{"alg":"HS256"}"#, &claims);
            ours.verify(&token, NOW).map(|caller| caller.permissions.clone()).map_err(|_| token.len())
        };
        use Permission::{PersonalView, SalesView};
        assert_eq!(permissions("viewer", r#""sales.view","sales.edit","users.manage""#), Ok(vec![SalesView]));
        assert_eq!(permissions("admin", r#""personal.view","sales.view""#), Ok(vec![SalesView, PersonalView]));
        assert_eq!(permissions("admin", ""), Ok(vec![]));
        // Nothing is wrong with it but its length.
        let times = |count| vec![r#""sales.view""#; count].join(",");
        assert_eq!(permissions("viewer", &times(400)), Ok(vec![SalesView]));
        let shortest = (400..).find_map(|count| permissions("viewer", &times(count)).err());
        assert!(shortest.is_some_and(|len| (8_193..8_220).contains(&len)), "{shortest:?}");
    }
}
