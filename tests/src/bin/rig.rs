//! The rig by hand.
use anyhow::Result;
use dagger_tests::rig::{Machine, Spec, Suite, host, sweep};

fn main() -> Result<()> {
    host::can_boot()?;
    sweep::on_signals()?;
    sweep::leftovers()?;
    for suite in [Suite::Trixie, Suite::Bookworm] {
        let mut machine = Machine::boot(Spec::new("one", suite)?)?;
        let other = Machine::boot(Spec::new("two", suite)?)?;
        println!("{:?} {:?}", machine.boot_time(), other.boot_time());
        print!("{}", machine.ok("systemctl --failed; cat /proc/self/cgroup; systemctl is-system-running || true; systemctl --version | head -1; podman --version; cat /proc/1/cgroup")?);
        machine.write("/var/lib/keep", "kept")?;
        machine.power_cut()?;
        machine.power_on()?;
        println!(
            "{:?} {}",
            machine.boot_time(),
            machine.ok("cat /var/lib/keep; journalctl --list-boots; hostname")?
        );
        machine.shut_down()?;
        machine.power_on()?;
        println!(
            "{:?} {}",
            machine.boot_time(),
            machine.ok("cat /var/lib/keep; journalctl --list-boots; systemd-cgls | head -30")?
        );
    }
    Ok(())
}
