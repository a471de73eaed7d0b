//! What the drivers' errors mean.

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::{DbErr, RuntimeErr};

use crate::db::pool::ALL_LENT;
use crate::db::tx::NOT_CACHED;

/// What the database itself has answered.
fn database_error(error: &DbErr) -> Option<&dyn DatabaseError> {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner))
    | DbErr::Query(RuntimeErr::SqlxError(inner))
    | DbErr::Conn(RuntimeErr::SqlxError(inner))) = error
    else {
        return None;
    };
    inner.as_database_error()
}

/// The PostgreSQL SQLSTATE or the SQLite extended code.
pub fn driver_code(error: &DbErr) -> Option<String> {
    database_error(error)?.code().map(|code| code.into_owned())
}

/// What a database says of an error, without what the driver says around it; else the whole error.
pub fn message_of(error: &DbErr) -> String {
    database_error(error).map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Whether a sum overflowed 64 bits: 22003 in PostgreSQL; in SQLite a sum that overflows or that a strict column
/// rejects.
pub fn is_out_of_range(error: &DbErr) -> bool {
    const SQLITE_CONSTRAINT_DATATYPE: &str = "3091";
    match driver_code(error).as_deref() {
        Some("22003" | SQLITE_CONSTRAINT_DATATYPE) => true,
        Some("1") => error.to_string().contains("integer overflow"),
        _ => false,
    }
}

/// Whether a text or document contains NUL, which PostgreSQL cannot store.
pub fn is_unwritable(error: &DbErr) -> bool {
    matches!(driver_code(error).as_deref(), Some("22021" | "22P05"))
}

/// Whether the login lacks the rights for a statement, on PostgreSQL.
pub fn is_forbidden(error: &DbErr) -> bool {
    driver_code(error).as_deref() == Some("42501")
}

/// Whether the database has no room to write, or may not.
pub fn is_full(error: &DbErr) -> bool {
    const SQLITE_READONLY: u32 = 8;
    const SQLITE_FULL: u32 = 13;
    const SQLITE_IOERR_WRITE: u32 = 778;
    const POSTGRES_DISK_FULL: &str = "53100";
    driver_code(error).is_some_and(|code| {
        code == POSTGRES_DISK_FULL
            || code.len() < 5
                && code.parse().is_ok_and(|code: u32| {
                    code == SQLITE_IOERR_WRITE || [SQLITE_READONLY, SQLITE_FULL].contains(&(code & 0xff))
                })
    })
}

/// Whether PostgreSQL has no partition for a row. The code is shared with failed check constraints; the text depends on
/// the server's language.
pub fn lacks_month(error: &DbErr) -> bool {
    driver_code(error).as_deref() == Some("23514")
}

/// Whether PostgreSQL cancelled a statement on timeout.
pub fn is_timeout(error: &DbErr) -> bool {
    driver_code(error).as_deref() == Some("57014")
}

/// Whether a statement was refused because only caches may be used.
pub fn is_not_cached(error: &DbErr) -> bool {
    matches!(error, DbErr::Custom(why) if why == NOT_CACHED)
}

/// Whether no connection became free in time: others are at work, or wait for a database that does not answer.
pub fn is_busy(error: &DbErr) -> bool {
    matches!(error, DbErr::Custom(why) if why == ALL_LENT)
}

/// Whether the database is down, starting, full, or out of connections: the request may succeed later.
pub fn is_unavailable(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner)) => {
            matches!(
                inner.as_ref(),
                sea_orm::sqlx::Error::Io(_) | sea_orm::sqlx::Error::PoolTimedOut | sea_orm::sqlx::Error::PoolClosed
            ) || driver_code(error).is_some_and(|code| is_unavailable_code(&code))
        }
        _ => false,
    }
}

/// Whether the database closed the connection.
pub fn is_cut_off(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error else {
        return false;
    };
    matches!(inner.as_ref(), sea_orm::sqlx::Error::Io(_))
        || driver_code(error).is_some_and(|code| code.starts_with("57P"))
}

/// PostgreSQL classes 08 (connection), 53 (resources), 57P (shutdown), 25006 (read-only), 40001, 40P01 and 55P03
/// (serialization, deadlock and lock conflicts), 25P03 (idle timeout); SQLite busy, full, and I/O errors.
fn is_unavailable_code(code: &str) -> bool {
    const SQLITE_BUSY: u32 = 5;
    const SQLITE_IOERR: u32 = 10;
    const SQLITE_FULL: u32 = 13;
    code.len() == 5
        && (code.starts_with("08")
            || code.starts_with("53")
            || code.starts_with("57P")
            || ["25006", "25P03", "40001", "40P01", "55P03"].contains(&code))
        // The low byte of an extended code is the primary code.
        || code.len() < 5
            && code.parse().is_ok_and(|code: u32| [SQLITE_BUSY, SQLITE_IOERR, SQLITE_FULL].contains(&(code & 0xff)))
}
