//! Input sources: files, plain or compressed, or embedded in the program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::ImportError;

const BUFFER_BYTES: usize = 128 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Resolves the files that a mapping names.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pub folder: PathBuf,
    /// Embedded files, by the path that a mapping names.
    pub embedded: BTreeMap<String, &'static [u8]>,
}

/// An open file.
pub struct Source {
    pub input: Box<dyn BufRead + Send>,
    /// Its name in messages.
    pub place: String,
}

impl Files {
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Files { folder: folder.into(), embedded: BTreeMap::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same for all names of a file.
    pub fn identity(&self, name: &str) -> PathBuf {
        if is_stdin(name) {
            return "-".into();
        }
        let path = self.path(name);
        if self.embedded.contains_key(name) { path } else { path.canonicalize().unwrap_or(path) }
    }

    /// Opens a file, decompressing gzip; `read_bytes` counts the bytes read from disk.
    pub fn open(&self, name: &str, read_bytes: Arc<AtomicU64>) -> Result<Source, ImportError> {
        let place = if is_stdin(name) { "the standard input".into() } else { self.path(name).display().to_string() };
        let unreadable = |error: std::io::Error| ImportError::new(&place, format!("cannot be read: {error}"));
        let raw: Box<dyn Read + Send> = match self.embedded.get(name) {
            Some(bytes) => Box::new(Cursor::new(*bytes)),
            None if is_stdin(name) => Box::new(std::io::stdin()),
            None => Box::new(File::open(self.path(name)).map_err(unreadable)?),
        };
        let input = decompressed(Counting { inner: raw, read_bytes }).map_err(unreadable)?;
        Ok(Source { input, place })
    }

    /// The size of a file on disk; 0 when unknown.
    pub fn size(&self, name: &str) -> u64 {
        match self.embedded.get(name) {
            Some(bytes) => bytes.len() as u64,
            None => std::fs::metadata(self.path(name)).map_or(0, |meta| meta.len()),
        }
    }

    /// Where the rejected rows of a file are written: next to it, or into `folder`, keeping the mapping's
    /// subdirectories.
    pub fn rejected_path(&self, name: &str, folder: Option<&Path>) -> PathBuf {
        if is_stdin(name) {
            return folder.unwrap_or(Path::new("")).join("stdin.rejected.csv");
        }
        let path = folder.map_or_else(|| self.path(name), |folder| folder.join(below(name)));
        let mut file = path.file_name().unwrap_or_default().to_os_string();
        file.push(".rejected.csv");
        path.with_file_name(file)
    }
}

/// What is in `raw`, gzipped or not.
fn decompressed(mut raw: impl Read + Send + 'static) -> std::io::Result<Box<dyn BufRead + Send>> {
    // A pipe may give the first bytes one by one.
    let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
    raw.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic)?;
    let is_gzip = magic == GZIP_MAGIC;
    let input = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(raw));
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input)))
    } else {
        Box::new(input)
    })
}

/// Whether a mapping's path denotes standard input.
pub fn is_stdin(name: &str) -> bool {
    name == "-" || name == "/dev/stdin"
}

/// The path without components that would leave the directory.
fn below(name: &str) -> PathBuf {
    let part = |component| match component {
        Component::Normal(part) => Some(part),
        Component::ParentDir => Some("_".as_ref()),
        _ => None,
    };
    Path::new(name).components().filter_map(part).collect()
}

struct Counting<R> {
    inner: R,
    read_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read_bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[test]
    fn gzip_is_known_however_it_arrives() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, b"id,time\n").expect("compressed");
        for (bytes, text) in [(gzip.finish().expect("compressed"), "id,time\n"), (b"i".to_vec(), "i"), (vec![], "")] {
            let mut read = String::new();
            decompressed(Slow(Cursor::new(bytes))).expect("open").read_to_string(&mut read).expect("text");
            assert_eq!(read, text);
        }
    }

    #[test]
    fn refused_rows_of_files_named_alike_do_not_meet() {
        let files = Files::in_folder("/data");
        let beside = |name| files.rejected_path(name, None).display().to_string();
        let into = |name| files.rejected_path(name, Some(Path::new("out"))).display().to_string();
        assert_eq!(beside("a/o.csv"), "/data/a/o.csv.rejected.csv");
        assert_eq!(beside("-"), "stdin.rejected.csv");
        assert_eq!(into("/dev/stdin"), "out/stdin.rejected.csv");
        assert_eq!(into("./a/o.csv"), "out/a/o.csv.rejected.csv");
        assert_eq!(into("/srv/b/o.csv"), "out/srv/b/o.csv.rejected.csv");
        assert_eq!(into("../o.csv"), "out/_/o.csv.rejected.csv");
    }
}
