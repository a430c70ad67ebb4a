//! The `trigsync` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    trigsync::cli::main()
}
