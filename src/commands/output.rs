//! What commands print. Their work does not depend on it: output that cannot be written stops no command half-way, and
//! is reported at the end.

use std::fmt::Display;
use std::io::{Error, ErrorKind, Write};
use std::sync::OnceLock;

use super::failure::{Exit, Failure};

/// Why nothing more is printed.
static BROKEN: OnceLock<Error> = OnceLock::new();

/// Prints a line.
pub fn line(text: impl Display) {
    if BROKEN.get().is_none()
        && let Err(error) = writeln!(std::io::stdout(), "{text}")
    {
        BROKEN.get_or_init(|| error);
    }
}

/// Prints a line for whoever watches, on the error output.
pub fn note(text: impl Display) {
    // There is nowhere else to say that this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Error: something could not be printed. Whoever closes a pipe has read enough, as in `salespulse schema | head`.
pub fn finish() -> Result<(), Failure> {
    if let Err(error) = std::io::stdout().flush() {
        BROKEN.get_or_init(|| error);
    }
    match BROKEN.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("done, but the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}
