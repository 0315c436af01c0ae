//! What is kept can be relied on: checksums, and a policy.

use anyhow::{Context as _, Result, ensure};
use dagger_tests::harness::{BOTH, Story};
use dagger_tests::native::{QUICK, boot, end, job, native, rows, runs};
use dagger_tests::suite::Ground;
use std::time::Duration;

pub const STORIES: &[Story] = &[
    Story {
        name: "a_snapshot_gets_its_checksums_after_the_job_and_a_damaged_one_is_no_way_back",
        on: BOTH,
        run: sealed,
    },
    Story {
        name: "old_snapshots_go_also_where_no_job_succeeds",
        on: BOTH,
        run: kept,
    },
];

const MINUTE: Duration = Duration::from_mins(1);
const FILE: &str = "/var/lib/dagger/snapshots/sonarr/*/data/*/config.xml";
const VERIFY: &str = "nixarr-migrate snapshots sonarr --verify";

fn sealed(ground: &Ground) -> Result<()> {
    let toml = QUICK.replace("[services", "snapshots-count = 1\n[services");
    let machine = boot(native(ground, "sealed", &toml)?)?;
    let before = rows(&machine)?;
    machine.ok("systemctl start dagger-migrate@sonarr.service")?;
    let log = "journalctl -b -o cat --no-pager -u dagger-seal.service";
    machine
        .wait_for("the checksums", MINUTE, |machine| {
            let said = machine.ok(log)?;
            Ok((said.contains("of sonarr is sealed") && said.contains("Deactivated")).then_some(()))
        })
        .with_context(|| machine.ok(log).unwrap_or_default())?;
    let good = machine.ok(VERIFY)?;
    ensure!(
        good.contains("CHECKED") && good.trim_end().ends_with(" good"),
        "{good}"
    );
    let others = machine.as_nobody(&["nixarr-migrate", "snapshots", "--verify"])?;
    ensure!(others.code == 4, "{}", others.all());

    // One byte, and nothing but a checksum can tell.
    machine.ok(&format!("cd $(dirname {FILE}) && cp -a config.xml /root/good && printf '#' | dd of=config.xml bs=1 seek=9 conv=notrunc status=none && touch -r /root/good config.xml"))?;
    let bad = machine.sh(VERIFY)?;
    ensure!(
        bad.code == 1 && bad.stdout.contains("config.xml has another content"),
        "{}",
        bad.all()
    );
    let run = machine.unit("dagger-sonarr.service", "InvocationID")?;
    let refused = machine.sh("nixarr-migrate rollback sonarr --to-snapshot --yes")?;
    let said = job(&machine)?.to_string();
    ensure!(
        !refused.good() && said.contains("is damaged: ") && said.contains("config.xml has another content"),
        "{said}"
    );
    ensure!(
        runs(&machine)? == (false, true) && machine.unit("dagger-sonarr.service", "InvocationID")? == run,
        "it was stopped"
    );
    machine.ok(&format!(
        "cat /root/good >$(echo {FILE}); touch -r /root/good {FILE}"
    ))?;
    machine.ok("nixarr-migrate rollback sonarr --to-snapshot --yes")?;
    ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
    machine.wait_health("sonarr", "healthy", MINUTE)?;
    ensure!(rows(&machine)? >= before, "rows were lost");
    // Of the two one is kept, as the configuration says: the newest.
    let kept = machine.ok("ls /var/lib/dagger/snapshots/sonarr")?;
    ensure!(kept.lines().count() == 1 && kept.contains("-rollback"), "{kept}");
    Ok(())
}

/// Two snapshots of a service that nothing is done to any more, with another user's files in them.
const OLD: &str = "for when in 1 2; do
    at=/var/lib/dagger/snapshots/radarr/2020010$when-000000-migrate
    mkdir -p $at/data/config/deep $at/manifest
    printf '{\"service\":\"radarr\",\"when\":157783680000000%s}' $when >$at/label.json
    echo old >$at/data/config/deep/file
    chown -R sonarr:media $at/data/config && chmod -R a=,u=rX $at/data/config
done
chmod -R go= /var/lib/dagger/snapshots/radarr";

fn kept(ground: &Ground) -> Result<()> {
    let toml = format!(
        "{}start-budget = \"3s\"\nenvironment = {{ STANDIN_FAIL_START = \"exit 4\" }}\n",
        QUICK.replace("[services", "snapshots-age = \"1s\"\n[services")
    );
    let machine = boot(native(ground, "kept", &toml)?)?;
    let list = |service: &str| machine.ok(&format!("ls -A /var/lib/dagger/snapshots/{service}"));
    let mut first = String::new();
    for _ in 0..2 {
        let out = machine.sh("nixarr-migrate migrate sonarr --yes")?;
        ensure!(!out.good(), "{}", out.all());
        ensure!(runs(&machine)? == (true, false), "{:?}", runs(&machine)?);
        // What the job names at its end is there; what it named the last time has had its second.
        let now = list("sonarr")?;
        let named = job(&machine)?;
        let named = end(&named, "snapshot");
        ensure!(
            now.trim_end() == named && named.ends_with("-migrate-aside") && now != first,
            "{now} of {named}, after {first}"
        );
        first = now;
    }
    machine.ok(OLD)?;
    ensure!(list("radarr")?.lines().count() == 2);
    machine.ok("systemctl start dagger-quick-check.service")?;
    let log = "journalctl -b -o cat --no-pager -u dagger-seal.service -u dagger-quick-check.service";
    machine
        .wait_for("the week is over", MINUTE, |_| {
            Ok((list("radarr")? == "20200102-000000-migrate\n").then_some(()))
        })
        .with_context(|| machine.ok(log).unwrap_or_default())?;
    // The newest was sealed by it; nothing of all that was damaged, or could not be removed.
    machine
        .wait_for("the checksums", MINUTE, |machine| {
            let seal = "dagger-seal.service";
            let over = machine.unit(seal, "ActiveState")? == "inactive";
            Ok((over && machine.unit(seal, "Result")? == "success").then_some(()))
        })
        .with_context(|| machine.ok(log).unwrap_or_default())?;
    let said = machine.ok(log)?;
    ensure!(
        said.contains("the snapshot 20200101-000000-migrate of radarr is not kept any longer")
            && said.contains(&format!("the snapshot {} of sonarr is sealed", first.trim_end())),
        "{said}"
    );
    ensure!(list("sonarr")? == first, "the newest was removed");
    Ok(())
}
