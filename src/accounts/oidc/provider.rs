//! The client of a provider: its metadata, cached for a while, and the person who returns from it.

use std::sync::Arc;
use std::time::Duration;

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreErrorResponseType, CoreGrantType, CoreIdToken, CoreIdTokenClaims, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode,
    CoreResponseType, CoreSubjectIdentifierType, CoreUserInfoClaims,
};
use openidconnect::url::Url;
use openidconnect::{
    AccessToken, AdditionalProviderMetadata, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, ProviderMetadata, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    TokenResponse,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::fetch::{ANSWER_WAIT, Fetch};
use super::flow::Flow;
use super::person::Person;
use super::settings::Settings;
use crate::clock::{SECOND, Timestamp};
use crate::error::{BoxError, Code, Error, Result};

/// How long a provider's metadata, including its keys, is cached.
const KEPT: Duration = Duration::from_secs(3600);
/// Minimum interval between refreshes for an unknown key.
const LOOK_PAUSE: Duration = Duration::from_secs(60);
/// After a failed fetch, requests do not wait for another one for this long.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// Tolerated clock skew.
const LEEWAY_SECS: i64 = 60;

/// Asymmetric algorithms: the secret is not shared with the client.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Provider metadata beyond OpenID Connect Discovery (RFC 9207, section 3).
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Announced {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Announced {}

type Metadata = ProviderMetadata<
    Announced,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type ProviderClient =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

pub struct Provider {
    pub name: String,
    pub settings: Settings,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    fetch: Fetch,
    known: Mutex<Known>,
}

/// Cached provider metadata.
#[derive(Default)]
struct Known {
    metadata: Option<Arc<Metadata>>,
    asked_at: Option<Instant>,
    /// When an unknown key last triggered a refresh.
    looked_at: Option<Instant>,
}

impl Provider {
    /// Error: the message of a client that cannot be created.
    pub fn new(name: &str, settings: Settings, public_url: &str) -> Result<Self, String> {
        Ok(Provider {
            issuer: IssuerUrl::new(settings.issuer.clone()).map_err(|error| error.to_string())?,
            redirect: RedirectUrl::new(format!("{public_url}/auth/oidc/{name}/callback")).map_err(|e| e.to_string())?,
            fetch: Fetch::new().map_err(|error| error.to_string())?,
            name: name.to_owned(),
            settings,
            known: Mutex::default(),
        })
    }

    pub fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// The provider's authorization URL. Error: SERVICE_UNAVAILABLE.
    pub async fn page(&self, flow: &Flow) -> Result<Url> {
        let metadata = self.metadata(false).await?;
        let client = self.client(&metadata);
        let (state, nonce) = (flow.state.clone(), flow.nonce.clone());
        let (url, _, _) = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, || nonce)
            .add_scope(Scope::new("email".into()))
            .add_scope(Scope::new("profile".into()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&flow.verifier))
            .url();
        Ok(url)
    }

    /// Whether a callback that names `issuer` is this provider's; a provider that announces the parameter must send it
    /// (RFC 9207). Error: SERVICE_UNAVAILABLE.
    pub async fn has_answered(&self, issuer: Option<&str>) -> Result<bool> {
        match issuer {
            Some(issuer) => Ok(issuer == self.issuer()),
            None => {
                let metadata = self.metadata(false).await?;
                Ok(!metadata.additional_metadata().authorization_response_iss_parameter_supported)
            }
        }
    }

    /// Exchanges `code` for the person who signed in. Errors: INVALID_GRANT, where the provider rejects the code or its
    /// response does not match this sign-in; SERVICE_UNAVAILABLE.
    pub async fn redeem(&self, flow: &Flow, code: String, now: Timestamp) -> Result<Person> {
        let metadata = self.metadata(false).await?;
        let client = self.client(&metadata);
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|error| self.away(error))?;
        let verifier = PkceCodeVerifier::new(flow.verifier.secret().clone());
        let answer =
            request.set_pkce_verifier(verifier).request_async(&self.fetch).await.map_err(|error| match error {
                RequestTokenError::ServerResponse(told) if *told.error() == CoreErrorResponseType::InvalidGrant => {
                    self.invalid(&"the provider did not accept the code")
                }
                RequestTokenError::ServerResponse(told) => self.away(told.error().to_string()),
                RequestTokenError::Request(error) => self.away(error),
                // The provider's response must not be logged.
                RequestTokenError::Parse(error, _) => self.away(error.path().to_string()),
                RequestTokenError::Other(_) => self.away("an answer that is not understood"),
            })?;
        let token = answer.id_token().ok_or_else(|| self.invalid(&"there is no ID token"))?;
        let claims = match self.check(&metadata, token, flow, now) {
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                // The provider may have rotated its keys.
                let metadata = self.metadata(true).await?;
                self.check(&metadata, token, flow, now)
            }
            checked => checked,
        };
        let person = Person::of_token(claims.map_err(|error| self.invalid(&error))?);
        if person.email.is_some() || metadata.userinfo_endpoint().is_none() {
            return Ok(person);
        }
        self.ask(&client, person, answer.access_token().clone()).await
    }

    /// Completes a person from the UserInfo endpoint. Error: SERVICE_UNAVAILABLE.
    async fn ask(&self, client: &ProviderClient, person: Person, token: AccessToken) -> Result<Person> {
        let subject = openidconnect::SubjectIdentifier::new(person.subject.clone());
        let request = client.user_info(token, Some(subject)).map_err(|error| self.away(error))?;
        // The error itself may contain personal data.
        let claims: Result<CoreUserInfoClaims, _> = request.request_async(&self.fetch).await;
        let claims = claims.map_err(|error| self.away(error.to_string()))?;
        Ok(person.or(&claims))
    }

    /// The verified claims of a currently valid ID token from this provider, for this client and this sign-in.
    fn check<'a>(
        &self,
        metadata: &Metadata,
        token: &'a CoreIdToken,
        flow: &Flow,
        now: Timestamp,
    ) -> Result<&'a CoreIdTokenClaims, ClaimsVerificationError> {
        let now_secs = now.0.div_euclid(SECOND);
        let client = self.client(metadata);
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(|| chrono::DateTime::from_timestamp(now_secs - LEEWAY_SECS, 0).unwrap_or_default())
            .set_issue_time_verifier_fn(|at| {
                let is_past = at.timestamp() <= now_secs + LEEWAY_SECS;
                if is_past { Ok(()) } else { Err("issued in the future".to_owned()) }
            });
        let claims = token.claims(&verifier, &flow.nonce)?;
        // The library leaves this check to its users (OpenID Connect Core, 3.1.3.7).
        match claims.authorized_party() {
            Some(party) if party.as_str() != self.settings.client_id => {
                Err(ClaimsVerificationError::InvalidAudience("another authorized party".to_owned()))
            }
            _ => Ok(claims),
        }
    }

    fn client(&self, metadata: &Metadata) -> ProviderClient {
        let Settings { client_id, client_secret, .. } = &self.settings;
        // The default, where the provider does not state its methods (OpenID Connect Discovery, 3).
        let takes_basic = metadata
            .token_endpoint_auth_methods_supported()
            .is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let (id, secret) = (ClientId::new(client_id.clone()), client_secret.clone().map(ClientSecret::new));
        CoreClient::from_provider_metadata(metadata.clone(), id, secret)
            .set_redirect_uri(self.redirect.clone())
            .set_auth_type(if takes_basic { AuthType::BasicAuth } else { AuthType::RequestBody })
    }

    /// The provider's metadata; fetched again where a key is missing, but rarely. Error: SERVICE_UNAVAILABLE.
    async fn metadata(&self, lacks_key: bool) -> Result<Arc<Metadata>> {
        let mut known = self.known.lock().await;
        let is_over = |at: Option<Instant>, pause| at.is_none_or(|at| at.elapsed() >= pause);
        let pause = if known.metadata.is_some() { KEPT } else { FAILED_PAUSE };
        let looks = lacks_key && is_over(known.looked_at, LOOK_PAUSE);
        if looks || is_over(known.asked_at, pause) {
            let asked = timeout(ANSWER_WAIT, Metadata::discover_async(self.issuer.clone(), &self.fetch)).await;
            let asked = asked.map_err(BoxError::from).and_then(|metadata| metadata.map_err(BoxError::from));
            let now = Some(Instant::now());
            known.asked_at = now;
            known.looked_at = if looks { now } else { known.looked_at };
            match asked {
                Ok(metadata) => known.metadata = Some(Arc::new(metadata)),
                // Stale metadata is still good for the keys it contains.
                Err(error) if known.metadata.is_none() || lacks_key => return Err(self.away(error)),
                Err(error) => tracing::warn!(
                    provider = self.name,
                    source = &*error as &dyn std::error::Error,
                    "not asked anew what it is"
                ),
            }
        }
        known.metadata.clone().ok_or_else(|| self.away("it did not answer a moment ago"))
    }

    fn away(&self, source: impl Into<BoxError>) -> Error {
        let message = format!("{} cannot be reached; try again", self.settings.title);
        Error::new(Code::ServiceUnavailable, message).with_source(source)
    }

    fn invalid(&self, why: &dyn std::fmt::Display) -> Error {
        tracing::warn!(provider = self.name, %why, "sign-in refused");
        Error::new(Code::InvalidGrant, "this sign-in is invalid or expired; start again")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::get;
    use serde_json::json;

    use super::*;

    /// A provider that is asked what it is, and how often it was.
    async fn provider() -> (Provider, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let metadata = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["EdDSA"],
        });
        let count = Arc::clone(&asked);
        let answer = async move || {
            count.fetch_add(1, Ordering::Relaxed);
            axum::Json(metadata)
        };
        let keys = async || axum::Json(json!({ "keys": [] }));
        let routes = Router::new().route("/.well-known/openid-configuration", get(answer)).route("/keys", get(keys));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let settings = Settings {
            title: "Acme".into(),
            issuer,
            client_id: "salespulse".into(),
            client_secret: None,
            tenant: None,
            create: None,
        };
        (Provider::new("acme", settings, "http://localhost:4000").expect("a provider"), asked)
    }

    #[tokio::test]
    async fn unknown_keys_have_a_provider_asked_again_once_a_minute() {
        let (provider, asked) = provider().await;
        let count = || asked.load(Ordering::Relaxed);
        for _ in 0..3 {
            provider.metadata(false).await.expect("known");
        }
        assert_eq!(count(), 1);
        for _ in 0..3 {
            provider.metadata(true).await.expect("known");
        }
        assert_eq!(count(), 2);
        let ago = |pause: Duration| Instant::now().checked_sub(pause);
        provider.known.lock().await.looked_at = ago(LOOK_PAUSE - Duration::from_secs(30));
        provider.metadata(true).await.expect("known");
        assert_eq!(count(), 2);
        provider.known.lock().await.looked_at = ago(LOOK_PAUSE);
        provider.metadata(true).await.expect("known");
        assert_eq!(count(), 3);
        // Without that, it is asked after an hour.
        provider.known.lock().await.asked_at = ago(KEPT);
        provider.metadata(false).await.expect("known");
        assert_eq!(count(), 4);
    }
}
