//! The mapping file: which columns of which files are what. `docs/import.md` describes it for its writers.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ImportError;
use super::check::check;

/// One mapping file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The name of the data source; ids of events begin with it.
    pub name: String,
    /// Tables that rows of feeds are joined with, by name.
    #[serde(default)]
    pub lookups: BTreeMap<String, LookupSpec>,
    /// Read one after the other.
    pub feeds: Vec<FeedSpec>,
}

/// A file and how its rows are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Relative to the folder of the data; `-` is the standard input.
    pub path: String,
    /// One character, or `blank` for any number of blanks and tabs.
    #[serde(default = "comma")]
    pub separator: String,
    /// One character; empty for none.
    #[serde(default = "double_quote")]
    pub quote: String,
    /// Whether the first line names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// Names of the columns where there is no header.
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
    /// What Windows writes in western Europe; what calls itself Latin-1 mostly is this.
    #[serde(rename = "windows-1252", alias = "latin1")]
    Windows1252,
}

/// A table whose rows are found by a key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupSpec {
    pub file: FileSpec,
    /// Of the table's own columns.
    pub key: String,
    /// The same of the feed's columns.
    pub by: String,
}

/// Rows of one file as facts of one kind. Texts are templates, numbers are expressions.
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
    /// Rows with the same id make one fact; absent means that each row is one.
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
    /// The order that a refund is of.
    pub order: Option<String>,
    /// How many visits a row stands for.
    pub count: Option<String>,
    pub amount: Option<String>,
    pub discount: Option<String>,
    /// Refunds whose amounts are all negative are refunds taken back; absent means that they are refused.
    #[serde(default)]
    pub reversals: bool,
    /// Amounts are rounded half to even to this many decimals; absent means that more than four are refused.
    pub round: Option<u32>,
    /// Numbers are written as 1.234,56.
    #[serde(default)]
    pub decimal_comma: bool,
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
    /// Rows of one fact follow each other.
    Adjacent,
    /// They may stand anywhere: the whole file is held in memory.
    Anywhere,
}

/// What a row says of one product of its order or refund.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineSpec {
    pub product: String,
    pub title: Option<String>,
    pub category: Option<String>,
    /// 1 when absent.
    pub quantity: Option<String>,
    pub amount: String,
    pub discount: Option<String>,
    pub cost: Option<String>,
}

/// A value and what it must be; all that are given must hold.
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

fn double_quote() -> String {
    "\"".into()
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
