//! The program; what it can do stands in [`salespulse::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    salespulse::cli::main()
}
