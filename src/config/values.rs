//! Settings as they are written: a text for each name, and what it is read as.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{ConfigError, KNOWN};

/// Names and texts; an empty text is the same as none, and stands for the default.
pub(super) struct Values<'a>(pub &'a BTreeMap<String, String>);

impl Values<'_> {
    pub fn text(&self, name: &'static str) -> String {
        self.get(name).to_owned()
    }

    /// What is set, or is so by default.
    pub fn some(&self, name: &'static str) -> Option<String> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// Error: `why`, where it is none of those.
    pub fn parse<T: FromStr>(&self, name: &'static str, why: &str) -> Result<T, ConfigError> {
        self.get(name).parse().map_err(|_| ConfigError::bad(name, why))
    }

    /// The same where it may be absent.
    pub fn parse_some<T: FromStr>(&self, name: &'static str, why: &str) -> Result<Option<T>, ConfigError> {
        self.some(name).map(|_| self.parse(name, why)).transpose()
    }

    /// A whole number that is not beyond `range`.
    pub fn number(&self, name: &'static str, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let number = self.get(name).parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            ConfigError::bad(name, format!("must be a number from {} to {}", range.start(), range.end()))
        })
    }

    /// Which of two words it is: the first is `true`.
    pub fn one_of(&self, name: &'static str, yes: &str, no: &str) -> Result<bool, ConfigError> {
        match self.get(name) {
            text if text == yes => Ok(true),
            text if text == no => Ok(false),
            _ => Err(ConfigError::bad(name, format!("must be {yes} or {no}"))),
        }
    }

    /// At most so many; `None` without a limit.
    pub fn limit(&self, name: &'static str) -> Result<Option<NonZeroU32>, ConfigError> {
        self.parse(name, "must be a number; 0 is no limit").map(NonZeroU32::new)
    }

    /// What stands between commas.
    pub fn list<T>(
        &self,
        name: &'static str,
        why: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let parts = self.get(name).split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(read).collect::<Option<_>>().ok_or_else(|| ConfigError::bad(name, why))
    }

    /// Error: `why`, where `name` is set and `other` is not.
    pub fn needs(&self, name: &'static str, other: &'static str, why: &str) -> Result<(), ConfigError> {
        match (self.some(name), self.some(other)) {
            (Some(_), None) => Err(ConfigError::bad(other, format!("goes with {name}{why}"))),
            _ => Ok(()),
        }
    }

    fn get(&self, name: &'static str) -> &str {
        let default = KNOWN.iter().find(|(known, _)| *known == name).map_or("", |(_, default)| *default);
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty()).unwrap_or(default)
    }
}
