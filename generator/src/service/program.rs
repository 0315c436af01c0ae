//! What is run inside, and with what: environment, command, devices, rights and limits.

use std::collections::BTreeMap;

use super::Context;
use crate::check::Checker;
use crate::layers::{Layers, number, text};
use crate::model::{Claim, Device, Mount};
use crate::node::Table;
use crate::probe::Kind;
use crate::value;

/// Fills `{port}`, `{state.ROLE}` in a text of the catalogue. The user's own texts are taken literally.
pub(super) fn filled(text: &str, ports: &[Claim], state: &[Mount]) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        let place = name.strip_prefix("state.");
        let mount = place.and_then(|role| state.iter().find(|mount| mount.role == role));
        match (name, ports.first(), mount) {
            ("port", Some(main), _) => filled.push_str(&main.inside.to_string()),
            (_, _, Some(mount)) => filled.push_str(&mount.target),
            // Not one of ours: it stays as it is, and what follows is looked at again.
            _ => {
                filled.push('{');
                rest = after;
                continue;
            }
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

/// Variables that would be taken for something else: refused with the key that does what was meant.
pub(super) fn clashes(layers: Layers<'_>, puid: bool, kind: Kind, checker: &mut Checker<'_>) {
    let user = layers.user.and_then(|user| user.table("environment"));
    for (name, entry) in user.into_iter().flat_map(Table::iter) {
        let (problem, help) = match name {
            "PUID" | "PGID" if puid => (
                "is set from the owner of the state",
                "write `user` and `group` instead",
            ),
            // All of the environment is merged into its settings, and the listener falls back to this name.
            "PORT" if kind == Kind::Servarr => (
                "moves the port behind the application's back",
                "write `port` instead",
            ),
            _ => continue,
        };
        checker.error(entry.key_at, format!("`{name}` {problem}"), Some(help.to_owned()));
    }
}

pub(super) fn environment(
    context: &Context<'_>,
    layers: Layers<'_>,
    ports: &[Claim],
    state: &[Mount],
    puid: bool,
) -> Vec<(String, String)> {
    let mut variables = BTreeMap::new();
    if puid {
        let umask = layers.text("umask").and_then(|it| value::umask(it).ok());
        let umask = umask.as_ref().unwrap_or(&context.defaults.umask);
        // The images set it themselves, from three digits.
        let digits = format!("{:0>3}", umask.trim_start_matches('0'));
        variables.insert("UMASK".to_owned(), digits);
    }
    if let (Some(name), Some(main)) = (layers.below("port-by").text("environment"), ports.first()) {
        variables.insert(name.to_owned(), main.inside.to_string());
    }
    let catalog = layers.catalog().below("environment");
    for (key, entry) in catalog.each().rev().flat_map(Table::iter) {
        if let Some(text) = text(&entry.node) {
            variables.insert(key.to_owned(), filled(text, ports, state));
        }
    }
    for (key, entry) in layers
        .user
        .and_then(|user| user.table("environment"))
        .into_iter()
        .flat_map(Table::iter)
    {
        if let Some(text) = text(&entry.node) {
            variables.insert(key.to_owned(), text.to_owned());
        }
    }
    variables.into_iter().collect()
}

pub(super) fn command(layers: Layers<'_>, ports: &[Claim], state: &[Mount]) -> Vec<String> {
    if let Some(own) = layers.user.filter(|user| user.get("command").is_some()) {
        return Layers {
            user: Some(own),
            ..Layers::default()
        }
        .texts("command");
    }
    let mut words: Vec<_> = layers
        .each_text("command")
        .map(|word| filled(word, ports, state))
        .collect();
    let by = layers.below("port-by");
    if let (Some(word), Some(main)) = (by.text("argument"), ports.first()) {
        words.push(word.replace("{}", &main.inside.to_string()));
    }
    if let (Some(word), Some(peer)) = (
        by.text("peer-argument"),
        ports.iter().find(|claim| claim.name == "peer"),
    ) {
        words.push(word.replace("{}", &peer.inside.to_string()));
    }
    words
}

pub(super) fn devices(layers: Layers<'_>) -> Vec<Device> {
    let device = |text: &str| Device {
        name: text.trim_start_matches('-').to_owned(),
        optional: text.starts_with('-'),
    };
    layers.each_text("devices").map(device).collect()
}

pub(super) fn groups(layers: Layers<'_>) -> Vec<String> {
    let group = |node| {
        text(node)
            .map(str::to_owned)
            .or_else(|| number::<u32>(node).map(|gid| gid.to_string()))
    };
    layers
        .list("groups")
        .unwrap_or_default()
        .iter()
        .filter_map(group)
        .collect()
}

pub(super) fn capabilities(layers: Layers<'_>) -> Vec<String> {
    let mut names: Vec<_> = layers
        .each_text("capabilities")
        .filter_map(|it| value::capability(it).ok())
        .collect();
    names.sort();
    names.dedup();
    names
}

pub(super) fn limits(layers: Layers<'_>) -> Vec<(&'static str, String)> {
    let texts = [
        ("memory-high", "MemoryHigh"),
        ("memory-max", "MemoryMax"),
        ("cpu-quota", "CPUQuota"),
    ];
    let numbers = [
        ("cpu-weight", "CPUWeight"),
        ("io-weight", "IOWeight"),
        ("tasks-max", "TasksMax"),
    ];
    texts
        .iter()
        .filter_map(|(key, directive)| Some((*directive, layers.owned(key)?)))
        .chain(
            numbers
                .iter()
                .filter_map(|(key, directive)| Some((*directive, layers.number::<u32>(key)?.to_string()))),
        )
        .collect()
}
