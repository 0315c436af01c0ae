//! Where a service's alerts are looked through: which are new, who is to hear of them, and who has.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dagger_agent::adapter::alert::{self, Written};
use dagger_agent::adapter::{clock, lines};
use dagger_agent::domain::alert::ledger::{Ledger, Verdict};
use dagger_agent::domain::alert::message::Message;
use dagger_agent::domain::alert::target::{self, Target};
use dagger_agent::domain::alert::{Alert, Event};
use dagger_agent::domain::health::Health;
use dagger_suite::names::{Root, ServiceName};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::send::send;

/// The file's name, below `/etc/dagger` and in the unit's credentials.
const CONFIG: &str = "alert.toml";
/// Instance of the unit that sends a test: `systemctl start dagger-alert@test.service`.
const TEST: &str = "test";
/// Why the unit has failed, for what `OnFailure=` starts (systemd.exec(5)).
const RESULT: &str = "MONITOR_SERVICE_RESULT";
/// How long systemd's own word waits for the agent's, which knows more.
const AGENT: Duration = Duration::from_secs(3);
/// How often it is looked for meanwhile.
const GLANCE: Duration = Duration::from_millis(100);
/// How long systemd may take to say how the unit is now.
const ANSWER: Duration = Duration::from_secs(5);
/// An alert that is older than this is none that we are started for.
const NEW: Duration = Duration::from_mins(1);
/// After this time no further alert is begun: it would be cut off (`TimeoutStartSec=30`).
const LAST_ROUND: Duration = Duration::from_secs(15);

/// The configuration: a credential of the unit, or the file itself for whoever may read it.
pub fn config(root: &Root) -> PathBuf {
    std::env::var_os("CREDENTIALS_DIRECTORY").map_or_else(
        || root.join("/etc/dagger").join(CONFIG),
        |dir| Path::new(&dir).join(CONFIG),
    )
}

/// The targets in it; none without the file.
pub fn targets(path: &Path) -> Result<Vec<Target>, Vec<String>> {
    match fs::read_to_string(path) {
        // The credential lies elsewhere; people know the file by this name.
        Ok(text) => target::read("/etc/dagger/alert.toml", &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(vec![format!("{}: {error}", path.display())]),
    }
}

/// Whether others than its owner and group may read a file.
pub fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// One service's alerts.
pub struct Desk<'a> {
    root: &'a Root,
    service: ServiceName,
    targets: Vec<Target>,
    host: String,
    /// Where the ledger lies.
    dir: PathBuf,
    ledger: Ledger,
    /// What could not be told, in sentences.
    failures: Vec<String>,
}

impl<'a> Desk<'a> {
    /// Reads the targets, and what was told before.
    pub fn open(root: &'a Root, service: ServiceName) -> Result<Self, Vec<String>> {
        let targets = targets(&config(root))?;
        let dir = std::env::var_os("RUNTIME_DIRECTORY").map_or_else(
            || root.join("/run/dagger/alert-state").join(service.as_str()),
            PathBuf::from,
        );
        // With DynamicUser= systemd's own link stands in the way of our rule to follow none.
        let dir = fs::canonicalize(&dir).unwrap_or(dir);
        let (ledger, why) = alert::read_ledger(&dir);
        if let Some(why) = why {
            lines::warning(&why);
        }
        Ok(Self {
            root,
            service,
            targets,
            host: std::env::var("DAGGER_HOST").unwrap_or_else(|_| "this machine".into()),
            dir,
            ledger,
            failures: Vec::new(),
        })
    }

    /// Tells all that is new. An alert that is written meanwhile is told as well: systemd starts no second instance.
    pub async fn serve(mut self) -> Result<(), Vec<String>> {
        let begin = clock::boottime();
        // The agent lives, and knows more than that the unit was failed for a moment: where it does not come back, it says so.
        let mut own = if self.is_new()? { None } else { self.own_alert() };
        loop {
            let age = clock::boottime().saturating_sub(begin);
            let (alert, time) = if let Some(written) = self.fresh()? {
                self.ledger.handled = Some(written.stamp);
                (written.alert, written.stamp / 1_000_000_000)
            } else if let Some(alert) = own.take() {
                (alert, clock::realtime().as_secs())
            } else {
                break;
            };
            if age > LAST_ROUND {
                self.failures.push(format!(
                    "{}: no time was left to tell: {}",
                    self.service, alert.detail
                ));
                break;
            }
            self.tell(&alert, time).await?;
        }
        if self.failures.is_empty() {
            Ok(())
        } else {
            Err(self.failures)
        }
    }

    /// What is to be told beside the agent's word: systemd started us because the unit failed, or somebody tries us.
    fn own_alert(&self) -> Option<Alert> {
        if let Ok(result) = std::env::var(RESULT) {
            let status = std::env::var("MONITOR_EXIT_STATUS").ok();
            return Some(Alert::of_systemd(
                self.service.as_str(),
                &result,
                status.as_deref(),
            ));
        }
        (self.service.as_str() == TEST).then(|| Alert {
            service: TEST.into(),
            event: Event::Test,
            health: Health::Healthy,
            detail: "If you can read this, alerts of the media suite arrive here.".into(),
        })
    }

    /// Whether there is anything to tell. systemd starts us for each moment in which the unit is `failed`, also on the way to
    /// its next start (since 254 before each one that `Restart=` brings; always in a restart whose stop had to kill): only
    /// what stays so is a failure. Meanwhile the agent's own word may come, which knows more.
    pub async fn lasts(&self) -> Result<bool, Vec<String>> {
        // systemd tells a condition nothing of what has failed, as it would a start.
        if self.service.as_str() == TEST {
            return Ok(true);
        }
        let begin = clock::boottime();
        while clock::boottime().saturating_sub(begin) < AGENT {
            if self.is_new()? {
                return Ok(true);
            }
            sleep(GLANCE).await;
        }
        let shown = tokio::process::Command::new("systemctl")
            .args(["show", "--property=ActiveState,Job", "--", &self.service.unit()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        Ok(match timeout(ANSWER, shown).await {
            Ok(Ok(shown)) if shown.status.success() => lasts(&String::from_utf8_lossy(&shown.stdout)),
            // Better a word too much than none.
            _ => true,
        } || self.is_new()?)
    }

    /// Whether the agent has just written an alert that has not been handled. A hook in our place handles none.
    fn is_new(&self) -> Result<bool, Vec<String>> {
        let now = clock::realtime();
        Ok(self
            .fresh()?
            .is_some_and(|written| now < Duration::from_nanos(written.stamp) + NEW))
    }

    /// The agent's last alert, if it has not been handled.
    fn fresh(&self) -> Result<Option<Written>, Vec<String>> {
        let written = alert::read(self.root, &self.service).map_err(|error| vec![error])?;
        Ok(written.filter(|written| self.ledger.handled != Some(written.stamp)))
    }

    /// Tells every target that wants to hear of it and has not just done so, all at once.
    async fn tell(&mut self, alert: &Alert, time: u64) -> Result<(), Vec<String>> {
        // Before anything leaves: if we are cut off, it is better told too little than without end.
        self.save()?;
        let now = clock::boottime();
        let mut sending = JoinSet::new();
        for target in self.targets.iter().filter(|target| target.wants(alert.event)) {
            let held_back = match self
                .ledger
                .judge(&target.name, alert.event, target.min_interval, now)
            {
                Verdict::Tell { held_back } => held_back,
                Verdict::HoldBack => {
                    self.ledger.held_back(&target.name, alert.event);
                    continue;
                }
            };
            let message = Message {
                alert,
                host: &self.host,
                time,
                held_back,
            };
            let letter = message.to(target);
            let secrets: Vec<_> = target.secrets().into_iter().map(str::to_owned).collect();
            let name = target.name.clone();
            sending.spawn(async move { (name, send(letter, &secrets).await) });
        }
        while let Some(sent) = sending.join_next().await {
            match sent {
                Ok((name, Ok(()))) => {
                    lines::info(&format!("{}: {}: told {name}", self.service, alert.event.word()));
                    self.ledger.told(&name, alert.event, now);
                }
                Ok((name, Err(why))) => self.failures.push(format!(
                    "{}: {}: {name} could not be told: {why}",
                    self.service,
                    alert.event.word()
                )),
                Err(error) => self.failures.push(format!("{}: {error}", self.service)),
            }
        }
        self.save()
    }

    fn save(&self) -> Result<(), Vec<String>> {
        alert::write_ledger(&self.dir, &self.ledger).map_err(|error| vec![error.to_string()])
    }
}

/// Whether what systemctl(1) shows of a unit is a failure that lasts: `Job=` is there while one is queued.
fn lasts(shown: &str) -> bool {
    let value = |name: &str| {
        shown
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let failed = value("ActiveState").is_none_or(|state| state == "failed");
    failed && value("Job").is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_that_lasts_is_one() {
        for (shown, is_one) in [
            ("ActiveState=failed\n", true),
            ("Job=\nActiveState=failed\n", true),
            ("Job=117\nActiveState=failed\n", false),
            ("ActiveState=activating\n", false),
            ("ActiveState=active\n", false),
            ("ActiveState=inactive\n", false),
            ("", true),
        ] {
            assert_eq!(lasts(shown), is_one, "{shown:?}");
        }
    }
}
