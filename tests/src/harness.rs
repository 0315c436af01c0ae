//! Runs stories: three at a time, as they wait more than they work, each on machines of its own, with a line for each and a sum at the end.
//!
//! It speaks the part of libtest's language that matters: words filter by substring, `--skip WORD` leaves out, `--exact`,
//! `--list`, `--test-threads N`, and the last line is `test result: ...`, so `cargo test --test e2e -- WORD` works.

use crate::rig::{Suite, host, sweep};
use crate::suite::Ground;
use anyhow::Result;
use dagger_suite::diagnostic::nearest;
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many are told at a time, on two processors.
const THREADS: usize = 3;

/// So many names are proposed at most.
const NEAR: usize = 4;

/// A user's story: what somebody does and what they have to see.
#[derive(Clone, Copy)]
pub struct Story {
    /// Its name, in words joined by underscores.
    pub name: &'static str,
    /// The releases that it is told on.
    pub on: &'static [Suite],
    /// Tells it.
    pub run: fn(&Ground) -> Result<()>,
}

/// The newest release only.
pub const TRIXIE: &[Suite] = &[Suite::Trixie];
/// Both releases.
pub const BOTH: &[Suite] = &[Suite::Trixie, Suite::Bookworm];

/// A story on one release.
#[derive(Clone)]
struct Case {
    name: String,
    suite: Suite,
    run: fn(&Ground) -> Result<()>,
}

#[derive(Default)]
struct Arguments {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

impl Arguments {
    fn parse(words: impl Iterator<Item = String>) -> Self {
        let mut arguments = Self {
            threads: THREADS,
            ..Self::default()
        };
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => arguments.exact = true,
                "--list" => arguments.list = true,
                "--skip" => arguments.skips.extend(words.next()),
                "--test-threads" => {
                    arguments.threads = words
                        .next()
                        .and_then(|n| n.parse().ok())
                        .unwrap_or(THREADS)
                        .max(1);
                }
                // What libtest knows besides (--nocapture and its kin) makes no difference here.
                flag if flag.starts_with('-') => {}
                _ => arguments.filters.push(word),
            }
        }
        arguments
    }

    fn hits(&self, filter: &str, name: &str) -> bool {
        if self.exact {
            name == filter
        } else {
            name.contains(filter)
        }
    }

    fn wants(&self, name: &str) -> bool {
        let hit = |filter: &String| self.hits(filter, name);
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skips.iter().any(hit)
    }

    /// A sentence for each word that is in no name: whoever mistypes one has not asked for nothing.
    fn strangers(&self, names: &[&str]) -> Vec<String> {
        let nowhere = |filter: &&String| !names.iter().any(|name| self.hits(filter, name));
        let strangers = self.filters.iter().filter(nowhere);
        strangers
            .map(|word| match near(word, names).as_slice() {
                [] => format!("no story matches {word} (--list names them all)"),
                near => format!("no story matches {word}; near it: {}", near.join(", ")),
            })
            .collect()
    }
}

/// The stories whose names hold most of a word's parts, or what may be meant by them.
fn near<'a>(word: &str, names: &[&'a str]) -> Vec<&'a str> {
    let parts = |text: &'a str| text.split(['_', ':']).filter(|part| part.len() > 3);
    let wanted: Vec<&str> = word
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|part| part.len() > 3)
        .collect();
    let shared = |name: &'a str| {
        let near = |part: &&&str| nearest(part, parts(name)).is_some();
        wanted.iter().filter(near).count()
    };
    let most = names.iter().map(|name| shared(name)).max().unwrap_or(0);
    let found = names.iter().filter(|name| most > 0 && shared(name) == most);
    found.take(NEAR).copied().collect()
}

/// Tells every story that the command line asks for; the exit code says whether all were as they should be.
pub fn main(stories: &[Story]) -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let all = stories.iter().flat_map(|story| {
        story.on.iter().map(|suite| Case {
            name: format!("{}::{}", story.name, suite.name()),
            suite: *suite,
            run: story.run,
        })
    });
    let all: Vec<Case> = all.collect();
    let names: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
    let strangers = arguments.strangers(&names);
    if !strangers.is_empty() {
        eprintln!("{}", strangers.join("\n"));
        return ExitCode::FAILURE;
    }
    let cases = all.iter().filter(|case| arguments.wants(&case.name));
    let cases: VecDeque<Case> = cases.cloned().collect();
    if arguments.list {
        for case in &cases {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    match prepare(&cases) {
        Ok(grounds) => {
            let board = Board::default();
            tell(cases, &grounds, &board, arguments.threads);
            board.sum(began.elapsed())
        }
        Err(Unable::Skip(reason)) => {
            println!("machines: skipped, {reason}");
            println!("test result: ok. 0 passed; 0 failed; {} ignored", cases.len());
            ExitCode::SUCCESS
        }
        Err(Unable::Fail(error)) => {
            println!("machines: {error:#}");
            println!("test result: FAILED. 0 passed; {} failed; 0 ignored", cases.len());
            ExitCode::FAILURE
        }
    }
}

/// Why no story can be told.
enum Unable {
    /// The host cannot boot machines, or was told not to.
    Skip(String),
    /// It could, and what the machines need cannot be made.
    Fail(anyhow::Error),
}

fn prepare(cases: &VecDeque<Case>) -> Result<Vec<Ground>, Unable> {
    if let Some(reason) = std::env::var("DAGGER_RIG_SKIP")
        .ok()
        .filter(|reason| !reason.is_empty())
    {
        return Err(Unable::Skip(reason));
    }
    host::can_boot().map_err(|error| Unable::Skip(format!("{error:#}")))?;
    Ground::built().map_err(|error| Unable::Skip(format!("{error:#}")))?;
    let make = || {
        sweep::on_signals()?;
        sweep::leftovers()?;
        let wanted = BOTH
            .iter()
            .filter(|suite| cases.iter().any(|case| case.suite == **suite));
        wanted
            .map(|suite| Ground::prepare(*suite))
            .collect::<Result<Vec<Ground>>>()
    };
    make().map_err(Unable::Fail)
}

fn tell(cases: VecDeque<Case>, grounds: &[Ground], board: &Board, threads: usize) {
    board.with(|state| state.left = cases.len());
    let queue = Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
                    let Some(ground) = grounds.iter().find(|ground| ground.suite == case.suite) else {
                        continue;
                    };
                    board.begin(&case.name);
                    let began = Instant::now();
                    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (case.run)(ground)));
                    sweep::hold_if_stopped();
                    let problem = match outcome {
                        Ok(Ok(())) => None,
                        Ok(Err(error)) => Some(format!("{error:#}")),
                        Err(panic) => Some(panic_text(panic.as_ref())),
                    };
                    board.end(&case.name, began.elapsed(), problem);
                }
            });
        }
        scope.spawn(|| board.show());
    });
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
}

/// What is being told and how it went.
#[derive(Default)]
struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<(String, Instant)>,
    passed: usize,
    failed: Vec<(String, String)>,
    left: usize,
}

impl Board {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut state)
    }

    fn begin(&self, name: &str) {
        self.with(|state| {
            state.running.push((name.to_owned(), Instant::now()));
        });
    }

    fn end(&self, name: &str, took: Duration, problem: Option<String>) {
        self.with(|state| {
            state.running.retain(|(running, _)| running != name);
            state.left = state.left.saturating_sub(1);
            let word = if problem.is_none() { "ok" } else { "FAILED" };
            clear_line();
            println!("test {name} ... {word} ({:.1} s)", took.as_secs_f64());
            match problem {
                None => state.passed += 1,
                Some(problem) => {
                    println!("     {}", problem.replace('\n', "\n     "));
                    state.failed.push((name.to_owned(), problem));
                }
            }
        });
    }

    /// Shows what is running, on a terminal in one line that is drawn again, elsewhere every fifteen seconds.
    fn show(&self) {
        let terminal = std::io::stderr().is_terminal();
        let mut shown = Instant::now();
        let pause = if terminal {
            Duration::from_millis(250)
        } else {
            Duration::from_secs(15)
        };
        loop {
            std::thread::sleep(Duration::from_millis(100));
            let line = self.with(|state| {
                let names: Vec<String> = state
                    .running
                    .iter()
                    .map(|(name, since)| format!("{name} {} s", since.elapsed().as_secs()))
                    .collect();
                (state.left > 0).then(|| names.join("   "))
            });
            let Some(line) = line else { break };
            if shown.elapsed() >= pause && !line.is_empty() {
                shown = Instant::now();
                if terminal {
                    eprint!("\r\x1b[K    {line}");
                    let _ = std::io::stderr().flush();
                } else {
                    eprintln!("    running: {line}");
                }
            }
        }
        clear_line();
    }

    fn sum(&self, took: Duration) -> ExitCode {
        self.with(|state| {
            if !state.failed.is_empty() {
                println!("\nfailures:");
            }
            for (name, _) in &state.failed {
                println!("    {name}");
            }
            let word = if state.failed.is_empty() { "ok" } else { "FAILED" };
            let (passed, failed) = (state.passed, state.failed.len());
            println!(
                "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; finished in {:.0} s",
                took.as_secs_f64()
            );
            if failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        })
    }
}

fn clear_line() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_skips_and_exact_names() {
        let parse = |words: &[&str]| Arguments::parse(words.iter().map(|word| (*word).to_owned()));
        assert!(parse(&[]).wants("boot::trixie"));
        assert!(parse(&["boot", "--nocapture"]).wants("boot::trixie"));
        assert!(!parse(&["boot", "--skip", "trixie"]).wants("boot::trixie"));
        assert!(!parse(&["--exact", "boot"]).wants("boot::trixie"));
        assert_eq!(parse(&["--test-threads", "1"]).threads, 1);
    }

    #[test]
    fn a_word_that_no_name_holds_is_said_with_names_that_are_near() {
        let names = [
            "a_disk_is_full::trixie",
            "a_hang_is_found::trixie",
            "boot::trixie",
        ];
        let said =
            |words: &[&str]| Arguments::parse(words.iter().map(|word| (*word).to_owned())).strangers(&names);
        assert!(said(&[]).is_empty());
        assert!(said(&["boot", "disk"]).is_empty());
        assert_eq!(
            said(&["boot", "full_dsik"]),
            ["no story matches full_dsik; near it: a_disk_is_full::trixie"]
        );
        assert_eq!(said(&["zzz"]), ["no story matches zzz (--list names them all)"]);
    }

    #[test]
    fn where_nothing_is_to_be_told_the_board_is_not_waited_for() {
        let board = Board::default();
        tell(VecDeque::new(), &[], &board, 3);
        assert_eq!(board.with(|state| state.left), 0);
    }
}
