//! `dagger-gate` stands before and after the start of a container, inside the service's own unit. The unit's command line is
//! all that it knows; it never reads the configuration.
//!
//! - `image`  brings the image, when it is not there (a unit of its own, `dagger-pull@<service>.service`)
//! - `pre`    ports free? directories there? which user? (`ExecStartPre=`; no runtime, milliseconds)
//! - `post`   waits until the application answers (`ExecStartPost=`)
//! - `refuse` says why a service cannot run (`ExecStart=` of a broken one)

mod args;
mod say;
mod ports;
mod places;
mod media;
mod name;
mod doubts;
mod image;
mod pre;
mod patience;
mod post;

use std::process::ExitCode;

use dagger_suite::names::{Root, exit};

use args::Args;

/// Why the gate does not open.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The command line is not one that the generator writes.
    Usage(String),
    /// One sentence a problem.
    Failed(Vec<String>),
    /// The service's configuration is broken; the sentence comes from the generator.
    Refused(String),
}

impl Stop {
    fn failed(sentence: impl Into<String>) -> Self {
        Self::Failed(vec![sentence.into()])
    }
}

fn main() -> ExitCode {
    let result = words().and_then(|words| match words.first().map(String::as_str) {
        Some("--help" | "-h") => {
            println!("{}", args::USAGE);
            Ok(())
        }
        Some("--version" | "-V") => {
            println!("dagger-gate {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => run(words),
    });
    let (code, sentences) = match result {
        Ok(()) => return ExitCode::from(exit::GOOD),
        Err(Stop::Usage(text)) => (exit::USAGE, vec![text]),
        Err(Stop::Failed(sentences)) => (exit::FAILED, sentences),
        Err(Stop::Refused(text)) => (exit::CONFIG, vec![text]),
    };
    for sentence in &sentences {
        say::error(sentence);
    }
    say::status(&sentences.join("; "));
    ExitCode::from(code)
}

fn words() -> Result<Vec<String>, Stop> {
    std::env::args_os()
        .skip(1)
        .map(|word| {
            word.into_string()
                .map_err(|word| Stop::Usage(format!("an argument is not UTF-8: {}", word.display())))
        })
        .collect()
}

fn run(mut words: Vec<String>) -> Result<(), Stop> {
    if words.is_empty() {
        return Err(Stop::Usage(args::USAGE.into()));
    }
    let verb = words.remove(0);
    // Directories are walked without following links; where the root itself lies is the caller's business.
    let root = Root::from_env();
    let root = std::fs::canonicalize(root.join("/")).map_or(root, Root::new);
    match verb.as_str() {
        "image" => image::run(&root, &image::Orders::parse(Args::new(words))?),
        "pre" => pre::run(&root, &pre::Orders::parse(Args::new(words))?),
        "post" => post::run(&root, &post::Orders::parse(words)?),
        "refuse" => refuse(words),
        _ => Err(Stop::Usage(format!(
            "{verb:?} is none of image, pre, post, refuse\n{}",
            args::USAGE
        ))),
    }
}

fn refuse(words: Vec<String>) -> Result<(), Stop> {
    let mut words = words.into_iter();
    let own: Vec<String> = words.by_ref().take_while(|word| word != "--").collect();
    let message = words.collect::<Vec<_>>().join(" ");
    let mut args = Args::new(own);
    let mut service = String::new();
    while let Some((flag, value)) = args.next()? {
        match flag.as_str() {
            // Not parsed as a service's name: `config-error` is none, and a broken name must be shown as well.
            "--service" => service = value()?,
            _ => return Err(args::unknown(&flag)),
        }
    }
    if message.is_empty() {
        return Err(Stop::Usage("refuse needs a message after --".into()));
    }
    Err(Stop::Refused(if service.is_empty() {
        message
    } else {
        format!("{service}: {message}")
    }))
}
