//! Invitations and password resets: a mailed, single-use link that lets its user set a password.

use serde_json::json;
use uuid::Uuid;

use super::members::Member;
use super::oidc::identities;
use super::sign_in::{self, SignedIn, find_user};
use super::{api_keys, members};
use crate::app::App;
use crate::audit::{self, By, Entry};
use crate::auth::opaque::{Kind, Opaque};
use crate::auth::sessions::{self, Client};
use crate::auth::{Caller, Role, password};
use crate::clock::{DAY, MINUTE, Timestamp};
use crate::db::{TenantTx, get, get_word, word};
use crate::error::{Code, Error, Result};
use crate::outbox::{self, Message, NotificationChannel, Recipient};
use crate::tenancy::find_tenant;
use crate::users::{NewUser, email_of, insert_user};

/// The purpose of a mailed link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Purpose {
    /// To sign in for the first time.
    Invitation,
    /// To set a new password.
    Reset,
}

impl Purpose {
    fn lifetime(self) -> i64 {
        match self {
            Purpose::Invitation => 7 * DAY,
            Purpose::Reset => 60 * MINUTE,
        }
    }
}

/// Maximum number of unused reset links per user, so that nobody can flood a mailbox.
const RESETS_MAX: i64 = 3;

/// Mails a link to a user. Earlier invitations become invalid; earlier reset links stay valid until one is used, since
/// anybody may request more of them.
pub async fn send(app: &App, tx: &TenantTx, user_id: Uuid, email: &str, purpose: Purpose) -> Result<()> {
    let now = app.clock.now();
    if purpose == Purpose::Invitation {
        let sql = "UPDATE mailed_tokens SET used_at = $4 WHERE tenant_id = $1 AND user_id = $2 AND purpose = $3 AND used_at IS NULL";
        tx.execute(sql, [user_id.into(), word(purpose)?, now.into()]).await?;
    }
    let token = Opaque::random(Kind::Once, tx.tenant());
    let ends_at = now.0 + purpose.lifetime();
    let sql = "INSERT INTO mailed_tokens (tenant_id, hash, user_id, purpose, ends_at) VALUES ($1, $2, $3, $4, $5)";
    tx.execute(sql, [token.hash().to_vec().into(), user_id.into(), word(purpose)?, ends_at.into()]).await?;
    let link = format!("{}/auth/password#{}", app.public_url, token.to_text());
    let (subject, text) = match purpose {
        Purpose::Invitation => (
            "You are invited to SalesPulse",
            format!("Set a password to sign in:\n\n{link}\n\nThe link can be used once and expires in 7 days.\n"),
        ),
        Purpose::Reset => (
            "Your SalesPulse password",
            format!(
                "Set a new password:\n\n{link}\n\nThe link can be used once and expires in an hour. If you did not \
                 request this, ignore this message; your password stays as it is.\n"
            ),
        ),
    };
    let recipient = Recipient { channel: NotificationChannel::Email, target: email.to_owned(), secret: None };
    let message = Message { alert_no: None, subject: subject.to_owned(), text, body: String::new() };
    outbox::store::add(tx, &[recipient], &message, now).await
}

/// Mails a user a reset link, unless they have enough of them. The response does not reveal whether the user exists.
/// Errors: RATE_LIMITED, MAIL_NOT_CONFIGURED.
pub async fn request_reset(app: &App, client: &Client, tenant: &str, email: &str) -> Result<()> {
    if !app.sends_mail {
        return Err(no_mail("ask its operator for a new password"));
    }
    app.tries.take_address(client.address)?;
    let email = email_of(email)?;
    let tenant = find_tenant(&app.db, tenant).await?;
    app.tries.take_mail(tenant, &email)?;
    let Some(tenant) = tenant else { return Ok(()) };
    let tx = app.db.write(tenant).await?;
    tx.lock_settings().await?;
    // Logged either way, to keep response times similar.
    let subject = match find_user(&tx, &email).await? {
        Some(user) => {
            if count_resets(&tx, user.id, app.clock.now()).await? < RESETS_MAX {
                send(app, &tx, user.id, &email, Purpose::Reset).await?;
            }
            user.id.to_string()
        }
        None => String::new(),
    };
    let by = By { user_id: None, through: None, address: client.address };
    audit::record_by(&tx, &by, app.clock.now(), Entry::of("password.forget", subject)).await?;
    tx.commit().await
}

/// The number of a user's valid reset links.
async fn count_resets(tx: &TenantTx, user_id: Uuid, now: Timestamp) -> Result<i64> {
    let sql = "SELECT count(*) FROM mailed_tokens \
               WHERE tenant_id = $1 AND user_id = $2 AND purpose = $3 AND used_at IS NULL AND ends_at > $4";
    tx.count(sql, [user_id.into(), word(Purpose::Reset)?, now.into()]).await
}

/// Redeems a mailed link: sets the password, ends the user's sessions, API keys and identities, and signs in. Errors:
/// INVALID_GRANT, BAD_USER_INPUT, RATE_LIMITED.
pub async fn redeem(app: &App, client: &Client, token: &str, new_password: String) -> Result<SignedIn> {
    let token = Opaque::parse(Kind::Once, token).ok_or_else(invalid)?;
    let hash = token.hash().to_vec();
    // The password is validated first, so that an invalid one does not consume the link.
    app.tries.check_stranger(client.address)?;
    let found = find(&app.db.read(token.tenant).await?, &hash, app.clock.now().0).await;
    if found.as_ref().is_err_and(|error| error.code == Code::InvalidGrant) {
        app.tries.count_stranger(client.address);
    }
    let (user_id, purpose, email) = found?;
    password::check_new("password", &new_password, &email)?;
    let password_hash = app.passwords.hash(new_password).await?;
    let now = app.clock.now();
    let tx = app.db.write(token.tenant).await?;
    tx.lock_settings().await?;
    let sql =
        "UPDATE mailed_tokens SET used_at = $3 WHERE tenant_id = $1 AND hash = $2 AND used_at IS NULL AND ends_at > $3";
    if tx.execute(sql, [hash.into(), now.into()]).await? == 0 {
        return Err(invalid());
    }
    let may_come = if purpose == Purpose::Invitation { "invited_at IS NOT NULL" } else { "is_active" };
    let sql = format!(
        "UPDATE users SET password_hash = $3, is_active = true, invited_at = NULL \
         WHERE tenant_id = $1 AND id = $2 AND {may_come} RETURNING role"
    );
    let row = tx.query_one(&sql, [user_id.into(), password_hash.into()]).await?.ok_or_else(invalid)?;
    let role = Role::get(&row, 0)?;
    sessions::end_all(&tx, user_id, now).await?;
    // Whoever had control of the account may have created or linked some.
    api_keys::revoke_all(&tx, user_id, now).await?;
    let by = By { user_id: Some(user_id), through: None, address: client.address };
    identities::remove_all(app, &tx, &by, user_id).await?;
    let entry = Entry::of("password.set", user_id).after(json!({ "by": purpose }));
    audit::record_by(&tx, &by, now, entry).await?;
    let tenant = tx.tenant();
    let signed_in = sign_in::open(app, tx, client, user_id, role, "mail").await?;
    app.access_cache.changed(tenant);
    Ok(signed_in)
}

async fn find(tx: &TenantTx, hash: &[u8], now: i64) -> Result<(Uuid, Purpose, String)> {
    let sql = "SELECT m.user_id, m.purpose, u.email FROM mailed_tokens m JOIN users u ON u.tenant_id = m.tenant_id AND u.id = m.user_id \
               WHERE m.tenant_id = $1 AND m.hash = $2 AND m.used_at IS NULL AND m.ends_at > $3";
    let row = tx.query_one(sql, [hash.to_vec().into(), now.into()]).await?.ok_or_else(invalid)?;
    Ok((get(&row, 0)?, get_word(&row, 1)?, get(&row, 2)?))
}

/// Invites a new user, or again one without a way to sign in, even if deactivated since; returns who that was before.
/// Errors: CONFLICT; BAD_USER_INPUT; FORBIDDEN, if the old or new role has permissions that the caller lacks;
/// MAIL_NOT_CONFIGURED, unless the user can sign in with an identity provider instead.
pub async fn invite(
    app: &App,
    tx: &TenantTx,
    caller: &Caller,
    (email, name): (&str, &str),
    role: Role,
) -> Result<(Uuid, Option<Member>)> {
    members::check_role(caller, role)?;
    if !app.sends_mail && app.providers.is_empty() {
        return Err(no_mail("the operator can create users with `salespulse user create`"));
    }
    let email = email_of(email)?;
    let name = members::name_of(name)?;
    tx.lock_settings().await?;
    let sql = "SELECT u.id, u.invited_at IS NULL AND (u.is_active OR u.password_hash IS NOT NULL OR EXISTS \
               (SELECT 1 FROM user_identities i WHERE i.tenant_id = $1 AND i.user_id = u.id)) \
               FROM users u WHERE u.tenant_id = $1 AND u.email = $2";
    let (user_id, before) = match tx.query_one(sql, [email.clone().into()]).await? {
        Some(row) if get::<bool>(&row, 1)? => {
            return Err(Error::new(Code::Conflict, "there is already a user with that address"));
        }
        Some(row) => {
            let id: Uuid = get(&row, 0)?;
            let before = members::get_member(tx, id).await?;
            members::check_role(caller, before.user.role)?;
            let sql = "UPDATE users SET name = $3, role = $4, invited_at = COALESCE(invited_at, $5) \
                       WHERE tenant_id = $1 AND id = $2";
            tx.execute(sql, [id.into(), name.into(), role.as_str().into(), app.clock.now().0.into()]).await?;
            (id, Some(before))
        }
        None => {
            let user = NewUser { email: &email, name: &name, role, password_hash: None, is_invited: true };
            (insert_user(tx, user, app.clock.now()).await?, None)
        }
    };
    send(app, tx, user_id, &email, Purpose::Invitation).await?;
    Ok((user_id, before))
}

fn no_mail(instead: &str) -> Error {
    Error::new(Code::MailNotConfigured, format!("this server sends no mail; {instead}"))
}

fn invalid() -> Error {
    Error::new(Code::InvalidGrant, "the link is invalid or expired; request another")
}
