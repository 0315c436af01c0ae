//! What of the host a service sees: its state, media and volumes.

use super::Context;
use crate::check::Checker;
use crate::diagnostic::{Span, nearest};
use crate::layers::{Layers, item, text};
use crate::model::{MEDIA, Mount};
use crate::node::{Node, Table, Value};
use crate::value;

/// One directory of the application's state.
struct Place<'a> {
    role: &'a str,
    /// Directory below the service's state; none is the state itself.
    below: Option<&'a str>,
    /// Where the image looks for it; none is the same path as outside.
    target: Option<&'a str>,
}

pub(super) fn state(context: &Context<'_>, layers: Layers<'_>, checker: &mut Checker<'_>) -> Vec<Mount> {
    let places = places(context, layers, checker);
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
        known_roles(table, node, &places, checker);
    }
    let mut mounts = Vec::with_capacity(places.len());
    for place in &places {
        let source = match (roles.text(place.role), &own) {
            (Some(path), _) => value::normal_path(path),
            // A single directory is the one that the user names, not one below it.
            (None, Some(own)) if places.len() == 1 => own.clone(),
            _ => place
                .below
                .map_or_else(|| base.clone(), |below| join(&base, below)),
        };
        let target = place.target.map_or_else(|| source.clone(), value::normal_path);
        mounts.push(Mount {
            role: place.role.to_owned(),
            source,
            target,
            read_only: false,
        });
    }
    mounts
}

/// The directories of the state: the catalogue's, with what `state-target` says on top.
fn places<'a>(context: &Context<'_>, layers: Layers<'a>, checker: &mut Checker<'_>) -> Vec<Place<'a>> {
    let layout = layers.catalog().list("state-layout").unwrap_or_default();
    let mut places: Vec<Place<'a>> = layout
        .iter()
        .map(item)
        .map(|entry| Place {
            role: entry.text("role").unwrap_or("config"),
            below: entry.text("below"),
            target: entry.text("target"),
        })
        .collect();
    let assumed = layout
        .iter()
        .any(|node| item(node).boolean("assumed") == Some(true));
    let Some(node) = layers.node("state-target") else {
        if assumed {
            let problem = format!("nothing says where the image of {} keeps its state", context.name);
            let help = "write state-target = \"/path/inside\", or state-target = {} when it keeps none; /config is assumed";
            checker.warning(context.at, problem, Some(help.into()));
        }
        return places;
    };
    match &node.value {
        Value::Table(table) => {
            if assumed {
                places.clear();
            }
            for (role, entry) in table.iter() {
                let target = text(&entry.node);
                place_name(role, entry.key_at, checker);
                match places.iter_mut().find(|place| place.role == role) {
                    Some(place) => place.target = target,
                    None => places.push(Place {
                        role,
                        below: Some(role),
                        target,
                    }),
                }
            }
        }
        _ => match places.as_mut_slice() {
            [] => places.push(Place {
                role: "config",
                below: None,
                target: text(node),
            }),
            [place] => place.target = text(node),
            more => {
                let roles: Vec<_> = more.iter().map(|place| format!("{} = ...", place.role)).collect();
                let help = format!("write state-target = {{ {} }}", roles.join(", "));
                checker.error(
                    node.at,
                    "this image keeps its state in several directories",
                    Some(help),
                );
            }
        },
    }
    places
}

/// A role becomes the name of a directory.
fn place_name(role: &str, at: Span, checker: &mut Checker<'_>) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if role.is_empty() || !role.bytes().all(plain) {
        let help = "write letters, digits, `-` and `_`, like `data`";
        checker.error(
            at,
            format!("{role:?} cannot be the name of a state directory"),
            Some(help.into()),
        );
    }
}

/// Says so when `state = {...}` names a directory that the image does not have.
fn known_roles(table: &Table, node: &Node, places: &[Place<'_>], checker: &mut Checker<'_>) {
    if places.is_empty() {
        checker.error(
            node.at,
            "this service keeps no state",
            Some("remove the key".into()),
        );
    }
    let known = || places.iter().map(|place| place.role);
    for (role, entry) in table
        .iter()
        .filter(|(role, _)| !known().any(|known| known == *role))
    {
        let help = match nearest(role, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "this image has {}; state-target = {{ {role} = \"/path/inside\" }} adds one",
                known().collect::<Vec<_>>().join(", ")
            ),
        };
        checker.error(
            entry.key_at,
            format!("there is no state directory `{role}`"),
            Some(help),
        );
    }
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

/// Of all layers: the user's do not replace what the catalogue knows of the image.
pub(super) fn disposable(layers: Layers<'_>) -> Vec<String> {
    let each = layers.each().filter_map(|layer| layer.get("disposable"));
    let lists = each.filter_map(|node| match &node.value {
        Value::List(list) => Some(list.iter()),
        _ => None,
    });
    lists.flatten().filter_map(text).map(value::normal_path).collect()
}

/// Mount points that podman refuses, for reasons that it does not give: the root, and one that is taken.
pub(super) fn targets(
    context: &Context<'_>,
    layers: Layers<'_>,
    mounts: [&[Mount]; 2],
    tmpfs: &[String],
    checker: &mut Checker<'_>,
) {
    let tmpfs = tmpfs.iter().map(|it| value::tmpfs_target(it));
    let mut taken: Vec<&str> = Vec::new();
    for target in mounts
        .into_iter()
        .flatten()
        .map(|it| it.target.as_str())
        .chain(tmpfs)
    {
        let problem = match target {
            "/" => "nothing can be mounted at /: the image itself lies at /".to_owned(),
            _ if taken.contains(&target) => format!("two things are mounted at {target}"),
            _ => {
                taken.push(target);
                continue;
            }
        };
        let at = ["state-target", "volumes", "tmpfs"]
            .iter()
            .find_map(|key| layers.at(key))
            .unwrap_or(context.at);
        checker.error(at, problem, Some("give each a path of its own inside".into()));
    }
}

/// `{state.ROLE}/file` of the catalogue, as the host sees it: whoever looks at a database does so from outside.
pub(super) fn databases(layers: Layers<'_>, state: &[Mount]) -> Vec<String> {
    layers
        .each_text("databases")
        .filter_map(|text| {
            let (role, below) = text.strip_prefix("{state.")?.split_once("}/")?;
            let mount = state.iter().find(|mount| mount.role == role)?;
            Some(join(&mount.source, below))
        })
        .collect()
}

pub(super) fn join(base: &str, below: &str) -> String {
    value::normal_path(&[base, "/", below].concat())
}
