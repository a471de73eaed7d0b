//! Key-encryption keys in HashiCorp Vault (or OpenBao): the transit secrets engine over HTTP.
//!
//! The name of a wrapped key is passed as the derivation context, so that each has its own key in Vault. Vault silently
//! ignores the context for a key created without `derived=true`; therefore the name is also encrypted with the key and
//! checked afterwards. The token needs `update` on `encrypt/`, `decrypt/` and `rewrap/` of the key.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::key::KeyBytes;
use super::wrapped::Wrapped;
use super::{KekError, KeyEncryption, KeyName, SetupError};

const PROVIDER: &str = "vault";
/// Maximum number of characters kept of Vault's error message.
const REASON_CHARS_MAX: usize = 200;

/// Address and credentials of Vault.
pub struct VaultSettings {
    /// Such as `https://vault.example:8200`. Plain http only to this machine, as for Vault's agent.
    pub address: String,
    /// Mount path of the transit engine, prefixed with its namespace if there is one: `transit`, `team/transit`.
    pub mount: String,
    /// The key's name in the engine.
    pub key: String,
    pub token: String,
    /// CA certificates in PEM for Vault's certificate, where it is not publicly trusted.
    pub authority_pem: Option<Vec<u8>>,
    /// Timeout of one request.
    pub answer_wait: Duration,
}

/// Wraps and unwraps with Vault.
pub struct VaultTransit {
    client: Client,
    base: String,
    mount: String,
    key: String,
    /// `mount/key`: the key name in wrapped keys.
    kek_id: String,
}

impl VaultTransit {
    pub fn new(settings: &VaultSettings) -> Result<Self, SetupError> {
        check_address(&settings.address)?;
        let segments = settings.mount.split('/').chain([settings.key.as_str()]);
        for segment in segments {
            check_name(segment)?;
        }
        Ok(VaultTransit {
            client: client(settings)?,
            base: format!("{}/v1", settings.address.trim_end_matches('/')),
            mount: settings.mount.clone(),
            key: settings.key.clone(),
            kek_id: format!("{}/{}", settings.mount, settings.key),
        })
    }

    fn wrapped(&self, ciphertext: &str) -> String {
        Wrapped { provider: PROVIDER, kek_id: &self.kek_id, ciphertext }.to_string()
    }

    /// Vault's ciphertext in a key that was wrapped by the configured Vault key.
    fn ciphertext<'a>(&self, wrapped: &'a str) -> Result<&'a str, KekError> {
        let wrapped = Wrapped::read(wrapped)?;
        let is_ours = wrapped.provider == PROVIDER && wrapped.kek_id == self.kek_id;
        if is_ours { Ok(wrapped.ciphertext) } else { Err(wrapped.unknown()) }
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        action: Action,
        name: &KeyName,
        subject: Subject<'_>,
    ) -> Result<A, KekError> {
        let url = format!("{}/{}/{}/{}", self.base, self.mount, action.path(), self.key);
        let question = Question { context: STANDARD.encode(name.to_string()), subject };
        let body = serde_json::to_vec(&question).map_err(|_| KekError::Refused("not JSON".to_owned()))?;
        let response = self.client.post(url).body(body).send().await.map_err(no_answer)?;
        let status = response.status();
        let body = response.bytes().await.map_err(no_answer)?;
        if status != StatusCode::OK {
            return Err(action.failure(status, &body));
        }
        let answer: Answer<A> = serde_json::from_slice(&body)
            .map_err(|_| KekError::Unavailable("the answer is not one of Vault's".to_owned()))?;
        Ok(answer.data)
    }
}

impl fmt::Debug for VaultTransit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultTransit({})", self.kek_id)
    }
}

#[async_trait::async_trait]
impl KeyEncryption for VaultTransit {
    async fn wrap(&self, name: &KeyName, key: &KeyBytes) -> Result<String, KekError> {
        let named = Zeroizing::new([key.as_slice(), name.to_string().as_bytes()].concat());
        let plaintext = Zeroizing::new(STANDARD.encode(&named));
        let sealed: Sealed = self.ask(Action::Encrypt, name, Subject::Plaintext(&plaintext)).await?;
        Ok(self.wrapped(&sealed.ciphertext))
    }

    async fn unwrap(&self, name: &KeyName, wrapped: &str) -> Result<KeyBytes, KekError> {
        let ciphertext = self.ciphertext(wrapped)?;
        let opened: Opened = self.ask(Action::Decrypt, name, Subject::Ciphertext(ciphertext)).await?;
        let plaintext = Zeroizing::new(opened.plaintext);
        let named = STANDARD.decode(plaintext.as_bytes()).map(Zeroizing::new).unwrap_or_default();
        match named.split_first_chunk() {
            Some((key, named)) if named == name.to_string().as_bytes() => Ok(KeyBytes::new(*key)),
            _ => Err(KekError::BadWrapped("it belongs to another tenant, purpose or version".to_owned())),
        }
    }

    async fn rewrap(&self, name: &KeyName, wrapped: &str) -> Result<String, KekError> {
        let ciphertext = self.ciphertext(wrapped)?;
        let sealed: Sealed = self.ask(Action::Rewrap, name, Subject::Ciphertext(ciphertext)).await?;
        Ok(self.wrapped(&sealed.ciphertext))
    }
}

/// An operation of the engine.
#[derive(Clone, Copy)]
enum Action {
    Encrypt,
    Decrypt,
    Rewrap,
}

impl Action {
    fn path(self) -> &'static str {
        match self {
            Action::Encrypt => "encrypt",
            Action::Decrypt => "decrypt",
            Action::Rewrap => "rewrap",
        }
    }

    /// Maps an error response: Vault's HTTP API, section "HTTP status codes".
    fn failure(self, status: StatusCode, body: &[u8]) -> KekError {
        let reason = reason(status, body);
        match status.as_u16() {
            403 => KekError::Denied(reason),
            // For decryption, a bad request means a bad ciphertext.
            400 if !matches!(self, Action::Encrypt) => KekError::BadWrapped(reason),
            // A standby node, lagging replication, rate limit, outage, or sealed.
            300..=399 | 412 | 429 | 472 | 473 | 500.. => KekError::Unavailable(reason),
            _ => KekError::Refused(reason),
        }
    }
}

#[derive(Serialize)]
struct Question<'a> {
    context: String,
    #[serde(flatten)]
    subject: Subject<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Subject<'a> {
    Plaintext(&'a str),
    Ciphertext(&'a str),
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Sealed {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Opened {
    plaintext: String,
}

#[derive(Default, Deserialize)]
struct Failure {
    errors: Vec<String>,
}

/// Vault's error message, short and on one line.
fn reason(status: StatusCode, body: &[u8]) -> String {
    let failure: Failure = serde_json::from_slice(body).unwrap_or_default();
    let said = failure.errors.join("; ").replace(char::is_control, " ");
    let said: String = said.chars().take(REASON_CHARS_MAX).collect();
    format!("Vault answered {}: {}", status.as_u16(), if said.is_empty() { "no reason given" } else { &said })
}

fn no_answer(error: reqwest::Error) -> KekError {
    let why = match &error {
        error if error.is_timeout() => "no answer in time",
        error if error.is_connect() => "cannot connect",
        _ => "no answer",
    };
    KekError::Unavailable(why.to_owned())
}

fn client(settings: &VaultSettings) -> Result<Client, SetupError> {
    let mut token = HeaderValue::from_str(&settings.token).map_err(|_| SetupError::BadToken)?;
    token.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert("x-vault-token", token);
    // An agent may require it, as proof that the request is not from a web page.
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // No redirects: reqwest would send the token to any host it is redirected to.
    let mut builder = Client::builder()
        .default_headers(headers)
        .timeout(settings.answer_wait)
        .redirect(redirect::Policy::none())
        .no_proxy();
    if let Some(pem) = &settings.authority_pem {
        let certificates = Certificate::from_pem_bundle(pem).unwrap_or_default();
        if certificates.is_empty() {
            return Err(SetupError::BadAuthority);
        }
        builder =
            certificates.into_iter().fold(builder, |builder, certificate| builder.add_root_certificate(certificate));
    }
    builder.build().map_err(|error| SetupError::NoClient(error.to_string()))
}

/// https, or http to this machine: the token and the keys are sent in the clear.
fn check_address(address: &str) -> Result<(), SetupError> {
    let url = Url::parse(address).map_err(|_| SetupError::BadAddress)?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let is_bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_here;
    if is_safe && is_bare { Ok(()) } else { Err(SetupError::BadAddress) }
}

fn check_name(name: &str) -> Result<(), SetupError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_good = name.chars().all(is_plain) && !name.trim_matches('.').is_empty();
    if is_good { Ok(()) } else { Err(SetupError::BadName(name.to_owned())) }
}
