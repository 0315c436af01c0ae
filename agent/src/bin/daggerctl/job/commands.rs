//! `plan`, `migrate`, `rollback`, `shadow`, `promote`, `discard`, `resume`, `cancel`.

use dagger_agent::adapter::bus::Owner;
use dagger_agent::cli::migrate::{
    CancelArgs, ChangeArgs, HowArgs, OneArgs, PlanArgs, ResumeArgs, RollbackArgs,
};
use dagger_agent::domain::follow::all::{Member, order};
use dagger_agent::domain::job::{Request, Task};
use dagger_agent::domain::plan::Plan;
use dagger_agent::domain::transaction::Data;
use dagger_suite::names::{Root, ServiceName, exit};

use super::follow::{End, follow};
use super::person::{Agent, confirm};
use super::show;
use super::way::{Running, Way};
use crate::bus::Bus;
use crate::error::Error;
use crate::screen::{Screen, print, print_json};
use crate::suite::Suite;

/// What is said where there is none to be migrated.
const NOTHING: &str = "nothing to migrate: no service is with its native unit\n";
/// Stands for every service on the command line.
const ALL: &str = "all";

/// `plan`: what a migration would do.
pub async fn plan(args: &PlanArgs, screen: Screen) -> Result<u8, Error> {
    let services = named(&args.service, Task::Migrate)?;
    if services.is_empty() && !args.json {
        print(NOTHING)?;
        return Ok(exit::GOOD);
    }
    let _agent = Agent::start();
    let plans = plans(&services, screen).await?.1;
    show_plans(&plans, args.service == ALL, args.json)
}

/// `migrate`: shows the plan, asks, and goes.
pub async fn migrate(args: &ChangeArgs, screen: Screen) -> Result<u8, Error> {
    let services = named(&args.service, Task::Migrate)?;
    let all = args.service == ALL;
    let _agent = Agent::start();
    if services.is_empty() {
        print(NOTHING)?;
        return Ok(exit::GOOD);
    }
    // What nobody wants to read is not looked for: the job looks itself.
    let way = if args.how.yes && !args.dry_run {
        None
    } else {
        let (way, plans) = plans(&services, screen).await?;
        let code = show_plans(&plans, all, args.how.json)?;
        if args.dry_run || code != exit::GOOD {
            return Ok(code);
        }
        Some(way)
    };
    if !args.how.yes {
        confirm("All of it happens, or nothing", &args.service)?;
    }
    go(
        way,
        Task::Migrate,
        &services,
        all,
        &Request::default(),
        &args.how,
        screen,
    )
    .await
}

/// `rollback`: the way back.
pub async fn rollback(args: &RollbackArgs, screen: Screen) -> Result<u8, Error> {
    let services = named(&args.service, Task::Rollback)?;
    let all = args.service == ALL;
    if all && args.to_snapshot.is_some() {
        return Err(Error::Usage(
            "--to-snapshot is for one service: its data becomes what it was, and what it has written since does not go back"
                .into(),
        ));
    }
    if services.is_empty() {
        print("nothing to roll back: no service that has a native unit is in its container\n")?;
        return Ok(exit::GOOD);
    }
    let request = Request {
        number: 0,
        data: if args.to_snapshot.is_some() {
            Data::Restore
        } else {
            Data::Keep
        },
        snapshot: args.to_snapshot.clone().flatten(),
    };
    if !args.how.yes {
        let names = services
            .iter()
            .map(ServiceName::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let data = match (&request.data, &request.snapshot) {
            (Data::Keep, _) => "What the container has written goes back, too".to_owned(),
            (Data::Restore, None) => {
                "The data becomes what it was before the migration; what the container has written is kept as a snapshot"
                    .to_owned()
            }
            (Data::Restore, Some(id)) => format!(
                "The data becomes what the snapshot {id} holds; what the container has written is kept as a snapshot"
            ),
        };
        confirm(
            &format!("{names}: from the container back to the native unit. {data}"),
            &args.service,
        )?;
    }
    let _agent = Agent::start();
    go(None, Task::Rollback, &services, all, &request, &args.how, screen).await
}

/// `shadow`, `promote`, `discard`, `rehearse`.
pub async fn one(task: Task, args: &OneArgs, screen: Screen) -> Result<u8, Error> {
    // What has left the configuration may have left a shadow.
    let left = ServiceName::parse(&args.service)
        .ok()
        .filter(|name| task == Task::Discard && Root::from_env().join(name.shadow_file()).exists());
    let services = match left {
        Some(name) => vec![name],
        None => Suite::read(Root::from_env()).names(std::slice::from_ref(&args.service))?,
    };
    if !args.how.yes {
        let what = match task {
            Task::Shadow => "a second one runs on a copy of the data, beside the native unit",
            Task::Rehearse => {
                "its migration is tried on a copy of the data, which is thrown away; the native unit goes on running"
            }
            Task::Promote => "the shadow is thrown away, and the container takes over",
            _ => "the shadow is thrown away, with its copy of the data",
        };
        confirm(&format!("{}: {what}", args.service), &args.service)?;
    }
    let _agent = Agent::start();
    go(
        None,
        task,
        &services,
        false,
        &Request::default(),
        &args.how,
        screen,
    )
    .await
}

/// `nixarr-migrate resume`, and what of `daggerctl resume` is not about pauses.
pub async fn resume(args: &ResumeArgs, screen: Screen) -> Result<u8, Error> {
    let _agent = Agent::start();
    let services = if let Some(word) = &args.service {
        vec![ServiceName::parse(word).map_err(Error::Usage)?]
    } else {
        let report = Bus::connect().await?.report().await?;
        let open = report
            .services
            .into_iter()
            .filter(|service| service.view.interrupted);
        let names = open.map(|service| ServiceName::parse(&service.view.name));
        names.collect::<Result<Vec<_>, _>>().map_err(Error::Failed)?
    };
    if services.is_empty() {
        print("nothing was interrupted\n")?;
        return Ok(exit::GOOD);
    }
    let how = HowArgs {
        yes: true,
        detach: args.detach,
        json: args.json,
    };
    let mut code = exit::GOOD;
    for service in services {
        let one = std::slice::from_ref(&service);
        let ended = go(None, Task::Resume, one, false, &Request::default(), &how, screen).await?;
        code = code.max(ended);
    }
    Ok(code)
}

/// `cancel`: by the service, which has one job at most.
pub async fn cancel(args: &CancelArgs) -> Result<u8, Error> {
    let _agent = Agent::start();
    let bus = Bus::connect_for_people().await?;
    let jobs = bus.jobs().await?;
    let of = |wanted: &str| {
        let mut open = jobs.iter().filter(|job| !job.is_over());
        open.find(|job| job.service == wanted).map(|job| job.number)
    };
    // A job on the whole suite has no service.
    let number = if args.service == ALL {
        of("")
    } else {
        of(&args.service)
    };
    let number = number.ok_or_else(|| {
        Error::Failed(format!(
            "no job is at work on {}",
            crate::text::clean(&args.service)
        ))
    })?;
    let path = dagger_agent::adapter::bus::job::path(number);
    let path = path
        .try_into()
        .map_err(|_| Error::Failed("the job is gone".into()))?;
    bus.cancel(&path).await?;
    print(&format!(
        "job {number} was asked to stop, and undoes what it has done: nixarr-migrate status\n"
    ))?;
    Ok(exit::GOOD)
}

/// The services that a word means; for `all` those that a task is about, in their order.
fn named(word: &str, task: Task) -> Result<Vec<ServiceName>, Error> {
    let suite = Suite::read(Root::from_env());
    if word != ALL {
        // The job says what the way back is of one that has left the configuration while its container has the data.
        return match suite.names(&[word.to_owned()]) {
            Err(error) if task == Task::Rollback => match ServiceName::parse(word) {
                Ok(name) if Root::from_env().join(name.owner_marker()).exists() => Ok(vec![name]),
                _ => Err(error),
            },
            other => other,
        };
    }
    let from = match task {
        Task::Rollback => Owner::Container,
        _ => Owner::Native,
    };
    let members: Vec<Member<'_>> = suite
        .services()
        .iter()
        .filter(|service| {
            let name = service.name.as_str();
            suite.native_unit(name).is_some() && suite.owner(name, false) == from
        })
        .map(|service| Member {
            name: service.name.as_str(),
            wants: &service.wants,
        })
        .collect();
    order(&members)
        .iter()
        .map(|name| ServiceName::parse(name).map_err(Error::Usage))
        .collect()
}

/// Has the services looked at, one after the other.
async fn plans(services: &[ServiceName], screen: Screen) -> Result<(Way, Vec<Plan>), Error> {
    let unit = services
        .first()
        .map_or_else(String::new, |name| Task::Plan.unit(name.as_str()));
    let mut way = Way::find(&unit).await?;
    let mut plans = Vec::new();
    for service in services {
        let mut running = way.begin(Task::Plan, service, &Request::default()).await?;
        let view = match follow(&mut running, screen, true).await? {
            End::Over(view) => view,
            // Whoever does not wait for the look does not want what comes after it.
            End::Detached(_) => return Err(Error::Failed("nothing was begun".into())),
        };
        match running.plan().await {
            Ok(text) => plans.push(
                serde_json::from_str(&text)
                    .map_err(|error| Error::Failed(format!("the plan is not understood: {error}")))?,
            ),
            Err(_) if view.result != "done" => return Err(Error::Failed(view.sentence)),
            Err(error) => return Err(error),
        }
        way = running.way();
    }
    Ok((way, plans))
}

/// Shows plans; the code says whether anything stands in the way.
fn show_plans(plans: &[Plan], all: bool, json: bool) -> Result<u8, Error> {
    match plans {
        [plan] if json && !all => print_json(plan)?,
        plans if json => print_json(&plans)?,
        plans => {
            let text: Vec<String> = plans.iter().map(ToString::to_string).collect();
            print(&text.join("\n"))?
        }
    };
    Ok(if plans.iter().any(Plan::is_blocked) {
        exit::FAILED
    } else {
        exit::GOOD
    })
}

/// Has it begun, and waits for its end where that is wanted.
async fn go(
    way: Option<Way>,
    task: Task,
    services: &[ServiceName],
    all: bool,
    request: &Request,
    how: &HowArgs,
    screen: Screen,
) -> Result<u8, Error> {
    let Some(service) = services.first() else {
        return Ok(exit::GOOD);
    };
    let way = match way {
        Some(way) => way,
        None => Way::find(&task.unit(service.as_str())).await?,
    };
    let mut running = if all {
        way.begin_all(task).await?
    } else {
        way.begin(task, service, request).await?
    };
    if how.detach {
        let view = running.next().await?;
        if how.json {
            print_json(&view)?;
        } else {
            print(&show::detached(&view))?;
        }
        return Ok(exit::GOOD);
    }
    end(&mut running, how.json, screen).await
}

async fn end(running: &mut Running, json: bool, screen: Screen) -> Result<u8, Error> {
    match follow(running, screen, json).await? {
        End::Detached(view) => {
            print(&show::detached(&view))?;
            Ok(exit::FAILED)
        }
        End::Over(view) => {
            if json {
                print_json(&view)?;
            } else {
                print(&show::end(&view))?;
            }
            Ok(if view.result == "done" {
                exit::GOOD
            } else {
                exit::FAILED
            })
        }
    }
}
