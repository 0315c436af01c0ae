//! Transactions that are interrupted at every point, by a killed process and by a power cut that takes what was not synced,
//! again and again on the way: afterwards it is the old world or the new one, and nothing is lost that was acknowledged.
//!
//! The steps are the engine's own and the disk's calls are those of the ledger: a new step, or a new write, is interrupted
//! without anybody adding it here. `DAGGER_CRASHES=N` tries N random courses of three interruptions, and all of two.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails says so by ending"
)]

mod disk;
mod plant;
mod power;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use dagger_agent::adapter::transaction::{Found, Wal, WalError};
use dagger_agent::domain::transaction::{
    Data, Moment, Options, Outcome, Progress, RunAs, Side, Transaction, Verb, resume, run,
};
use serde_json::Value;

use disk::{Disk, Site};
use plant::{OLDER, Plant, Shared};
use power::{Luck, Power, next};

/// One interruption.
#[derive(Debug, Clone, Copy)]
struct Stop {
    /// At which point of what is under way then.
    at: u64,
    /// The power is gone; else the process is killed.
    cut: bool,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
struct Scene {
    verb: Verb,
    data: Data,
    well: bool,
    luck: Luck,
    without: Option<Site>,
}

/// How it went: points that were passed in the last stretch, and the places of its syncs.
struct Course {
    passed: u64,
    sites: Vec<Site>,
}

fn transaction(scene: Scene) -> Transaction {
    Transaction {
        id: "20261128-081500-x".into(),
        service: "sonarr".into(),
        verb: scene.verb,
        options: Options {
            data: scene.data,
            ..Options::default()
        },
        run_as: Some(RunAs { uid: 274, gid: 169 }),
        plan: Value::Null,
    }
}

/// One that jumps, forwards and back, also to its beginning: nothing may hang on it.
fn clock() -> u64 {
    thread_local!(static TURN: Cell<usize> = const { Cell::new(0) });
    const HOUR: u64 = 3_600_000_000;
    const NOW: u64 = 1_795_850_000_000_000;
    let turn = TURN.replace(TURN.get() + 1);
    [NOW, NOW - 24 * HOUR, NOW + 8760 * HOUR, NOW, 0][turn % 5]
}

/// Plays a scene with these interruptions; the error says what must not happen.
fn play(scene: Scene, stops: &[Stop]) -> Result<Course, String> {
    let power = Power::until(stops.first().map_or(u64::MAX - 1, |stop| stop.at), scene.luck);
    let mut disk = Disk::new(power.clone());
    disk.without = scene.without;
    if scene.verb == Verb::Rollback {
        disk.settle("owner/sonarr", b"DAGGER_UID=274\nDAGGER_GID=169\n");
    }
    let disk = Shared(Rc::new(RefCell::new(disk)));
    let mut plant = Plant::new(power.clone(), disk.clone(), scene.verb, scene.well);
    let begun = transaction(scene);
    let mut outcome = match Wal::prepare(disk.clone(), &begun, clock) {
        Ok(mut wal) => Some(run(&begun, &mut plant, &mut wal)),
        Err(error) if !power.is_gone() => return Err(format!("it cannot begin: {error}")),
        Err(_) => None,
    };
    for (index, stop) in stops.iter().enumerate() {
        if !power.is_gone() {
            break;
        }
        let until = stops.get(index + 1).map_or(u64::MAX - 1, |stop| stop.at);
        if stop.cut {
            disk.0.borrow_mut().lose_power();
            power.restore(until);
            plant.go_out();
            go_on(&mut plant, &disk, &power)?;
            if power.is_gone() {
                continue;
            }
            plant.moment = Moment::Running;
            plant.boot();
        } else {
            power.restore(until);
            if plant.moment == Moment::Boot {
                // It was the recovery that was killed: the machine boots all the same.
                plant.moment = Moment::Running;
                plant.boot();
            }
        }
        outcome = go_on(&mut plant, &disk, &power)?;
    }
    judge_shadow(scene, &plant, outcome.as_ref())?;
    judge(scene, &plant, outcome)?;
    let sites = disk.0.borrow().sites.clone();
    Ok(Course {
        passed: power.passed(),
        sites,
    })
}

fn go_on(plant: &mut Plant, disk: &Shared, power: &Power) -> Result<Option<Outcome>, String> {
    match Wal::find(disk.clone(), "sonarr", clock) {
        Ok(Found::Nothing) => Ok(None),
        Ok(Found::Open(progress, mut wal)) => {
            let progress: Progress = *progress;
            Ok(Some(resume(progress, plant.moment, plant, &mut wal)))
        }
        Err(WalError::Io { .. }) if power.is_gone() => Ok(None),
        Err(error) => Err(format!("the log cannot be used: {error}")),
    }
}

/// A shadow is there or is not; one that was not kept leaves nothing.
fn judge_shadow(scene: Scene, plant: &Plant, outcome: Option<&Outcome>) -> Result<(), String> {
    let gone = match (scene.verb, outcome) {
        (Verb::Migrate | Verb::Rollback | Verb::Rehearse, _) => true,
        (Verb::Shadow, outcome) => matches!(outcome, Some(Outcome::Undone(_))),
        (Verb::Promote | Verb::Discard, outcome) => matches!(outcome, Some(Outcome::Committed)),
    };
    if (gone && plant.clone) || (plant.shadow && !plant.clone) {
        return Err(format!(
            "of a shadow there is: copy {}, container {}",
            plant.clone, plant.shadow
        ));
    }
    Ok(())
}

/// Exactly the old world or exactly the new one.
fn judge(scene: Scene, plant: &Plant, outcome: Option<Outcome>) -> Result<(), String> {
    if let Some(wrong) = plant.wrong.first() {
        return Err(wrong.clone());
    }
    if let Some(Outcome::Stuck { failure, .. }) = outcome {
        return Err(format!("it is stuck: {failure}"));
    }
    let disk = plant.disk.0.borrow();
    if disk.has("hold/sonarr") {
        return Err("the service is held at the end".into());
    }
    if disk.has("transactions/sonarr/log") {
        return Err("the log is open at the end".into());
    }
    let side = plant.turn().unwrap();
    if plant.running != Some(side) {
        return Err(format!("{side:?} should run, and {:?} does", plant.running));
    }
    if plant.adjusted != (side == Side::Container) {
        return Err(format!("{side:?} runs with the other side's settings"));
    }
    let began_with = match scene.data {
        Data::Keep => plant.old_rows,
        Data::Restore => OLDER,
    };
    let (expected, world) = if side == scene.verb.from() {
        (plant.old_rows, "old")
    } else {
        (began_with + plant.new_rows, "new")
    };
    if plant.data != expected {
        return Err(format!(
            "{} rows in the {world} world, {expected} were acknowledged",
            plant.data
        ));
    }
    if !scene.well && side != scene.verb.from() {
        return Err("a side that is not well was kept".into());
    }
    // What the new side acknowledged before it was undone is kept beside it.
    if world == "old" && plant.new_rows > 0 && !plant.aside.contains(&plant.new_peak) {
        return Err(format!("{} rows of the new side are gone", plant.new_rows));
    }
    if world == "new" && scene.data == Data::Restore && plant.snapshot != Some(plant.old_rows) {
        return Err("what the old side wrote is gone".into());
    }
    Ok(())
}

fn scenes(luck: Luck) -> Vec<Scene> {
    let kinds = [
        (Verb::Migrate, Data::Keep),
        (Verb::Rollback, Data::Keep),
        (Verb::Rollback, Data::Restore),
        (Verb::Shadow, Data::Keep),
        (Verb::Promote, Data::Keep),
        (Verb::Discard, Data::Keep),
        (Verb::Rehearse, Data::Keep),
    ];
    let mut scenes = Vec::new();
    for (verb, data) in kinds {
        for well in [true, false] {
            scenes.push(Scene {
                verb,
                data,
                well,
                luck,
                without: None,
            });
        }
    }
    scenes
}

fn lucks() -> Vec<Luck> {
    let mut lucks = vec![Luck::None, Luck::All];
    lucks.extend((1..4).map(Luck::Some));
    lucks
}

/// Every point once, by both kinds of interruption, and each time every `stride`th point of what follows. Says how many
/// courses it were.
fn twice_everywhere(scene: Scene, stride: usize) -> Result<u64, String> {
    let whole = play(scene, &[])?.passed;
    let mut courses = 0;
    for at in 0..whole {
        for cut in [false, true] {
            let first = Stop { at, cut };
            let said = |stops: &[Stop], why: String| format!("{scene:?} {stops:?}: {why}");
            let rest = play(scene, &[first]).map_err(|why| said(&[first], why))?.passed;
            courses += 1;
            // Another one each time, so that all have their turn.
            for at in (at % stride as u64..rest).step_by(stride) {
                for cut in [false, true] {
                    let stops = [first, Stop { at, cut }];
                    play(scene, &stops).map_err(|why| said(&stops, why))?;
                    courses += 1;
                }
            }
        }
    }
    Ok(courses)
}

#[test]
fn without_an_interruption_it_is_the_new_world_or_the_old_one() {
    for scene in scenes(Luck::None) {
        play(scene, &[]).unwrap();
    }
}

#[test]
fn two_interruptions_anywhere_lose_nothing() {
    let (stride, lucks) = match wanted() {
        None => (53, vec![Luck::None, Luck::Some(1)]),
        Some(_) => (1, lucks()),
    };
    let mut courses = 0;
    for luck in lucks {
        for scene in scenes(luck) {
            courses += twice_everywhere(scene, stride).unwrap();
        }
    }
    println!("{courses} courses of one or two interruptions");
}

#[test]
fn three_interruptions_at_random_points_lose_nothing() {
    let courses = wanted().unwrap_or(1_000);
    let mut seed = 20_261_128;
    for course in 0..courses {
        let all = scenes(Luck::Some(next(&mut seed)));
        let pick = |seed: &mut u64, count: u64| next(seed) % count;
        let scene = all[usize::try_from(pick(&mut seed, all.len() as u64)).unwrap()];
        let mut stops = Vec::new();
        for _ in 0..3 {
            let Ok(rest) = play(scene, &stops) else { break };
            let at = pick(&mut seed, rest.passed.max(1));
            let cut = pick(&mut seed, 2) == 1;
            stops.push(Stop { at, cut });
        }
        if let Err(why) = play(scene, &stops) {
            panic!("course {course}: {scene:?} {stops:?}: {why}");
        }
    }
    println!("{courses} courses of three interruptions");
}

/// How many random courses are wanted; none: as many as a run of all tests has time for.
fn wanted() -> Option<u64> {
    let text = std::env::var("DAGGER_CRASHES").ok()?;
    Some(text.parse().unwrap())
}

/// Each sync is there for a reason: without any one of them something is lost.
#[test]
fn no_sync_can_be_spared() {
    let mut sites: Vec<Site> = Vec::new();
    for scene in scenes(Luck::None) {
        for at in 0..play(scene, &[]).unwrap().passed {
            for site in play(scene, &[Stop { at, cut: true }]).unwrap().sites {
                if !sites.contains(&site) {
                    sites.push(site);
                }
            }
        }
    }
    assert!(sites.len() > 5, "{sites:?}");
    let spared: Vec<String> = sites
        .iter()
        .filter(|site| {
            !lucks().into_iter().any(|luck| {
                scenes(luck).into_iter().any(|scene| {
                    let without = Some(**site);
                    let scene = Scene { without, ..scene };
                    twice_everywhere(scene, 101).is_err() || twice_everywhere(scene, 3).is_err()
                })
            })
        })
        .map(ToString::to_string)
        .collect();
    assert!(spared.is_empty(), "nothing is lost without these: {spared:#?}");
}
