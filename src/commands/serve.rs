//! `salespulse serve`.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use crate::app::App;
use crate::config::Config;
use crate::graphql::documents::Documents;
use crate::server::{self, Options};

/// Requests that still run this long after the signal are cut off.
const GRACE: Duration = Duration::from_secs(10);

pub async fn run(config: &Config) -> Result<(), Failure> {
    let tokens = super::tokens(config)?;
    let db = super::connect(config).await?;
    let app = super::wire(config, db, tokens).await?;
    let listener = listen(config).await?;
    serve(app, options(config)?, listener, super::signals::stop_token()?).await
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
    Ok(Options {
        graphiql: config.graphiql,
        outbox: config.outbox.clone(),
        proxies: config.proxies.clone(),
        limits: config.limits,
        documents,
    })
}

/// Binds the address of the settings.
pub async fn listen(config: &Config) -> Result<TcpListener, Failure> {
    TcpListener::bind(config.listen).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            Exit::PortInUse,
            format!("the address {} is taken (end what listens there, or set SALESPULSE_LISTEN)", config.listen),
        ),
        _ => Failure::new(Exit::BadConfig, format!("SALESPULSE_LISTEN: cannot listen on {}: {error}", config.listen)),
    })
}

/// Serves until `stop`, and finishes what is running then.
pub async fn serve(app: App, options: Options, listener: TcpListener, stop: CancellationToken) -> Result<(), Failure> {
    let address = listener.local_addr().map_err(Failure::failed)?;
    tracing::info!(%address, "serving");
    let (db, ledger) = (app.db.clone(), app.ledger.clone());
    let overdue = {
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        }
    };
    tokio::select! {
        () = server::run(app, options, listener, stop.clone()) => {}
        () = overdue => tracing::warn!("requests were cut off"),
    }
    // The end is near either way; what is not folded is so by the next process.
    let _ = tokio::time::timeout(GRACE, async {
        ledger.close().await;
        db.close().await
    })
    .await;
    tracing::info!("ended");
    Ok(())
}
