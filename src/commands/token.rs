//! `salespulse token`.

use clap::Parser;
use sea_orm::Value;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output;
use crate::audit::{self, Entry};
use crate::auth::Role;
use crate::auth::token::Subject;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::db::{Db, TenantId, get};
use crate::error::Error;
use crate::users::email_of;

const HOUR_SECS: i64 = 3600;

#[derive(Parser)]
#[command(group = clap::ArgGroup::new("who").required(true).args(["role", "user"]))]
pub struct Args {
    /// The tenant's slug or id.
    #[arg(long)]
    tenant: String,
    /// The role that the token grants.
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// The user's e-mail address; defaults to the first active user with the role.
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// How long the token is valid, 1 to 8760.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=24 * 365))]
    hours: i64,
}

/// Prints only the token, for use in `$(salespulse token …)`.
pub async fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    // What is no address is nobody's.
    let email = args.user.as_deref().map(|email| email_of(email).unwrap_or_else(|_| email.to_owned()));
    let tokens = super::tokens(config)?;
    let db = super::connect(config).await?;
    let tenant = super::get_tenant(&db, &args.tenant).await?;
    let Some((user_id, own_role)) = find_user(&db, tenant, email.as_deref(), args.role).await? else {
        let message = match &email {
            Some(email) => format!("{} has no active user {email}", args.tenant),
            None => format!("{} has no active user with that role", args.tenant),
        };
        return Err(Failure::new(Exit::BadConfig, message));
    };
    let subject = Subject { tenant, user_id, role: own_role, session: None };
    let now = SystemClock.now();
    let token = tokens.mint(&subject, now, args.hours * HOUR_SECS).map_err(Failure::failed)?;
    let tx = db.write(tenant).await?;
    let after = serde_json::json!({ "by": "operator", "hours": args.hours });
    audit::record_by_operator(&tx, now, Entry::of("token.create", user_id).after(after)).await?;
    tx.commit().await?;
    output::line(token);
    Ok(())
}

/// The active user with an e-mail address, or the first one with a role.
pub async fn find_user(
    db: &Db,
    tenant: TenantId,
    email: Option<&str>,
    role: Option<Role>,
) -> Result<Option<(Uuid, Role)>, Error> {
    let tx = db.read(tenant).await?;
    let (column, value): (&str, Value) = match (email, role) {
        (Some(email), _) => ("email", email.into()),
        (None, role) => ("role", role.map_or("", Role::as_str).into()),
    };
    let sql = format!(
        "SELECT id, role FROM users WHERE tenant_id = $1 AND is_active AND {column} = $2 ORDER BY created_at, id LIMIT 1"
    );
    let Some(row) = tx.query_one(&sql, [value]).await? else { return Ok(None) };
    Ok(Some((get(&row, 0)?, Role::get(&row, 1)?)))
}
