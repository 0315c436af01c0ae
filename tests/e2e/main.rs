//! End-to-end stories, each told on machines of its own. `sudo tests/run` builds what they need and runs them all;
//! `sudo tests/run WORD` those whose name holds the word.

mod machine;
mod boot;
mod watch;
mod recover;
mod upgrade;
mod flapping;
mod alert;
mod ports;
mod claims;
mod rivals;
mod sharing;
mod foreseen;
mod broken;
mod reload;
mod bus;
mod client;
mod listeners;
mod gone;
mod spoilt;
mod native;
mod migrate;
mod guard;
mod refused;
mod settings;
mod shadow;
mod jobs;
mod back;
mod crash;
mod durable;
mod troubles;
mod attacks;
mod disks;
mod snapshots;
mod trips;
mod whole;
mod state;
mod media;
mod images;
mod network;
mod install;
mod faults;
mod well;

use dagger_tests::harness;

fn main() -> std::process::ExitCode {
    let stories = [
        machine::STORIES,
        // The longest first: what begins last should not be waited for alone.
        faults::STORIES,
        boot::STORIES,
        watch::STORIES,
        recover::STORIES,
        upgrade::STORIES,
        flapping::STORIES,
        alert::STORIES,
        ports::STORIES,
        claims::STORIES,
        rivals::STORIES,
        sharing::STORIES,
        foreseen::STORIES,
        broken::STORIES,
        reload::STORIES,
        bus::STORIES,
        client::STORIES,
        listeners::STORIES,
        gone::STORIES,
        spoilt::STORIES,
        native::STORIES,
        migrate::STORIES,
        guard::STORIES,
        refused::STORIES,
        settings::STORIES,
        shadow::STORIES,
        jobs::STORIES,
        back::STORIES,
        crash::STORIES,
        durable::STORIES,
        troubles::STORIES,
        attacks::STORIES,
        disks::STORIES,
        snapshots::STORIES,
        trips::STORIES,
        whole::STORIES,
        state::STORIES,
        media::STORIES,
        images::STORIES,
        network::STORIES,
        install::STORIES,
        well::STORIES,
    ];
    harness::main(&stories.concat())
}
