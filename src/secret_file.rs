//! Files with secrets, and who may open them.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{ErrorKind, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Others can read or write the file, or its group can write it. The group may read it, since that is how orchestrators
/// mount secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has mode {0:03o}: others than its owner and group must not read it, nor its group write it (chmod 600 it)")]
pub struct TooOpen(pub u32);

/// Reads a file, which must not be open to others.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    check(&file.metadata()?).map_err(|open| std::io::Error::new(ErrorKind::PermissionDenied, open))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

#[cfg(unix)]
pub fn check(metadata: &Metadata) -> Result<(), TooOpen> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o027 == 0 { Ok(()) } else { Err(TooOpen(mode)) }
}

#[cfg(not(unix))]
pub fn check(_: &Metadata) -> Result<(), TooOpen> {
    Ok(())
}

/// Writes a file atomically, readable by its owner only, or with the owner, group and mode of the file that it replaces.
pub fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = temporary(path, text)?;
    #[cfg(unix)]
    if let Ok(old) = std::fs::metadata(path) {
        use std::os::unix::fs::{MetadataExt, fchown};
        fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
        new.as_file().set_permissions(old.permissions())?;
    }
    new.persist(path)?;
    sync_folder(path)
}

/// Like [`write`], where there is no file yet. Error: of kind `AlreadyExists`, if there is one.
pub fn create(path: &Path, text: &str) -> std::io::Result<()> {
    temporary(path, text)?.persist_noclobber(path)?;
    sync_folder(path)
}

/// Makes an empty file that is open to its owner only, and its folder, unless they exist.
pub fn make(path: &Path) -> std::io::Result<()> {
    let mut folder = DirBuilder::new();
    let mut file = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folder.mode(0o700);
        file.mode(0o600);
    }
    folder.recursive(true).create(folder_of(path))?;
    match file.write(true).create_new(true).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Keeps other processes from changing the files of a folder, as long as they ask for it too and the result lives.
pub fn lock_folder(path: &Path) -> std::io::Result<File> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)?;
    let folder = File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

/// A file beside `path`, readable by its owner only, and removed unless it is persisted.
fn temporary(path: &Path, text: &str) -> std::io::Result<NamedTempFile> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)?;
    let mut file = NamedTempFile::with_prefix_in(".new-", folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// A file that a power failure takes away may have encrypted what it does not take.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(folder_of(path))?.sync_all()?;
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_closed_to_others_and_keeps_its_mode_when_it_is_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/secret.pem");
        let mode = || std::fs::metadata(&path).expect("written").permissions().mode() & 0o777;
        write(&path, "one").expect("written");
        assert_eq!((mode(), read(&path).expect("read")), (0o600, b"one".to_vec()));
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        write(&path, "two").expect("written");
        assert_eq!((mode(), read(&path).expect("read")), (0o640, b"two".to_vec()));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
        let why = read(&path).expect_err("refused").to_string();
        assert!(why.starts_with("has mode 644: others"), "{why}");
    }

    #[test]
    fn an_empty_file_is_closed_to_others_and_what_is_there_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data/sales.db");
        let mode = |path: &Path| std::fs::metadata(path).expect("made").permissions().mode() & 0o777;
        make(&path).expect("made");
        assert_eq!((mode(&path), mode(&folder.path().join("data"))), (0o600, 0o700));
        std::fs::write(&path, "one").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        make(&path).expect("there");
        assert_eq!((mode(&path), std::fs::read(&path).expect("read")), (0o640, b"one".to_vec()));
    }

    #[test]
    fn a_file_that_is_created_is_whole_and_replaces_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let created = std::thread::scope(|scope| {
            let creates = || create(&path, &"x".repeat(100_000)).map_err(|error| error.kind());
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(creates)).collect();
            threads.into_iter().map(|thread| thread.join().expect("ended")).collect::<Vec<_>>()
        });
        assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1, "{created:?}");
        assert!(created.iter().all(|created| matches!(created, Ok(()) | Err(std::io::ErrorKind::AlreadyExists))));
        assert_eq!(read(&path).expect("read").len(), 100_000);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        std::thread::scope(|scope| {
            for text in ["one", "two"] {
                let path = &path;
                scope.spawn(move || (0..20).for_each(|_| write(path, text).expect("written")));
            }
        });
        assert_eq!(read(&path).expect("read").len(), 3);
    }
}
