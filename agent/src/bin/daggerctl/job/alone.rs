//! A job without the agent: root has systemd start its unit, and its own files say how far it is.

use std::process::Stdio;
use std::time::Duration;

use dagger_agent::adapter::bus::JobView;
use dagger_agent::adapter::{clock, jobs};
use dagger_agent::domain::follow::Table;
use dagger_agent::domain::job::{Report, Request, Task};
use dagger_suite::names::{Root, ServiceName};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::error::Error;
use crate::run::cannot_run;

/// Its files are looked at so often.
const LOOK: Duration = Duration::from_millis(300);

/// See the module.
pub struct Alone {
    root: Root,
    service: ServiceName,
    unit: String,
    /// `systemctl start`, until it has ended.
    start: Option<Child>,
    /// What is known of it, as the agent would know it.
    table: Table,
    /// Its number in there.
    number: u64,
}

impl Alone {
    /// Has a task begun on a service.
    pub fn begin(root: Root, task: Task, service: &ServiceName, request: &Request) -> Result<Self, Error> {
        let (unit, mut table) = (task.unit(service.as_str()), Table::default());
        // One that runs already would take nobody's wishes.
        let before = jobs::told(&root, service).map_err(|error| Error::Failed(error.to_string()))?;
        if let Some(report) = before.filter(|report| report.end.is_none() && jobs::is_alive(report.pid)) {
            let (task, pid) = (report.task.word(), report.pid);
            return Err(Error::Failed(format!(
                "{service} is in the hands of process {pid} ({task}): see `systemctl status {pid}`"
            )));
        }
        let number = table.ask(None, task, service.as_str(), clock::realtime_usec());
        // Nobody gives it a number.
        let request = Request {
            number: 0,
            ..request.clone()
        };
        jobs::forget_plan(&root, service)
            .and_then(|()| jobs::ask(&root, service, &request))
            .map_err(|error| Error::Failed(format!("the job cannot be asked for: {error}")))?;
        // A group of its own: Ctrl-C is ours to understand.
        let start = Command::new("systemctl")
            .args(["start", &unit])
            .stdin(Stdio::null())
            // How it ended the job itself says, and better.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_run("systemctl", &error))?;
        Ok(Self {
            root,
            service: service.clone(),
            unit,
            start: Some(start),
            table,
            number,
        })
    }

    /// The job as it is a moment later.
    pub async fn next(&mut self) -> Result<JobView, Error> {
        let over = self.is_over().await?;
        let report =
            jobs::told(&self.root, &self.service).map_err(|error| Error::Failed(error.to_string()))?;
        let since = self.table.get(self.number).map_or(0, |job| job.since);
        if let Some(report) = report.filter(|report| report.at >= since) {
            let number = self.number;
            self.table
                .hear(Report { number, ..report }, clock::realtime_usec());
        }
        if over {
            self.table.gone(self.number, clock::realtime_usec());
        }
        let job = self.table.get(self.number);
        let job = job.ok_or_else(|| Error::Failed("the job is gone".into()))?;
        Ok(JobView::of(job, ""))
    }

    /// Whether its unit has ended. `systemctl start` ends with the job's own process; what finishes or undoes a job that was
    /// killed comes after that.
    async fn is_over(&mut self) -> Result<bool, Error> {
        if let Some(start) = &mut self.start {
            match timeout(LOOK, start.wait()).await {
                Err(_) => return Ok(false),
                Ok(ended) => ended.map_err(|error| cannot_run("systemctl", &error))?,
            };
            self.start = None;
        } else {
            tokio::time::sleep(LOOK).await;
        }
        let shown = Command::new("systemctl")
            .args(["show", "--property=ActiveState", "--value", &self.unit])
            .output()
            .await
            .map_err(|error| cannot_run("systemctl", &error))?;
        let state = String::from_utf8_lossy(&shown.stdout);
        Ok(!matches!(state.trim(), "activating" | "active" | "deactivating"))
    }

    /// Asks it to stop.
    pub async fn cancel(&self) -> Result<(), Error> {
        let unit = &self.unit;
        let asked = Command::new("systemctl")
            .args(["kill", "--kill-who=main", "--signal=TERM", unit])
            .status()
            .await;
        match asked {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::Failed(format!(
                "{unit} cannot be asked to stop ({status})"
            ))),
            Err(error) => Err(cannot_run("systemctl", &error)),
        }
    }

    /// What it has found, as JSON.
    pub fn plan(&self) -> Result<String, Error> {
        let plan = jobs::plan(&self.root, &self.service).map_err(|error| Error::Failed(error.to_string()))?;
        let plan = plan.ok_or_else(|| Error::Failed("the look has left no plan".into()))?;
        serde_json::to_string(&plan).map_err(|error| Error::Failed(error.to_string()))
    }

    /// Where the files lie.
    pub fn root(self) -> Root {
        self.root
    }
}
