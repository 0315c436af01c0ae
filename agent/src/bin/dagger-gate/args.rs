//! The command line: `--flag=value` or `--flag value`, as the generator writes it.

use std::time::Duration;
use std::vec::IntoIter;

use dagger_suite::names::ServiceName;

use crate::Stop;

/// What a person sees who calls it by hand.
pub const USAGE: &str = "\
usage: dagger-gate image  --service=NAME --image=REFERENCE --pull=missing|newer|always|never [--podman=PATH]
                          [--covered=PATH]... [--stall=SECONDS]
       dagger-gate pre    --service=NAME [--owner=UID:GID] [--uid-explicit] [--gid-explicit] [--netns=PATH]
                          [--claim=tcp:PORT|udp:PORT]... [--state=PATH]... [--need=PATH]... [--device=PATH|-PATH]...
                          [--podman=PATH]
       dagger-gate post   --service=NAME --budget=SECONDS [--write-marker] [--podman=PATH] PROBE
       dagger-gate refuse --service=NAME -- MESSAGE
It is called by the units of a suite (dagger-<service>.service), inside them.";

/// Words one after the other.
pub struct Args(IntoIter<String>);

impl Args {
    /// The words after the verb.
    pub fn new(words: Vec<String>) -> Self {
        Self(words.into_iter())
    }

    /// The next flag, and a function that gives its value: the text after `=`, or the next word.
    #[expect(
        clippy::type_complexity,
        reason = "a pair of which one half is a closure has no shorter name"
    )]
    pub fn next(&mut self) -> Result<Option<(String, impl FnOnce() -> Result<String, Stop>)>, Stop> {
        let Some(word) = self.0.next() else {
            return Ok(None);
        };
        if !word.starts_with("--") {
            return Err(unknown(&word));
        }
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let name = flag.clone();
        let words = &mut self.0;
        let value = move || {
            inline
                .or_else(|| words.next())
                .ok_or_else(|| Stop::Usage(format!("{name} needs a value")))
        };
        Ok(Some((flag, value)))
    }
}

/// A word that has no meaning here.
pub fn unknown(word: &str) -> Stop {
    Stop::Usage(format!("{word:?} is not understood\n{USAGE}"))
}

/// The value of `--service`, checked.
pub fn service(value: &str) -> Result<ServiceName, Stop> {
    ServiceName::parse(value).map_err(Stop::Usage)
}

/// A flag that must be there.
pub fn required<T>(value: Option<T>, flag: &str) -> Result<T, Stop> {
    value.ok_or_else(|| Stop::Usage(format!("{flag} is missing\n{USAGE}")))
}

/// A whole number of seconds, at least one.
pub fn seconds(text: &str) -> Result<Duration, Stop> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(u64::from(seconds))),
        _ => Err(Stop::Usage(format!("{text:?} is not a number of seconds"))),
    }
}
