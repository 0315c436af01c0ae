//! What is done inside a machine that is on: commands, scripts, files, and waiting for what they show.

use super::exec::{self, Output};
use super::{Machine, cgroup};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant};

/// A command inside that has not ended by then is taken for hung.
const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// A login shell for the terminal that `$0` names, with colours: commands that are compared have neither. A terminal that
/// the machine has never heard of is taken for the usual one.
const SHELL: &str = r#"unset SYSTEMD_COLORS SYSTEMD_PAGER
[ -n "$(find /etc/terminfo /lib/terminfo /usr/share/terminfo -name "$0" 2>/dev/null)" ] || set -- xterm
TERM=${1:-$0} exec bash -l"#;

impl Machine {
    /// A command that will run inside, for whoever wants to hold its streams.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        ensure!(self.leader != 0, "{} is off", self.name);
        // Asked anew each time: init moves into its own group early in the boot.
        let mut command = exec::enter(self.leader, &cgroup::of(self.leader)?);
        command.args(words);
        Ok(command)
    }

    /// A shell inside for a person at the terminal, until they leave it.
    pub fn shell(&self) -> Result<()> {
        let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
        let mut command = self.command(&["bash", "-c", SHELL, &term])?;
        // How a shell ends says how its last command ended: nothing about the machine.
        command.status().context("start a shell")?;
        Ok(())
    }

    /// Runs a command inside.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.run_with(words, "", COMMAND_LIMIT)
    }

    /// Runs a command inside with an input and a time limit.
    pub fn run_with(&self, words: &[&str], input: &str, limit: Duration) -> Result<Output> {
        exec::run(self.command(words)?, input.as_bytes(), limit)
            .with_context(|| format!("in {}: {words:?}", self.name))
    }

    /// Runs a bash script inside.
    pub fn sh(&self, script: &str) -> Result<Output> {
        self.run(&["bash", "-c", script])
    }

    /// Runs a bash script that has to succeed and returns what it printed.
    pub fn ok(&self, script: &str) -> Result<String> {
        let output = self.sh(script)?;
        ensure!(
            output.good(),
            "in {}: `{script}` ended with {}:\n{}",
            self.name,
            output.code,
            output.all()
        );
        Ok(output.stdout)
    }

    /// Writes a file inside, following the machine's own links; directories on the way are made.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let script = "mkdir -p \"$(dirname \"$0\")\" && cat >\"$0\"";
        let output = self.run_with(&["bash", "-c", script, path], text, COMMAND_LIMIT)?;
        ensure!(output.good(), "write {path} in {}: {}", self.name, output.all());
        Ok(())
    }

    /// Asks again and again until `question` has an answer, for at most `limit`; `what` is for the message.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut question: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        loop {
            if let Some(answer) = question(self)? {
                return Ok(answer);
            }
            ensure!(began.elapsed() < limit, "{what}: not within {limit:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
