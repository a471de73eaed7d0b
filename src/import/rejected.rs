//! Files of refused rows: line, feed, code, reason and the row as it stood. Made when there is one;
//! those of an earlier run are removed.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::ImportError;
use super::read::RawRow;

#[derive(Default)]
pub struct Rejected {
    writers: HashMap<PathBuf, csv::Writer<File>>,
}

impl Rejected {
    /// Removes what earlier runs left at `paths`, so that a file that is there is of this run.
    pub fn begin(paths: &[PathBuf]) -> Result<Rejected, ImportError> {
        for path in paths {
            if let Err(error) = std::fs::remove_file(path)
                && path.exists()
            {
                return Err(ImportError::new(path.display().to_string(), format!("cannot be removed: {error}")));
            }
        }
        Ok(Rejected::default())
    }

    pub fn write(
        &mut self,
        path: &Path,
        feed: &str,
        code: &str,
        reason: &str,
        rows: &[RawRow],
    ) -> Result<(), ImportError> {
        let failed =
            |error: csv::Error| ImportError::new(path.display().to_string(), format!("cannot be written: {error}"));
        if !self.writers.contains_key(path) {
            let mut writer = csv::Writer::from_writer(create(path).map_err(|error| failed(error.into()))?);
            writer.write_record(["line", "feed", "code", "reason", "row"]).map_err(failed)?;
            self.writers.insert(path.to_owned(), writer);
        }
        let Some(writer) = self.writers.get_mut(path) else { return Ok(()) };
        for row in rows {
            writer.write_record([&row.line.to_string(), feed, code, reason, &row.text]).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes what is still to be written; gives the files.
    pub fn finish(self) -> Result<Vec<PathBuf>, ImportError> {
        let mut paths = Vec::new();
        for (path, mut writer) in self.writers {
            let place = path.display().to_string();
            writer.flush().map_err(|error| ImportError::new(place, format!("cannot be written: {error}")))?;
            paths.push(path);
        }
        paths.sort();
        Ok(paths)
    }
}

/// Makes a file that only its owner can read: there are people in its rows.
fn create(path: &Path) -> std::io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
