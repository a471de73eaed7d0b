//! The executable; its commands are defined in [`salespulse::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    salespulse::cli::main()
}
