//! `dagger-job seal`: the checksums of snapshots, written when nobody waits for it any more; what is not kept goes before.

use std::collections::HashSet;

use dagger_agent::adapter::snapshot::{Snapshot, SnapshotError, Store};
use dagger_agent::adapter::tree::{Options, Progress, Verdict};
use dagger_suite::names::Root;

use crate::tidy;

/// Seals what is not sealed yet, and what comes while it does.
pub fn run(root: &Root) -> Result<(), Vec<String>> {
    let store = Store::new(root);
    let mut reasons = tidy::all(root).err().unwrap_or_default();
    let mut looked_at = HashSet::new();
    loop {
        let all = snapshots(&store).map_err(|error| vec![error.to_string()])?;
        let mut new = all
            .into_iter()
            .filter(|it| looked_at.insert((it.service().to_string(), it.id.clone())))
            .peekable();
        if new.peek().is_none() {
            break;
        }
        for snapshot in new {
            if let Err(why) = one(&store, &snapshot) {
                reasons.push(format!(
                    "the snapshot {} of {} {why}",
                    snapshot.id,
                    snapshot.service()
                ));
            }
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn snapshots(store: &Store) -> Result<Vec<Snapshot>, SnapshotError> {
    let mut all = Vec::new();
    for service in store.services()? {
        // Those that cannot be read are told of where they are listed.
        all.extend(store.list(&service)?.0);
    }
    Ok(all)
}

fn one(store: &Store, snapshot: &Snapshot) -> Result<(), String> {
    let sealed = snapshot.is_sealed().and_then(|sealed| {
        if sealed {
            return Ok(None);
        }
        let options = Options {
            // One at a time: the applications have the disk, too.
            threads: 1,
            ..Options::default()
        };
        snapshot.seal(&options, &Progress::default()).map(Some)
    });
    match sealed {
        Ok(None) => Ok(()),
        Ok(Some(verdicts)) => {
            if let Some(damage) = verdicts.values().find_map(Verdict::damage) {
                return Err(format!("is damaged: {damage}"));
            }
            println!("the snapshot {} of {} is sealed", snapshot.id, snapshot.service());
            Ok(())
        }
        // The policy has removed it meanwhile.
        Err(_) if store.find(snapshot.service(), &snapshot.id).is_err() => Ok(()),
        Err(error) => Err(format!("cannot be sealed: {error}")),
    }
}
