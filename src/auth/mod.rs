//! Authentication and authorization: tokens, keys, sessions, roles and permissions. Tenant, role and permissions come
//! from the token, as far as they are still current.

pub mod cursor;
pub mod keys;
pub mod opaque;
pub mod password;
pub mod role;
pub mod sealed;
pub mod sessions;
pub mod standing;
pub mod token;

use uuid::Uuid;

pub use role::{Permission, Role};

use crate::clock::{SECOND, Timestamp};
use crate::db::TenantId;

/// The subject of a verified token.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    pub tenant: TenantId,
    pub user_id: Uuid,
    pub role: Role,
    /// The role's permissions, less those the token excludes.
    pub permissions: Vec<Permission>,
    /// Expiry of the token, in seconds since the Unix epoch.
    pub expires_at_secs: i64,
    pub through: Through,
}

/// How a caller authenticated, and thus what must still be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// An interactive session.
    Session(Uuid),
    /// A token issued by an operator.
    Token {
        issued_at_secs: i64,
    },
    ApiKey(Uuid),
}

impl Caller {
    /// Expiry of the token.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp(self.expires_at_secs.saturating_mul(SECOND))
    }

    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }
}
