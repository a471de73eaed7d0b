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

/// Writes a file atomically, readable by its owner only.
pub fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
