//! `fuzz-config [CASES [SEED]]`: configurations in, units out, and the units read back.
//!
//! For every configuration: nothing panics; there are errors with places, or units which systemd and podman read back to
//! exactly the arguments that were meant (the readers of `generator/tests/support`, written from the manual pages). A
//! service is either rendered, or stands for its mistake; the same input gives the same bytes.
//!
//! Ends with figures, and with status 1 when there was a finding; each finding is kept as a file whose name is printed.

#![allow(
    clippy::indexing_slicing,
    reason = "a test program: a wrong index in it is a finding like any other"
)]

mod make;
#[path = "../../../../generator/tests/support/mod.rs"]
mod support;

use std::cell::RefCell;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dagger_suite::diagnostic::Severity;
use dagger_suite::names::{CONFIG_ERROR_UNIT, Root};
use dagger_suite::render::{Content, Output, Programs, render};
use dagger_suite::{Loaded, load};

use make::Maker;

const CASES: u64 = 100_000;
const SEED: u64 = 1;

/// A thread that found this many stops: they are likely to be one and the same.
const FINDINGS_MAX: u64 = 10;

thread_local! {
    /// What is being tried, for the panic's report.
    static INPUT: RefCell<String> = const { RefCell::new(String::new()) };
}

static DONE: AtomicU64 = AtomicU64::new(0);
static RENDERED: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Ok(cases), Ok(seed), None) = (
        args.next().unwrap_or(Ok(CASES)),
        args.next().unwrap_or(Ok(SEED)),
        args.next(),
    ) else {
        eprintln!("usage: fuzz-config [CASES [SEED]]");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|panic| {
        INPUT.with_borrow(|input| report(input, &panic.to_string()));
    }));
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let started = Instant::now();
    let findings: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let mine = cases / threads + u64::from(number < cases % threads);
                scope.spawn(move || work(mine, seed.wrapping_mul(1000) + number))
            })
            .collect();
        let watch = scope.spawn(move || progress(cases, started));
        // A worker that panicked has reported it itself.
        let found = workers.into_iter().map(|worker| worker.join().unwrap_or(1)).sum();
        DONE.store(u64::MAX, Ordering::Relaxed);
        let _ = watch.join();
        found
    });
    let elapsed = started.elapsed();
    println!(
        "fuzz-config: {cases} configurations, {} units read back, {} s, {} us each a thread, {findings} findings",
        RENDERED.load(Ordering::Relaxed),
        elapsed.as_secs(),
        elapsed.as_micros() * u128::from(threads) / u128::from(cases.max(1)),
    );
    // The same line as `tests/bench --json` prints for its figures.
    println!(
        "{{\"name\":\"fuzz-config-findings\",\"value\":{findings},\"unit\":\"findings\",\"limit\":0,\"peer\":null,\"samples\":{cases},\"ok\":{}}}",
        findings == 0
    );
    ExitCode::from(u8::from(findings > 0))
}

/// One line every ten seconds.
fn progress(cases: u64, started: Instant) {
    let mut shown = 0;
    loop {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let done = DONE.load(Ordering::Relaxed);
        if done == u64::MAX {
            return;
        }
        let seconds = started.elapsed().as_secs() / 10;
        if seconds > shown {
            shown = seconds;
            eprintln!("fuzz-config: {done} of {cases} after {} s", seconds * 10);
        }
    }
}

/// Tries that many configurations; returns the number of findings.
fn work(cases: u64, seed: u64) -> u64 {
    let scratch = Scratch::new(seed);
    let mut maker = Maker::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut shapes = HashSet::new();
    let mut findings = 0;
    for _ in 0..cases {
        let text = maker.next();
        let json = text.trim_start().starts_with('{');
        INPUT.with_borrow_mut(|input| text.clone_into(input));
        match scratch
            .load(&text, json)
            .and_then(|loaded| try_one(&loaded, maker.below(32) == 0))
        {
            Ok(shape) => {
                if shapes.len() < 1 << 20 && shapes.insert(shape) {
                    maker.keep(&text);
                }
            }
            Err(why) => {
                findings += 1;
                report(&text, &why);
                if findings == FINDINGS_MAX {
                    break;
                }
            }
        }
        DONE.fetch_add(1, Ordering::Relaxed);
    }
    findings
}

/// Reads one result back; the answer is a number that is the same for configurations that went the same way.
fn try_one(loaded: &Loaded, twice: bool) -> Result<u64, String> {
    let programs = Programs::below("/usr");
    let make = || render(&loaded.suite, &loaded.broken, loaded.file_errors(), &programs);
    let outputs = make();
    if twice && outputs != make() {
        return Err("not the same bytes twice".into());
    }
    let mut shape = DefaultHasher::new();
    for it in &loaded.diagnostics {
        if it.severity == Severity::Error && it.problem.is_empty() {
            return Err("an error without words".into());
        }
        it.problem.split(' ').next().hash(&mut shape);
        it.problem.split(' ').next_back().hash(&mut shape);
    }
    let said = outputs.iter().any(|output| output.path == CONFIG_ERROR_UNIT);
    if said != loaded.file_errors().next().is_some() {
        return Err(
            "mistakes of files as a whole, and the unit that stands for them, do not go together".into(),
        );
    }
    for it in loaded
        .diagnostics
        .iter()
        .filter(|it| it.severity == Severity::Error)
    {
        let runs = |name: &String| {
            loaded
                .suite
                .services
                .iter()
                .any(|service| service.name.as_str() == name)
        };
        if it.service.as_ref().is_some_and(runs) {
            return Err(format!("a service runs that has a mistake: {}", it.one_line()));
        }
    }
    for output in &outputs {
        readable(output)?;
    }
    for service in &loaded.suite.services {
        let path = service.name.unit();
        let Some(Content::File(text)) = outputs.iter().find(|it| it.path == path).map(|it| &it.content)
        else {
            return Err(format!("no {path}"));
        };
        if loaded.suite.podman.contains(['"', '\'', '\\']) {
            // systemd runs no program of such a name: `readable` has seen that the unit says so.
            if !text.contains(" refuse ") {
                return Err(format!("{path} would run a program that systemd does not"));
            }
            continue;
        }
        support::unit(&loaded.suite, service, &programs, text)
            .map_err(|why| format!("{path}: {why}\n{text}"))?;
        RENDERED.fetch_add(1, Ordering::Relaxed);
        (service.volumes_and_more(), text.lines().count()).hash(&mut shape);
    }
    for broken in &loaded.broken {
        if loaded
            .suite
            .services
            .iter()
            .any(|service| service.name == broken.name)
        {
            return Err(format!("{} is good and broken at once", broken.name));
        }
    }
    Ok(shape.finish())
}

/// What makes one service another kind of case than the next.
trait Shape {
    fn volumes_and_more(&self) -> (usize, usize, usize, usize, bool);
}

impl Shape for dagger_suite::model::Service {
    fn volumes_and_more(&self) -> (usize, usize, usize, usize, bool) {
        (
            self.mounts.len(),
            self.command.len(),
            self.environment.len(),
            self.devices.len(),
            self.read_only,
        )
    }
}

/// Every file is one that systemd reads without a complaint, at a place where it looks.
fn readable(output: &Output) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@/:\\".contains(c);
    if !output.path.chars().all(plain) || output.path.starts_with('/') || output.path.contains("..") {
        return Err(format!("a path like no unit's: {:?}", output.path));
    }
    let Content::File(text) = &output.content else {
        return Ok(());
    };
    let parsed = support::systemd::parse(text).map_err(|why| format!("{}: {why}\n{text}", output.path))?;
    if parsed.assignments.is_empty() {
        return Err(format!("{} is empty", output.path));
    }
    if text.contains(" refuse ") {
        let line = parsed.one("Service", "ExecStart")?;
        let argv =
            support::systemd::command(line, &output.path, &std::collections::BTreeMap::new())?.text()?;
        if argv.len() != 5 || argv[3] != "--" || argv[4].is_empty() {
            return Err(format!("{}: a refusal without a reason: {argv:?}", output.path));
        }
    }
    Ok(())
}

/// Keeps the input, says where and why.
fn report(input: &str, why: &str) {
    let mut name = DefaultHasher::new();
    input.hash(&mut name);
    let path = std::env::temp_dir().join(format!("fuzz-config-{:016x}.toml", name.finish()));
    let kept = fs::write(&path, input);
    eprintln!("fuzz-config: FINDING {} ({kept:?})\n{why}", path.display());
}

/// A root on a file system in memory, where there is one.
struct Scratch {
    dir: PathBuf,
    root: Root,
}

impl Scratch {
    fn new(number: u64) -> Self {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() {
            shm.to_path_buf()
        } else {
            std::env::temp_dir()
        };
        let dir = base.join(format!("fuzz-config-{}-{number}", std::process::id()));
        if let Err(error) = fs::create_dir_all(dir.join("etc/dagger/conf.d")) {
            eprintln!("fuzz-config: {}: {error}", dir.display());
        }
        Self {
            root: Root::new(&dir),
            dir,
        }
    }

    fn load(&self, text: &str, json: bool) -> Result<Loaded, String> {
        let name = if json { "conf.d/x.json" } else { "dagger.toml" };
        let path = self.dir.join("etc/dagger").join(name);
        fs::write(&path, text).map_err(|error| error.to_string())?;
        let loaded = load(&self.root);
        fs::remove_file(&path).map_err(|error| error.to_string())?;
        Ok(loaded)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}
