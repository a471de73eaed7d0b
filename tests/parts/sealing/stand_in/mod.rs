//! A stand-in for Vault: its transit secrets engine over HTTP, as far as keys of the type aes256-gcm96 go.
//!
//! Paths, bodies, status codes and messages are those of Vault's HTTP API and of its transit engine: versions in the
//! ciphertext, derivation by HKDF-SHA256 with the context as info, `derived`, `min_decryption_version`, sealing, tokens. The
//! token has the capability `update` and no other, so that asking for a key that is not there creates none.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, KeyInit};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use axum::serve::Listener;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

pub const TOKEN: &str = "hvs.of-the-server";

/// A running stand-in; its settings may change while it runs.
pub struct Vault {
    pub address: String,
    shared: Shared,
}

type Shared = Arc<Mutex<Settings>>;
type Refused = (StatusCode, String);

pub struct Settings {
    pub is_sealed: bool,
    pub delay: Duration,
    /// What a standby node answers that does not forward.
    pub redirects_to: Option<String>,
    /// What something else than Vault answers.
    pub garbled: Option<String>,
    pub keys: HashMap<String, Key>,
    /// Path and body of each request that came with the right token.
    pub requests: Vec<(String, Value)>,
}

pub struct Key {
    pub is_derived: bool,
    pub min_decryption_version: usize,
    versions: Vec<[u8; 32]>,
}

impl Vault {
    /// One with the engine mounted at `transit` and a derived key `salespulse`.
    pub async fn start() -> Vault {
        let listener = listen().await;
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        Vault::serve(listener, address)
    }

    /// The same over TLS, and the certificate of its authority in PEM.
    pub async fn start_tls() -> (Vault, Vec<u8>) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = certified.signing_key.serialize_der().try_into().expect("a key");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("a certificate and its key");
        let listener = TlsListener { tcp: listen().await, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let port = listener.tcp.local_addr().expect("an address").port();
        (Vault::serve(listener, format!("https://localhost:{port}")), certified.cert.pem().into_bytes())
    }

    fn serve(listener: impl Listener<Addr = SocketAddr>, address: String) -> Vault {
        let shared = Arc::new(Mutex::new(Settings {
            is_sealed: false,
            delay: Duration::ZERO,
            redirects_to: None,
            garbled: None,
            keys: HashMap::from([("salespulse".to_owned(), Key::new(true))]),
            requests: Vec::new(),
        }));
        let app =
            Router::new().route("/v1/{mount}/{action}/{key}", post(answer).put(answer)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Vault { address, shared }
    }

    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        self.shared.lock().expect("no panic before")
    }
}

impl Key {
    pub fn new(is_derived: bool) -> Self {
        let mut key = Key { is_derived, min_decryption_version: 1, versions: Vec::new() };
        key.rotate();
        key
    }

    pub fn rotate(&mut self) {
        self.versions.push(std::array::from_fn(|_| rand_byte()));
    }

    fn encrypt(&self, context: &[u8], plaintext: &[u8]) -> Result<String, String> {
        let version = self.versions.len();
        let nonce: [u8; 12] = std::array::from_fn(|_| rand_byte());
        let sealed = self.cipher(version, context)?.encrypt(&nonce.into(), plaintext).expect("short enough");
        Ok(format!("vault:v{version}:{}", STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    fn decrypt(&self, context: &[u8], ciphertext: &str) -> Result<Vec<u8>, String> {
        let rest = ciphertext.strip_prefix("vault:v").ok_or("invalid ciphertext: no prefix")?;
        let (version, body) = rest.split_once(':').ok_or("invalid ciphertext: wrong number of fields")?;
        let version: usize = version.parse().map_err(|_| "invalid ciphertext: version number could not be decoded")?;
        if version > self.versions.len() {
            return Err("invalid ciphertext: version is too new".to_owned());
        }
        if version < self.min_decryption_version {
            return Err("ciphertext or signature version is disallowed by policy (too old)".to_owned());
        }
        let bytes = STANDARD.decode(body).map_err(|_| "invalid ciphertext: could not decode base64")?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>().ok_or("invalid ciphertext length")?;
        let plaintext = self.cipher(version, context)?.decrypt(nonce.into(), sealed);
        plaintext.map_err(|_| "cipher: message authentication failed".to_owned())
    }

    /// The context is ignored, not refused, where the key is not a derived one.
    fn cipher(&self, version: usize, context: &[u8]) -> Result<Aes256Gcm, String> {
        let key = self.versions[version - 1];
        if !self.is_derived {
            return Ok(Aes256Gcm::new(&key.into()));
        }
        if context.is_empty() {
            return Err("missing 'context' for key derivation; the key was created using a derived key".to_owned());
        }
        // HKDF (RFC 5869) without a salt; 32 bytes are one block.
        let pseudorandom = hmac(&[0; 32], &[&key]);
        Ok(Aes256Gcm::new(&hmac(&pseudorandom, &[context, &[1]]).into()))
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((tcp, address)) = self.tcp.accept().await else { continue };
            if let Ok(tls) = self.acceptor.accept(tcp).await {
                return (tls, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

async fn answer(
    State(shared): State<Shared>,
    Path((mount, action, name)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let delay = shared.lock().expect("no panic before").delay;
    tokio::time::sleep(delay).await;
    let mut settings = shared.lock().expect("no panic before");
    if let Some(garbled) = &settings.garbled {
        return garbled.clone().into_response();
    }
    if let Some(other) = &settings.redirects_to {
        return Redirect::temporary(other).into_response();
    }
    match settings.answer(&mount, &action, &name, &headers, &body) {
        Ok(data) => Json(json!({
            "request_id": "5c7ed9d4-7e3c-4f3a-9a65-7d4f0f3e2a61", "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": data, "wrap_info": null, "warnings": null, "auth": null,
        }))
        .into_response(),
        Err((status, reason)) => (status, Json(json!({ "errors": [reason] }))).into_response(),
    }
}

impl Settings {
    fn answer(
        &mut self,
        mount: &str,
        action: &str,
        name: &str,
        headers: &HeaderMap,
        body: &str,
    ) -> Result<Value, Refused> {
        let bad = |reason: &str| (StatusCode::BAD_REQUEST, reason.to_owned());
        if self.is_sealed {
            return Err((StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed".to_owned()));
        }
        // As Vault's agent with `require_request_header`.
        if !headers.contains_key("x-vault-request") {
            return Err((StatusCode::PRECONDITION_FAILED, "missing \"X-Vault-Request\" header".to_owned()));
        }
        let is_known = headers.get("x-vault-token").is_some_and(|token| token == TOKEN);
        // Encrypting with a key that is not there would create it, which is another capability.
        if !is_known || (action == "encrypt" && mount == "transit" && !self.keys.contains_key(name)) {
            return Err((StatusCode::FORBIDDEN, "permission denied".to_owned()));
        }
        if mount != "transit" {
            let reason = format!("no handler for route \"{mount}/{action}/{name}\". route entry not found.");
            return Err((StatusCode::NOT_FOUND, reason));
        }
        let body: Value = serde_json::from_str(body).map_err(|_| bad("failed to parse JSON input"))?;
        self.requests.push((format!("{action}/{name}"), body.clone()));
        let key = self.keys.get(name).ok_or_else(|| bad("encryption key not found"))?;
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let context = STANDARD.decode(text("context")).map_err(|_| bad("illegal base64 data"))?;
        let result = match action {
            "encrypt" => {
                let plaintext = STANDARD.decode(text("plaintext")).map_err(|_| bad("illegal base64 data"))?;
                key.encrypt(&context, &plaintext)
                    .map(|ciphertext| json!({ "ciphertext": ciphertext, "key_version": key.versions.len() }))
            }
            "decrypt" => key
                .decrypt(&context, &text("ciphertext"))
                .map(|plaintext| json!({ "plaintext": STANDARD.encode(plaintext) })),
            "rewrap" => key
                .decrypt(&context, &text("ciphertext"))
                .and_then(|plaintext| key.encrypt(&context, &plaintext))
                .map(|ciphertext| json!({ "ciphertext": ciphertext, "key_version": key.versions.len() })),
            _ => return Err((StatusCode::NOT_FOUND, "unsupported path".to_owned())),
        };
        result.map_err(|reason| bad(&reason))
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let keyed = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("any length");
    parts.iter().fold(keyed, |keyed, part| keyed.chain_update(part)).finalize().into_bytes().into()
}

fn rand_byte() -> u8 {
    use rand::TryRngCore;
    (rand::rngs::OsRng.try_next_u32().expect("randomness") & 0xff) as u8
}
