//! The configuration, read once at startup: the process environment overrides the file `.env`. This is the only place
//! that reads the environment. Unknown names are rejected: any in the file, and in the environment, which contains much
//! else, those that begin with `SALESPULSE_`.

mod kek;
mod values;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use axum::http::HeaderValue;
pub use kek::KekSource;
use values::Values;

use crate::graphql::limits::Limits;
use crate::graphql::origin::parse_origin;
use crate::housekeeping::RetentionDays;
use crate::outbox::{self, Senders};
use crate::tls;

/// The settings and their defaults; documented in `.env.example`.
const KNOWN: [(&str, &str); 40] = [
    ("DATABASE_URL", "sqlite://data/salespulse.db"),
    ("SALESPULSE_OWNER_URL", ""),
    ("REDIS_URL", ""),
    ("SALESPULSE_LISTEN", "127.0.0.1:4000"),
    ("SALESPULSE_TLS_CERT", ""),
    ("SALESPULSE_TLS_KEY", ""),
    ("SALESPULSE_PUBLIC_URL", ""),
    ("SALESPULSE_TRUSTED_PROXIES", ""),
    ("SALESPULSE_ALLOWED_ORIGINS", ""),
    ("SALESPULSE_SIGNING_KEYS", "data/signing-keys.pem"),
    ("SALESPULSE_OIDC_PROVIDERS", ""),
    ("SALESPULSE_KEK_FILES", ""),
    ("SALESPULSE_KEK", ""),
    ("SALESPULSE_VAULT_URL", ""),
    ("SALESPULSE_VAULT_MOUNT", "transit"),
    ("SALESPULSE_VAULT_KEY", "salespulse"),
    ("SALESPULSE_VAULT_TOKEN", ""),
    ("SALESPULSE_VAULT_CA", ""),
    ("SALESPULSE_METRICS_LISTEN", ""),
    ("SALESPULSE_OTLP_ENDPOINT", ""),
    ("SALESPULSE_JWT_SECRET", ""),
    ("SALESPULSE_TRUSTED_DOCUMENTS", ""),
    ("SALESPULSE_USER_FIELDS_PER_MINUTE", "100000"),
    ("SALESPULSE_TENANT_FIELDS_PER_MINUTE", "1000000"),
    ("SALESPULSE_USER_SOCKETS", "20"),
    ("SALESPULSE_TENANT_SOCKETS", "5000"),
    ("SALESPULSE_SOCKETS", "20000"),
    ("SALESPULSE_ADDRESS_SOCKETS", "200"),
    ("SALESPULSE_ADDRESS_REQUESTS_PER_MINUTE", "600"),
    ("SALESPULSE_KEEP_ALERTS_DAYS", "365"),
    ("SALESPULSE_KEEP_DELIVERIES_DAYS", "90"),
    ("SALESPULSE_GRAPHIQL", ""),
    ("SALESPULSE_LOG_FORMAT", "text"),
    ("SALESPULSE_LOG_LEVEL", "info"),
    ("SALESPULSE_DATABASE_CONNECTIONS", "16"),
    ("SALESPULSE_PREDICTION_THREADS", ""),
    ("SALESPULSE_JWT_ISSUER", "salespulse"),
    ("SALESPULSE_SMTP_URL", ""),
    ("SALESPULSE_MAIL_FROM", ""),
    ("SALESPULSE_PRIVATE_WEBHOOKS", "off"),
];
/// Used by docker compose, which reads the same file.
const COMPOSE: [&str; 4] =
    ["POSTGRES_PASSWORD", "SALESPULSE_OWNER_PASSWORD", "SALESPULSE_PASSWORD", "SALESPULSE_PUBLISH"];
const PREFIX: &str = "SALESPULSE_";
/// For tests, not for the server.
const TEST_PREFIX: &str = "SALESPULSE_TEST_";
const JWT_SECRET_BYTES_MIN: usize = 32;
const ADDRESS: &str = "must be an address and port, such as 127.0.0.1:4000";
const DAYS: RangeInclusive<u32> = 1..=36_500;

/// The configuration of the server.
#[derive(Clone)]
pub struct Config {
    pub database_url: String,
    /// Database URL for the owner of its tables; `None` where there is no separate owner.
    pub owner_url: Option<String>,
    pub redis_url: Option<String>,
    pub listen: SocketAddr,
    /// Address that serves metrics and health; `None` for neither.
    pub metrics_listen: Option<SocketAddr>,
    /// OTLP collector for traces.
    pub otlp_endpoint: Option<String>,
    /// The server's certificate and key, if it terminates TLS itself rather than a proxy.
    pub tls: Option<tls::Files>,
    /// Public URL of the server, for links; `None` for the address it listens on.
    pub public_url: Option<String>,
    /// Trusted reverse proxies.
    pub proxies: Vec<IpAddr>,
    /// Origins allowed for cross-origin requests.
    pub origins: Vec<HeaderValue>,
    /// File of the keys that sign access tokens.
    pub signing_keys: PathBuf,
    /// Also verifies access tokens, and signs them where there is no key file; `None` when not set.
    pub jwt_secret: Option<String>,
    pub jwt_issuer: String,
    /// File of the OpenID Connect providers.
    pub oidc_providers: Option<PathBuf>,
    /// Source of the key that wraps the tenants' keys.
    pub kek: KekSource,
    pub limits: Limits,
    /// Manifest of the only documents that are executed; `None` for all.
    pub trusted_documents: Option<PathBuf>,
    /// How long expired records are kept.
    pub keep: RetentionDays,
    pub graphiql: bool,
    pub log_json: bool,
    pub log_level: String,
    pub database_connections: u32,
    /// Number of threads for model fitting; `None` for half of the machine's cores.
    pub prediction_threads: Option<NonZeroUsize>,
    /// How alerts are delivered.
    pub outbox: Senders,
}

/// An invalid setting. The value is omitted where it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}: no such setting; see .env.example for all of them")]
    Unknown(String),
    #[error("{name}: {why}")]
    Bad { name: &'static str, why: String },
    #[error("the file .env cannot be read: {0}")]
    EnvFile(String),
}

impl ConfigError {
    fn bad(name: &'static str, why: impl Into<String>) -> Self {
        ConfigError::Bad { name, why: why.into() }
    }
}

impl Config {
    /// Whether no database is configured.
    pub fn is_default_database(&self) -> bool {
        KNOWN.contains(&("DATABASE_URL", self.database_url.as_str()))
    }

    /// Reads `.env` and the environment.
    pub fn load() -> Result<Config, ConfigError> {
        let mut values = read_env_file()?;
        if let Some(name) = values.keys().find(|name| !is_known(name)) {
            return Err(ConfigError::Unknown(name.clone()));
        }
        // Names that are not UTF-8 are not ours.
        for (name, value) in std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))) {
            if value.to_str().is_none()
                && let Some((name, _)) = KNOWN.iter().find(|(known, _)| *known == name)
            {
                return Err(ConfigError::bad(name, "must be UTF-8"));
            }
            values.insert(name, value.to_string_lossy().into_owned());
        }
        Config::from_values(&values)
    }

    /// Parses the configuration from names and values; an empty value is the same as a missing one.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        if let Some(name) = values.keys().find(|name| name.starts_with(PREFIX) && !is_known(name)) {
            return Err(ConfigError::Unknown(name.clone()));
        }
        let values = Values(values);
        let listen: SocketAddr = values.parse("SALESPULSE_LISTEN", ADDRESS)?;
        values.needs("SALESPULSE_SMTP_URL", "SALESPULSE_PUBLIC_URL", ": links in e-mails point to it")?;
        values.needs("SALESPULSE_OIDC_PROVIDERS", "SALESPULSE_PUBLIC_URL", ": providers redirect to it")?;
        Ok(Config {
            database_url: database_url(&values)?,
            owner_url: values.some("SALESPULSE_OWNER_URL"),
            redis_url: redis_url(&values)?,
            listen,
            metrics_listen: values.parse_some("SALESPULSE_METRICS_LISTEN", ADDRESS)?,
            otlp_endpoint: otlp_endpoint(&values)?,
            tls: tls_files(&values)?,
            public_url: public_url(&values)?,
            proxies: values.list("SALESPULSE_TRUSTED_PROXIES", "must be IP addresses separated by commas", |text| {
                text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
            })?,
            origins: values.list(
                "SALESPULSE_ALLOWED_ORIGINS",
                "must be origins as browsers send them, such as https://shop.example, separated by commas",
                parse_origin,
            )?,
            signing_keys: values.text("SALESPULSE_SIGNING_KEYS").into(),
            jwt_secret: jwt_secret(&values)?,
            jwt_issuer: values.text("SALESPULSE_JWT_ISSUER"),
            oidc_providers: values.some("SALESPULSE_OIDC_PROVIDERS").map(PathBuf::from),
            kek: KekSource::from_values(&values)?,
            limits: Limits {
                user_fields: values.limit("SALESPULSE_USER_FIELDS_PER_MINUTE")?,
                tenant_fields: values.limit("SALESPULSE_TENANT_FIELDS_PER_MINUTE")?,
                user_sockets: values.limit("SALESPULSE_USER_SOCKETS")?,
                tenant_sockets: values.limit("SALESPULSE_TENANT_SOCKETS")?,
                sockets: values.limit("SALESPULSE_SOCKETS")?,
                address_sockets: values.limit("SALESPULSE_ADDRESS_SOCKETS")?,
                address_requests: values.limit("SALESPULSE_ADDRESS_REQUESTS_PER_MINUTE")?,
            },
            trusted_documents: values.some("SALESPULSE_TRUSTED_DOCUMENTS").map(PathBuf::from),
            keep: RetentionDays {
                alert_days: values.number("SALESPULSE_KEEP_ALERTS_DAYS", DAYS)?.into(),
                delivery_days: values.number("SALESPULSE_KEEP_DELIVERIES_DAYS", DAYS)?.into(),
            },
            graphiql: match values.some("SALESPULSE_GRAPHIQL") {
                Some(_) => values.one_of("SALESPULSE_GRAPHIQL", "on", "off")?,
                None => listen.ip().is_loopback(),
            },
            log_json: values.one_of("SALESPULSE_LOG_FORMAT", "json", "text")?,
            log_level: values.text("SALESPULSE_LOG_LEVEL"),
            database_connections: values.number("SALESPULSE_DATABASE_CONNECTIONS", 1..=1000)?,
            prediction_threads: match values.some("SALESPULSE_PREDICTION_THREADS") {
                Some(_) => Some(values.number("SALESPULSE_PREDICTION_THREADS", 1..=1000)? as usize),
                None => None,
            }
            .and_then(NonZeroUsize::new),
            outbox: senders(&values)?,
        })
    }
}

fn database_url(values: &Values<'_>) -> Result<String, ConfigError> {
    let url = values.text("DATABASE_URL");
    if ["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(url);
    }
    Err(ConfigError::bad("DATABASE_URL", "must begin with postgres:// or sqlite://"))
}

fn redis_url(values: &Values<'_>) -> Result<Option<String>, ConfigError> {
    let urls = values.some("REDIS_URL");
    for url in urls.iter().flat_map(|urls| urls.split(',').map(str::trim)) {
        if url.starts_with("rediss://") {
            let why = "rediss:// is not supported: reach Redis over a private network or a tunnel that encrypts";
            return Err(ConfigError::bad("REDIS_URL", why));
        }
        if !url.starts_with("redis://") && !url.is_empty() {
            return Err(ConfigError::bad("REDIS_URL", "must begin with redis://"));
        }
    }
    Ok(urls)
}

fn otlp_endpoint(values: &Values<'_>) -> Result<Option<String>, ConfigError> {
    let url = values.some("SALESPULSE_OTLP_ENDPOINT");
    if url.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(ConfigError::bad("SALESPULSE_OTLP_ENDPOINT", "must begin with http:// or https://"));
    }
    Ok(url)
}

fn tls_files(values: &Values<'_>) -> Result<Option<tls::Files>, ConfigError> {
    match (values.some("SALESPULSE_TLS_CERT"), values.some("SALESPULSE_TLS_KEY")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(tls::Files { certificate: certificate.into(), key: key.into() })),
        _ => Err(ConfigError::bad("SALESPULSE_TLS_CERT", "must be set together with SALESPULSE_TLS_KEY")),
    }
}

/// The base of links sent to people, without a trailing slash.
fn public_url(values: &Values<'_>) -> Result<Option<String>, ConfigError> {
    let Some(text) = values.some("SALESPULSE_PUBLIC_URL") else { return Ok(None) };
    let is_good = reqwest::Url::parse(&text).is_ok_and(|url| {
        ["http", "https"].contains(&url.scheme()) && url.has_host() && url.query().is_none() && url.fragment().is_none()
    });
    if is_good {
        return Ok(Some(text.trim_end_matches('/').to_owned()));
    }
    Err(ConfigError::bad("SALESPULSE_PUBLIC_URL", "must be an http or https URL, such as https://sales.example.com"))
}

fn jwt_secret(values: &Values<'_>) -> Result<Option<String>, ConfigError> {
    let secret = values.some("SALESPULSE_JWT_SECRET");
    let why = match &secret {
        Some(secret) if secret.len() < JWT_SECRET_BYTES_MIN => {
            format!("must have at least {JWT_SECRET_BYTES_MIN} bytes")
        }
        Some(secret) if is_weak(secret) => {
            "can be guessed; use random bytes, such as those of `openssl rand -hex 32`".to_owned()
        }
        _ => return Ok(secret),
    };
    Err(ConfigError::bad("SALESPULSE_JWT_SECRET", why))
}

fn senders(values: &Values<'_>) -> Result<Senders, ConfigError> {
    let settings = outbox::Settings {
        smtp_url: values.some("SALESPULSE_SMTP_URL"),
        mail_from: values.some("SALESPULSE_MAIL_FROM"),
        allows_private: values.one_of("SALESPULSE_PRIVATE_WEBHOOKS", "on", "off")?,
        ..outbox::Settings::default()
    };
    if settings.smtp_url.is_some() != settings.mail_from.is_some() {
        return Err(ConfigError::bad("SALESPULSE_SMTP_URL", "must be set together with SALESPULSE_MAIL_FROM"));
    }
    Senders::new(&settings).map_err(|error| ConfigError::bad("SALESPULSE_SMTP_URL", error.to_string()))
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name) || COMPOSE.contains(&name) || name.starts_with(TEST_PREFIX)
}

/// Whether a secret comes from a tutorial, or has few distinct characters.
fn is_weak(secret: &str) -> bool {
    const WORDS: [&str; 5] = ["your-256-bit-secret", "changeme", "change-me", "change_me", "password"];
    let lower = secret.to_lowercase();
    let distinct: std::collections::BTreeSet<char> = secret.chars().collect();
    distinct.len() < 8 || WORDS.iter().any(|word| lower.contains(word))
}

const ENV_FILE: &str = ".env";

fn read_env_file() -> Result<BTreeMap<String, String>, ConfigError> {
    match std::fs::read_to_string(ENV_FILE) {
        Ok(text) => parse_env(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(ConfigError::EnvFile(error.to_string())),
    }
}

/// Error: which line is invalid, without quoting it, since it may be a secret.
fn parse_env(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    // Editors on Windows begin files with a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let entries: Result<_, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
    entries.map_err(|error| match error {
        dotenvy::Error::LineParse(wrong, _) => {
            let wrong = wrong.lines().next().unwrap_or_default();
            let line = text.lines().position(|line| line.contains(wrong)).map_or(1, |before| before + 1);
            ConfigError::EnvFile(format!("line {line} is not NAME=value (put a value with spaces in quotes)"))
        }
        error => ConfigError::EnvFile(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(values: &[(&str, &str)]) -> Result<Config, String> {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::from_values(&values).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_set_runs_alone() {
        let config = load(&[]).expect("defaults are good");
        assert!(config.database_url.starts_with("sqlite://") && config.redis_url.is_none());
        // By default the page is for this machine only.
        let open = ("SALESPULSE_LISTEN", "0.0.0.0:4000");
        let graphiql = |settings: &[(&str, &str)]| load(settings).expect("good").graphiql;
        assert!(config.graphiql && !graphiql(&[open]) && graphiql(&[open, ("SALESPULSE_GRAPHIQL", "on")]));
        assert!(!graphiql(&[("SALESPULSE_GRAPHIQL", "off")]));
    }

    #[test]
    fn bad_settings_are_named() {
        for (name, value) in [
            ("DATABASE_URL", "mysql://x"),
            ("REDIS_URL", "http://x"),
            ("REDIS_URL", "redis://x,rediss://y"),
            ("SALESPULSE_LISTEN", "localhost"),
            ("SALESPULSE_METRICS_LISTEN", "9464"),
            ("SALESPULSE_OTLP_ENDPOINT", "collector:4318"),
            ("SALESPULSE_TLS_CERT", "cert.pem"),
            ("SALESPULSE_JWT_SECRET", "short"),
            ("SALESPULSE_PUBLIC_URL", "sales.example.com"),
            ("SALESPULSE_PUBLIC_URL", "https://sales.example.com/?page=1"),
            ("SALESPULSE_GRAPHIQL", "perhaps"),
            ("SALESPULSE_DATABASE_CONNECTIONS", "0"),
            ("SALESPULSE_KEEP_ALERTS_DAYS", "0"),
            ("SALESPULSE_PREDICTION_THREADS", "0"),
            ("SALESPULSE_ALLOWED_ORIGINS", "https://shop.example, *"),
            ("SALESPULSE_LISTEM", "127.0.0.1:1"),
        ] {
            let message = load(&[(name, value)]).err().expect(name);
            assert!(message.starts_with(name) && !message.contains("short"), "{message}");
        }
    }

    #[test]
    fn a_line_that_is_none_is_told_without_what_it_says() {
        let error = parse_env("A=1\n# more\nB=an open secret\n").expect_err("words without quotes").to_string();
        assert!(error.contains("line 3 ") && !error.contains("secret"), "{error}");
        let values = parse_env("A='cost$5'\nB=\"two words\"\n").expect("good lines");
        assert_eq!((values["A"].as_str(), values["B"].as_str()), ("cost$5", "two words"));
        assert_eq!(parse_env("\u{feff}A=1\n").expect("good lines")["A"], "1");
    }

    #[test]
    fn the_example_shows_each_setting_with_its_default() {
        let example = include_str!("../.env.example");
        let shown: BTreeMap<&str, &str> = example
            .lines()
            .map(|line| line.strip_prefix('#').unwrap_or(line))
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            .collect();
        for (name, default) in KNOWN {
            assert_eq!(shown.get(name), Some(&default), "{name}");
        }
        for name in shown.keys() {
            assert!(is_known(name), "{name} is shown and not known");
        }
    }
}
