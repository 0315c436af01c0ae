//! podman's side of a command line, as podman 4.3 and 5.4 were seen to read it: what a `run` asks for, flag by flag.

use std::collections::BTreeMap;

/// One bind mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// What `podman run` was asked for.
#[derive(Debug, Default)]
pub struct Run {
    /// Every flag with its values in order; flags without a value have an empty one.
    pub flags: BTreeMap<String, Vec<String>>,
    pub binds: Vec<Bind>,
    pub environment: Vec<(String, String)>,
    pub image: String,
    pub command: Vec<String>,
}

/// Flags of `podman run` that we use and that take no value.
const SWITCHES: [&str; 6] = [
    "--replace",
    "--rm",
    "--detach",
    "--no-healthcheck",
    "--read-only",
    "--init",
];

/// Reads the words after `podman`. `own` are words that the user wrote himself just before the image (`podman-args`):
/// they are taken as they are.
pub fn run(words: &[String], own: &[String]) -> Result<Run, String> {
    let mut run = Run::default();
    let Some((verb, rest)) = words.split_first_chunk::<2>() else {
        return Err("too few words".into());
    };
    if verb != &["--events-backend=none", "run"] {
        return Err(format!("not a run: {verb:?}"));
    }
    let mut rest = rest;
    while let Some((word, after)) = rest.split_first() {
        if !own.is_empty() && rest.starts_with(own) {
            // Only `--entrypoint=` may follow before the image.
            rest = &rest[own.len()..];
            while let Some(word) = rest.first().filter(|word| word.starts_with("--entrypoint=")) {
                flag(&mut run, word)?;
                rest = &rest[1..];
            }
            break;
        }
        if !word.starts_with('-') {
            break;
        }
        flag(&mut run, word)?;
        rest = after;
    }
    let (image, command) = rest.split_first().ok_or("no image")?;
    image.clone_into(&mut run.image);
    command.clone_into(&mut run.command);
    Ok(run)
}

fn flag(run: &mut Run, word: &str) -> Result<(), String> {
    let (name, value) = match word.split_once('=') {
        Some(pair) => pair,
        None if SWITCHES.contains(&word) => (word, ""),
        None => return Err(format!("a flag without a value: {word:?}")),
    };
    match name {
        "--volume" => run.binds.push(volume(value)?),
        "--mount" => run.binds.push(mount(value)?),
        "--env" => {
            let (key, value) = value
                .split_once('=')
                .ok_or_else(|| format!("--env without =: {value:?}"))?;
            if key.is_empty() || key.contains([' ', '\t']) {
                return Err(format!("podman refuses the name of this variable: {key:?}"));
            }
            run.environment.push((key.to_owned(), value.to_owned()));
        }
        // Values of these are one CSV record (pflag's StringSlice).
        "--cap-add" | "--cap-drop" | "--group-add" | "--publish" | "--device" => {
            run.flags.entry(name.to_owned()).or_default().extend(csv(value)?);
        }
        _ => run
            .flags
            .entry(name.to_owned())
            .or_default()
            .push(value.to_owned()),
    }
    Ok(())
}

/// `SOURCE:TARGET[:OPTIONS]`, split at every colon.
fn volume(value: &str) -> Result<Bind, String> {
    let fields: Vec<&str> = value.split(':').collect();
    let (source, target, options) = match fields.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(format!("--volume with {} fields: {value:?}", fields.len())),
    };
    bind(source, target, options.split(',').any(|option| option == "ro"))
}

/// `type=bind,source=...,target=...[,ro]`, one CSV record.
fn mount(value: &str) -> Result<Bind, String> {
    let (mut kind, mut source, mut target, mut read_only) = (None, None, None, false);
    for field in csv(value)? {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value.to_owned()),
            Some(("source", value)) => source = Some(value.to_owned()),
            Some(("target", value)) => target = Some(value.to_owned()),
            None if field == "ro" => read_only = true,
            _ => return Err(format!("--mount does not know {field:?}")),
        }
    }
    if kind.as_deref() != Some("bind") {
        return Err(format!("not a bind mount: {value:?}"));
    }
    bind(
        &source.ok_or("no source")?,
        &target.ok_or("no target")?,
        read_only,
    )
}

fn bind(source: &str, target: &str, read_only: bool) -> Result<Bind, String> {
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(format!("a relative path in a mount: {source:?} {target:?}"));
    }
    Ok(Bind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    })
}

/// One record as Go's encoding/csv reads it, strict about quotes.
fn csv(record: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut quoted = quoted;
            loop {
                let end = quoted.find('"').ok_or("a CSV quote is never closed")?;
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(after) => {
                        field.push('"');
                        quoted = after;
                    }
                    None => break,
                }
            }
            fields.push(field);
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let field = &rest[..end];
            if field.contains(['"', '\n', '\r']) {
                return Err(format!("CSV: a quote or a line break in the field {field:?}"));
            }
            fields.push(field.to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(format!("CSV: something follows a quote: {rest:?}")),
        }
    }
}
