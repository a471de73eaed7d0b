//! The state of a sign-in between leaving for the provider and returning. All of it is in a sealed cookie, so that only
//! the browser that left can return, to any server.

use axum::http::HeaderValue;
use openidconnect::{CsrfToken, Nonce, PkceCodeVerifier};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::sealed::Seals;
use crate::clock::{MINUTE, SECOND, Timestamp};
use crate::error::{Error, Result};

/// The callback is a cross-site navigation, on which `Strict` cookies are not sent.
pub const COOKIE: &str = "__Host-salespulse-oidc";
/// Long enough to fetch a second factor.
const LIFETIME: i64 = 10 * MINUTE;

/// A sign-in in progress.
#[derive(Serialize, Deserialize)]
pub struct Flow {
    pub provider: String,
    pub purpose: Purpose,
    /// The path to redirect to at the end.
    pub to: String,
    pub state: CsrfToken,
    pub nonce: Nonce,
    pub verifier: PkceCodeVerifier,
    ends_at: Timestamp,
}

/// What the user is sent to the provider for.
#[derive(Serialize, Deserialize)]
pub enum Purpose {
    /// To sign in to a tenant.
    SignIn { tenant: String },
    /// To link the identity to an existing user.
    Link { tenant: Uuid, user_id: Uuid, session: Uuid },
}

impl Flow {
    pub fn begin(provider: &str, purpose: Purpose, to: String, now: Timestamp) -> Self {
        Flow {
            provider: provider.to_owned(),
            purpose,
            to,
            state: CsrfToken::new_random_len(32),
            nonce: Nonce::new_random_len(32),
            verifier: openidconnect::PkceCodeChallenge::new_random_sha256().1,
            ends_at: Timestamp(now.0 + LIFETIME),
        }
    }

    /// The cookie that carries the state.
    pub fn to_cookie(&self, seals: &Seals) -> Result<HeaderValue> {
        let sealed =
            seals.seal(&serde_json::to_vec(self)?).ok_or_else(|| Error::internal("a sign-in cannot be sealed"))?;
        cookie(&sealed, LIFETIME / SECOND)
    }

    /// The state of a cookie, unless expired.
    pub fn from_cookie(value: &str, seals: &Seals, now: Timestamp) -> Option<Self> {
        let flow: Flow = serde_json::from_slice(&seals.open(value)?).ok()?;
        (now < flow.ends_at).then_some(flow)
    }
}

/// Deletes the cookie.
pub fn no_cookie() -> Result<HeaderValue> {
    cookie("", 0)
}

fn cookie(value: &str, secs: i64) -> Result<HeaderValue> {
    let text = format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={secs}");
    HeaderValue::try_from(text).map_err(Error::internal)
}

/// Whether a text is a path on this server, as interpreted by every browser, and nothing else.
pub fn is_own_path(to: &str) -> bool {
    const CHARS_MAX: usize = 1024;
    to.len() <= CHARS_MAX
        && to.starts_with('/')
        && !to.starts_with("//")
        && to.chars().all(|c| c.is_ascii_graphic() && c != '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_kept_for_ten_minutes() {
        let seals = Seals::new(&[[7; 32]]);
        let now = Timestamp(1);
        let flow = Flow::begin("acme-id", Purpose::SignIn { tenant: "acme".into() }, "/".into(), now);
        let cookie = flow.to_cookie(&seals).expect("sealed");
        let text = cookie.to_str().expect("text");
        assert!(!text.contains("acme") && !text.contains(flow.state.secret()));
        let value = text.split(['=', ';']).nth(1).expect("a value");
        let kept = Flow::from_cookie(value, &seals, Timestamp(1 + LIFETIME - 1)).expect("kept");
        assert_eq!(kept.state.secret(), flow.state.secret());
        assert!(Flow::from_cookie(value, &seals, Timestamp(1 + LIFETIME)).is_none());
        assert!(Flow::from_cookie("", &seals, now).is_none());
    }

    #[test]
    fn only_paths_of_this_server_are_gone_to() {
        for own in ["/", "/graphiql", "/a/b?c=d&e=/#f"] {
            assert!(is_own_path(own), "{own}");
        }
        for other in [
            "",
            "graphiql",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example",
            "/ä",
            "/a b",
        ] {
            assert!(!is_own_path(other), "{other}");
        }
        assert!(!is_own_path(&format!("/{}", "x".repeat(1024))));
    }
}
