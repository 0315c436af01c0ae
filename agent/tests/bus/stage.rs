//! The world with a polkit and a caller in it, and jobs that the tests play.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::world::{LIMIT, World};
use dagger_agent::adapter::bus::{BusError, JobView, ManagerProxy, client};
use dagger_agent::adapter::jobs;
use dagger_agent::domain::job::{End, Ended, Report, Task};
use dagger_agent::domain::transaction::Side;
use dagger_suite::names::{Root, ServiceName};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, interface};

pub const UP: (&str, &str, &str, u32) = ("loaded", "activating", "start", 4711);
pub const DOWN: (&str, &str, &str, u32) = ("loaded", "inactive", "dead", 0);
pub const RUNS: (&str, &str, &str, u32) = ("loaded", "active", "running", 77);
pub const UNIT: &str = "dagger-migrate@sonarr.service";

/// What polkit does with a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mood {
    Allows,
    Denies,
    WantsPassword,
    Waits,
}

/// A polkit with a mood for each action, by its last word, and a list of what it was asked.
#[derive(Clone)]
pub struct Polkit(
    pub Arc<Mutex<HashMap<&'static str, Mood>>>,
    pub Arc<Mutex<Vec<String>>>,
);

pub type Subject = (String, HashMap<String, OwnedVariant>);

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    async fn check_authorization(
        &self,
        subject: Subject,
        action: String,
        details: HashMap<String, String>,
        flags: u32,
        cancellation: String,
    ) -> (bool, bool, HashMap<String, String>) {
        assert_eq!(
            (subject.0.as_str(), cancellation.as_str()),
            ("system-bus-name", "")
        );
        let verb = action.strip_prefix("org.nixarr.dagger1.").unwrap();
        self.1
            .lock()
            .unwrap()
            .push(format!("{verb} {} {}", details["service"], details["unit"]));
        let mood = self.0.lock().unwrap().get(verb).copied().unwrap_or(Mood::Allows);
        let answer = match mood {
            Mood::Allows => (true, false),
            Mood::Denies => (false, false),
            Mood::WantsPassword => (false, flags & 1 == 0),
            Mood::Waits => std::future::pending().await,
        };
        (answer.0, answer.1, HashMap::new())
    }
}

/// The world with a polkit and a caller in it.
pub struct Stage {
    pub world: World,
    pub caller: Connection,
    pub polkit: Polkit,
    _polkit: Connection,
}

impl Stage {
    /// Native services with a container each; what they want.
    pub async fn new(name: &str, services: &[(&str, &[&str])]) -> Option<Self> {
        let world = World::new(name).await?;
        let mut text = String::from("[suite]\nmedia = \"/fun\"\n");
        for (port, (name, wants)) in (1..).zip(services) {
            let table = format!(
                "[services.{name}]\nimage = \"localhost/x:1\"\nport = {port}\nnative = \"{name}.service\"\nwants = {wants:?}\n"
            );
            text.push_str(&table);
            let unit = format!("etc/systemd/system/{name}.service");
            world.put(&unit, "[Service]\nExecStart=/bin/true\n");
            world.unit(&format!("dagger-{name}.service"), DOWN).await;
            world.unit(&format!("{name}.service"), RUNS).await;
        }
        world.put("etc/dagger/dagger.toml", &text);
        let polkit = Polkit(Arc::default(), Arc::default());
        let path = "/org/freedesktop/PolicyKit1/Authority";
        let served = world
            .serve("org.freedesktop.PolicyKit1", path, polkit.clone())
            .await;
        let mut world = world;
        world.start().await;
        Some(Self {
            caller: world.caller().await,
            world,
            polkit,
            _polkit: served,
        })
    }

    pub async fn sonarr(name: &str) -> Option<Self> {
        Self::new(name, &[("sonarr", &[])]).await
    }

    pub fn mood(&self, verb: &'static str, mood: Mood) {
        self.polkit.0.lock().unwrap().insert(verb, mood);
    }

    pub fn questions(&self) -> Vec<String> {
        std::mem::take(&mut *self.polkit.1.lock().unwrap())
    }

    /// What systemd was asked since the last time.
    pub fn orders(&self) -> Vec<String> {
        std::mem::take(&mut *self.world.asked.lock().unwrap())
    }

    pub fn root(&self) -> Root {
        Root::new(self.world.path("").canonicalize().unwrap())
    }

    pub fn tell(&self, report: &Report) {
        jobs::tell(&self.root(), &name(&report.service), report).unwrap();
    }

    pub async fn manager(&self) -> ManagerProxy<'_> {
        ManagerProxy::new(&self.caller).await.unwrap()
    }

    pub async fn migrate(&self, service: &str) -> Result<OwnedObjectPath, BusError> {
        self.manager().await.migrate(service.into(), HashMap::new()).await
    }

    /// The job as the bus shows it, as soon as it is as wanted.
    pub async fn until(&self, path: &OwnedObjectPath, wanted: impl Fn(&JobView) -> bool) -> JobView {
        let begin = Instant::now();
        loop {
            let view = client::job(&self.caller, path).await.unwrap();
            if wanted(&view) {
                return view;
            }
            assert!(begin.elapsed() < LIMIT, "it stays {view:?}: {}", self.world.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn work(&self, service: &str) -> String {
        let (_, services) = client::suite(&self.caller).await.unwrap();
        services
            .into_iter()
            .find(|view| view.name == service)
            .unwrap()
            .work
    }

    /// Plays a job that systemd has been asked for, from its beginning to its end.
    pub async fn play(&self, number: u64, service: &str, result: Ended) {
        let unit = format!("dagger-migrate@{service}.service");
        let begin = Instant::now();
        while !self
            .world
            .asked
            .lock()
            .unwrap()
            .contains(&format!("start {unit}"))
        {
            assert!(begin.elapsed() < LIMIT, "{unit} was not started");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let request = jobs::asked(&self.root(), &name(service)).unwrap().unwrap();
        assert!(number == 0 || request.number == number, "{request:?}");
        self.world.change(&unit, UP).await;
        let report = report(request.number, service);
        self.tell(&report);
        self.tell(&ended(report, result));
        if result == Ended::Done {
            self.world.put(
                &format!("var/lib/dagger/owner/{service}"),
                "DAGGER_UID=1\nDAGGER_GID=1\n",
            );
            self.world.change(&format!("{service}.service"), DOWN).await;
        }
        self.world.change(&unit, DOWN).await;
    }
}

pub fn name(service: &str) -> ServiceName {
    ServiceName::parse(service).unwrap()
}

pub fn report(number: u64, service: &str) -> Report {
    Report {
        number,
        ..Report::begun(Task::Migrate, service, std::process::id(), 5_000_000)
    }
}

pub fn ended(report: Report, result: Ended) -> Report {
    let end = End {
        result,
        sentence: format!("{} has ended", report.service),
        todo: Some("look at it".into()),
        owner: Some(Side::Container),
        snapshot: Some("20261124-migrate".into()),
        down_ms: Some(1500),
    };
    Report {
        end: Some(end),
        ..report
    }
}

pub fn number(path: &OwnedObjectPath) -> u64 {
    path.as_str().rsplit('/').next().unwrap().parse().unwrap()
}
