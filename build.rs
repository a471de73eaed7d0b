//! Hands the built web app to `src/web.rs`, as a folder that is there, if empty, without `make web` too.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let dist = Path::new("web/dist");
    let out_dir = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let embedded = Path::new(&out_dir).join("web");
    if embedded.exists() {
        fs::remove_dir_all(&embedded)?;
    }
    fs::create_dir(&embedded)?;
    if dist.is_dir() {
        println!("cargo:rerun-if-changed=web/dist");
        copy(dist, &embedded)
    } else {
        // A path that is missing would build everything anew each time.
        println!("cargo:rerun-if-changed=web");
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
