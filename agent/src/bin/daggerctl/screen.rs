//! Standard output: whether there is a terminal, and writing that a closed pipe does not turn into a panic.

use std::io::{self, ErrorKind, IsTerminal, Write as _};

use crate::error::Error;

/// Where the output goes.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Standard output is a terminal.
    pub terminal: bool,
    /// It may be coloured: a terminal that can, and nobody said no (<https://no-color.org>).
    pub colour: bool,
}

impl Screen {
    /// Looks at standard output and the environment.
    pub fn of_process() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal();
        Self {
            terminal,
            colour: terminal && !dumb && !set("NO_COLOR"),
        }
    }
}

/// Prints text. False when the reader has gone away (`daggerctl status | head -1`): then nobody wants more, and that is
/// no error.
pub fn print(text: &str) -> Result<bool, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Failed(format!("cannot write the output: {error}"))),
    }
}

/// Prints a value as JSON, indented for people and for diffs.
pub fn print_json(value: &impl serde::Serialize) -> Result<bool, Error> {
    let json = serde_json::to_string_pretty(value);
    print(&(json.map_err(|error| Error::Failed(format!("cannot make JSON: {error}")))? + "\n"))
}

/// Passes a line of another program on, beside the output.
pub fn echo(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Says something beside the output. Where even that cannot be written nobody is left to tell.
pub fn warn(program: &str, text: &str) {
    let _ = writeln!(io::stderr().lock(), "{program}: {text}");
}
