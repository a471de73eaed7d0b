//! The same DDL for both databases.
//!
//! | written | PostgreSQL | SQLite |
//! |---|---|---|
//! | `UUID` | `uuid` | `BLOB` |
//! | `BYTES` | `bytea` | `BLOB` |
//! | `STRING` | `text COLLATE "C"`, ordered by bytes | `TEXT` |
//! | `INT` | `bigint` | `INTEGER` |
//! | `SMALL` | `integer` | `INTEGER` |
//! | `BOOL` | `boolean` | `INTEGER` |
//! | `DOCUMENT` | `jsonb` | `TEXT` |
//! | `TABLE_END` | nothing | `STRICT`: a sum beyond 64 bits is an error and no float |

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

const TYPES: [(&str, &str, &str); 8] = [
    ("UUID", "uuid", "BLOB"),
    ("BYTES", "bytea", "BLOB"),
    ("STRING", "text COLLATE \"C\"", "TEXT"),
    ("INT", "bigint", "INTEGER"),
    ("SMALL", "integer", "INTEGER"),
    ("BOOL", "boolean", "INTEGER"),
    ("DOCUMENT", "jsonb", "TEXT"),
    ("TABLE_END", "", "STRICT"),
];

/// Replaces the types of the table above, as whole words.
pub fn render(text: &str, backend: DbBackend) -> String {
    let postgres = backend == DbBackend::Postgres;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word_len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_len);
        match TYPES.iter().find(|(name, _, _)| *name == word) {
            Some((_, pg, _)) if postgres => out.push_str(pg),
            Some((_, _, lite)) => out.push_str(lite),
            None => out.push_str(word),
        }
        let other_len = after.find(|c: char| c.is_ascii_alphanumeric() || c == '_').unwrap_or(after.len());
        out.push_str(&after[..other_len]);
        rest = &after[other_len..];
    }
    out
}

/// Executes the statements of `text` (separated by `;`) in order.
pub async fn run(manager: &SchemaManager<'_>, text: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let rendered = render(text, manager.get_database_backend());
    for statement in rendered.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        connection.execute_unprepared(statement).await?;
    }
    Ok(())
}

/// Whether the database is PostgreSQL.
pub fn is_postgres(manager: &SchemaManager<'_>) -> bool {
    manager.get_database_backend() == DbBackend::Postgres
}
