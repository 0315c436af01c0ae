//! The commands that move services, of `nixarr-migrate` and `daggerctl` alike.

use clap::{Args, Parser, Subcommand};

use super::{EXIT_HELP, StatusArgs};

/// Moves services from their native units into containers, and back
///
/// Every change is a job: it shows what it will do, asks, copies the data to a snapshot first, and undoes everything when
/// anything fails on the way. The job is a unit of systemd's, so it goes on when this program ends. The same program as
/// daggerctl, which knows the same words.
#[derive(Debug, Parser)]
#[command(name = "nixarr-migrate", version, after_help = EXIT_HELP, args_conflicts_with_subcommands = true)]
pub struct Migrate {
    /// What to do; `status` when nothing is said.
    #[command(subcommand)]
    pub command: Option<MigrateCommand>,
}

/// What `nixarr-migrate` can do.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Show who owns every service, what is being done with it, and the jobs of late
    Status(JobStatusArgs),
    /// Finish or undo what was interrupted, of one service or of all
    Resume(ResumeArgs),
    /// The others, which daggerctl has as well.
    #[command(flatten)]
    Job(JobCommand),
}

/// What both programs can do.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Look at a service and show what its migration would do, and what stands in the way; changes nothing
    Plan(PlanArgs),
    /// Move a service, or all, from the native unit into the container: shows the plan, asks, and goes
    Migrate(ChangeArgs),
    /// Move a service, or all, from the container back to the native unit
    Rollback(RollbackArgs),
    /// Run the container on a copy of the data, beside the native unit
    Shadow(OneArgs),
    /// Throw the shadow away and migrate the service
    Promote(OneArgs),
    /// Throw the shadow away
    Discard(OneArgs),
    /// Try a service's migration on a copy of its data, throw the copy away, and tell how the real one would go
    Rehearse(OneArgs),
    /// Stop the job that is at work on a service; what it has done is undone
    Cancel(CancelArgs),
    /// Show the snapshots that are kept: of which service, from when, of which version
    Snapshots(SnapshotsArgs),
}

/// Options of `nixarr-migrate status`.
#[derive(Debug, Clone, Default, Args)]
pub struct JobStatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl From<&JobStatusArgs> for StatusArgs {
    fn from(args: &JobStatusArgs) -> Self {
        Self {
            json: args.json,
            ..Self::default()
        }
    }
}

/// Options of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The service; `all`: every one that could be migrated
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How a job is begun and waited for.
#[derive(Debug, Clone, Default, Args)]
pub struct HowArgs {
    /// Do not ask; needed where there is no terminal to ask on
    #[arg(long, short)]
    pub yes: bool,
    /// Begin it and do not wait for its end
    #[arg(long)]
    pub detach: bool,
    /// Print nothing but how it ended, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// The service; `all`: one after the other, what others want first, until one fails
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Show the plan, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Options of `rollback`.
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    /// The service; `all`: one after the other, what others want first, until one fails
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// The data becomes what it was before the migration, or what the snapshot ID holds; what the container has written is
    /// kept as a snapshot
    #[arg(long, value_name = "ID", num_args = 0..=1, conflicts_with = "keep_data")]
    pub to_snapshot: Option<Option<String>>,
    /// What the container has written goes back, too; so it is without this as well
    #[arg(long)]
    pub keep_data: bool,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Options of what is done to one service.
#[derive(Debug, Clone, Args)]
pub struct OneArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// How.
    #[command(flatten)]
    pub how: HowArgs,
}

/// Options of `resume`.
#[derive(Debug, Clone, Default, Args)]
pub struct ResumeArgs {
    /// The service; without one, all of which something was interrupted
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Begin it and do not wait for its end
    #[arg(long)]
    pub detach: bool,
    /// Print nothing but how it ended, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// The service
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

/// Options of `snapshots`.
#[derive(Debug, Clone, Default, Args)]
pub struct SnapshotsArgs {
    /// The service; all without one
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Print JSON, with times in microseconds since 1970
    #[arg(long)]
    pub json: bool,
    /// Read them through, as root, and compare them with their checksums; exit status 1 when one is damaged
    #[arg(long)]
    pub verify: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollback(words: &[&str]) -> RollbackArgs {
        let line = ["nixarr-migrate", "rollback"].iter().chain(words);
        match Migrate::try_parse_from(line).map(|line| line.command) {
            Ok(Some(MigrateCommand::Job(JobCommand::Rollback(args)))) => args,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn a_snapshot_may_be_named_or_not() {
        assert_eq!(rollback(&["sonarr"]).to_snapshot, None);
        assert_eq!(rollback(&["sonarr", "--to-snapshot"]).to_snapshot, Some(None));
        let named = rollback(&["sonarr", "--to-snapshot", "20261124", "--yes"]);
        assert_eq!(
            (named.to_snapshot, named.how.yes),
            (Some(Some("20261124".into())), true)
        );
        let both = [
            "nixarr-migrate",
            "rollback",
            "sonarr",
            "--keep-data",
            "--to-snapshot",
        ];
        assert!(Migrate::try_parse_from(both).is_err());
    }

    #[test]
    fn nothing_said_means_status() {
        assert!(
            Migrate::try_parse_from(["nixarr-migrate"])
                .unwrap()
                .command
                .is_none()
        );
        assert!(Migrate::try_parse_from(["nixarr-migrate", "sonarr"]).is_err());
    }
}
