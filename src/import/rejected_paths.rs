//! Paths of rejected-row files.

use std::path::{Path, PathBuf};

use super::mapping::Mapping;
use super::source::Files;

/// Paths of rejected-row files.
pub struct RejectedPaths {
    /// By feed.
    pub feeds: Vec<PathBuf>,
    /// By table, in name order; `None` where a feed reads the same file and reports its rejected rows.
    pub lookups: Vec<Option<PathBuf>>,
    /// Those created before anything is read; files embedded in the program rarely have rejected rows.
    pub to_make: Vec<PathBuf>,
    /// The input files.
    pub inputs: Vec<PathBuf>,
}

impl RejectedPaths {
    /// `folder` is the target directory; `None` means next to the files. A file with several names has the path of the
    /// first one.
    pub fn of(mapping: &Mapping, files: &Files, folder: Option<&Path>) -> RejectedPaths {
        let feeds: Vec<&String> = mapping.feeds.iter().map(|feed| &feed.file.path).collect();
        let lookups: Vec<&String> = mapping.lookups.values().map(|lookup| &lookup.file.path).collect();
        let all = || feeds.iter().chain(&lookups).copied();
        let is_same = |one: &str, other: &str| files.identity(one) == files.identity(other);
        let place = |path: &String| {
            let first = all().find(|first| is_same(first, path)).unwrap_or(path);
            files.rejected_path(first, folder)
        };
        let is_of_feed = |path: &String| feeds.iter().any(|feed| is_same(feed, path));
        RejectedPaths {
            to_make: all().filter(|path| !files.embedded.contains_key(*path)).map(place).collect(),
            inputs: all().map(|path| files.path(path)).collect(),
            lookups: lookups.iter().map(|path| (!is_of_feed(path)).then(|| place(path))).collect(),
            feeds: feeds.iter().copied().map(place).collect(),
        }
    }
}
