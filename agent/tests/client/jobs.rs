//! Jobs of the world's agent, each with a story that its service's name decides:
//!
//! | service | a job on it |
//! |---|---|
//! | sonarr | goes through a few steps and is done |
//! | radarr | goes back half way |
//! | bazarr | has something in its way |
//! | lidarr | goes on until it is cancelled |

use std::collections::BTreeMap;
use std::time::Duration;

use dagger_agent::adapter::bus::{Ask, BusError, JobObject, JobView, Request, SnapshotView, job};
use dagger_agent::domain::job::Task;
use dagger_agent::domain::plan::Plan;
use dagger_agent::domain::plan::finding::{Code, Finding};
use dagger_agent::domain::transaction::Data;
use tokio::sync::{mpsc, watch};
use zbus::Connection;

/// See the module.
pub struct Jobs {
    connection: Connection,
    queue: mpsc::Sender<Request>,
    begun: BTreeMap<u64, (Task, String, watch::Sender<JobView>)>,
}

impl Jobs {
    pub fn new(connection: Connection, queue: mpsc::Sender<Request>) -> Self {
        Self {
            connection,
            queue,
            begun: BTreeMap::new(),
        }
    }

    /// Answers what is about jobs, and hands the rest back.
    pub async fn answer(&mut self, ask: Ask) -> Option<Ask> {
        match ask {
            Ask::Ready(_, name, answer) if name == "whisparr" => {
                let busy = "whisparr is being migrated: step stop (job 9)".to_owned();
                let _ = answer.send(Err(BusError::Busy(busy)));
            }
            Ask::Ready(_, _, answer) => {
                let _ = answer.send(Ok(()));
            }
            Ask::Begin(task, service, request, answer) => {
                let mut what = format!("{service} has ended");
                if request.data == Data::Restore {
                    what = format!("restored {}", request.snapshot.unwrap_or_default());
                }
                let number = self.begin(task, service, what).await;
                let _ = answer.send(Ok(number));
            }
            Ask::Order(_, answer) => {
                let _ = answer.send(Ok(vec!["sonarr".into()]));
            }
            Ask::BeginAll(task, services, answer) => {
                let number = self
                    .begin(task, "sonarr".into(), format!("all of {}", services.join(", ")))
                    .await;
                let _ = answer.send(Ok(number));
            }
            Ask::Cancel(number, answer) => {
                let (_, _, view) = &self.begun[&number];
                let view = view.clone();
                let object = job::path(number);
                tokio::spawn(undo(self.connection.clone(), object, view));
                let _ = answer.send(Ok(()));
            }
            Ask::PlanOf(number, answer) => {
                let (_, service, _) = &self.begun[&number];
                let _ = answer.send(Ok(serde_json::to_string(&plan(service)).unwrap()));
            }
            Ask::Snapshots(service, answer) => {
                let snapshot = SnapshotView {
                    service: "sonarr".into(),
                    id: "20261124-migrate".into(),
                    when: 1_795_525_719_000_000,
                    why: "migrate".into(),
                    files: 12,
                    bytes: 3 << 20,
                    version: Some("4.0.15".into()),
                    ..SnapshotView::default()
                };
                let wanted = service.is_none_or(|service| service == "sonarr");
                let _ = answer.send(Ok(vec![snapshot].into_iter().filter(|_| wanted).collect()));
            }
            other => return Some(other),
        }
        None
    }

    async fn begin(&mut self, task: Task, service: String, what: String) -> u64 {
        let number = u64::try_from(self.begun.len()).unwrap() + 1;
        let view = JobView {
            number,
            service: service.clone(),
            verb: task.word().into(),
            unit: task.unit(&service),
            state: "queued".into(),
            began: 1,
            steps: 3,
            invocation: "ab12".into(),
            ..JobView::default()
        };
        let (sender, shown) = watch::channel(view);
        let object = JobObject::new(shown, self.queue.clone());
        let path = job::path(number);
        self.connection
            .object_server()
            .at(path.clone(), object)
            .await
            .unwrap();
        self.begun.insert(number, (task, service.clone(), sender.clone()));
        tokio::spawn(go(self.connection.clone(), path, sender, task, service, what));
        number
    }
}

async fn go(
    connection: Connection,
    path: String,
    view: watch::Sender<JobView>,
    task: Task,
    service: String,
    what: String,
) {
    let pause = || tokio::time::sleep(Duration::from_millis(60));
    if task != Task::Plan {
        for (place, step) in (1..).zip(["pull", "stop", "start"]) {
            pause().await;
            view.send_modify(|view| {
                view.state = "running".into();
                view.step = step.into();
                view.place = place;
            });
            tell(&connection, &path).await;
            match service.as_str() {
                "lidarr" => return,
                "radarr" if step == "stop" => return undo(connection, path, view).await,
                _ => {}
            }
        }
    }
    pause().await;
    view.send_modify(|view| {
        view.state = "done".into();
        view.result = "done".into();
        view.step.clear();
        view.sentence = what;
        view.snapshot = "20261124-migrate".into();
        view.remedy = format!("the way back: nixarr-migrate rollback {service}");
    });
    tell(&connection, &path).await;
}

async fn undo(connection: Connection, path: String, view: watch::Sender<JobView>) {
    let pause = || tokio::time::sleep(Duration::from_millis(60));
    view.send_modify(|view| {
        view.state = "undoing".into();
        view.reason = "it did not stop".into();
        view.step = "stop".into();
    });
    tell(&connection, &path).await;
    pause().await;
    view.send_modify(|view| {
        view.state = "done".into();
        view.result = "undone".into();
        view.step.clear();
        view.sentence = format!("{} is as it was", view.service);
    });
    tell(&connection, &path).await;
}

async fn tell(connection: &Connection, path: &str) {
    let object = connection
        .object_server()
        .interface::<_, JobObject>(path)
        .await
        .unwrap();
    object
        .get()
        .await
        .state_changed(object.signal_emitter())
        .await
        .unwrap();
}

fn plan(service: &str) -> Plan {
    let blocker = Finding::new(
        Code::NoRoom,
        "/var/lib",
        "there is no room for the snapshot",
        "make room",
    );
    Plan {
        service: service.to_owned(),
        unit: format!("dagger-{service}.service"),
        native: Some(format!("{service}.service")),
        blockers: if service == "bazarr" {
            vec![blocker]
        } else {
            Vec::new()
        },
        ..Plan::default()
    }
}
