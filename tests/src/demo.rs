//! The demonstration: a machine boots, the suite is installed, six applications come up; one is killed, one hangs, a disk
//! is full, the agent dies; then two move from a native install into their containers and back. Every line below
//! a `$` is what the machine really said.

mod moves;

use crate::rig::{Machine, Spec, Suite, host, progress, sweep};
use crate::suite::{Ground, SIX_TOML, checkout, programs};
use anyhow::{Context, Result, ensure};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Where the machine sees the checkout, and the programs when they were built elsewhere.
const SOURCE: &str = "/src";
const PROGRAMS: &str = "/programs";
/// Longer lines are cut.
const WIDTH: usize = 170;
/// So long may one step take.
const LIMIT: Duration = Duration::from_mins(2);
/// The stand-in's library of films lies where nothing is on this machine; a user's would lie in the media.
const LIBRARY: &str = "mkdir -p /fun/movies && touch /fun/movies/film.mkv && echo /fun/movies >/var/lib/nixarr/jellyfin/data/root/default/Movies/movies.mblink";

/// Runs it. With `once` it ends by itself, else it leaves a shell in the machine.
pub fn run(once: bool) -> Result<()> {
    let began = Instant::now();
    host::can_boot().context("this machine cannot boot another one")?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    Ground::built()?;
    let stage = Stage::open()?;
    stage.install()?;
    stage.configure()?;
    let stage = stage.reboot()?;
    stage.look()?;
    stage.kill()?;
    stage.hang()?;
    stage.full()?;
    stage.agent()?;
    stage.mistake()?;
    moves::run()?;
    if once {
        heading(&format!(
            "Done in {:.0} s; the machine is gone",
            began.elapsed().as_secs_f64()
        ));
        return Ok(());
    }
    heading(
        "A shell in the machine: try daggerctl, systemctl, busctl, journalctl; `exit` ends and removes it",
    );
    stage.machine.shell()
}

/// The machine on which it all happens.
struct Stage {
    machine: Machine,
    install: String,
}

impl Stage {
    fn open() -> Result<Self> {
        heading(
            "A machine of its own: Debian 13 in a container with its own systemd, D-Bus, journal and podman",
        );
        let (spec, install) = spec()?;
        let machine = progress::during("booting", || Machine::boot(spec))?;
        let stage = Self { machine, install };
        stage.show("systemctl --version | head -n 1; podman --version; systemctl is-system-running; systemctl list-units --no-legend 'dagger-*' | wc -l")?;
        Ok(stage)
    }

    fn install(&self) -> Result<()> {
        heading("Install");
        self.show(&self.install)
    }

    fn configure(&self) -> Result<()> {
        heading("One file");
        self.machine.write("/etc/dagger/dagger.toml", SIX_TOML)?;
        self.machine.ok("mkdir -p /fun")?;
        self.show("cat /etc/dagger/dagger.toml")?;
        self.show("daggerctl config check")
    }

    fn reboot(mut self) -> Result<Self> {
        heading("Reboot: from here on nobody starts anything by hand");
        said("systemctl reboot");
        self.machine.shut_down()?;
        let power = Instant::now();
        {
            let _step = progress::step("from power to six applications that answer");
            self.machine.power_on()?;
            self.machine.wait_six()?;
            self.machine.ok(LIBRARY)?;
        }
        println!(
            "    six healthy {:.1} s after the power came back",
            power.elapsed().as_secs_f64()
        );
        self.show("systemctl list-units --no-legend 'dagger-*'")?;
        Ok(self)
    }

    fn look(&self) -> Result<()> {
        heading("Their health");
        self.show("daggerctl status")?;
        heading("The same on the bus");
        self.show("busctl tree org.nixarr.Dagger1")?;
        self.show("busctl call org.nixarr.Dagger1 /org/nixarr/Dagger1 org.nixarr.Dagger1.Manager Check")?;
        self.show("busctl get-property org.nixarr.Dagger1 /org/nixarr/Dagger1/service/jellyfin org.nixarr.Dagger1.Service Health HealthDetail Url Image ImageDigest")?;
        heading("The same where an administrator looks");
        self.show("systemctl status --no-pager --lines=5 dagger-sonarr")?;
        self.show("journalctl -b -u monitoring --no-pager --no-hostname -o short-precise")
    }

    /// Kills an application and tells what happens, change by change.
    fn kill(&self) -> Result<()> {
        heading("An application dies");
        self.show("podman kill --signal KILL dagger-radarr")?;
        self.follow("radarr", |_| Ok(()))?;
        self.show("journalctl -b -u dagger-radarr --no-pager --no-hostname -n 12")
    }

    /// Makes an application hang, and tells what happens.
    fn hang(&self) -> Result<()> {
        heading("An application hangs: it takes connections and says nothing");
        said("(sonarr is asked every second from here on, so that this does not take a minute)");
        let often = "[services.sonarr]\nhealth = { interval = \"1s\", timeout = \"1s\" }\n";
        self.machine.write("/etc/dagger/conf.d/10-often.toml", often)?;
        self.machine.ok("systemctl daemon-reload")?;
        self.machine.fault("sonarr", "hang")?;
        self.follow("sonarr", |health| match health {
            // Its new run is a well one.
            "recovering" => self.machine.fault("sonarr", ""),
            _ => Ok(()),
        })?;
        self.show("daggerctl history sonarr -n 5")
    }

    /// Fills the disk of an application that then cannot answer: nothing is restarted.
    fn full(&self) -> Result<()> {
        heading("A disk is full: restarting would not help, so nobody does");
        let state = "/var/lib/nixarr/sonarr";
        self.machine.ok(&format!(
            "systemctl stop dagger-sonarr && mv {state} {state}.kept && mkdir {state} && mount -t tmpfs -o size=32M none {state} \
             && chown --reference={state}.kept {state} && cp -a {state}.kept/. {state}/ && systemctl start dagger-sonarr"
        ))?;
        self.machine.wait_health("sonarr", "healthy", LIMIT)?;
        self.machine.fault("sonarr", "500")?;
        self.show(&format!("dd if=/dev/zero of={state}/full bs=1M 2>&1 | head -n 1"))?;
        let waits = progress::during("sonarr", || {
            self.machine.wait_for("the cause", LIMIT, |m| {
                Ok((m.bus_property("sonarr", "Cause")? == "disk-full").then_some(()))
            })
        });
        waits?;
        self.show("daggerctl why sonarr")?;
        self.show(&format!("rm {state}/full"))?;
        self.machine.fault("sonarr", "")?;
        self.machine.wait_health("sonarr", "healthy", LIMIT)?;
        self.show("systemctl show -p NRestarts dagger-sonarr; daggerctl health sonarr")
    }

    /// Kills the agent: nobody else is harmed.
    fn agent(&self) -> Result<()> {
        heading("The agent itself dies");
        let runs = "systemctl show -P InvocationID 'dagger-*arr.service' dagger-jellyfin dagger-transmission | sort | sha256sum";
        let before = self.machine.ok(runs)?;
        self.show("systemctl kill -s KILL monitoring")?;
        self.machine.wait_unit("monitoring.service", "active", LIMIT)?;
        self.machine.wait_six()?;
        self.show("systemctl show -p NRestarts monitoring; daggerctl status")?;
        ensure!(
            self.machine.ok(runs)? == before,
            "a service was restarted with the agent"
        );
        println!("    (every service is in the run that it was in before)");
        Ok(())
    }

    /// Tells the changes of a service until it has been hurt and is well again.
    fn follow(&self, service: &str, on: impl Fn(&str) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let mut last = String::new();
        let mut hurt = false;
        let step = progress::step(service);
        while !(hurt && last.starts_with("healthy  active")) {
            ensure!(
                began.elapsed() < LIMIT,
                "{service} did not come back: {}",
                self.machine.account_of(service)
            );
            let health = self.machine.health(service);
            let unit = format!("dagger-{service}.service");
            let sub = self.machine.unit(&unit, "SubState")?;
            let active = self.machine.unit(&unit, "ActiveState")?;
            let now = format!("{health}  {active} ({sub})");
            hurt |= health != "healthy";
            if now != last {
                clear();
                println!("    {:5.1} s  {now}", began.elapsed().as_secs_f64());
                on(&health)?;
                last = now;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(step);
        Ok(())
    }

    /// What a typing error looks like before it does any harm.
    fn mistake(&self) -> Result<()> {
        heading("A mistake in the file is shown with its place, and hurts nobody else");
        self.machine.write(
            "/etc/dagger/conf.d/50-mine.toml",
            "[services.bazarr]\nprot = 6767\n",
        )?;
        self.show("cat /etc/dagger/conf.d/50-mine.toml")?;
        self.show("daggerctl config check")?;
        self.show("rm /etc/dagger/conf.d/50-mine.toml; daggerctl health; echo exit status $?")
    }

    fn show(&self, command: &str) -> Result<()> {
        show(&self.machine, command)
    }
}

/// Shows a command and what it says, whatever its exit status.
fn show(machine: &Machine, command: &str) -> Result<()> {
    said(command);
    let output = machine.run_with(&["bash", "-c", command], "", LIMIT)?;
    for line in output.all().trim_end().lines() {
        println!("    {}", shortened(line));
    }
    Ok(())
}

/// The machine, and the command that installs the product in it.
fn spec() -> Result<(Spec, String)> {
    let ground = Ground {
        suite: Suite::Trixie,
        product: std::path::PathBuf::new(),
        standin: crate::suite::standin(),
    };
    let spec = ground.bare("dagger")?.bind_read_only(checkout(), SOURCE);
    if programs() == checkout().join("target/release") {
        return Ok((spec, format!("{SOURCE}/units/install")));
    }
    Ok((
        spec.bind_read_only(programs(), PROGRAMS),
        format!("{SOURCE}/units/install --programs {PROGRAMS}"),
    ))
}

/// conmon's command line in `systemctl status` alone would fill a screen.
fn shortened(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn heading(text: &str) {
    clear();
    if std::io::stdout().is_terminal() {
        println!("\n\x1b[1m==> {text}\x1b[0m");
    } else {
        println!("\n==> {text}");
    }
}

fn said(command: &str) {
    if std::io::stdout().is_terminal() {
        println!("  \x1b[36m$ {command}\x1b[0m");
    } else {
        println!("  $ {command}");
    }
}

fn clear() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use crate::suite::{SIX, SIX_TOML};

    #[test]
    fn the_file_that_is_shown_names_all_six() {
        assert!(
            SIX.iter()
                .all(|service| SIX_TOML.contains(&format!("[services.{service}]")))
        );
    }
}
