//! Files of rejected rows: line, feed, code, reason and the original row. They are created before anything is recorded;
//! those without rows are removed at the end, as are those of an earlier run.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::ImportError;
use super::group::{Defect, RawRow};

#[derive(Default)]
pub struct Rejected {
    writers: BTreeMap<PathBuf, Writer>,
}

struct Writer {
    csv: csv::Writer<File>,
    has_rows: bool,
}

impl Rejected {
    /// Creates the files at `paths`, replacing those of earlier runs. None may overwrite one of `inputs`, the input
    /// files.
    pub fn begin(paths: &[PathBuf], inputs: &[PathBuf]) -> Result<Rejected, ImportError> {
        let inputs: Vec<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
        for path in paths {
            if path.canonicalize().is_ok_and(|path| inputs.contains(&path)) {
                let what = "is to be read, and is where refused rows would go (see --rejected)";
                return Err(ImportError::new(path.display().to_string(), what));
            }
        }
        let mut rejected = Rejected::default();
        for path in paths {
            if let Err(error) = rejected.writer(path) {
                // The files created so far are empty, and are removed.
                let _ = rejected.finish();
                return Err(error);
            }
        }
        Ok(rejected)
    }

    pub fn write(
        &mut self,
        path: &Path,
        feed: &str,
        code: &str,
        defect: &Defect,
        rows: &[RawRow],
    ) -> Result<(), ImportError> {
        let writer = self.writer(path)?;
        writer.has_rows = true;
        for row in rows {
            let told = defect.told_at(row.line);
            writer
                .csv
                .write_record([&row.line.to_string(), feed, code, &told, &row.text])
                .map_err(|error| unwritable(path, error))?;
        }
        Ok(())
    }

    /// The writer of the file at `path`, created if necessary.
    fn writer(&mut self, path: &Path) -> Result<&mut Writer, ImportError> {
        if !self.writers.contains_key(path) {
            let mut csv = csv::Writer::from_writer(create(path).map_err(|error| unwritable(path, error))?);
            csv.write_record(["line", "feed", "code", "reason", "row"]).map_err(|error| unwritable(path, error))?;
            self.writers.insert(path.to_owned(), Writer { csv, has_rows: false });
        }
        self.writers.get_mut(path).ok_or_else(|| unwritable(path, "it is not open"))
    }

    /// Flushes all files and removes empty ones; returns the remaining files, and any error.
    pub fn finish(self) -> (Vec<PathBuf>, Result<(), ImportError>) {
        let mut paths = Vec::new();
        let mut result = Ok(());
        for (path, Writer { mut csv, has_rows }) in self.writers {
            if !has_rows {
                drop(csv);
                // If it cannot be removed, an empty file remains.
                let _ = std::fs::remove_file(&path);
                continue;
            }
            match csv.flush() {
                Ok(()) => paths.push(path),
                Err(error) => result = result.and(Err(unwritable(&path, error))),
            }
        }
        (paths, result)
    }
}

fn unwritable(path: &Path, why: impl std::fmt::Display) -> ImportError {
    let what = format!("refused rows cannot be written: {why} (see --rejected)");
    ImportError::new(path.display().to_string(), what)
}

/// Creates a file that only its owner can read: the rows contain personal data.
fn create(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
