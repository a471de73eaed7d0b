//! `salespulse user`: the first users of a tenant, who invite the others.

use std::io::{BufRead, IsTerminal};

use clap::{Parser, Subcommand};
use serde_json::json;

use super::failure::{Exit, Failure};
use super::output;
use crate::accounts::members;
use crate::audit::{self, Entry};
use crate::auth::password::{self, Passwords};
use crate::auth::sessions;
use crate::auth::{Role, standing};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::db::get;
use crate::error::Error;
use crate::users::{NewUser, email_of, insert_user};

#[derive(Subcommand)]
pub enum Command {
    /// Create a user who signs in with a password, which is prompted for, or read from the first line of standard
    /// input.
    Create(CreateArgs),
    /// Set an active user's password, which is prompted for, or read from the first line of standard input, and end the
    /// user's sessions.
    Password(PasswordArgs),
}

#[derive(Parser)]
pub struct CreateArgs {
    /// The tenant's slug or id.
    #[arg(long)]
    tenant: String,
    /// The e-mail address that the user signs in with.
    #[arg(long)]
    email: String,
    /// The user's name.
    #[arg(long)]
    name: String,
    /// The user's role.
    #[arg(long, value_enum)]
    role: Role,
}

#[derive(Parser)]
pub struct PasswordArgs {
    /// The tenant's slug or id.
    #[arg(long)]
    tenant: String,
    /// The e-mail address that the user signs in with.
    #[arg(long)]
    email: String,
}

pub async fn run(config: &Config, command: &Command) -> Result<(), Failure> {
    let (tenant, email) = match command {
        Command::Create(args) => (&args.tenant, &args.email),
        Command::Password(args) => (&args.tenant, &args.email),
    };
    let email = email_of(email).map_err(bad_input)?;
    let db = super::connect(config).await?;
    let tenant = super::get_tenant(&db, tenant).await?;
    let password = read_password().map_err(Failure::failed)?;
    password::check_new("password", &password, &email).map_err(bad_input)?;
    let hash = Passwords::default().hash(password).await?;
    let now = SystemClock.now();
    let tx = db.write(tenant).await?;
    tx.lock_settings().await?;
    let (id, entry) = match command {
        Command::Create(args) => {
            let name = members::name_of(&args.name).map_err(bad_input)?;
            let sql = "SELECT 1 FROM users WHERE tenant_id = $1 AND email = $2";
            if tx.query_one(sql, [email.clone().into()]).await?.is_some() {
                return Err(Failure::new(Exit::BadConfig, "there is already a user with that address"));
            }
            let user =
                NewUser { email: &email, name: &name, role: args.role, password_hash: Some(hash), is_invited: false };
            let id = insert_user(&tx, user, now).await?;
            standing::begin_epoch(&tx, now).await?;
            let role = args.role.as_str();
            (id, Entry::of("user.create", id).after(json!({ "by": "operator", "role": role })))
        }
        Command::Password(_) => {
            let sql =
                "UPDATE users SET password_hash = $3 WHERE tenant_id = $1 AND email = $2 AND is_active RETURNING id";
            let row = tx.query_one(sql, [email.into(), hash.into()]).await?;
            let row = row.ok_or_else(|| Failure::new(Exit::BadConfig, "there is no active user with that address"))?;
            let id: uuid::Uuid = get(&row, 0)?;
            sessions::end_all(&tx, id, now).await?;
            (id, Entry::of("password.set", id).after(json!({ "by": "operator" })))
        }
    };
    audit::record_by_operator(&tx, now, entry).await?;
    tx.commit().await?;
    output::line(id);
    Ok(())
}

/// Prompts without echo on a terminal; otherwise reads the first line of the input.
fn read_password() -> std::io::Result<String> {
    if std::io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        let again = rpassword::prompt_password("Again: ")?;
        return if password == again { Ok(password) } else { Err(std::io::Error::other("the passwords differ")) };
    }
    let mut password = String::new();
    std::io::stdin().lock().read_line(&mut password)?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

fn bad_input(error: Error) -> Failure {
    Failure::new(Exit::BadConfig, error.message)
}
