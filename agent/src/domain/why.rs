//! Why a service is as it is: the first cause along its dependencies and in time, as one sentence with its evidence.
//!
//! [`why`] is the whole of it. A cause is *certain* where it was seen directly: the kernel's word about a place, a control
//! group or a process, systemd's about a unit, the gate's refusal, the application's own answer. What only fits in time (a
//! service that fell earlier, a machine under load, silence) is *probable*, and the sentence says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::standing::{self, Root, Standing};
use super::surroundings::Cause;

/// A service that fell longer after a service that it wants has shown that it does without.
const NEAR: Duration = Duration::from_mins(10);
/// Names in one sentence.
const NAMES: usize = 6;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The root cause in one sentence, without a full stop; it holds the word "probably" unless it is certain.
    pub sentence: String,
    /// The cause was seen, not concluded.
    pub certain: bool,
    /// What it rests on, line by line.
    pub evidence: Vec<String>,
}

/// Why the service `name` of this suite is as it is.
pub fn why(suite: &BTreeMap<String, Standing>, name: &str) -> Why {
    let Some(standing) = suite.get(name) else {
        return Why {
            sentence: format!("probably {name} is not in the configuration: nothing is known of it"),
            certain: false,
            evidence: Vec::new(),
        };
    };
    let root = root(suite, name, standing, &mut Vec::new());
    let shared = sharing(suite, &root);
    let others: Vec<&str> = shared.iter().map(|(name, _)| *name).collect();
    // One trouble of the machine is told in the same words, whoever is asked about.
    let root = shared
        .into_iter()
        .map(|(_, root)| root)
        .find(|other| other.of.is_none())
        .unwrap_or(root);
    let certain = root.seen && root.follows;
    let mut sentence = match &root.of {
        Some(of) if root.seen => format!("{of} {}", root.fact),
        Some(of) => format!("{of} probably {}", root.fact),
        None => root.fact.clone(),
    };
    // The owner of a trouble is asked about itself; whoever else shares it may be more than it knows.
    if root.of.as_deref() != Some(name) {
        let (who, many) = (listed(&others), others.len() > 1);
        let wait = if many { "wait" } else { "waits" };
        let _ = if certain {
            write!(sentence, "; {who} {wait} for it")
        } else {
            let does = if many { "do" } else { "does" };
            write!(sentence, "; that is probably why {who} {does} not answer")
        };
    }
    if standing.paused && !standing.is_well() && !sentence.contains("recovery is paused") {
        sentence.push_str(" (recovery is paused)");
    }
    Why {
        sentence,
        certain,
        evidence: evidence(suite, name, standing, &root, &others),
    }
}

/// Where the trouble of `name` comes from. `path` are the services that were asked about on the way here.
fn root<'a>(
    suite: &'a BTreeMap<String, Standing>,
    name: &'a str,
    standing: &'a Standing,
    path: &mut Vec<&'a str>,
) -> Root {
    if let Some(root) = standing::direct(name, standing) {
        return root;
    }
    path.push(name);
    let found = standing.found();
    let looked = found.cause();
    let cause = standing.cause.as_ref().or(looked.as_ref());
    if let Some(cause @ (Cause::Jump(_) | Cause::Load(_))) = cause {
        return Root::around(cause);
    }
    if let Some((provider, its)) = provider(suite, standing, cause, path) {
        let mut root = root(suite, provider, its, path);
        root.follows = false;
        return root;
    }
    standing::concluded(name, standing, cause)
}

/// The service among those that this one wants that fell first, and before it.
fn provider<'a>(
    suite: &'a BTreeMap<String, Standing>,
    standing: &Standing,
    cause: Option<&Cause>,
    path: &[&str],
) -> Option<(&'a str, &'a Standing)> {
    let waited = |name: &str| matches!(cause, Some(Cause::Provider(provider, _)) if provider == name);
    standing
        .wants
        .iter()
        .filter_map(|want| suite.get_key_value(want))
        .filter(|(name, its)| {
            let near = standing.since.saturating_sub(its.since) <= NEAR;
            !its.is_well()
                && its.since <= standing.since
                && (near || waited(name))
                && !path.contains(&name.as_str())
        })
        .min_by_key(|(_, its)| its.since)
        .map(|(name, its)| (name.as_str(), its))
}

/// The services whose trouble comes from there, too, by name.
fn sharing<'a>(suite: &'a BTreeMap<String, Standing>, of: &Root) -> Vec<(&'a str, Root)> {
    suite
        .iter()
        .filter(|(name, standing)| !standing.is_well() && of.of.as_ref() != Some(name))
        .map(|(name, standing)| (name.as_str(), root(suite, name, standing, &mut Vec::new())))
        .filter(|(_, root)| root.is(of))
        .collect()
}

/// Names as people list them.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "nobody".into(),
        [one] => (*one).to_owned(),
        many if many.len() > NAMES => format!(
            "{} and {} more",
            many.get(..NAMES).unwrap_or(many).join(", "),
            many.len() - NAMES
        ),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// What the answer rests on: first what is known of the service where the trouble is, then of the one that was asked about.
fn evidence(
    suite: &BTreeMap<String, Standing>,
    name: &str,
    standing: &Standing,
    root: &Root,
    others: &[&str],
) -> Vec<String> {
    let mut lines = Vec::new();
    let elsewhere = root.of.as_deref().filter(|of| *of != name);
    if let Some((of, its)) = elsewhere.and_then(|of| suite.get_key_value(of)) {
        lines.extend(standing::evidence(of, its));
    }
    lines.extend(standing::evidence(name, standing));
    for (want, its) in standing.wants.iter().filter_map(|want| suite.get_key_value(want)) {
        if its.is_well() || standing.is_well() {
            continue;
        }
        let word = its.health.word();
        let apart = |a: Duration, b: Duration| a.saturating_sub(b).as_secs();
        lines.push(if its.since <= standing.since {
            let seconds = apart(standing.since, its.since);
            format!("{want}, which {name} wants, is {word} since {seconds} s before it")
        } else {
            let seconds = apart(its.since, standing.since);
            format!("{want}, which {name} wants, is {word} only since {seconds} s after it: not the cause")
        });
    }
    if root.of.as_deref() == Some(name) && !others.is_empty() {
        let want = if others.len() > 1 { "depend" } else { "depends" };
        lines.push(format!("{} {want} on it and fell after it", listed(others)));
    }
    lines
}

#[cfg(test)]
mod tests;
