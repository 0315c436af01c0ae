//! `dagger-generator NORMAL EARLY LATE`: run by systemd at boot and at every daemon-reload (systemd.generator(7)), or by
//! hand with `--check` and `--dry-run`.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use dagger_suite::diagnostic::{Diagnostic, Severity};
use dagger_suite::left::left;
use dagger_suite::model::Broken;
use dagger_suite::names::{Root, exit};
use dagger_suite::output::Failure;
use dagger_suite::render::{Programs, Rendering};
use dagger_suite::{Loaded, load, output};

const USAGE: &str = "\
Usage: dagger-generator NORMAL [EARLY LATE]   write units (systemd does this at boot and at daemon-reload)
       dagger-generator --check               report every mistake in the configuration; exit 1 if there is one
       dagger-generator --dry-run             show what would change, as a diff against the units that are there
       dagger-generator --help | --version

The configuration is /etc/dagger/dagger.toml and /etc/dagger/conf.d/*.toml (man dagger.toml).
DAGGER_ROOT=DIR in the environment looks below DIR instead of /.
";

/// Where systemd keeps what the generators wrote.
const WRITTEN: &str = "/run/systemd/generator";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let root = Root::from_env();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("--check") if args.len() == 1 => check(&root),
        Some("--dry-run") if args.len() == 1 => dry_run(&root),
        Some("--help" | "-h") => say(io::stdout(), USAGE),
        Some("--version") => say(
            io::stdout(),
            &format!("dagger-generator {}\n", env!("CARGO_PKG_VERSION")),
        ),
        Some(flag) if flag.starts_with('-') => usage(&format!("unknown option {flag}")),
        None if args.is_empty() => usage("no directory to write to"),
        _ => {
            if let Some(normal) = args.first() {
                generate(&root, Path::new(normal));
            }
            // Whatever happened: a boot never fails because of us.
            ExitCode::SUCCESS
        }
    }
}

fn say(mut to: impl Write, text: &str) -> ExitCode {
    match to.write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(exit::GOOD),
        Err(_) => ExitCode::from(exit::FAILED),
    }
}

fn usage(problem: &str) -> ExitCode {
    say(io::stderr(), &format!("dagger-generator: {problem}\n{USAGE}"));
    ExitCode::from(exit::USAGE)
}

fn programs() -> Programs {
    std::env::current_exe().map_or_else(|_| Programs::below("/usr"), |exe| Programs::beside(&exe))
}

fn rendering<'a>(loaded: &'a Loaded, left: &'a [Broken], programs: &'a Programs) -> Rendering<'a> {
    Rendering::new(&loaded.suite, &loaded.broken, loaded.file_errors(), programs).with_left(left)
}

/// Writes the units. Everything that goes wrong is said and passed over.
fn generate(root: &Root, normal: &Path) {
    // The initrd has neither podman nor the state; a user's manager is not ours.
    let is = |name: &str, value: &str| std::env::var_os(name).is_some_and(|it| it == value);
    if is("SYSTEMD_IN_INITRD", "1") || is("SYSTEMD_SCOPE", "user") {
        return;
    }
    let loaded = load(root);
    let programs = programs();
    let left = left(root, &loaded);
    let rendering = rendering(&loaded, &left, &programs);
    let failures = write(normal, &rendering);
    let mut log = Log::default();
    for it in &loaded.diagnostics {
        log.line(it.severity, &it.one_line());
    }
    for failure in failures {
        log.line(Severity::Error, &failure.to_string());
    }
    // The process ends here, and with it all that it holds: giving it back piece by piece would only take time.
    std::mem::forget(loaded);
}

/// From within the directory, which spares the kernel the way from the root to each of thousands of names.
fn write(normal: &Path, rendering: &Rendering) -> Vec<Failure> {
    // Not there yet, or something is wrong with it: that shows when it is written to by its full name.
    if std::env::set_current_dir(normal).is_err() {
        return output::write_suite(normal, rendering);
    }
    let mut failures = output::write_suite(Path::new("."), rendering);
    for failure in &mut failures {
        failure.path = normal.join(failure.path.strip_prefix(".").unwrap_or(&failure.path));
    }
    failures
}

fn report(diagnostics: &[Diagnostic]) -> bool {
    let mut stderr = io::stderr().lock();
    for it in diagnostics {
        let _ = writeln!(stderr, "{it}\n");
    }
    diagnostics.iter().any(|it| it.severity == Severity::Error)
}

fn check(root: &Root) -> ExitCode {
    let loaded = load(root);
    if !loaded.configured {
        say(
            io::stderr(),
            "dagger-generator: there is no configuration: write /etc/dagger/dagger.toml\n",
        );
        return ExitCode::from(exit::FAILED);
    }
    let wrong = report(&loaded.diagnostics);
    let (good, bad) = (loaded.suite.services.len(), loaded.broken.len());
    let word = |count: usize| if count == 1 { "service" } else { "services" };
    let mut summary = format!("{good} {} can run", word(good));
    if bad > 0 {
        summary = format!("{summary}, {bad} {} cannot", word(bad));
    }
    say(io::stdout(), &format!("{summary}\n"));
    ExitCode::from(if wrong { exit::FAILED } else { exit::GOOD })
}

fn dry_run(root: &Root) -> ExitCode {
    let loaded = load(root);
    let wrong = report(&loaded.diagnostics);
    let (left, programs) = (left(root, &loaded), programs());
    let units = rendering(&loaded, &left, &programs).all();
    let (diff, failures) = output::diff(&root.join(WRITTEN), &units);
    for failure in &failures {
        say(io::stderr(), &format!("dagger-generator: {failure}\n"));
    }
    say(io::stdout(), &diff);
    ExitCode::from(if wrong || !failures.is_empty() {
        exit::FAILED
    } else {
        exit::GOOD
    })
}

/// The kernel's log when systemd runs us (there is no other yet), else standard error. Opened by the first line: that
/// costs more than everything else that is done for a service.
#[derive(Default)]
struct Log(Option<Sink>);

enum Sink {
    Kernel(std::fs::File),
    Terminal,
}

impl Sink {
    fn open() -> Self {
        if std::env::var_os("SYSTEMD_SCOPE").is_none() {
            return Self::Terminal;
        }
        OpenOptions::new()
            .write(true)
            .open("/dev/kmsg")
            .map_or(Self::Terminal, Self::Kernel)
    }
}

impl Log {
    fn line(&mut self, severity: Severity, text: &str) {
        // Levels of syslog(3); journald reads the prefix.
        let level = match severity {
            Severity::Error => 3,
            Severity::Warning => 4,
        };
        // One write is one record, and the kernel cuts it at about a kilobyte (Documentation/ABI/testing/dev-kmsg).
        let text: String = text.chars().take(800).collect();
        let pid = std::process::id();
        let _ = match self.0.get_or_insert_with(Sink::open) {
            Sink::Kernel(kmsg) => {
                kmsg.write_all(format!("<{level}>dagger-generator[{pid}]: {text}\n").as_bytes())
            }
            Sink::Terminal => io::stderr().write_all(format!("dagger-generator: {text}\n").as_bytes()),
        };
    }
}
