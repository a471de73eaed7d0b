//! The settings, read once at the start: the process's environment over the file `.env` beside it. This is the only
//! reader of the environment. What is not known is refused: any name in the file, and those that begin with
//! `SALESPULSE_` in the environment, which holds much else.

mod kek;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use axum::http::HeaderValue;
pub use kek::KekSource;

use crate::graphql::limits::Limits;
use crate::graphql::origin::parse_origins;
use crate::housekeeping::Keep;
use crate::{outbox, tls};

/// The settings and their defaults; `.env.example` says what they are for.
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
/// For docker compose, which reads the same file.
const COMPOSE: [&str; 4] =
    ["POSTGRES_PASSWORD", "SALESPULSE_OWNER_PASSWORD", "SALESPULSE_PASSWORD", "SALESPULSE_PUBLISH"];
const PREFIX: &str = "SALESPULSE_";
/// For test runs, not for the server.
const TEST_PREFIX: &str = "SALESPULSE_TEST_";
const JWT_SECRET_BYTES_MIN: usize = 32;

/// What the server runs with.
#[derive(Clone)]
pub struct Config {
    pub database_url: String,
    /// The database as the owner of its tables; `None` where that is nobody else.
    pub owner_url: Option<String>,
    pub redis_url: Option<String>,
    pub listen: SocketAddr,
    /// Where metrics are, and the server's health; `None` for nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The collector that traces are sent to.
    pub otlp_endpoint: Option<String>,
    /// The certificate and key of the server, where it is not a proxy that encrypts.
    pub tls: Option<tls::Files>,
    /// Where people reach the server, for links; `None` for the address it listens on.
    pub public_url: Option<String>,
    /// Proxies in front of the server.
    pub proxies: Vec<IpAddr>,
    /// Origins of pages elsewhere that may use the API.
    pub origins: Vec<HeaderValue>,
    /// The file of the keys that sign access tokens.
    pub signing_keys: PathBuf,
    /// Checks access tokens too, and signs them where there is no such file; `None` when it is not set.
    pub jwt_secret: Option<String>,
    pub jwt_issuer: String,
    /// The file of the OpenID Connect providers that people may sign in by.
    pub oidc_providers: Option<PathBuf>,
    /// What wraps the tenants' keys.
    pub kek: KekSource,
    pub limits: Limits,
    /// The manifest of the only documents that are run; `None` for all.
    pub trusted_documents: Option<PathBuf>,
    /// How long what is over is kept.
    pub keep: Keep,
    pub graphiql: bool,
    pub log_json: bool,
    pub log_level: String,
    pub database_connections: u32,
    /// Threads on which models are fitted; `None` for half of the machine's cores.
    pub prediction_threads: Option<NonZeroUsize>,
    /// How alerts reach their recipients.
    pub outbox: outbox::Settings,
}

/// A setting that cannot be used. The value is not shown where it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}: no such setting; see .env.example for those there are")]
    Unknown(String),
    #[error("{name}: {why}")]
    Bad { name: &'static str, why: String },
    #[error("the file .env cannot be read: {0}")]
    EnvFile(String),
}

impl Config {
    /// Whether no database was named.
    pub fn is_default_database(&self) -> bool {
        KNOWN.contains(&("DATABASE_URL", self.database_url.as_str()))
    }

    /// Reads `.env` and the environment.
    pub fn load() -> Result<Config, ConfigError> {
        let mut values = read_env_file()?;
        if let Some(name) = values.keys().find(|name| !is_known(name)) {
            return Err(ConfigError::Unknown(name.clone()));
        }
        // What is not UTF-8 is no setting of ours.
        values.extend(
            std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok())),
        );
        Config::from_values(&values)
    }

    /// The settings from names and values; an empty value is the same as none.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        if let Some(name) = values.keys().find(|name| name.starts_with(PREFIX) && !is_known(name)) {
            return Err(ConfigError::Unknown(name.clone()));
        }
        let text = |name: &'static str| {
            let default = KNOWN.iter().find(|(known, _)| *known == name).map_or("", |(_, default)| *default);
            values.get(name).map(String::as_str).filter(|value| !value.is_empty()).unwrap_or(default).to_owned()
        };
        let one_of = |name: &'static str, yes: &str, no: &str| match text(name) {
            value if value == yes => Ok(true),
            value if value == no => Ok(false),
            _ => Err(ConfigError::Bad { name, why: format!("must be {yes} or {no}") }),
        };
        let limit = |name: &'static str| match text(name).parse() {
            Ok(number) => Ok(NonZeroU32::new(number)),
            Err(_) => Err(ConfigError::Bad { name, why: "must be a number; 0 is no limit".into() }),
        };
        let days = |name: &'static str| {
            let number = text(name).parse().ok().filter(|days| (1..=36_500).contains(days));
            number.ok_or_else(|| ConfigError::Bad { name, why: "must be a number of days, 1 or more".into() })
        };
        let database_url = text("DATABASE_URL");
        if !["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| database_url.starts_with(scheme)) {
            return Err(ConfigError::Bad {
                name: "DATABASE_URL",
                why: "must begin with postgres:// or sqlite://".into(),
            });
        }
        let redis_url = Some(text("REDIS_URL")).filter(|url| !url.is_empty());
        for url in redis_url.iter().flat_map(|urls| urls.split(',').map(str::trim)) {
            if url.starts_with("rediss://") {
                let why = "rediss:// is not supported: reach Redis over a private network or a tunnel that encrypts";
                return Err(ConfigError::Bad { name: "REDIS_URL", why: why.into() });
            }
            if !url.starts_with("redis://") && !url.is_empty() {
                return Err(ConfigError::Bad { name: "REDIS_URL", why: "must begin with redis://".into() });
            }
        }
        let jwt_secret = Some(text("SALESPULSE_JWT_SECRET")).filter(|secret| !secret.is_empty());
        if jwt_secret.as_ref().is_some_and(|secret| secret.len() < JWT_SECRET_BYTES_MIN) {
            let why = format!("must have at least {JWT_SECRET_BYTES_MIN} bytes");
            return Err(ConfigError::Bad { name: "SALESPULSE_JWT_SECRET", why });
        }
        if jwt_secret.as_ref().is_some_and(|secret| is_weak(secret)) {
            let why = "can be guessed; take random bytes, as of `openssl rand -hex 32`".to_owned();
            return Err(ConfigError::Bad { name: "SALESPULSE_JWT_SECRET", why });
        }
        let some = |name| Some(text(name)).filter(|value| !value.is_empty());
        let outbox = outbox::Settings {
            smtp_url: some("SALESPULSE_SMTP_URL"),
            mail_from: some("SALESPULSE_MAIL_FROM"),
            allows_private: one_of("SALESPULSE_PRIVATE_WEBHOOKS", "on", "off")?,
        };
        if outbox.smtp_url.is_some() != outbox.mail_from.is_some() {
            let why = "goes with SALESPULSE_MAIL_FROM, and only with it".to_owned();
            return Err(ConfigError::Bad { name: "SALESPULSE_SMTP_URL", why });
        }
        if outbox.smtp_url.is_some() && some("SALESPULSE_PUBLIC_URL").is_none() {
            let why = "goes with SALESPULSE_SMTP_URL: links in mail lead there".to_owned();
            return Err(ConfigError::Bad { name: "SALESPULSE_PUBLIC_URL", why });
        }
        if some("SALESPULSE_OIDC_PROVIDERS").is_some() && some("SALESPULSE_PUBLIC_URL").is_none() {
            let why = "goes with SALESPULSE_OIDC_PROVIDERS: providers send people back there".to_owned();
            return Err(ConfigError::Bad { name: "SALESPULSE_PUBLIC_URL", why });
        }
        if let Err(error) = outbox::Senders::new(&outbox) {
            return Err(ConfigError::Bad { name: "SALESPULSE_SMTP_URL", why: error.to_string() });
        }
        let parse_error = |name, why: &str| ConfigError::Bad { name, why: why.to_owned() };
        let address =
            |name| text(name).parse().map_err(|_| parse_error(name, "must be an address and port, as 127.0.0.1:4000"));
        let otlp_endpoint = some("SALESPULSE_OTLP_ENDPOINT");
        if otlp_endpoint.as_ref().is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(parse_error("SALESPULSE_OTLP_ENDPOINT", "must begin with http:// or https://"));
        }
        let tls = match (some("SALESPULSE_TLS_CERT"), some("SALESPULSE_TLS_KEY")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(tls::Files { certificate: certificate.into(), key: key.into() }),
            _ => return Err(parse_error("SALESPULSE_TLS_CERT", "goes with SALESPULSE_TLS_KEY, and only with it")),
        };
        Ok(Config {
            database_url,
            owner_url: some("SALESPULSE_OWNER_URL"),
            redis_url,
            listen: address("SALESPULSE_LISTEN")?,
            metrics_listen: some("SALESPULSE_METRICS_LISTEN")
                .map(|_| address("SALESPULSE_METRICS_LISTEN"))
                .transpose()?,
            otlp_endpoint,
            tls,
            public_url: some("SALESPULSE_PUBLIC_URL").map(|url| parse_public_url(&url)).transpose()?,
            proxies: text("SALESPULSE_TRUSTED_PROXIES")
                .split(',')
                .filter(|part| !part.trim().is_empty())
                .map(|part| part.trim().parse().map(|ip: IpAddr| ip.to_canonical()))
                .collect::<Result<_, _>>()
                .map_err(|_| parse_error("SALESPULSE_TRUSTED_PROXIES", "must be IP addresses with commas between"))?,
            origins: parse_origins(&text("SALESPULSE_ALLOWED_ORIGINS")).ok_or_else(|| {
                let why = "must be origins as browsers send them, as https://shop.example, with commas between";
                parse_error("SALESPULSE_ALLOWED_ORIGINS", why)
            })?,
            signing_keys: text("SALESPULSE_SIGNING_KEYS").into(),
            jwt_secret,
            jwt_issuer: text("SALESPULSE_JWT_ISSUER"),
            oidc_providers: some("SALESPULSE_OIDC_PROVIDERS").map(PathBuf::from),
            kek: KekSource::from_settings(text)?,
            limits: Limits {
                user_fields: limit("SALESPULSE_USER_FIELDS_PER_MINUTE")?,
                tenant_fields: limit("SALESPULSE_TENANT_FIELDS_PER_MINUTE")?,
                user_sockets: limit("SALESPULSE_USER_SOCKETS")?,
                tenant_sockets: limit("SALESPULSE_TENANT_SOCKETS")?,
                sockets: limit("SALESPULSE_SOCKETS")?,
                address_sockets: limit("SALESPULSE_ADDRESS_SOCKETS")?,
                address_requests: limit("SALESPULSE_ADDRESS_REQUESTS_PER_MINUTE")?,
            },
            trusted_documents: some("SALESPULSE_TRUSTED_DOCUMENTS").map(PathBuf::from),
            keep: Keep {
                alert_days: days("SALESPULSE_KEEP_ALERTS_DAYS")?,
                delivery_days: days("SALESPULSE_KEEP_DELIVERIES_DAYS")?,
            },
            graphiql: match some("SALESPULSE_GRAPHIQL") {
                Some(_) => one_of("SALESPULSE_GRAPHIQL", "on", "off")?,
                None => address("SALESPULSE_LISTEN")?.ip().is_loopback(),
            },
            log_json: one_of("SALESPULSE_LOG_FORMAT", "json", "text")?,
            log_level: text("SALESPULSE_LOG_LEVEL"),
            database_connections: text("SALESPULSE_DATABASE_CONNECTIONS")
                .parse()
                .ok()
                .filter(|n| (1..=1000).contains(n))
                .ok_or_else(|| parse_error("SALESPULSE_DATABASE_CONNECTIONS", "must be a number from 1 to 1000"))?,
            prediction_threads: some("SALESPULSE_PREDICTION_THREADS")
                .map(|text| text.parse().ok().filter(|n: &NonZeroUsize| n.get() <= 1000))
                .map(|n| {
                    n.ok_or_else(|| parse_error("SALESPULSE_PREDICTION_THREADS", "must be a number from 1 to 1000"))
                })
                .transpose()?,
            outbox,
        })
    }
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name) || COMPOSE.contains(&name) || name.starts_with(TEST_PREFIX)
}

/// Whether a secret is of a tutorial, or of few different characters.
fn is_weak(secret: &str) -> bool {
    const WORDS: [&str; 5] = ["your-256-bit-secret", "changeme", "change-me", "change_me", "password"];
    let lower = secret.to_lowercase();
    let distinct: std::collections::BTreeSet<char> = secret.chars().collect();
    distinct.len() < 8 || WORDS.iter().any(|word| lower.contains(word))
}

fn read_env_file() -> Result<BTreeMap<String, String>, ConfigError> {
    let entries = match dotenvy::from_path_iter(".env") {
        Ok(entries) => entries,
        Err(error) if error.not_found() => return Ok(BTreeMap::new()),
        Err(error) => return Err(env_file_error(&error)),
    };
    entries.collect::<Result<_, _>>().map_err(|error| env_file_error(&error))
}

/// Without the line, which may hold a secret.
fn env_file_error(error: &dotenvy::Error) -> ConfigError {
    ConfigError::EnvFile(match error {
        dotenvy::Error::LineParse(_, column) => format!("a line is not NAME=value, from its character {}", column + 1),
        error => error.to_string(),
    })
}

/// Where links begin that people are sent, without a slash at the end.
fn parse_public_url(text: &str) -> Result<String, ConfigError> {
    let url = reqwest::Url::parse(text).ok();
    let is_good = url.is_some_and(|url| {
        ["http", "https"].contains(&url.scheme()) && url.has_host() && url.query().is_none() && url.fragment().is_none()
    });
    if is_good {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    let why = "must be a URL of http or https, as https://sales.example.com".to_owned();
    Err(ConfigError::Bad { name: "SALESPULSE_PUBLIC_URL", why })
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
        // The page is for this machine, unless somebody says otherwise.
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
