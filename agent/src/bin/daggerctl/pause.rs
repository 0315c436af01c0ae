//! `pause` and `resume`: whether the agent does something about a service that does not answer. polkit decides who may.

use dagger_agent::cli::PauseArgs;
use dagger_agent::cli::migrate::ResumeArgs;
use dagger_suite::names::exit;

use crate::bus::Bus;
use crate::error::Error;
use crate::job::commands;
use crate::screen::{Screen, print};
use crate::suite::known;
use crate::text::span;

/// `daggerctl pause`.
pub async fn pause(args: &PauseArgs) -> Result<u8, Error> {
    let bus = Bus::connect_for_people().await?;
    let report = bus.report().await?;
    let name = known(&args.service, report.names())?;
    // 0 is a pause without an end, so a part of a second counts as a whole one.
    let seconds = args.length.map_or(0, |length| {
        length.as_secs() + u64::from(length.subsec_nanos() > 0)
    });
    bus.pause(&name, seconds).await?;
    let length = args
        .length
        .map_or("until `daggerctl resume`".to_owned(), |length| {
            format!("for {}", span(length))
        });
    print(&format!(
        "{name} is left alone {length}, however it answers; it is watched on\n"
    ))?;
    Ok(exit::GOOD)
}

/// `daggerctl resume`: ends a pause, and finishes or undoes what was interrupted.
pub async fn resume(args: &ResumeArgs, screen: Screen) -> Result<u8, Error> {
    let Some(word) = &args.service else {
        return commands::resume(args, screen).await;
    };
    let bus = Bus::connect_for_people().await?;
    let report = bus.report().await?;
    let interrupted = report
        .services
        .iter()
        .find(|service| service.view.name == *word)
        .is_some_and(|service| service.view.interrupted);
    let paused = report
        .services
        .iter()
        .any(|service| service.view.name == *word && service.view.paused_until > 0);
    if paused || !interrupted {
        let name = known(word, report.names())?;
        bus.resume(&name).await?;
        print(&format!("the pause of {name} is over\n"))?;
    }
    if interrupted {
        return commands::resume(args, screen).await;
    }
    Ok(exit::GOOD)
}
