//! Lookup tables that rows are joined with: held in memory, indexed by key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::ImportError;
use super::group::{Defect, RawRow};
use super::mapping::LookupSpec;
use super::read::column_names;
use super::rows::{Row, Rows};
use super::source::Files;
use super::template::{Columns, Joined, Template};

/// Maximum number of rows per table.
const ROWS_MAX: usize = 2_000_000;

pub struct Lookup {
    pub name: String,
    pub columns: Vec<String>,
    /// The key expression over the feed's columns, as in the mapping.
    pub by: String,
    /// Malformed rows, which are not in the table.
    pub refused: Vec<(Defect, RawRow)>,
    rows: Vec<Row>,
    index: HashMap<String, usize>,
}

impl Lookup {
    /// Reads a table. Of rows with the same key the first wins; a row without a key is never matched.
    pub fn read(name: &str, spec: &LookupSpec, files: &Files) -> Result<Lookup, ImportError> {
        let mut rows = Rows::new(files.open(&spec.file.path, Arc::default())?, &spec.file)?;
        let (columns, mut next) = column_names(&mut rows, &spec.file)?;
        let key =
            Template::parse(&spec.key, &Columns::of(&columns)).map_err(|what| ImportError::new(&rows.place, what))?;
        let mut lookup = Lookup {
            name: name.to_owned(),
            columns,
            by: spec.by.clone(),
            refused: Vec::new(),
            rows: Vec::new(),
            index: HashMap::new(),
        };
        let mut expected = None;
        loop {
            let Some(mut row) = (match next.take() {
                Some(row) => Some(row),
                None => rows.next()?,
            }) else {
                return Ok(lookup);
            };
            if lookup.rows.len() + lookup.refused.len() == ROWS_MAX {
                return Err(ImportError::new(
                    &rows.place,
                    format!("more than {ROWS_MAX} rows in a table to join with"),
                ));
            }
            let raw = std::mem::take(&mut row.raw);
            if let Some(what) = row.flaw(*expected.get_or_insert(rows.columns_count(row.len()))) {
                lookup.refused.push((Defect::at(row.line, what), RawRow { line: row.line, text: raw }));
                continue;
            }
            let id = key.fill(&Joined { row: &row, lookups: &[], found: &[] });
            if !id.is_empty()
                && let Entry::Vacant(free) = lookup.index.entry(id)
            {
                free.insert(lookup.rows.len());
                lookup.rows.push(row);
            }
        }
    }

    pub fn find(&self, key: &str) -> Option<usize> {
        self.index.get(key).copied()
    }

    pub fn value(&self, row: usize, column: usize) -> &str {
        self.rows[row].field(column)
    }
}
