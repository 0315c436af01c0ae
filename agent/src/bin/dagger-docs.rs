//! `dagger-docs DIR`: writes everything that is made from the programs' own definitions, laid out as it is installed below
//! the prefix: manual pages and completions from `cli.rs`, the reference of the configuration from the schema's table.
//!
//! It runs when the suite is built or installed and is not installed itself. The same definitions give the same bytes.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use dagger_agent::cli::{Daggerctl, EXIT_HELP, Migrate, MigrationStatus, Summary};
use dagger_suite::schema::{HEALTH, Key, Kind, PORT, SERVICE, SUITE, VOLUME};

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let Some(dir) = dir.filter(|dir| !dir.to_string_lossy().starts_with('-')) else {
        eprintln!("Usage: dagger-docs DIRECTORY");
        return ExitCode::from(2);
    };
    match write_all(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dagger-docs: cannot write below {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &Path) -> io::Result<()> {
    let share = dir.join("share");
    for command in [
        Daggerctl::command(),
        MigrationStatus::command(),
        Summary::command(),
        Migrate::command(),
    ] {
        // `daggerctl help status` says what `daggerctl status --help` says: no page of its own.
        let mut pages = command.clone().disable_help_subcommand(true);
        pages.build();
        page(&pages, &made(&share, "man/man1")?)?;
        for (shell, place) in [
            (Shell::Bash, "bash-completion/completions"),
            (Shell::Zsh, "zsh/site-functions"),
            (Shell::Fish, "fish/vendor_completions.d"),
        ] {
            completion(shell, &command, &made(&share, place)?)?;
        }
    }
    fs::write(made(&share, "man/man5")?.join("dagger.toml.5"), manual())?;
    fs::write(made(&share, "doc/dagger")?.join("dagger.toml.md"), markdown())
}

fn made(share: &Path, place: &str) -> io::Result<PathBuf> {
    let dir = share.join(place);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// The page of a command, and those of its subcommands.
fn page(command: &clap::Command, dir: &Path) -> io::Result<()> {
    for inner in command.get_subcommands() {
        page(inner, dir)?;
    }
    let name = command
        .get_display_name()
        .unwrap_or(command.get_name())
        .to_owned();
    // The title by hand, because clap_mangen leaves an empty date out instead of writing it empty; and our own section of
    // exit codes, under the heading that man-pages(7) knows. `Aq` is the apostrophe that clap_mangen's text refers to.
    let man = clap_mangen::Man::new(command.clone());
    let mut text = format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH {} 1 \"\" \"dagger {}\" \"User Commands\"\n",
        name.to_uppercase(),
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    text.extend(exit_status().into_bytes());
    text.extend(SEE_ALSO.bytes());
    fs::write(dir.join(format!("{name}.1")), text)
}

/// Other pages that a reader may want.
const SEE_ALSO: &str = ".SH \"SEE ALSO\"\n\\fBdaggerctl\\fR(1), \\fBdagger.toml\\fR(5), \\fBsystemctl\\fR(1), \\fBjournalctl\\fR(1)\n";

/// The exit codes as a section: each line of [`EXIT_HELP`] but its heading is a code and what it means.
fn exit_status() -> String {
    let mut text = String::from(".SH \"EXIT STATUS\"\n");
    for (code, meaning) in EXIT_HELP
        .lines()
        .filter_map(|line| line.trim_start().split_once("  "))
    {
        let _ = writeln!(text, ".TP\n\\fB{code}\\fR\n{}", roff(meaning));
    }
    text
}

fn completion(shell: Shell, command: &clap::Command, dir: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let file = match shell {
        Shell::Zsh => format!("_{name}"),
        Shell::Fish => format!("{name}.fish"),
        _ => name.clone(),
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), &name, &mut text);
    fs::write(dir.join(file), text)
}

/// The tables of the reference: heading, what it is, keys.
const TABLES: [(&str, &str, &[Key]); 5] = [
    ("[suite]", "What all services share.", SUITE),
    (
        "[services.NAME]",
        "One service. Without any key it is what the catalogue says; each key here replaces one of the catalogue's. \
         NAME is made of lower-case letters, digits and inner hyphens.",
        SERVICE,
    ),
    (
        "health = { ... }",
        "How a service is asked whether it is well; part of a service.",
        HEALTH,
    ),
    ("ports = [{ ... }]", "A further port; part of a service.", PORT),
    (
        "volumes = [{ ... }]",
        "A further mount; part of a service.",
        VOLUME,
    ),
];

/// What stands before the tables, one paragraph each.
const PREFACE: [&str; 4] = [
    "One TOML file, `/etc/dagger/dagger.toml`, describes the suite. Files `conf.d/*.toml` beside it are merged over it in the order of their names, tables key by key; of the same key the later file counts. The same directories exist as /run/dagger and /usr/lib/dagger: of files with the same name the one in /etc counts, then the one in /run. An empty file, or a link to /dev/null, masks the file of its name in the others. A `.json` file with the same content is read as well.",
    "The file is read when systemd starts and at every `systemctl daemon-reload`. A service with a mistake gets a unit that refuses to start and says why; the others start. `daggerctl config check` shows all mistakes at once, `daggerctl config diff` what would change, `daggerctl config show` every value that counts.",
    "Files in `/etc/dagger/catalog/NAME.toml` add an application to the catalogue, or replace keys of one that is there; they have the keys of a service.",
    "Unknown keys are mistakes.",
];

/// What may be written, in words.
fn words(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "`true` or `false`".into(),
        Kind::Text => "text".into(),
        Kind::Number(low, high) => format!("number from {low} to {high}"),
        Kind::Port => "port, 1 to 65535".into(),
        Kind::Path | Kind::Program | Kind::PodmanFile => "absolute path".into(),
        Kind::Duration => "time span: `90s`, `5min`, `1h 30min`, or seconds".into(),
        Kind::Watchdog => "time span from `10s`, or `off`".into(),
        Kind::Size => "amount of memory: `512M`, `2G`, `50%`, `infinity`".into(),
        Kind::Bytes => "amount of bytes: `512M`, `2G`".into(),
        Kind::Address => "address in figures: `192.168.1.2`".into(),
        Kind::Percent => "percentage of one processor: `150%`".into(),
        Kind::Umask => "umask in octal: `\"002\"`".into(),
        Kind::Signal => "signal: `SIGTERM`".into(),
        Kind::Service => "name of a service".into(),
        Kind::Unit => "name of a unit, with its suffix".into(),
        Kind::Url => "URL".into(),
        Kind::Image => "image reference".into(),
        Kind::Timezone => "time zone: `Europe/Berlin`, `local`".into(),
        Kind::UrlPath => "path of a URL".into(),
        Kind::Network => "`host`, `bridge`, `private` or `ns:/path`".into(),
        Kind::Device => "device: path or CDI name, `-` in front: optional".into(),
        Kind::Capability => "capability: `CHOWN`".into(),
        Kind::Group => "group: number or name".into(),
        Kind::Tmpfs => "path, then options: `/run:exec`".into(),
        Kind::State => "path, or table of paths by role".into(),
        Kind::Choice(all) => all
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Kind::List(inner) => format!("list; each: {}", words(inner)),
        Kind::OneOrMany(inner) => format!("{}, or a list", words(inner)),
        Kind::Map(inner) => format!("table; each value: {}", words(inner)),
        Kind::Table(_) => "table, see below".into(),
    }
}

/// The reference as Markdown.
fn markdown() -> String {
    let mut text = String::from(
        "# dagger.toml\n\nMade by `dagger-docs` from the schema that the generator checks by.\n",
    );
    for paragraph in PREFACE {
        let _ = write!(text, "\n{paragraph}\n");
    }
    for (heading, about, keys) in TABLES {
        let _ = write!(
            text,
            "\n## `{heading}`\n{about}\n\n| key | value | without it | meaning |\n|---|---|---|---|\n"
        );
        for key in keys {
            let cells = [words(&key.kind), key.default.to_owned(), key.doc.to_owned()]
                .map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| `{}` | {} |", key.name, cells.join(" | "));
        }
    }
    text
}

/// The reference as a manual page.
fn manual() -> String {
    let mut text = format!(
        ".TH DAGGER.TOML 5 \"\" \"dagger {}\" \"File Formats\"\n.SH NAME\ndagger.toml \\- the media suite in one file\n\
         .SH SYNOPSIS\n/etc/dagger/dagger.toml\n.br\n/etc/dagger/conf.d/*.toml\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    for (index, paragraph) in PREFACE.iter().enumerate() {
        let _ = writeln!(
            text,
            "{}{}",
            if index == 0 { "" } else { ".PP\n" },
            roff(paragraph)
        );
    }
    for (heading, about, keys) in TABLES {
        let _ = writeln!(text, ".SH \"{}\"\n{}", roff(heading), roff(about));
        for key in keys {
            let without = if key.default.is_empty() {
                String::new()
            } else {
                format!(" Without it: {}.", key.default)
            };
            let _ = writeln!(
                text,
                ".TP\n\\fB{}\\fR (\\,{}\\/)\n{}{}",
                roff(key.name),
                roff(&words(&key.kind)),
                roff(key.doc),
                roff(&without)
            );
        }
    }
    text.push_str(".SH SEE ALSO\n\\fBdaggerctl\\fR(1), \\fBsystemd.generator\\fR(7)\n");
    text
}

/// Every transition that people can see, as a table for the README.
#[cfg(test)]
fn verdicts() -> String {
    let mut text = String::from("| becomes | from | when | what is done then |\n|---|---|---|---|\n");
    for row in dagger_agent::domain::health::TRANSITIONS {
        let from: Vec<_> = row.from.iter().map(|health| health.word()).collect();
        let _ = writeln!(
            text,
            "| **{}** | {} | {} | {} |",
            row.to.word(),
            from.join(", "),
            row.when,
            row.then
        );
    }
    text
}

/// Text for roff(7): special characters escaped, `code` in bold.
fn roff(text: &str) -> String {
    let mut out = String::new();
    let mut bold = false;
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '`' => {
                bold = !bold;
                out.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            c => out.push(c),
        }
    }
    // A dot or a quote at the beginning of a line would be a request.
    if out.starts_with(['.', '\'']) {
        format!("\\&{out}")
    } else {
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dagger_agent::domain::health::TRANSITIONS;

    #[test]
    fn every_key_is_in_both_references() {
        let (markdown, manual) = (markdown(), manual());
        for (_, _, keys) in TABLES {
            for key in keys {
                assert!(markdown.contains(&format!("| `{}` |", key.name)), "{}", key.name);
                assert!(
                    manual.contains(&format!("\\fB{}\\fR", roff(key.name))),
                    "{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn every_exit_code_is_in_the_manual() {
        let section = exit_status();
        for code in 0..=5 {
            assert!(
                section.contains(&format!(".TP\n\\fB{code}\\fR\n")),
                "{code}: {section}"
            );
        }
    }

    #[test]
    fn text_cannot_become_a_request() {
        assert_eq!(roff(".so /etc/passwd"), "\\&.so /etc/passwd");
        assert_eq!(roff("a `b-c` \\d"), "a \\fBb\\-c\\fR \\ed");
    }

    /// What the README holds between two marks is this text; `DAGGER_BLESS=1` writes it anew.
    fn held(name: &str, wanted: &str) {
        // Two tests bless the same file.
        static FILE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let _lock = FILE.lock().unwrap();
        let readme = fs::read_to_string(path).unwrap();
        let (begin, end) = (
            format!("<!-- made by dagger-docs, {name}: begin -->\n"),
            format!("<!-- made by dagger-docs, {name}: end -->\n"),
        );
        let (before, rest) = readme.split_once(&begin).unwrap();
        let (held, after) = rest.split_once(&end).unwrap();
        let wanted = format!("\n{wanted}\n");
        if std::env::var_os("DAGGER_BLESS").is_some() {
            fs::write(path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        } else {
            assert!(
                held == wanted,
                "README.md is behind the code: DAGGER_BLESS=1 writes it anew"
            );
        }
    }

    #[test]
    fn the_readme_holds_this_reference() {
        let tables = markdown();
        let tables = tables
            .split_once("\n## ")
            .map(|(_, tables)| format!("## {tables}"))
            .unwrap();
        held("keys", &tables.replace("## ", "### "));
    }

    /// `a ──> b ──── why ──> c` in the README's picture: what stands at both ends of each arrow.
    #[test]
    fn the_picture_in_the_readme_shows_transitions_of_the_table() {
        let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
        let line = readme
            .lines()
            .find(|line| line.starts_with(" starting ──> healthy"))
            .unwrap();
        let verdict = |word: Option<&str>| {
            let row = TRANSITIONS.iter().find(|row| Some(row.to.word()) == word);
            row.unwrap()
        };
        let ends: Vec<_> = line
            .split("──>")
            .map(|part| part.split_whitespace().next())
            .collect();
        assert_eq!(
            ends,
            ["starting", "healthy", "unhealthy", "recovering", "failed"].map(Some)
        );
        for pair in ends.windows(2) {
            let (from, to) = (verdict(pair[0]), verdict(pair[1]));
            assert!(to.from.contains(&from.to), "{pair:?} is not in the table");
        }
        // And the way back, and the one beside it.
        for (from, to) in [
            ("recovering", "healthy"),
            ("unhealthy", "healthy"),
            ("healthy", "degraded"),
        ] {
            assert!(
                verdict(Some(to)).from.contains(&verdict(Some(from)).to),
                "{from} {to}"
            );
        }
    }

    #[test]
    fn the_readme_holds_every_transition_of_a_verdict() {
        held("verdicts", &verdicts());
    }
}
