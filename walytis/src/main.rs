//! The program `walytis`.

use std::process::ExitCode;

fn main() -> ExitCode {
    walytis::cli::main()
}
