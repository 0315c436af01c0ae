//! End-to-end stories, each told on machines of its own. `sudo tests/run` builds what they need and runs them all;
//! `sudo -E cargo test -p dagger-tests --test e2e -- WORD` runs some.

mod machine;

use dagger_tests::harness;

fn main() -> std::process::ExitCode {
    let stories = [machine::STORIES].concat();
    harness::main(&stories)
}
