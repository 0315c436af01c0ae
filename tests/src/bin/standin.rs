//! Stands in for the suite's applications in tests: see [`dagger_tests::standin`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    dagger_tests::standin::run(&words)
}
