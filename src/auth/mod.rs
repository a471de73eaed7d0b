//! Who calls: tokens, keys, sessions, roles and permissions. The token is the authority: tenant, role and permissions come
//! from it, as far as they still hold.

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

/// Who a verified token speaks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    pub tenant: TenantId,
    pub user_id: Uuid,
    pub role: Role,
    /// Those of the role that the token has not narrowed.
    pub permissions: Vec<Permission>,
    /// When the token ends, in seconds since 1970.
    pub expires_at_secs: i64,
    pub through: Through,
}

/// By what a caller speaks: what has to be good still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// A session that somebody signed in for.
    Session(Uuid),
    /// A token that an operator made.
    Token {
        issued_at_secs: i64,
    },
    ApiKey(Uuid),
}

impl Caller {
    /// When the token ends.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp(self.expires_at_secs.saturating_mul(SECOND))
    }

    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }
}
