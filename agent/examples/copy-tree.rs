//! `copy-tree copy|refresh [--no-share] FROM TO LIST`: a whole tree, copied or brought up to date. LIST is what the copy
//! holds. `tests/bench` measures it beside cp(1) and rsync(1); the jobs do the same with a service's state.

use std::path::Path;
use std::process::ExitCode;

use dagger_agent::adapter::tree::{self, Manifest, Options, Progress, Report, Tree, TreeError};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (options, words): (Vec<&str>, Vec<&str>) = words
        .iter()
        .map(String::as_str)
        .partition(|word| word.starts_with("--"));
    let options = Options {
        share: options != ["--no-share"],
        ..Options::default()
    };
    let [verb, from, to, list] = words.as_slice() else {
        eprintln!("usage: copy-tree copy|refresh [--no-share] FROM TO LIST");
        return ExitCode::from(2);
    };
    match run(verb, Path::new(from), Path::new(to), Path::new(list), &options) {
        Ok(report) => {
            println!(
                "made {} ({} shared), kept {}, removed {}, changed {}",
                report.made, report.shared, report.kept, report.removed, report.changed.count
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("copy-tree: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &str, from: &Path, to: &Path, list: &Path, options: &Options) -> Result<Report, TreeError> {
    let (from, progress) = (Tree::open(from)?, Progress::default());
    let (manifest, report) = if verb == "refresh" {
        let manifest = Manifest::read(list)?.ok_or_else(|| TreeError::Missing(list.to_owned()))?;
        tree::refresh(&from, &Tree::open(to)?, &manifest, options, &progress)?
    } else {
        tree::copy(&from, &Tree::open(to)?, options, &progress)?
    };
    manifest.write(list)?;
    Ok(report)
}
