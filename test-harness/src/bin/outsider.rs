//! A hostile bare peer: `outsider forge-token | probe | scan`; see `test_harness::outsider`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ExitCode::from(test_harness::outsider::run(&arguments, &mut std::io::stdout(), &mut std::io::stderr()))
}
