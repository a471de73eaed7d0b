//! `salespulse demo`.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use clap::Parser;

use super::failure::{Exit, Failure};
use super::{output, serve, signals, token};
use crate::app::App;
use crate::auth::Role;
use crate::auth::keys::NamedKey;
use crate::auth::token::{Subject, Tokens};
use crate::clock::{SECOND, SystemClock};
use crate::config::Config;
use crate::demo::{self, ABROAD, GIFTS, Tenants};
use crate::secret_file;

const DATABASE_FILE: &str = "data/demo.db";
/// By line, a tenant's slug and id, a role and a token of it.
const TOKENS_FILE: &str = "data/demo-tokens.txt";
const TOKEN_DAYS: i64 = 7;

#[derive(Parser)]
pub struct Args {
    /// Continue with the database of the previous run, if it is the demo's own.
    #[arg(long)]
    keep: bool,
    /// Fill the database of DATABASE_URL, which should be for the demo alone, instead of data/demo.db.
    #[arg(long)]
    use_database_url: bool,
}

pub async fn run(mut config: Config, args: &Args) -> Result<(), Failure> {
    if !config.is_default_database() && !args.use_database_url {
        let message = "DATABASE_URL is set, and the demo would fill that database with invented sales (unset it, and the demo \
                       uses data/demo.db; or give --use-database-url)";
        return Err(Failure::new(Exit::BadConfig, message));
    }
    // Bound before the file is touched, so that a running demo keeps its database.
    let listeners = serve::listen(&config).await?;
    if config.is_default_database() {
        config.database_url = format!("sqlite://{DATABASE_FILE}");
        if !args.keep {
            remove_database()?;
        }
    }
    let db = super::connect_migrated(&config).await?;
    // A random key per run, unless a secret is configured; tokens of earlier runs become invalid.
    let tokens = match &config.jwt_secret {
        Some(secret) => Tokens::new(secret, &config.jwt_issuer),
        None => Tokens::with_keys(&[NamedKey::random()], None, &config.jwt_issuer),
    };
    let app = super::wire(&config, db, tokens, Arc::new(SystemClock)).await?;
    let tenants = Tenants::ensure(&app).await?;
    print(&app, tenants, &config, listeners.api.local_addr().map_err(Failure::failed)?).await?;
    let stop = signals::stop_token()?;
    let sales = tokio::spawn(demo::run(app.clone(), tenants, stop.clone()));
    serve::serve(app, serve::options(&config)?, listeners, stop).await?;
    sales.await.map_err(Failure::failed)
}

fn remove_database() -> Result<(), Failure> {
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{DATABASE_FILE}{suffix}");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::new(Exit::Failed, format!("{path} cannot be removed: {error}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Prints how to begin, and a token of each role in the first tenant; these and the second tenant's go to [`TOKENS_FILE`].
async fn print(app: &App, tenants: Tenants, config: &Config, mut address: SocketAddr) -> Result<(), Failure> {
    let (mut roles, mut lines) = (Vec::new(), String::new());
    for (slug, tenant) in [(GIFTS, tenants.gifts), (ABROAD, tenants.abroad)] {
        for role in Role::ALL {
            let Some((user_id, _)) = token::find_user(&app.db, tenant, None, Some(role)).await? else { continue };
            let lifetime_secs = TOKEN_DAYS * crate::clock::DAY / SECOND;
            let subject = Subject { tenant, user_id, role, session: None };
            let token = app.tokens.mint(&subject, app.clock.now(), lifetime_secs).map_err(Failure::failed)?;
            // Infallible: the target is a string.
            let _ = writeln!(lines, "{slug} {} {} {token}", tenant.0, role.as_str());
            if slug == GIFTS {
                roles.push((role, token));
            }
        }
    }
    secret_file::write(Path::new(TOKENS_FILE), &lines)
        .map_err(|error| Failure::new(Exit::Failed, format!("{TOKENS_FILE} cannot be written: {error}")))?;
    let admin = roles.iter().find(|(role, _)| *role == Role::Admin).map_or("", |(_, token)| token);
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    if config.graphiql {
        output::line(format_args!(
            "\nGraphiQL, as the admin of the tenant {GIFTS}:\n  {scheme}://{address}/graphiql#token={admin}"
        ));
    }
    output::line(format_args!("\nTokens of the tenant {GIFTS}, one per role:"));
    for (role, token) in &roles {
        output::line(format_args!("  {:<7} {token}", role.as_str()));
    }
    output::line(format_args!(
        "\nWith curl:\n  export TOKEN={admin}\n  \
         curl -sG {scheme}://{address}/graphql -H \"Authorization: Bearer $TOKEN\" \\\n    \
         --data-urlencode query@tests/operations/first-query.graphql\n\n\
         These tokens, and those of the tenant {ABROAD}, are in {TOKENS_FILE}.\n\
         History is being loaded; then a sale happens about every second, and an alert fires every two or three minutes. \
         Ctrl-C ends.\n"
    ));
    Ok(())
}
