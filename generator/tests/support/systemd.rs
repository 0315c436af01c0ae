//! systemd's side of a unit file, written from systemd.syntax(7), systemd.unit(5) and systemd.service(5): it shares no line
//! with the writer. Stricter than systemd in one way: whatever systemd would warn about is an error here.

use std::collections::BTreeMap;

/// `LONG_LINE_MAX`: lines, joined ones included, end below it.
const LINE_MAX: usize = 1 << 20;

/// A unit file as systemd holds it: assignments in order.
#[derive(Debug, Default)]
pub struct UnitFile {
    pub assignments: Vec<(String, String, String)>,
}

impl UnitFile {
    /// Values of a key in a section, in order.
    pub fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let found = self
            .assignments
            .iter()
            .filter(|(s, k, _)| s == section && k == key);
        found.map(|(_, _, value)| value.as_str()).collect()
    }

    /// The one value of a key.
    pub fn one(&self, section: &str, key: &str) -> Result<&str, String> {
        let mut all = self
            .assignments
            .iter()
            .filter(|(s, k, _)| s == section && k == key);
        match (all.next(), all.next()) {
            (Some((_, _, value)), None) => Ok(value),
            (None, _) => Err(format!("no {key}= in [{section}]")),
            _ => Err(format!("more than one {key}= in [{section}]")),
        }
    }
}

/// Reads a whole file.
pub fn parse(text: &str) -> Result<UnitFile, String> {
    let mut unit = UnitFile::default();
    let mut section = String::new();
    let mut joined: Option<String> = None;
    // A line ends at a line feed, a carriage return or a NUL.
    for line in text.split(['\n', '\r', '\0']) {
        if let Some(bad) = line.chars().find(|c| noncharacter(*c)) {
            return Err(format!(
                "a line holds {bad:?}, which systemd takes for invalid UTF-8"
            ));
        }
        let content = line.trim_start_matches([' ', '\t']);
        // Comments are skipped even between the lines of one value.
        if content.starts_with(['#', ';']) {
            continue;
        }
        let mut whole = joined.take().unwrap_or_default();
        whole.push_str(if whole.is_empty() { content } else { line });
        if whole.len() >= LINE_MAX {
            return Err("a line is too long".into());
        }
        let backslashes = whole.len() - whole.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            whole.pop();
            whole.push(' ');
            joined = Some(whole);
            continue;
        }
        assignment(&mut unit, &mut section, whole.trim_matches([' ', '\t']))?;
    }
    match joined {
        Some(rest) => Err(format!("the file ends in the middle of {rest:?}")),
        None => Ok(unit),
    }
}

fn assignment(unit: &mut UnitFile, section: &mut String, line: &str) -> Result<(), String> {
    if line.is_empty() {
        return Ok(());
    }
    if let Some(name) = line.strip_prefix('[') {
        let name = name
            .strip_suffix(']')
            .ok_or_else(|| format!("bad section header {line:?}"))?;
        name.clone_into(section);
        return Ok(());
    }
    if section.is_empty() {
        return Err(format!("{line:?} is outside of any section"));
    }
    let (key, value) = line
        .split_once('=')
        .ok_or_else(|| format!("no assignment: {line:?}"))?;
    let (key, value) = (
        key.trim_end_matches([' ', '\t']),
        value.trim_start_matches([' ', '\t']),
    );
    if key.is_empty() {
        return Err(format!("no key: {line:?}"));
    }
    unit.assignments
        .push((section.clone(), key.to_owned(), value.to_owned()));
    Ok(())
}

/// What `utf8_is_valid()` of systemd refuses beside malformed bytes.
fn noncharacter(c: char) -> bool {
    ('\u{fdd0}'..='\u{fdef}').contains(&c) || (c as u32) % 0x1_0000 >= 0xfffe
}

/// How far backslashes reach in a list of words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Escapes {
    /// C escapes (command lines, `Environment=`).
    C,
    /// A backslash only takes the next character's meaning away (`RequiresMountsFor=`).
    Plain,
}

/// Splits a value into words: blanks separate, quotes hold together.
pub fn words(value: &str, escapes: Escapes) -> Result<Vec<Vec<u8>>, String> {
    let mut rest = value.as_bytes();
    let mut words = Vec::new();
    while let Some((word, after, _)) = first_word(rest, escapes)? {
        words.push(word);
        rest = after;
    }
    Ok(words)
}

/// A word, what follows it, and whether it was only an unquoted `;`.
type Word<'a> = (Vec<u8>, &'a [u8], bool);

fn first_word(input: &[u8], escapes: Escapes) -> Result<Option<Word<'_>>, String> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = input.iter().position(|byte| !blank(byte)) else {
        return Ok(None);
    };
    let mut rest = &input[start..];
    if rest[0] == b';' && rest.get(1).is_none_or(&blank) {
        return Ok(Some((vec![b';'], &rest[1..], true)));
    }
    let quote = match rest[0] {
        byte @ (b'"' | b'\'') => {
            rest = &rest[1..];
            Some(byte)
        }
        _ => None,
    };
    let mut word = Vec::new();
    loop {
        match (rest.first(), quote) {
            (None, None) => return Ok(Some((word, rest, false))),
            (None, Some(_)) => return Err("a quote is never closed".into()),
            (Some(byte), None) if blank(byte) => return Ok(Some((word, rest, false))),
            (Some(b'"' | b'\''), None) => return Err("a quote in the middle of a word".into()),
            (Some(byte), Some(quote)) if *byte == quote => {
                rest = &rest[1..];
                if rest.first().is_some_and(|next| !blank(next)) {
                    return Err("something follows a closing quote".into());
                }
                return Ok(Some((word, rest, false)));
            }
            (Some(b'\\'), _) => {
                let used = match escapes {
                    Escapes::C => unescape(&rest[1..], &mut word)?,
                    Escapes::Plain => {
                        word.push(*rest.get(1).ok_or("a backslash at the end")?);
                        1
                    }
                };
                rest = &rest[1 + used..];
            }
            (Some(byte), _) => {
                word.push(*byte);
                rest = &rest[1..];
            }
        }
    }
}

/// One C escape after its backslash; returns how many bytes it took.
fn unescape(rest: &[u8], word: &mut Vec<u8>) -> Result<usize, String> {
    let simple = match rest.first() {
        Some(b'a') => 7,
        Some(b'b') => 8,
        Some(b't') => b'\t',
        Some(b'n') => b'\n',
        Some(b'v') => 11,
        Some(b'f') => 12,
        Some(b'r') => b'\r',
        Some(b's') => b' ',
        Some(byte @ (b'\\' | b'"' | b'\'')) => *byte,
        Some(b'x') => {
            let digits = rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            return match byte {
                None | Some(0) => Err("a bad \\x escape".into()),
                Some(byte) => {
                    word.push(byte);
                    Ok(3)
                }
            };
        }
        other => {
            return Err(format!(
                "unknown escape {:?}",
                other.map(|byte| char::from(*byte))
            ));
        }
    };
    word.push(simple);
    Ok(1)
}

/// `%` specifiers of the system manager for a plain unit.
pub fn specifiers(text: &[u8], unit: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(b'%') => out.push(b'%'),
            Some(b'n') => out.extend(unit.bytes()),
            Some(b'N') => out.extend(unit.strip_suffix(".service").unwrap_or(unit).bytes()),
            Some(b't') => out.extend(b"/run"),
            other => {
                return Err(format!(
                    "specifier %{:?} is not one we use",
                    other.map(|byte| char::from(*byte))
                ));
            }
        }
    }
    Ok(out)
}

/// A command as systemd runs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// `-`: failure is ignored.
    pub ignore_failure: bool,
    /// The arguments, the program's path first.
    pub argv: Vec<Vec<u8>>,
}

impl Command {
    /// The arguments as text; what is not UTF-8 is an error.
    pub fn text(&self) -> Result<Vec<String>, String> {
        let one = |word: &Vec<u8>| String::from_utf8(word.clone()).map_err(|error| error.to_string());
        self.argv.iter().map(one).collect()
    }
}

/// Reads a command line as `ExecStart=` and its like are read, with the environment that the service has.
pub fn command(value: &str, unit: &str, environment: &BTreeMap<&str, &str>) -> Result<Command, String> {
    let (first, mut rest, _) = first_word(value.as_bytes(), Escapes::C)?.ok_or("an empty command")?;
    let ignore_failure = first.first() == Some(&b'-');
    let path = specifiers(first.strip_prefix(b"-").unwrap_or(&first), unit)?;
    let bad = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\'' | b'\\' | 0x7f);
    if path.first() != Some(&b'/') || path.iter().any(bad) {
        return Err(format!("not a path to run: {:?}", String::from_utf8_lossy(&path)));
    }
    let mut argv = vec![path];
    while let Some((word, after, separator)) = first_word(rest, Escapes::C)? {
        if separator {
            return Err("a lone ; begins a second command".into());
        }
        expand(&specifiers(&word, unit)?, environment, &mut argv)?;
        rest = after;
    }
    Ok(Command { ignore_failure, argv })
}

/// `$` variables of one argument: `$NAME` alone becomes any number of words, `${NAME}` is replaced inside of one.
fn expand(word: &[u8], environment: &BTreeMap<&str, &str>, argv: &mut Vec<Vec<u8>>) -> Result<(), String> {
    let value = |name: &[u8]| {
        let name = std::str::from_utf8(name).map_err(|error| error.to_string())?;
        environment
            .get(name)
            .copied()
            .ok_or_else(|| format!("the variable {name} is not one of the unit's"))
    };
    if let [b'$', name @ ..] = word
        && !matches!(name.first(), Some(b'$' | b'{'))
    {
        argv.extend(words(value(name)?, Escapes::Plain)?);
        return Ok(());
    }
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'$' {
            out.push(*byte);
            continue;
        }
        match rest.split_first() {
            Some((b'$', after)) => {
                out.push(b'$');
                rest = after;
            }
            Some((b'{', after)) => {
                let end = after
                    .iter()
                    .position(|byte| *byte == b'}')
                    .ok_or("a ${ is never closed")?;
                out.extend(value(&after[..end])?.bytes());
                rest = &after[end + 1..];
            }
            _ => return Err("a single $ inside of a word".into()),
        }
    }
    argv.push(out);
    Ok(())
}
