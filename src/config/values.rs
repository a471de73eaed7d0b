//! Settings as written, a text per name, and their parsing.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{ConfigError, KNOWN};

/// Texts by name; an empty text is the same as a missing one, and selects the default.
pub(super) struct Values<'a>(pub &'a BTreeMap<String, String>);

impl Values<'_> {
    pub fn text(&self, name: &'static str) -> String {
        self.get(name).to_owned()
    }

    /// The configured value, otherwise the default.
    pub fn some(&self, name: &'static str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Error: `why`, if the value does not parse.
    pub fn parse<T: FromStr>(&self, name: &'static str, why: &str) -> Result<T, ConfigError> {
        self.get(name).parse().map_err(|_| ConfigError::bad(name, why))
    }

    /// Like [`Self::parse`], for an optional setting.
    pub fn parse_some<T: FromStr>(&self, name: &'static str, why: &str) -> Result<Option<T>, ConfigError> {
        self.some(name).map(|_| self.parse(name, why)).transpose()
    }

    /// An integer within `range`.
    pub fn number(&self, name: &'static str, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let number = self.get(name).parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            ConfigError::bad(name, format!("must be a number from {} to {}", range.start(), range.end()))
        })
    }

    /// One of two words, of which the first means `true`.
    pub fn one_of(&self, name: &'static str, yes: &str, no: &str) -> Result<bool, ConfigError> {
        match self.get(name) {
            text if text == yes => Ok(true),
            text if text == no => Ok(false),
            _ => Err(ConfigError::bad(name, format!("must be {yes} or {no}"))),
        }
    }

    /// An upper limit; `None` means unlimited.
    pub fn limit(&self, name: &'static str) -> Result<Option<NonZeroU32>, ConfigError> {
        self.parse(name, "must be a number; 0 means no limit").map(NonZeroU32::new)
    }

    /// A comma-separated list.
    pub fn list<T>(
        &self,
        name: &'static str,
        why: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let parts = self.get(name).split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(read).collect::<Option<_>>().ok_or_else(|| ConfigError::bad(name, why))
    }

    /// Error: if `name` is set and `other` is not.
    pub fn needs(&self, name: &'static str, other: &'static str, why: &str) -> Result<(), ConfigError> {
        match (self.some(name), self.some(other)) {
            (Some(_), None) => Err(ConfigError::bad(other, format!("is required by {name}{why}"))),
            _ => Ok(()),
        }
    }

    fn get(&self, name: &'static str) -> &str {
        let default = KNOWN.iter().find(|(known, _)| *known == name).map_or("", |(_, default)| *default);
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty()).unwrap_or(default)
    }
}
