//! Where refused rows go.

use std::path::{Path, PathBuf};

use super::mapping::Mapping;
use super::source::Files;

/// Paths of files of refused rows.
pub struct Places {
    /// By feed.
    pub feeds: Vec<PathBuf>,
    /// By table, in the order of their names; `None` where a feed reads the same file and refuses its rows.
    pub lookups: Vec<Option<PathBuf>>,
    /// Those that are made before anything is read; of files within the program there is seldom something to refuse.
    pub to_make: Vec<PathBuf>,
    /// What is read.
    pub inputs: Vec<PathBuf>,
}

impl Places {
    /// `folder` is where they are to go; `None` means beside the files.
    pub fn of(mapping: &Mapping, files: &Files, folder: Option<&Path>) -> Places {
        let place = |path: &String| files.rejected_path(path, folder);
        let feeds: Vec<&String> = mapping.feeds.iter().map(|feed| &feed.file.path).collect();
        let lookups: Vec<&String> = mapping.lookups.values().map(|lookup| &lookup.file.path).collect();
        let all = || feeds.iter().chain(&lookups).copied();
        Places {
            to_make: all().filter(|path| !files.embedded.contains_key(*path)).map(place).collect(),
            inputs: all().map(|path| files.path(path)).collect(),
            lookups: lookups.iter().map(|path| (!feeds.contains(path)).then(|| place(path))).collect(),
            feeds: feeds.into_iter().map(place).collect(),
        }
    }
}
