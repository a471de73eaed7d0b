//! Files of rejected rows: line, feed, code, reason and the original row. They are locked before anything is recorded, so
//! that each belongs to one import at a time. Those without rows are removed at the end, as are those of an earlier run.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ImportError;
use super::group::{Defect, RawRow};

#[derive(Default)]
pub struct Rejected {
    reports: BTreeMap<PathBuf, Report>,
}

struct Report {
    path: PathBuf,
    csv: csv::Writer<File>,
    /// What an earlier run wrote is gone.
    has_begun: bool,
    has_rows: bool,
}

impl Rejected {
    /// Locks the files at `paths`, leaving in them what earlier runs wrote. None may be one of `inputs`, the input files.
    pub fn lock(paths: &[PathBuf], inputs: &[PathBuf]) -> Result<Rejected, ImportError> {
        let inputs: Vec<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
        for path in paths {
            if path.canonicalize().is_ok_and(|path| inputs.contains(&path)) {
                let what = "is to be read, and is where refused rows would go (see --rejected)";
                return Err(ImportError::new(path.display().to_string(), what));
            }
        }
        let mut rejected = Rejected::default();
        for path in paths {
            rejected.report(path)?;
        }
        Ok(rejected)
    }

    /// Empties the files.
    pub fn begin(&mut self) -> Result<(), ImportError> {
        self.reports.values_mut().try_for_each(Report::begin)
    }

    pub fn write(
        &mut self,
        path: &Path,
        feed: &str,
        code: &str,
        defect: &Defect,
        rows: &[RawRow],
    ) -> Result<(), ImportError> {
        let report = self.report(path)?;
        report.begin()?;
        report.has_rows = true;
        for row in rows {
            let told = defect.told_at(row.line);
            let written = report.csv.write_record([&row.line.to_string(), feed, code, &told, &row.text]);
            written.map_err(|error| unwritable(path, error))?;
        }
        Ok(())
    }

    /// The report at `path`, locked if it is not yet.
    fn report(&mut self, path: &Path) -> Result<&mut Report, ImportError> {
        if !self.reports.contains_key(path) {
            let csv = csv::Writer::from_writer(open(path).map_err(|error| unwritable(path, error))?);
            let report = Report { path: path.to_owned(), csv, has_begun: false, has_rows: false };
            self.reports.insert(path.to_owned(), report);
        }
        self.reports.get_mut(path).ok_or_else(|| unwritable(path, "it is not open"))
    }

    /// Flushes the files with rows, and returns their paths and any error.
    pub fn finish(self) -> (Vec<PathBuf>, Result<(), ImportError>) {
        let mut paths = Vec::new();
        let mut result = Ok(());
        for (path, mut report) in self.reports {
            if !report.has_rows {
                continue;
            }
            match report.csv.flush() {
                Ok(()) => paths.push(path),
                Err(error) => result = result.and(Err(unwritable(&path, error))),
            }
        }
        (paths, result)
    }
}

impl Report {
    fn begin(&mut self) -> Result<(), ImportError> {
        if self.has_begun {
            return Ok(());
        }
        empty(self.csv.get_ref()).map_err(|error| unwritable(&self.path, error))?;
        self.has_begun = true;
        let header = self.csv.write_record(["line", "feed", "code", "reason", "row"]);
        header.map_err(|error| unwritable(&self.path, error))
    }
}

impl Drop for Report {
    /// Removes the file if it has no rows, neither of this run nor of an earlier one; still locked.
    fn drop(&mut self) {
        let is_empty = || self.csv.get_ref().metadata().is_ok_and(|meta| meta.len() == 0);
        if !self.has_rows && (self.has_begun || is_empty()) {
            // If it cannot be removed, an empty file remains.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn unwritable(path: &Path, why: impl std::fmt::Display) -> ImportError {
    let what = format!("refused rows cannot be written: {why} (see --rejected)");
    ImportError::new(path.display().to_string(), what)
}

/// Opens and locks a file that only its owner can read, since the rows contain personal data.
fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    loop {
        // Such as a link to a file of someone else's.
        if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
            std::fs::remove_file(path)?;
        }
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = match options.open(path) {
            // Somebody else's, in a folder of ours.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && path.exists() => {
                std::fs::remove_file(path)?;
                continue;
            }
            file => file?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(std::io::Error::other("another import reads this file")),
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// Whether the file is still at `path`: another import may have removed it before it was locked.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let file = file.metadata()?;
    Ok(std::fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (file.dev(), file.ino())))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> std::io::Result<bool> {
    Ok(true)
}

/// Empties a file, which an earlier version may have left open to others.
fn empty(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o077 != 0 {
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    file.set_len(0)
}
