//! Files with secrets, and who may open them.

use std::fs::{File, Metadata};
use std::io::Write;
use std::path::Path;

/// Others can read or write the file, or its group can write it. The group may read it, since that is how orchestrators
/// mount secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has mode {0:03o}: others than its owner and group must not read it, nor its group write it (chmod 600 it)")]
pub struct TooOpen(pub u32);

/// Reads a file, which must not be open to others.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    check(&file.metadata()?).map_err(|open| std::io::Error::new(std::io::ErrorKind::PermissionDenied, open))?;
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
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    // Left by a run that was killed, perhaps with another mode.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    #[cfg(unix)]
    if let Ok(old) = std::fs::metadata(path) {
        use std::os::unix::fs::{MetadataExt, fchown};
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(old.permissions())?;
    }
    file.sync_all()?;
    std::fs::rename(new, path)
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
        // Left by a run that was killed.
        std::fs::write(path.with_extension("new"), "half").expect("written");
        write(&path, "two").expect("written");
        assert_eq!((mode(), read(&path).expect("read")), (0o640, b"two".to_vec()));
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
        let why = read(&path).expect_err("refused").to_string();
        assert!(why.starts_with("has mode 644: others"), "{why}");
    }
}
