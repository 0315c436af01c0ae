//! Unit files read far enough to compare what two generators wrote from the same intent.
//!
//! It reads the files of these benchmarks, whose values hold nothing that needs an escape; what would need one is refused.

use anyhow::{Context, Result, bail, ensure};

/// A unit file: section, key and value in order.
pub struct UnitText(Vec<(String, String, String)>);

impl UnitText {
    /// Reads one, lines that end in a backslash joined.
    pub fn parse(text: &str) -> Result<Self> {
        let mut found = Vec::new();
        let mut section = String::new();
        for line in text.replace("\\\n", " ").lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .with_context(|| format!("no assignment: {line}"))?;
            found.push((section.clone(), key.to_owned(), value.to_owned()));
        }
        Ok(Self(found))
    }

    /// Keys and values of a section, in order.
    pub fn section<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(section, ..)| section == name)
            .map(|(_, key, value)| (key.as_str(), value.as_str()))
    }

    /// All words of a key that may be there several times.
    pub fn words<'a>(&'a self, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.section(section)
            .filter(move |(found, _)| *found == key)
            .flat_map(|(_, value)| value.split_ascii_whitespace())
    }
}

/// A `podman run` as its unit starts it, the same however it is spelled.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// Options as `name=value`, or `name` alone, sorted.
    pub options: Vec<String>,
    /// The image.
    pub image: String,
    /// What follows the image.
    pub command: Vec<String>,
}

/// Options that take no value.
const FLAGS: [&str; 6] = ["replace", "rm", "detach", "no-healthcheck", "init", "read-only"];

impl Run {
    /// From the unit's `ExecStart=`; variables of its own `Environment=` are put in.
    pub fn of(unit: &UnitText) -> Result<Self> {
        let line = unit.section("Service").find(|(key, _)| *key == "ExecStart");
        let (_, line) = line.context("no ExecStart=")?;
        ensure!(
            !line.contains(['"', '\'', '\\']),
            "a command line with quotes: {line}"
        );
        let mut line = line.to_owned();
        for word in unit.words("Service", "Environment") {
            let (name, value) = word.split_once('=').context("no assignment in Environment=")?;
            line = line.replace(&format!("${{{name}}}"), value);
        }
        ensure!(!line.contains('$'), "a variable is left in {line}");
        let mut words = line
            .split_ascii_whitespace()
            .skip_while(|word| *word != "run")
            .skip(1);
        let mut options = Vec::new();
        let image = loop {
            let word = words.next().context("no image")?;
            let option = match word {
                "-d" => "detach".to_owned(),
                "-v" => format!("volume={}", words.next().context("-v without a value")?),
                _ => match word.strip_prefix("--") {
                    None if word.starts_with('-') => bail!("an option that is not known here: {word}"),
                    None => break word.to_owned(),
                    Some(option) if option.contains('=') || FLAGS.contains(&option) => option.to_owned(),
                    Some(option) => format!(
                        "{option}={}",
                        words.next().context("an option without its value")?
                    ),
                },
            };
            // Capabilities are the same in either case.
            options.push(if option.starts_with("cap-") {
                option.to_lowercase()
            } else {
                option
            });
        };
        options.sort();
        let command = words.map(str::to_owned).collect();
        Ok(Self {
            options,
            image,
            command,
        })
    }

    /// Values of an option.
    pub fn values<'a>(&'a self, option: &'a str) -> impl Iterator<Item = &'a str> {
        self.options
            .iter()
            .filter_map(move |it| it.strip_prefix(option)?.strip_prefix('='))
    }

    /// Without the options of these names.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Self {
        self.options
            .retain(|option| !names.contains(&option.split('=').next().unwrap_or_default()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Run {
        let text = format!("[Service]\nEnvironment=UID=5 GID=6\nExecStart={line}\n");
        Run::of(&UnitText::parse(&text).unwrap()).unwrap()
    }

    #[test]
    fn both_spellings_are_the_same_run() {
        let ours = run(
            "/usr/bin/podman --x=y run --rm --detach \\\n  --user=${UID}:${GID} --volume=/a:/b --cap-add=KILL i c --d",
        );
        let theirs = run("/usr/bin/podman run --cap-add kill -d -v /a:/b --user 5:6 --rm i c --d");
        assert_eq!(ours, theirs);
        assert_eq!(ours.values("volume").collect::<Vec<_>>(), ["/a:/b"]);
        assert_eq!(ours.command, ["c", "--d"]);
        assert_ne!(ours, run("/usr/bin/podman run --rm -d i c --d"));
    }
}
