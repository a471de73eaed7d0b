//! The mapping file: the meaning of columns in files. Documented for its authors in `docs/import.md`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ImportError;
use super::check::check;

/// One mapping file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The name of the data source, and prefix of event ids.
    pub name: String,
    /// Lookup tables by name.
    #[serde(default)]
    pub lookups: BTreeMap<String, LookupSpec>,
    /// Read in sequence.
    pub feeds: Vec<FeedSpec>,
}

/// A file and its format.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Relative to the data directory; `-` is standard input.
    pub path: String,
    /// One character, or `blank` for any run of spaces and tabs.
    #[serde(default = "comma")]
    pub separator: String,
    /// One character; empty for none; by default `"`, or none where the separator is `blank`.
    pub quote: Option<String>,
    /// Whether the first line is a header.
    #[serde(default = "yes")]
    pub header: bool,
    /// Column names, where there is no header.
    #[serde(default)]
    pub columns: Vec<String>,
    #[serde(default)]
    pub encoding: Encoding,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Utf8,
    /// The Western European Windows encoding; files labelled Latin-1 mostly are this.
    #[serde(rename = "windows-1252", alias = "latin1")]
    Windows1252,
}

/// A table whose rows are looked up by key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupSpec {
    pub file: FileSpec,
    /// Template over the table's own columns.
    pub key: String,
    /// Template over the feed's columns.
    pub by: String,
}

/// Maps the rows of one file to facts of one kind. Texts are templates, numbers are expressions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedSpec {
    pub name: String,
    pub fact: FactKind,
    pub file: FileSpec,
    /// Rows that do not meet all of these are skipped.
    #[serde(default)]
    pub when: Vec<ConditionSpec>,
    /// The source's id of the order, refund or count.
    pub id: String,
    /// Rows with the same id form one fact; absent means that each row is one.
    pub group: Option<Grouping>,
    pub version: Option<String>,
    pub time: String,
    #[serde(default = "default_formats")]
    pub time_formats: Vec<String>,
    #[serde(default = "utc")]
    pub timezone: String,
    pub organization: Option<String>,
    pub currency: Option<String>,
    pub channel: Option<String>,
    pub region: Option<String>,
    pub customer: Option<String>,
    pub customer_name: Option<String>,
    pub customer_email: Option<String>,
    pub customer_phone: Option<String>,
    pub customer_address: Option<String>,
    /// The refunded order.
    pub order: Option<String>,
    /// Number of visits that a row represents.
    pub count: Option<String>,
    pub amount: Option<String>,
    pub discount: Option<String>,
    /// Whether refunds with only negative amounts are reversals; by default they are rejected.
    #[serde(default)]
    pub reversals: bool,
    /// Amounts are rounded half to even to this many decimals; by default, amounts with more than four are rejected.
    pub round: Option<u32>,
    /// Numbers are written as 1.234,56.
    #[serde(default)]
    pub decimal_comma: bool,
    /// Numbers may have this before or after them.
    pub currency_sign: Option<String>,
    pub line: Option<LineSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FactKind {
    Order,
    Refund,
    Visits,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Grouping {
    /// Rows of a fact are adjacent.
    Adjacent,
    /// Rows of a fact may be anywhere: the whole file is held in memory.
    Anywhere,
}

/// One product of a row's order or refund.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSpec {
    pub product: String,
    pub title: Option<String>,
    pub category: Option<String>,
    /// Defaults to 1.
    pub quantity: Option<String>,
    pub amount: String,
    pub discount: Option<String>,
    pub cost: Option<String>,
}

/// A value and its constraints; all that are given must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSpec {
    pub value: String,
    pub is: Option<String>,
    pub is_not: Option<String>,
    pub starts_with: Option<String>,
    pub starts_not_with: Option<String>,
    pub above: Option<i64>,
    pub below: Option<i64>,
}

impl Mapping {
    /// `place` is the file's name, for messages.
    pub fn parse(text: &str, place: &str) -> Result<Mapping, ImportError> {
        let mapping: Mapping = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            ImportError::new(format!("{place}:{line}"), error.message())
        })?;
        if mapping.name.is_empty() || mapping.name.chars().count() > 60 {
            return Err(ImportError::new(place, "`name` must have 1 to 60 characters"));
        }
        if mapping.feeds.is_empty() {
            return Err(ImportError::new(place, "there is no [[feeds]]"));
        }
        for (i, feed) in mapping.feeds.iter().enumerate() {
            if mapping.feeds[..i].iter().any(|other| other.name == feed.name) {
                return Err(ImportError::new(place, format!("two feeds are named {}", feed.name)));
            }
        }
        check(&mapping).map_err(|what| ImportError::new(place, what))?;
        Ok(mapping)
    }
}

fn comma() -> String {
    ",".into()
}

fn yes() -> bool {
    true
}

fn utc() -> String {
    "UTC".into()
}

pub(super) fn default_formats() -> Vec<String> {
    ["rfc3339", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d"].map(String::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        let text = "name = \"shop\"\n[[feeds]]\nname = \"orders\"\nfact = \"order\"\nid = \"{#}\"\ntime = \"{t}\"\n\
                    chanel = \"web\"\nfile = { path = \"a.csv\" }\n";
        let error = Mapping::parse(text, "shop.toml").expect_err("a typing error").to_string();
        assert!(error.starts_with("shop.toml:7: unknown field `chanel`"), "{error}");
    }
}
