//! Unit-file text: sections, free text, paths, and command lines that systemd reads back to exactly the intended words.
//!
//! Knows no service. What each kind of value needs is in systemd.syntax(7), systemd.service(5) and, where the pages
//! are silent, in what `systemd-analyze verify` of systemd 252 accepts:
//! - a line must be valid UTF-8 without Unicode noncharacters and shorter than 1 MiB, or systemd drops it;
//! - `%` begins a specifier nearly everywhere, `$` a variable in the arguments of commands (not in the program's path);
//! - command words know C escapes, path lists know quotes but no C escapes, free text knows neither.

use std::fmt::Write as _;

/// The longest line that systemd reads, continuation lines taken together (`LONG_LINE_MAX`).
const LINE_MAX: usize = 1 << 20;

/// The longest single argument that Linux passes to a program (`MAX_ARG_STRLEN`, with its final NUL).
const ARG_MAX: usize = (128 << 10) - 1;

/// Digits of the longest number that a word can hold.
const NUMBER_MAX: usize = 20;

/// Why a text cannot be carried by a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// A NUL character: no argument of a program can hold one.
    Nul,
    /// A command line, or one of its words, is longer than systemd or the kernel take.
    TooLong,
    /// The path of a program with quotes, backslashes or control characters, or one that is not absolute.
    Program,
}

impl Unfit {
    /// The reason as a sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Nul => "a value holds a NUL character, which no program can be given",
            Self::TooLong => {
                "the command line is too long: 128 KiB a value and 1 MiB in all are what Linux and systemd take"
            }
            Self::Program => {
                "systemd runs no program whose path is not absolute, or holds quotes, backslashes or control characters"
            }
        }
    }
}

/// A part of a word on a command line.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// These characters, whatever they are.
    Text(&'a str),
    /// A decimal number.
    Number(u64),
    /// Text for systemd itself, written as it is: `%t`, `${DAGGER_UID}`.
    Raw(&'static str),
}

/// A unit file that is being written.
#[derive(Debug, Default)]
pub struct Unit {
    text: String,
    unfit: Option<Unfit>,
}

impl Unit {
    /// An empty one with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            text: String::with_capacity(capacity),
            unfit: None,
        }
    }

    /// The finished text, or why systemd could not read it.
    pub fn finish(self) -> Result<String, Unfit> {
        match self.unfit {
            None => Ok(self.text),
            Some(why) => Err(why),
        }
    }

    /// A comment line; line breaks in it become blanks.
    pub fn comment(&mut self, parts: &[&str]) {
        self.text.push_str("# ");
        for part in parts {
            self.push_free(part);
        }
        self.end_free();
    }

    /// `[name]`, after an empty line unless it is the first.
    pub fn section(&mut self, name: &'static str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push('[');
        self.text.push_str(name);
        self.text.push_str("]\n");
    }

    /// `key=value` where the value is made of our own words and needs no escape.
    pub fn set(&mut self, key: &'static str, value: &[&str]) {
        self.key(key);
        for part in value {
            self.text.push_str(part);
        }
        self.text.push('\n');
    }

    /// Whole lines that are the same in every file.
    pub fn lines(&mut self, lines: &'static str) {
        self.text.push_str(lines);
        self.text.push('\n');
    }

    /// `key=number`.
    pub fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        self.push_number(number);
        self.text.push('\n');
    }

    /// `key=` and a value that systemd takes without specifiers and quotes (`MemoryMax=50%`).
    pub fn verbatim(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.push_free(value);
        self.end_free();
    }

    /// `key=` and units, separated by blanks: prefix, name and suffix of each.
    pub fn units<'a>(&mut self, key: &'static str, units: impl Iterator<Item = [&'a str; 3]>) {
        self.text.push_str(key);
        let mut separator = '=';
        for unit in units {
            self.text.push(separator);
            self.text.extend(unit);
            separator = ' ';
        }
        self.text.push('\n');
    }

    /// `key=` and text for people, to the end of the line. Systemd knows no escape here: what a line cannot hold becomes
    /// a blank.
    pub fn free(&mut self, key: &'static str, parts: &[&str]) {
        self.key(key);
        for part in parts {
            if part.contains('%') {
                self.push_free(&part.replace('%', "%%"));
            } else {
                self.push_free(part);
            }
        }
        self.end_free();
    }

    /// `key=` and one path that is not split into words (`SourcePath=`); left out when a line cannot hold it.
    pub fn path(&mut self, key: &'static str, path: &str) {
        let bare = path.trim_ascii();
        if bare.len() == path.len() && path.starts_with('/') && !path.ends_with('\\') && is_plain(path) {
            self.free(key, &[path]);
        }
    }

    /// `key=` and a list of absolute paths (`RequiresMountsFor=`), sorted, each once.
    ///
    /// Such lists know quotes but no C escapes. Where a path holds what a line cannot (a line break), its nearest parent
    /// without that is written instead: what is mounted there or above is then still waited for.
    pub fn paths<'a>(&mut self, key: &'static str, paths: impl Iterator<Item = &'a str>) {
        let mut paths: Vec<&str> = paths.map(carried).collect();
        paths.sort_unstable();
        paths.dedup();
        self.text.push_str(key);
        let mut separator = '=';
        for path in paths {
            self.text.push(separator);
            self.push_path(path);
            separator = ' ';
        }
        self.text.push('\n');
    }

    /// `key=` and a command: `prefix` is systemd's (`-`, or nothing), `program` an absolute path.
    pub fn exec(&mut self, key: &'static str, prefix: &'static str, program: &str) -> Exec<'_> {
        let start = self.text.len();
        self.key(key);
        if program.starts_with('/') && is_bare(program.as_bytes()) {
            self.text.push_str(prefix);
            self.text.push_str(program);
            return Exec { unit: self, start };
        }
        let refused = |byte: u8| byte.is_ascii_control() || matches!(byte, b'"' | b'\'' | b'\\');
        if !program.starts_with('/') || program.bytes().any(refused) {
            self.unfit = Some(Unfit::Program);
        }
        // Quotes stand around the whole word, its prefix included: systemd looks for prefixes in the word without quotes.
        self.text.push('"');
        self.text.push_str(prefix);
        // Specifiers are expanded in the program's path, variables are not: `$` stays single here.
        self.push_escaped(program, false);
        self.text.push('"');
        Exec { unit: self, start }
    }

    fn key(&mut self, key: &str) {
        self.text.push_str(key);
        self.text.push('=');
    }

    /// Decimal digits; there are tens of numbers in a unit, and formatting in general costs more than all the rest of it.
    fn push_number(&mut self, number: u64) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.text
            .push(char::from(b'0' + u8::try_from(number % 10).unwrap_or(0)));
    }

    /// Text without any escape: characters that would end or void the line become blanks.
    fn push_free(&mut self, text: &str) {
        if is_plain(text) {
            self.text.push_str(text);
        } else {
            self.text
                .extend(text.chars().map(|c| if plain(c) { c } else { ' ' }));
        }
    }

    /// Ends a line of free text; a backslash at its end would join it with the next.
    fn end_free(&mut self) {
        while self.text.ends_with(['\\', ' ', '\t']) {
            self.text.pop();
        }
        self.text.push('\n');
    }

    fn push_path(&mut self, path: &str) {
        if is_bare(path.as_bytes()) {
            self.text.push_str(path);
            return;
        }
        self.text.push('"');
        for c in path.chars() {
            match c {
                '"' | '\\' => self.text.push('\\'),
                '%' => self.text.push('%'),
                _ => {}
            }
            self.text.push(c);
        }
        self.text.push('"');
    }

    /// The inside of a quoted command word.
    fn push_escaped(&mut self, text: &str, variables: bool) {
        let mut done = 0;
        for (at, c) in text.char_indices() {
            let escape = match c {
                '$' if variables => "$$",
                ' '..='!' | '#' | '$' | '&'..='[' | ']'..='~' => continue,
                '"' => "\\\"",
                '\\' => "\\\\",
                '%' => "%%",
                '\n' => "\\n",
                '\t' => "\\t",
                '\0' => {
                    self.unfit = Some(Unfit::Nul);
                    ""
                }
                '\u{80}'.. if plain(c) => continue,
                _ => "",
            };
            self.text.push_str(text.get(done..at).unwrap_or(""));
            self.text.push_str(escape);
            if escape.is_empty() {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(self.text, "\\x{byte:02x}");
                }
            }
            done = at + c.len_utf8();
        }
        self.text.push_str(text.get(done..).unwrap_or(""));
    }
}

/// A command line that is being written; it ends when this value goes.
#[derive(Debug)]
pub struct Exec<'a> {
    unit: &'a mut Unit,
    start: usize,
}

impl Exec<'_> {
    /// One word, put together from its parts.
    pub fn word(&mut self, parts: &[Part]) -> &mut Self {
        let text = &mut self.unit.text;
        text.push(' ');
        let start = text.len();
        let mut bare = true;
        let mut length = 0;
        for part in parts {
            match part {
                Part::Text(text) => {
                    bare &= is_bare(text.as_bytes());
                    length += text.len();
                }
                Part::Raw(raw) => length += raw.len(),
                Part::Number(_) => length += NUMBER_MAX,
            }
        }
        if length > ARG_MAX {
            self.unit.unfit = Some(Unfit::TooLong);
        }
        if !bare {
            text.push('"');
        }
        for part in parts {
            match part {
                Part::Raw(raw) => self.unit.text.push_str(raw),
                Part::Number(number) => self.unit.push_number(*number),
                Part::Text(text) if bare => self.unit.text.push_str(text),
                Part::Text(text) => self.unit.push_escaped(text, true),
            }
        }
        if !bare {
            self.unit.text.push('"');
        } else if self.unit.text.len() == start {
            self.unit.text.push_str("\"\"");
        }
        self
    }

    /// One word that is this text.
    pub fn arg(&mut self, text: &str) -> &mut Self {
        self.word(&[Part::Text(text)])
    }

    /// `flag` and `value` as one word; the flag ends in `=`.
    pub fn flag(&mut self, flag: &'static str, value: &str) -> &mut Self {
        self.word(&[Part::Raw(flag), Part::Text(value)])
    }

    /// Words that are our own and need no escape, separated by blanks.
    pub fn raw(&mut self, words: &'static str) -> &mut Self {
        self.unit.text.push(' ');
        self.unit.text.push_str(words);
        self
    }

    /// Goes on in the next line of the file: systemd reads the two as one, people read them more easily.
    pub fn next_line(&mut self) -> &mut Self {
        self.unit.text.push_str(" \\\n   ");
        self
    }
}

impl Drop for Exec<'_> {
    fn drop(&mut self) {
        if self.unit.text.len() - self.start >= LINE_MAX {
            self.unit.unfit = Some(Unfit::TooLong);
        }
        self.unit.text.push('\n');
    }
}

/// Whether a line of a unit file can hold this character as it is. Line ends are obvious; systemd drops a line with a
/// Unicode noncharacter as if it were not UTF-8; other control characters would only confuse whoever reads the file.
fn plain(c: char) -> bool {
    match c {
        '\0'..='\x1f' | '\x7f' | '\u{fdd0}'..='\u{fdef}' => false,
        _ => u32::from(c) & 0xfffe != 0xfffe,
    }
}

/// Whether all characters are [`plain`]; most texts are printable ASCII, which is seen without decoding them.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(plain)
}

/// Whether a word of these bytes means itself without quotes.
fn is_bare(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| BARE.get(usize::from(*byte)).copied().unwrap_or(false))
}

/// Bytes that mean themselves everywhere in a value. No `#` and `;`: at the head of a continued line they begin a comment.
const BARE: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-_.:=,+@";
    let mut rest: &[u8] = bytes;
    while let Some((first, tail)) = rest.split_first() {
        // A constant table: the index is a byte, the table has 256 places.
        #[expect(clippy::indexing_slicing, reason = "a byte indexes a table of 256")]
        {
            table[*first as usize] = true;
        }
        rest = tail;
    }
    table
};

/// The longest leading part of a path, cut at a `/`, that a path list can hold.
fn carried(path: &str) -> &str {
    if is_plain(path) {
        return path;
    }
    let Some(bad) = path.find(|c: char| matches!(c, '\0' | '\n' | '\r') || (c > '\x7f' && !plain(c))) else {
        return path;
    };
    let head = path.get(..bad).unwrap_or("");
    match head.rfind('/') {
        None | Some(0) => "/",
        Some(at) => head.get(..at).unwrap_or("/"),
    }
}

#[cfg(test)]
mod tests;
