//! `salespulse serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::graphql::documents::Documents;
use crate::graphql::endpoint::Settings;
use crate::server::{self, Listeners, Options};
use crate::tls::Tls;

/// How long running requests may take after the signal. A query may take 10 s, and a body 15 s to arrive.
const GRACE: Duration = Duration::from_secs(20);
/// For folding what was recorded and closing the database, so that shutdown completes within 30 s.
const CLOSE_WAIT: Duration = Duration::from_secs(8);

pub async fn run(config: &Config) -> Result<(), Failure> {
    let tokens = super::tokens(config)?;
    let db = super::connect(config).await?;
    let app = super::wire(config, db, tokens, Arc::new(SystemClock)).await?;
    let listeners = listen(config).await?;
    serve(app, options(config)?, listeners, super::signals::stop_token()?).await
}

pub fn options(config: &Config) -> Result<Options, Failure> {
    let documents = match &config.trusted_documents {
        None => Documents::default(),
        Some(path) => {
            let bad = |why: String| Failure::new(Exit::BadConfig, format!("SALESPULSE_TRUSTED_DOCUMENTS: {why}"));
            let manifest =
                std::fs::read_to_string(path).map_err(|error| bad(format!("{}: {error}", path.display())))?;
            Documents::trusted(&manifest).map_err(bad)?
        }
    };
    let tls = config.tls.clone().map(Tls::new).transpose();
    Ok(Options {
        tls: tls.map_err(|error| Failure::new(Exit::BadConfig, format!("SALESPULSE_TLS_CERT: {error}")))?,
        graphiql: config.graphiql,
        outbox: config.outbox.clone(),
        keep: config.keep,
        grace: Some(GRACE),
        api: Settings {
            proxies: config.proxies.clone(),
            origins: config.origins.clone(),
            limits: config.limits,
            documents,
        },
    })
}

/// Binds the configured addresses.
pub async fn listen(config: &Config) -> Result<Listeners, Failure> {
    let api = bind("SALESPULSE_LISTEN", config.listen).await?;
    let monitor = match config.metrics_listen {
        Some(address) => Some(bind("SALESPULSE_METRICS_LISTEN", address).await?),
        None => None,
    };
    Ok(Listeners { api, monitor })
}

async fn bind(setting: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            Exit::PortInUse,
            format!("the address {address} is taken (end what listens there, or set {setting})"),
        ),
        _ => Failure::new(Exit::BadConfig, format!("{setting}: cannot listen on {address}: {error}")),
    })
}

/// Serves until `stop`, then lets running requests finish.
pub async fn serve(app: App, options: Options, listeners: Listeners, stop: CancellationToken) -> Result<(), Failure> {
    let address = listeners.api.local_addr().map_err(Failure::failed)?;
    if let Some(monitor) = &listeners.monitor {
        tracing::info!(address = %monitor.local_addr().map_err(Failure::failed)?, "serving metrics");
    }
    tracing::info!(%address, "serving");
    let app = App { sends_mail: options.outbox.sends_mail(), ..app };
    let (db, ledger) = (app.db.clone(), app.ledger.clone());
    let served = server::run(app, options, listeners, stop).await;
    // Shutdown is close either way; the next process folds whatever is left.
    let _ = tokio::time::timeout(CLOSE_WAIT, async {
        ledger.close().await;
        db.close().await
    })
    .await;
    tracing::info!("ended");
    served.map_err(Failure::failed)
}
