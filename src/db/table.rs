//! Bulk rows as one parameter per column, so that the statement text is independent of the number of rows.
//!
//! PostgreSQL unnests arrays, SQLite reads one JSON array of rows; both then `INSERT … SELECT` or join.

use std::fmt::Write;

use sea_orm::sea_query::ArrayType;
use sea_orm::{DbBackend, Value};
use uuid::Uuid;

/// Sentinels for NULL in arrays, which are bound without NULLs.
const NO_INT: i64 = i64::MIN;
const NO_UUID: Uuid = Uuid::nil();

/// A column of many rows. The `Opt…` kinds are nullable (empty text or bytes mean NULL there).
#[derive(Clone, Debug)]
pub enum Column {
    Int(Vec<i64>),
    OptInt(Vec<Option<i64>>),
    Text(Vec<String>),
    OptText(Vec<Option<String>>),
    Bytes(Vec<Vec<u8>>),
    OptBytes(Vec<Vec<u8>>),
    Bool(Vec<bool>),
    Uuid(Vec<Uuid>),
    OptUuid(Vec<Option<Uuid>>),
}

/// What to do if a row with the same key exists.
pub enum OnConflict<'a> {
    Fail,
    /// Upsert `(key columns, assignments)`; `excluded.x` is the new value.
    Update(&'a str, &'a str),
    /// Upsert `(key columns)`: every other column takes the new value.
    Replace(&'a str),
}

/// Rows by column, without the tenant id.
#[derive(Default)]
pub struct Table {
    columns: Vec<(&'static str, Column)>,
    len: usize,
}

/// Rows for several tables, independent of each other.
#[derive(Default)]
pub struct Inserts(Vec<(&'static str, Table, OnConflict<'static>)>);

impl Inserts {
    pub fn add(&mut self, table: &'static str, rows: Table, conflict: OnConflict<'static>) {
        if !rows.is_empty() {
            self.0.push((table, rows, conflict));
        }
    }

    /// The statements to run: PostgreSQL combines them into one, saving a round trip per table.
    pub(super) fn statements(self, backend: DbBackend) -> Vec<(String, Vec<Value>)> {
        let inserts = self.0.into_iter();
        if backend != DbBackend::Postgres {
            return inserts.map(|(table, rows, conflict)| rows.insert(backend, table, conflict, 2)).collect();
        }
        let mut values = Vec::new();
        let mut parts: Vec<String> = Vec::new();
        for (table, rows, conflict) in inserts {
            let (sql, mut more) = rows.insert(backend, table, conflict, values.len() + 2);
            values.append(&mut more);
            parts.push(sql);
        }
        let Some(last) = parts.pop() else { return Vec::new() };
        let before: Vec<String> = parts.iter().enumerate().map(|(i, sql)| format!("w{i} AS ({sql})")).collect();
        let with = if before.is_empty() { String::new() } else { format!("WITH {} ", before.join(", ")) };
        vec![(format!("{with}{last}"), values)]
    }
}

impl Table {
    pub fn new() -> Self {
        Table::default()
    }

    /// Adds a column; all columns have the same length.
    #[must_use]
    pub fn with(mut self, name: &'static str, column: Column) -> Self {
        let len = column.len();
        debug_assert!(self.columns.is_empty() || self.len == len, "column {name} has another length");
        self.len = len;
        self.columns.push((name, column));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A table expression aliased `k` and its parameters, numbered from `first`.
    pub(super) fn expression(&self, backend: DbBackend, first: usize) -> (String, Vec<Value>) {
        if backend == DbBackend::Postgres { self.unnest(first) } else { self.json_each(first) }
    }

    /// An INSERT of all rows and its parameters, numbered from `first`.
    pub(super) fn insert(
        &self,
        backend: DbBackend,
        table: &str,
        conflict: OnConflict<'_>,
        first: usize,
    ) -> (String, Vec<Value>) {
        let (expression, values) = self.expression(backend, first);
        let names = self.names();
        let selected: Vec<String> =
            self.columns.iter().map(|(name, column)| column.restore_null(&format!("k.{name}"), backend)).collect();
        let mut sql = format!(
            "INSERT INTO {table} (tenant_id, {}) SELECT CAST($1 AS {}), {} FROM {expression} WHERE true",
            names.join(", "),
            if backend == DbBackend::Postgres { "uuid" } else { "BLOB" },
            selected.join(", ")
        );
        let written = match conflict {
            OnConflict::Fail => Ok(()),
            OnConflict::Update(key, set) => write!(sql, " ON CONFLICT (tenant_id, {key}) DO UPDATE SET {set}"),
            OnConflict::Replace(key) => {
                let is_key = |name: &str| key.split(',').any(|k| k.trim() == name);
                let set: Vec<String> =
                    names.iter().filter(|n| !is_key(n)).map(|n| format!("{n} = excluded.{n}")).collect();
                write!(sql, " ON CONFLICT (tenant_id, {key}) DO UPDATE SET {}", set.join(", "))
            }
        };
        debug_assert!(written.is_ok());
        (sql, values)
    }

    fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|(name, _)| *name).collect()
    }

    fn unnest(&self, first: usize) -> (String, Vec<Value>) {
        let arrays: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (_, column))| format!("${}::{}[]", first + i, column.postgres_type()))
            .collect();
        let expression = format!("unnest({}) AS k({})", arrays.join(", "), self.names().join(", "));
        (expression, self.columns.iter().map(|(_, column)| column.to_array()).collect())
    }

    fn json_each(&self, first: usize) -> (String, Vec<Value>) {
        let fields: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, column))| match column {
                Column::Bytes(_) | Column::OptBytes(_) | Column::Uuid(_) | Column::OptUuid(_) => {
                    format!("unhex(value ->> {i}) AS {name}")
                }
                _ => format!("value ->> {i} AS {name}"),
            })
            .collect();
        let mut text = String::with_capacity(self.len * self.columns.len() * 8);
        text.push('[');
        for row in 0..self.len {
            text.push_str(if row == 0 { "[" } else { ",[" });
            for (i, (_, column)) in self.columns.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                column.write_json(row, &mut text);
            }
            text.push(']');
        }
        text.push(']');
        (format!("(SELECT {} FROM json_each(${first})) AS k", fields.join(", ")), vec![text.into()])
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Column::Int(v) => v.len(),
            Column::OptInt(v) => v.len(),
            Column::Text(v) => v.len(),
            Column::OptText(v) => v.len(),
            Column::Bytes(v) | Column::OptBytes(v) => v.len(),
            Column::Bool(v) => v.len(),
            Column::Uuid(v) => v.len(),
            Column::OptUuid(v) => v.len(),
        }
    }

    fn postgres_type(&self) -> &'static str {
        match self {
            Column::Int(_) | Column::OptInt(_) => "bigint",
            Column::Text(_) | Column::OptText(_) => "text",
            Column::Bytes(_) | Column::OptBytes(_) => "bytea",
            Column::Bool(_) => "boolean",
            Column::Uuid(_) | Column::OptUuid(_) => "uuid",
        }
    }

    fn to_array(&self) -> Value {
        fn array<T>(kind: ArrayType, items: impl Iterator<Item = T>) -> Value
        where
            Value: From<T>,
        {
            Value::Array(kind, Some(Box::new(items.map(Value::from).collect())))
        }
        match self {
            Column::Int(v) => array(ArrayType::BigInt, v.iter().copied()),
            Column::OptInt(v) => array(ArrayType::BigInt, v.iter().map(|n| n.unwrap_or(NO_INT))),
            Column::Text(v) => array(ArrayType::String, v.iter().cloned()),
            Column::OptText(v) => array(ArrayType::String, v.iter().map(|t| t.clone().unwrap_or_default())),
            Column::Bytes(v) | Column::OptBytes(v) => array(ArrayType::Bytes, v.iter().cloned()),
            Column::Bool(v) => array(ArrayType::Bool, v.iter().copied()),
            Column::Uuid(v) => array(ArrayType::Uuid, v.iter().copied()),
            Column::OptUuid(v) => array(ArrayType::Uuid, v.iter().map(|id| id.unwrap_or(NO_UUID))),
        }
    }

    /// The value of `expression` with NULL sentinels restored.
    fn restore_null(&self, expression: &str, backend: DbBackend) -> String {
        match (self, backend) {
            (Column::OptInt(_), DbBackend::Postgres) => format!("NULLIF({expression}, {NO_INT})"),
            (Column::OptText(_), DbBackend::Postgres) => format!("NULLIF({expression}, '')"),
            (Column::OptUuid(_), DbBackend::Postgres) => format!("NULLIF({expression}, '{NO_UUID}'::uuid)"),
            (Column::OptBytes(_), DbBackend::Postgres) => format!("NULLIF({expression}, ''::bytea)"),
            (Column::OptBytes(_), _) => format!("NULLIF({expression}, x'')"),
            _ => expression.to_owned(),
        }
    }

    fn write_json(&self, row: usize, out: &mut String) {
        let written = match self {
            Column::Int(v) => write!(out, "{}", v[row]),
            Column::OptInt(v) => match v[row] {
                Some(n) => write!(out, "{n}"),
                None => write!(out, "null"),
            },
            Column::Text(v) => write!(out, "{}", json_string(&v[row])),
            Column::OptText(v) => match v[row].as_deref() {
                Some(text) if !text.is_empty() => write!(out, "{}", json_string(text)),
                _ => write!(out, "null"),
            },
            Column::Bytes(v) | Column::OptBytes(v) => write_hex(&v[row], out),
            Column::Bool(v) => write!(out, "{}", u8::from(v[row])),
            Column::Uuid(v) => write_hex(v[row].as_bytes(), out),
            Column::OptUuid(v) => match v[row] {
                Some(id) => write_hex(id.as_bytes(), out),
                None => write!(out, "null"),
            },
        };
        debug_assert!(written.is_ok());
    }
}

fn json_string(text: &str) -> serde_json::Value {
    serde_json::Value::String(text.to_owned())
}

fn write_hex(bytes: &[u8], out: &mut String) -> std::fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out.push('"');
    Ok(())
}
