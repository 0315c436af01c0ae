//! The command line of the client, as definitions: the parser, `--help`, the manual pages and the completions all come
//! from here. No logic.

pub mod migrate;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use dagger_suite::value;

pub use migrate::Migrate;
use migrate::{JobCommand, ResumeArgs};

/// Exit codes, as every page of the manual and every `--help` shows them (`dagger_suite::names::exit`).
pub const EXIT_HELP: &str = "\
Exit status:
  0  everything is as asked for
  1  refused or failed
  2  the command line was not understood, or names a service that does not exist
  3  something is not healthy, or conflicts were found
  4  not authorized
  5  the agent (monitoring.service) cannot be reached";

/// Shows how the media suite is, and starts and stops its services
///
/// Without a command it shows the status of every service. Reading needs no privilege; starting and stopping is asked of
/// systemd, which asks polkit.
#[derive(Debug, Parser)]
#[command(name = "daggerctl", version, after_help = EXIT_HELP, args_conflicts_with_subcommands = true)]
pub struct Daggerctl {
    /// What to do; `status` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `status`, for when no command is given.
    #[command(flatten)]
    pub status: StatusArgs,
}

/// What `daggerctl` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show every service, or the named ones: owner, state, health, latency, port, memory and version
    Status(StatusOfArgs),
    /// Say whether all services, or the named ones, are healthy; exit status 3 when not
    Health(HealthArgs),
    /// Ask the applications now, instead of waiting for the agent's next round
    Check(HealthArgs),
    /// Say why services are as they are: the first cause in one sentence, and what it rests on; exit status 3 when not healthy
    Why(WhyArgs),
    /// Show what happened to the services, from the journal
    History(HistoryArgs),
    /// Show what stands in the suite's way: ports that somebody else has, native units beside containers; exit status 3 when
    /// there is anything
    Conflicts(ConflictsArgs),
    /// Show every port of the suite, and who has it; exit status 3 when somebody else has one
    Ports(ConflictsArgs),
    /// Leave a service alone, however it answers; it is watched on
    Pause(PauseArgs),
    /// End a pause, and finish or undo what was interrupted with a service; without one, of everything that was interrupted
    Resume(ResumeArgs),
    /// What `nixarr-migrate` can do as well.
    #[command(flatten)]
    Job(JobCommand),
    /// Check, show or preview the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show what the services and the agent wrote into the journal
    Logs(LogsArgs),
    /// Print the metrics that the agent wrote, in Prometheus' text format
    Metrics(MetricsArgs),
    /// Start the whole suite, or the named services
    Start(UnitArgs),
    /// Stop the whole suite, or the named services
    Stop(UnitArgs),
    /// Restart the whole suite, or the named services
    Restart(UnitArgs),
}

/// Options of `status`.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// Print JSON, with every number in full
    #[arg(long)]
    pub json: bool,
    /// Stay, and show it anew whenever something changes
    #[arg(long, short)]
    pub watch: bool,
}

/// What `status` is asked about, and how it is shown.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusOfArgs {
    /// Services to show; all without any
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// How.
    #[command(flatten)]
    pub form: StatusArgs,
}

/// Options of `health` and `check`.
#[derive(Debug, Clone, Default, Args)]
pub struct HealthArgs {
    /// Services to look at; all without any
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `why`.
#[derive(Debug, Clone, Default, Args)]
pub struct WhyArgs {
    /// Services to explain; without any, all that are not healthy
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `history`.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Only this service; without one, the whole suite
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// How many events to show, the newest last
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub lines: u32,
    /// Print JSON, with times in microseconds since 1970
    #[arg(long)]
    pub json: bool,
}

/// Options of `conflicts` and `ports`.
#[derive(Debug, Clone, Default, Args)]
pub struct ConflictsArgs {
    /// Services to look at; all without any
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Say which port is free instead, what to write into which file for it, and what else has to change; for the ports that
    /// somebody else has, and for all ports of services that are named
    #[arg(long)]
    pub suggest: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `pause`.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// When the pause ends by itself (90s, 5min, 1h 30min, 30 days at most); without it, `resume` does
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub length: Option<Duration>,
}

/// A time span as the configuration writes them, of at least a second.
fn length(text: &str) -> Result<Duration, String> {
    let span = value::duration(text).map_err(|value::Wrong(problem, help)| match help {
        Some(help) => format!("{problem}; {help}"),
        None => problem,
    })?;
    if span < Duration::from_secs(1) {
        return Err("a pause takes a second at least".into());
    }
    Ok(span)
}

/// What `daggerctl config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read every configuration file and show all mistakes, each with file, line and column
    Check,
    /// Print the configuration as it counts: all files merged, the catalogue's values filled in
    Show(ConfigShowArgs),
    /// Show what the generator would change in the units, without changing anything
    Diff,
}

/// Options of `config show`.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigShowArgs {
    /// Print JSON instead of TOML
    #[arg(long)]
    pub json: bool,
}

/// Options of `logs`.
#[derive(Debug, Clone, Default, Args)]
pub struct LogsArgs {
    /// Only this service; without one, the whole suite and the agent
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Stay, and show new lines as they come
    #[arg(long, short)]
    pub follow: bool,
    /// How many lines to show, the newest last
    #[arg(long, short = 'n', value_name = "N")]
    pub lines: Option<u32>,
}

/// Options of `metrics`.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsArgs {
    /// Read a request from standard input and answer it, as dagger-metrics@.service does
    #[arg(long)]
    pub http: bool,
}

/// Services to start, stop or restart.
#[derive(Debug, Clone, Default, Args)]
pub struct UnitArgs {
    /// Services; the whole suite without any
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// Says of every service who owns it, its native unit or its container, and how it is
///
/// The name that scripts written for nixarr look for; the same program as daggerctl.
#[derive(Debug, Parser)]
#[command(name = "nixarr-migration-status", version, after_help = EXIT_HELP)]
pub struct MigrationStatus {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Says in a few lines how the suite is and where to look
///
/// Short enough for a login message; the same program as daggerctl.
#[derive(Debug, Parser)]
#[command(name = "dagger-nixarr-summary", version, after_help = EXIT_HELP)]
pub struct Summary {}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Daggerctl::command().debug_assert();
        MigrationStatus::command().debug_assert();
        Summary::command().debug_assert();
        Migrate::command().debug_assert();
    }

    #[test]
    fn nothing_said_means_status() {
        let line = Daggerctl::try_parse_from(["daggerctl", "--json"]).unwrap();
        assert!(line.command.is_none() && line.status.json);
        assert!(Daggerctl::try_parse_from(["daggerctl", "--json", "health"]).is_err());
    }

    #[test]
    fn a_pause_has_a_length_or_none() {
        let length = |words: &[&str]| match Daggerctl::try_parse_from(words).map(|line| line.command) {
            Ok(Some(Command::Pause(args))) => Ok(args.length),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(length(&["daggerctl", "pause", "sonarr"]), Ok(None));
        assert_eq!(
            length(&["daggerctl", "pause", "sonarr", "--for", "1h 30min"]),
            Ok(Some(Duration::from_mins(90)))
        );
        // Less than a second would be sent as 0, which is a pause without an end.
        for wrong in ["500ms", "0", "soon", ""] {
            assert!(
                length(&["daggerctl", "pause", "sonarr", "--for", wrong]).is_err(),
                "{wrong}"
            );
        }
    }

    /// A table of commands is only as good as its help: each needs a sentence, and so does each of its options.
    #[test]
    fn every_command_and_option_is_explained() {
        fn walk(command: &clap::Command) {
            assert!(
                command.get_about().is_some(),
                "{} has no about",
                command.get_name()
            );
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {} has no help",
                    command.get_name(),
                    arg.get_id()
                );
            }
            for inner in command.get_subcommands() {
                walk(inner);
            }
        }
        walk(&Daggerctl::command());
        walk(&MigrationStatus::command());
        walk(&Migrate::command());
    }
}
