//! `pause` and `resume`: whether the agent does something about a service that does not answer. polkit decides who may.

use dagger_agent::cli::{PauseArgs, ResumeArgs};
use dagger_suite::names::exit;

use crate::bus::Bus;
use crate::error::Error;
use crate::screen::print;
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

/// `daggerctl resume`.
pub async fn resume(args: &ResumeArgs) -> Result<u8, Error> {
    let bus = Bus::connect_for_people().await?;
    let report = bus.report().await?;
    let name = known(&args.service, report.names())?;
    bus.resume(&name).await?;
    print(&format!("the pause of {name} is over\n"))?;
    Ok(exit::GOOD)
}
