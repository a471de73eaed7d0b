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
    /// `folder` is the target directory; `None` means next to the files.
    pub fn of(mapping: &Mapping, files: &Files, folder: Option<&Path>) -> RejectedPaths {
        let place = |path: &String| files.rejected_path(path, folder);
        let feeds: Vec<&String> = mapping.feeds.iter().map(|feed| &feed.file.path).collect();
        let lookups: Vec<&String> = mapping.lookups.values().map(|lookup| &lookup.file.path).collect();
        let all = || feeds.iter().chain(&lookups).copied();
        RejectedPaths {
            to_make: all().filter(|path| !files.embedded.contains_key(*path)).map(place).collect(),
            inputs: all().map(|path| files.path(path)).collect(),
            lookups: lookups.iter().map(|path| (!feeds.contains(path)).then(|| place(path))).collect(),
            feeds: feeds.into_iter().map(place).collect(),
        }
    }
}
