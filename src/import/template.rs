//! Text templates over columns: `"{Country}"`, `"1 {Month} 2017"`, `"{products.department}"`; `{#}` is the line number.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;

use super::lookup::Lookup;
use super::rows::Row;

/// Where a value of a row comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColumnRef {
    Line,
    Own(usize),
    /// A table and a column of it.
    Joined(usize, usize),
}

/// The columns that can be referenced.
pub struct Columns<'a> {
    pub own: &'a [String],
    pub lookups: &'a [Lookup],
    /// By table, why rows cannot be joined with it.
    pub unjoined: &'a [Option<String>],
    /// The tables of which a column is referenced.
    pub used: RefCell<BTreeSet<usize>>,
}

impl<'a> Columns<'a> {
    pub fn of(own: &'a [String]) -> Self {
        Columns { own, lookups: &[], unjoined: &[], used: RefCell::default() }
    }

    /// Resolves a column by its name, `table.column`, or its 1-based number. Error: the available columns, or that the
    /// name is ambiguous.
    pub fn find(&self, name: &str) -> Result<ColumnRef, String> {
        if name == "#" {
            return Ok(ColumnRef::Line);
        }
        if let Some(i) = find_one(self.own, name)? {
            return Ok(ColumnRef::Own(i));
        }
        if let Some((table, column)) = name.split_once('.')
            && let Some(t) = self.lookups.iter().position(|lookup| lookup.name == table)
        {
            if let Some(why) = self.unjoined.get(t).and_then(Option::as_ref) {
                return Err(format!("the table {table} cannot be joined with: {why}"));
            }
            self.used.borrow_mut().insert(t);
            let found =
                find_one(&self.lookups[t].columns, column).map_err(|why| format!("the table {table}: {why}"))?;
            return found.map(|c| ColumnRef::Joined(t, c)).ok_or_else(|| {
                format!("the table {table} has no column {column}; it has {}", list(&self.lookups[t].columns))
            });
        }
        match name.parse::<usize>() {
            Ok(number) if (1..=self.own.len()).contains(&number) => Ok(ColumnRef::Own(number - 1)),
            _ => Err(format!("there is no column {name}; there are {}", list(self.own))),
        }
    }
}

fn list(columns: &[String]) -> String {
    let names = columns.join(", ");
    let hint = if names.contains(char::REPLACEMENT_CHARACTER) { " (these are not UTF-8: set `encoding`)" } else { "" };
    names + hint
}

/// Error: the name is ambiguous.
fn find_one(columns: &[String], name: &str) -> Result<Option<usize>, String> {
    let mut found = columns.iter().enumerate().filter(|(_, column)| *column == name).map(|(i, _)| i);
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => Err(format!("the columns {} and {} are both named {name}", one + 1, other + 1)),
        (found, _) => Ok(found),
    }
}

/// A row with its joined rows.
pub struct Joined<'a> {
    pub row: &'a Row,
    pub lookups: &'a [Lookup],
    /// For each table, the matching row.
    pub found: &'a [Option<usize>],
}

impl Joined<'_> {
    /// The value of a column.
    pub fn value(&self, place: ColumnRef) -> Cow<'_, str> {
        match place {
            ColumnRef::Line => self.row.line.to_string().into(),
            ColumnRef::Own(column) => self.row.field(column).into(),
            ColumnRef::Joined(table, column) => {
                let row = self.found.get(table).copied().flatten();
                row.map_or("", |row| self.lookups[table].value(row, column)).into()
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Value(ColumnRef),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Piece>);

impl Template {
    pub fn parse(text: &str, columns: &Columns<'_>) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(|| format!("a brace in {text:?} is not closed"))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Value(columns.find(name)?));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// Renders the template for a row, trimmed. Empty where all of its columns are, so that a constant prefix alone
    /// does not make an id.
    pub fn fill(&self, joined: &Joined<'_>) -> String {
        let mut text = String::new();
        let (mut has_columns, mut has_values) = (false, false);
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Value(place) => {
                    let before = text.len();
                    text.push_str(&joined.value(*place));
                    has_columns = true;
                    has_values |= text.len() > before;
                }
            }
        }
        if has_columns && !has_values {
            return String::new();
        }
        if text.trim().len() == text.len() { text } else { text.trim().to_owned() }
    }

    /// Whether a row of `len` fields has all referenced columns.
    pub fn is_within(&self, len: usize) -> bool {
        self.0.iter().all(|piece| match piece {
            Piece::Text(_) | Piece::Value(ColumnRef::Line) => true,
            Piece::Value(ColumnRef::Own(column)) => *column < len,
            Piece::Value(ColumnRef::Joined(..)) => false,
        })
    }

    /// [`Template::fill`], or `None` when it is empty.
    pub fn fill_some(&self, joined: &Joined<'_>) -> Option<String> {
        Some(self.fill(joined)).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_two_columns_have_is_none() {
        let own = ["id", "amount", "amount", "3"].map(str::to_owned);
        let columns = Columns::of(&own);
        assert_eq!(columns.find("id"), Ok(ColumnRef::Own(0)));
        assert_eq!(columns.find("amount"), Err("the columns 2 and 3 are both named amount".to_owned()));
        assert_eq!((columns.find("2"), columns.find("3")), (Ok(ColumnRef::Own(1)), Ok(ColumnRef::Own(3))));
    }
}
