//! What of the host a service sees: its state, media and volumes.

use super::Context;
use crate::check::Checker;
use crate::diagnostic::nearest;
use crate::layers::{Layers, item, text};
use crate::model::{MEDIA, Mount};
use crate::value;

pub(super) fn state(context: &Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Vec<Mount> {
    let layout = layers.catalog().list("state-layout").unwrap_or_default();
    let user = layers.user.and_then(|user| user.get("state"));
    let own = user.and_then(text).map(value::normal_path);
    let roles = Layers {
        user: layers.user.and_then(|user| user.table("state")),
        ..Layers::default()
    };
    let base = own
        .clone()
        .unwrap_or_else(|| join(&context.defaults.state, context.name.as_str()));
    if let (Some(table), Some(node)) = (roles.user, user) {
        for (role, entry) in table.iter() {
            let known = || layout.iter().filter_map(|node| item(node).text("role"));
            if !known().any(|known| known == role) {
                let help = match nearest(role, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("this image has {}", known().collect::<Vec<_>>().join(", ")),
                };
                checker.error(
                    entry.key_at,
                    format!("there is no state directory `{role}`"),
                    Some(help),
                );
            }
        }
        if layout.is_empty() {
            checker.error(
                node.at,
                "this service keeps no state",
                Some("remove the key".into()),
            );
        }
    }
    let mut mounts = Vec::with_capacity(layout.len());
    for node in layout {
        let entry = item(node);
        let role = entry.text("role").unwrap_or("config");
        let source = match (roles.text(role), &own) {
            (Some(path), _) => value::normal_path(path),
            // A single directory is the one that the user names, not one below it.
            (None, Some(own)) if layout.len() == 1 => own.clone(),
            _ => entry
                .text("below")
                .map_or_else(|| base.clone(), |below| join(&base, below)),
        };
        let target = entry.text("target").map_or_else(|| source.clone(), str::to_owned);
        mounts.push(Mount {
            role: role.to_owned(),
            source,
            target,
            read_only: false,
        });
    }
    mounts
}

pub(super) fn mounts(context: &Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Vec<Mount> {
    let mut mounts = Vec::new();
    match (layers.text("media"), &context.defaults.media) {
        (None | Some("none"), _) => {}
        (Some(mode), Some(media)) => mounts.push(Mount {
            role: MEDIA.into(),
            source: media.clone(),
            target: media.clone(),
            read_only: mode == "ro",
        }),
        (Some(_), None) => {
            let at = layers
                .user
                .and_then(|user| user.get("media"))
                .map_or(context.at, |node| node.at);
            let problem = format!(
                "{} works on media, and [suite] does not say where they are",
                context.name
            );
            checker.error(
                at,
                problem,
                Some("write media = \"/path\" in [suite], or media = \"none\" here".into()),
            );
        }
    }
    for (index, node) in layers.list("volumes").unwrap_or_default().iter().enumerate() {
        let entry = item(node);
        let Some(source) = entry.text("source").map(value::normal_path) else {
            checker.error(
                node.at,
                "this volume has no source",
                Some("write { source = \"/path\" }".into()),
            );
            continue;
        };
        let target = entry
            .text("target")
            .map_or_else(|| source.clone(), value::normal_path);
        let read_only = entry.boolean("read-only").unwrap_or(false);
        mounts.push(Mount {
            role: format!("volume-{index}"),
            source,
            target,
            read_only,
        });
    }
    mounts
}

pub(super) fn join(base: &str, below: &str) -> String {
    value::normal_path(&[base, "/", below].concat())
}
