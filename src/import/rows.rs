//! Rows of delimiter-separated values. Each keeps its line number and its text, for rejection reports.
//!
//! Fields may be quoted; a quote within is doubled, and a quoted field may contain separators and line ends. An
//! unterminated quote ends the reading: row boundaries after it cannot be determined.

use std::io::{BufRead, ErrorKind, Read};

use super::ImportError;
use super::mapping::{Encoding, FileSpec};
use super::source::Source;

/// Maximum length of a row, so that an unterminated quote does not swallow the file.
const ROW_BYTES_MAX: usize = 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The number of its first line, 1-based.
    pub line: u64,
    /// The text as in the file.
    pub raw: String,
    /// What is malformed about it.
    pub defect: Option<String>,
    text: String,
    ends: Vec<usize>,
}

impl Row {
    /// A field, trimmed.
    pub fn field(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1).copied().unwrap_or(self.text.len()) };
        let end = self.ends.get(index).copied().unwrap_or(self.text.len());
        self.text[start..end].trim()
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Why its fields cannot be trusted, given the number `expected`.
    pub fn flaw(&self, expected: usize) -> Option<String> {
        let count = || (self.len() != expected).then(|| format!("has {} columns and not {expected}", self.len()));
        self.defect.clone().or_else(count)
    }

    pub fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|i| self.field(i))
    }
}

#[derive(Clone, Copy)]
enum Separator {
    Blank,
    Char(char),
}

/// Reader of rows.
pub struct Rows {
    input: Box<dyn BufRead + Send>,
    pub place: String,
    separator: Separator,
    quote: Option<char>,
    encoding: Encoding,
    line: u64,
    /// Number of columns per row, if stated by a header or the mapping.
    pub columns: Option<usize>,
}

/// Parser state of a row between two of its lines.
#[derive(Default)]
struct Partial {
    row: Row,
    is_quoted: bool,
}

impl Rows {
    pub fn new(source: Source, spec: &FileSpec) -> Result<Self, ImportError> {
        let one_char = |name: &str, text: &str| {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(c),
                _ => Err(ImportError::new(&source.place, format!("`{name}` must be one character"))),
            }
        };
        let separator = match spec.separator.as_str() {
            "blank" => Separator::Blank,
            text => Separator::Char(one_char("separator", text)?),
        };
        let quote = match spec.quote.as_deref() {
            Some("") => None,
            Some(text) => Some(one_char("quote", text)?),
            None => Some('"'),
        };
        Ok(Rows {
            input: source.input,
            place: source.place,
            separator,
            quote,
            encoding: spec.encoding,
            line: 0,
            columns: None,
        })
    }

    /// Number of columns per row, when the first one has `first`.
    pub fn columns_count(&self, first: usize) -> usize {
        self.columns.unwrap_or(first)
    }

    /// The next non-empty row. An error states the line at which reading ends.
    pub fn next(&mut self) -> Result<Option<Row>, ImportError> {
        let mut partial = Partial::default();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let longest = ROW_BYTES_MAX as u64 + 1;
            let read = Read::take(&mut self.input, longest).read_until(b'\n', &mut bytes);
            let n = read.map_err(|error| self.broken(&error))?;
            if self.line == 0
                && let Some(what) = self.no_text(&bytes)
            {
                return Err(ImportError::new(&self.place, what));
            }
            if n > ROW_BYTES_MAX && !bytes.ends_with(b"\n") {
                return Err(self.error(self.line + 1, "a line is longer than 1 MiB"));
            }
            if n == 0 {
                return match partial.is_quoted {
                    true => Err(self.error(partial.row.line, "a quote is opened here and never closed")),
                    false => Ok(None),
                };
            }
            self.line += 1;
            if self.line == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
                bytes.drain(..BYTE_ORDER_MARK.len());
            }
            if partial.row.line == 0 {
                partial.row.line = self.line;
            }
            let text = decode(&bytes, self.encoding, &mut partial.row.defect);
            if !partial.is_quoted && text.trim().is_empty() {
                partial.row.line = 0;
                continue;
            }
            partial.row.raw.push_str(&text);
            self.split(&text, &mut partial);
            if !partial.is_quoted {
                let mut row = partial.row;
                row.raw.truncate(row.raw.trim_end_matches(['\r', '\n']).len());
                return Ok(Some(row));
            }
            if partial.row.raw.len() > ROW_BYTES_MAX {
                return Err(self.error(partial.row.line, "a quote is opened here and not closed within 1 MiB"));
            }
        }
    }

    /// Splits one line into fields; the last one stays open where a quoted line end follows.
    fn split(&self, line: &str, partial: &mut Partial) {
        let Partial { row, is_quoted } = partial;
        let Separator::Char(separator) = self.separator else {
            for field in line.split_ascii_whitespace() {
                row.text.push_str(field);
                row.ends.push(row.text.len());
            }
            return;
        };
        let mut rest = line;
        loop {
            if !*is_quoted && let Some(inner) = self.open_quote(rest, separator) {
                *is_quoted = true;
                rest = inner;
            }
            if *is_quoted {
                let Some(after) = self.take_quoted(rest, &mut row.text) else { return };
                *is_quoted = false;
                rest = skip_blanks(after, separator).trim_end_matches(['\r', '\n']);
                if !rest.is_empty() && !rest.starts_with(separator) {
                    row.defect.get_or_insert_with(|| "a quote within a quoted field is not doubled".into());
                }
            }
            let (field, after) = match rest.split_once(separator) {
                Some((field, after)) => (field, Some(after)),
                None => (rest.trim_end_matches(['\r', '\n']), None),
            };
            row.text.push_str(field);
            row.ends.push(row.text.len());
            match after {
                Some(after) => rest = after,
                None => return,
            }
        }
    }

    /// What follows an opening quote. Blanks may precede it if the quote that closes it ends the field: `5, "web"`.
    fn open_quote<'a>(&self, rest: &'a str, separator: char) -> Option<&'a str> {
        let quote = self.quote?;
        if let Some(inner) = rest.strip_prefix(quote) {
            return Some(inner);
        }
        let inner = skip_blanks(rest, separator).strip_prefix(quote)?;
        let after = skip_blanks(self.take_quoted(inner, &mut String::new())?, separator);
        (after.starts_with([separator, '\r', '\n']) || after.is_empty()).then_some(inner)
    }

    /// Consumes a quoted field up to its closing quote; returns the rest, or `None` when the line ends before.
    fn take_quoted<'a>(&self, mut rest: &'a str, out: &mut String) -> Option<&'a str> {
        let quote = self.quote?;
        loop {
            let Some((inner, after)) = rest.split_once(quote) else {
                out.push_str(rest);
                return None;
            };
            out.push_str(inner);
            let Some(doubled) = after.strip_prefix(quote) else { return Some(after) };
            out.push(quote);
            rest = doubled;
        }
    }

    /// Why a file that begins with `bytes` is not delimiter-separated text.
    fn no_text(&self, bytes: &[u8]) -> Option<&'static str> {
        let is_separator = |b: u8| matches!(self.separator, Separator::Char(c) if c == char::from(b));
        let is_strange = |b: u8| b.is_ascii_control() && !matches!(b, b'\t' | b'\r' | b'\n') && !is_separator(b);
        let line = bytes.trim_ascii_end();
        match bytes {
            [b'P', b'K', 3, 4, ..] => Some("is a zip archive or a spreadsheet (unpack it, or save it as CSV)"),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => Some("is UTF-16 (save it as UTF-8)"),
            _ if bytes.iter().any(|b| is_strange(*b)) => Some("is not text"),
            _ if line.contains(&b'\r') => Some("its lines end with CR alone (save it with LF or CRLF)"),
            _ => None,
        }
    }

    fn broken(&self, error: &std::io::Error) -> ImportError {
        let what = match error.kind() {
            ErrorKind::UnexpectedEof => "the compressed data ends in the middle; the file was cut off".to_owned(),
            _ => format!("cannot be read any further: {error}"),
        };
        self.error(self.line + 1, &what)
    }

    fn error(&self, line: u64, what: &str) -> ImportError {
        ImportError::new(format!("{}:{line}", self.place), what)
    }
}

fn skip_blanks(text: &str, separator: char) -> &str {
    text.trim_start_matches(|c| c != separator && matches!(c, ' ' | '\t'))
}

fn decode(bytes: &[u8], encoding: Encoding, defect: &mut Option<String>) -> String {
    match encoding {
        Encoding::Windows1252 => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
        Encoding::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                defect.get_or_insert_with(|| "is not UTF-8 (set `encoding`)".into());
                String::from_utf8_lossy(bytes).into_owned()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Line, fields and defect.
    type Read = (u64, Vec<String>, Option<String>);

    fn rows(text: &str, options: &str) -> Result<Vec<Read>, String> {
        let spec: FileSpec = toml::from_str(&format!("path = \"a.csv\"\n{options}")).expect("a specification");
        let source = Source { input: Box::new(Cursor::new(text.as_bytes().to_vec())), place: "a.csv".into() };
        let mut rows = Rows::new(source, &spec).map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        while let Some(row) = rows.next().map_err(|e| e.to_string())? {
            all.push((row.line, row.fields().map(str::to_owned).collect(), row.defect.clone()));
        }
        Ok(all)
    }

    fn fields(text: &str, options: &str) -> Vec<Vec<String>> {
        rows(text, options).expect("readable").into_iter().map(|(_, fields, _)| fields).collect()
    }

    #[test]
    fn quotes_hold_separators_quotes_and_lines() {
        let text = "\u{feff}a,\"b, \"\"c\"\"\nd\",\r\n\n12\" ruler,,x";
        assert_eq!(
            rows(text, "").expect("readable"),
            [
                (1, vec!["a".into(), "b, \"c\"\nd".into(), String::new()], None),
                (4, vec!["12\" ruler".into(), String::new(), "x".into()], None)
            ]
        );
    }

    #[test]
    fn blanks_may_surround_quotes() {
        assert_eq!(fields("5, \"web, or\t\" ,\"x\" \n", ""), [["5", "web, or", "x"]]);
        assert_eq!(fields("5\t\t \"web\" \t\"x\"\n", "separator = \"\\t\""), [["5", "", "web", "x"]]);
        // These quotes belong to the text.
        assert_eq!(fields("5, \"big\" box, \"x\n", ""), [["5", "\"big\" box", "\"x"]]);
    }

    #[test]
    fn other_separators_and_quotes_are_read() {
        assert_eq!(fields(" 1  2\t3\r\n", "separator = \"blank\""), [["1", "2", "3"]]);
        assert_eq!(fields("1;'a;b'\n", "separator = \";\"\nquote = \"'\""), [["1", "a;b"]]);
        assert_eq!(fields("\"a\n", "quote = \"\""), [["\"a"]]);
    }

    #[test]
    fn what_is_no_text_of_lines_is_told() {
        for (text, what) in [
            ("PK\u{3}\u{4}rest", "zip archive"),
            ("i\0d\0", "UTF-16"),
            ("id\u{1}amount\n", "is not text"),
            ("id,amount\ra,1\rb,2\r", "CR alone"),
        ] {
            let error = rows(text, "").expect_err(text);
            assert!(error.starts_with("a.csv: ") && error.contains(what), "{error}");
        }
        assert_eq!(fields("a\u{1}b\n", "separator = \"\\u0001\""), [["a", "b"]]);
        assert_eq!(fields("a,b\r\r\n1,2\r\n", ""), [["a", "b"], ["1", "2"]]);
    }

    #[test]
    fn what_windows_writes_is_read() {
        let spec: FileSpec = toml::from_str("path = \"a.csv\"\nencoding = \"windows-1252\"").expect("a specification");
        let source = Source { input: Box::new(Cursor::new(b"caf\xe9,5 \x80\n".to_vec())), place: "a.csv".into() };
        let row = Rows::new(source, &spec).and_then(|mut rows| rows.next()).expect("readable").expect("a row");
        assert_eq!(row.fields().collect::<Vec<_>>(), ["café", "5 €"]);
    }

    #[test]
    fn broken_quotes_are_told_with_their_line() {
        let (_, _, defect) = rows("\"a\"b,c\n", "").expect("readable").remove(0);
        assert!(defect.is_some_and(|defect| defect.contains("not doubled")));
        let error = rows("a\nb\n\"c\nd\n", "").expect_err("never closed");
        assert_eq!(error, "a.csv:3: a quote is opened here and never closed");
    }
}
