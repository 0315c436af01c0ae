//! What is wrong in what the user wrote: where, what, and what would be right.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

/// A place in one of the files that were read: byte offsets into that file's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Index of the file in [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// How much a diagnostic weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The service works; the user should know.
    Warning,
    /// The service, or the file, cannot be used.
    Error,
}

/// One mistake, complete: it needs no other value to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it weighs.
    pub severity: Severity,
    /// The file as the user knows it (below `/`, also when another root was used).
    pub file: String,
    /// Line, from 1; 0 when the diagnostic is about the file as a whole.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The offending line, without its end.
    pub text: String,
    /// How many characters of `text` are meant, at least 1.
    pub width: u32,
    /// What is wrong, in one sentence that begins in lower case.
    pub problem: String,
    /// What would be right.
    pub help: Option<String>,
    /// The service that cannot be used because of it, by the name in the file; none: the file as a whole.
    pub service: Option<String>,
}

impl Diagnostic {
    /// About a file as a whole: unreadable, too large, a directory.
    pub fn of_file(file: impl Into<String>, problem: impl Into<String>, help: Option<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.into(),
            line: 0,
            column: 0,
            text: String::new(),
            width: 0,
            problem: problem.into(),
            help,
            service: None,
        }
    }

    /// `file:line:column`, or only the file where no line is meant.
    pub fn place(&self) -> String {
        if self.line == 0 {
            self.file.clone()
        } else {
            format!("{}:{}:{}", self.file, self.line, self.column)
        }
    }

    /// The whole message on one line, for the journal and for `systemctl status`.
    pub fn one_line(&self) -> String {
        let mut line = format!("{}: {}", self.place(), self.problem);
        if let Some(help) = &self.help {
            line.push_str(" (");
            line.push_str(help);
            line.push(')');
        }
        line
    }
}

/// The printed form for people: place, problem, the line itself with a mark under it, help.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {kind}: {}", self.place(), self.problem)?;
        if self.line > 0 {
            let number = self.line.to_string();
            let gap = " ".repeat(number.len());
            let indent: String = self
                .text
                .chars()
                .take(self.column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let mark = "^".repeat(self.width.max(1) as usize);
            write!(f, "\n {number} | {}\n {gap} | {indent}{mark}", self.text)?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n   = {help}")?;
        }
        Ok(())
    }
}

/// The longest stretch of a line that is shown: a minified JSON file is one line of any length.
const SHOWN: usize = 160;

#[derive(Debug)]
struct File {
    name: String,
    text: String,
    /// Where each line ends, found when the first place is asked for: a file may hold thousands of mistakes.
    ends: OnceLock<Vec<usize>>,
}

/// The texts of all files that were read; turns spans into places.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<File>,
    built_in: &'static [(&'static str, &'static str)],
}

impl Sources {
    /// Takes a file in and returns its index for [`Span::file`].
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push(File {
            name: name.into(),
            text: text.into(),
            ends: OnceLock::new(),
        });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// Names and texts that are compiled in: they are counted from `u32::MAX` downwards.
    pub fn built_in(&mut self, files: &'static [(&'static str, &'static str)]) {
        self.built_in = files;
    }

    fn file(&self, file: u32) -> (&str, &str) {
        match self.files.get(file as usize) {
            Some(file) => (&file.name, &file.text),
            None => self
                .built_in
                .get((u32::MAX - file) as usize)
                .copied()
                .unwrap_or_default(),
        }
    }

    /// Name of a file.
    pub fn name(&self, file: u32) -> &str {
        self.file(file).0
    }

    /// Text of a file.
    pub fn text(&self, file: u32) -> &str {
        self.file(file).1
    }

    /// How many lines end before this byte, and where its own line begins.
    fn line(&self, file: u32, at: usize) -> (usize, usize) {
        let find = |text: &str| text.match_indices('\n').map(|(at, _)| at).collect::<Vec<_>>();
        let built_in = || find(self.text(file));
        let found = self.files.get(file as usize);
        let ends = found.map_or_else(
            || Cow::Owned(built_in()),
            |file| Cow::Borrowed(file.ends.get_or_init(|| find(&file.text)).as_slice()),
        );
        let before = ends.partition_point(|end| *end < at);
        let last = before.checked_sub(1).and_then(|last| ends.get(last));
        (before, last.map_or(0, |end| end + 1))
    }

    /// Makes a diagnostic of a span.
    pub fn at(
        &self,
        span: Span,
        severity: Severity,
        problem: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let text = self.text(span.file);
        let start = floor_boundary(text, span.start as usize);
        let end = floor_boundary(text, (span.end as usize).max(start));
        let (line_before, line_start) = self.line(span.file, start);
        let lead = text.get(line_start..start).unwrap_or("");
        let rest = text.get(line_start..).unwrap_or("");
        let line = rest.split('\n').next().unwrap_or("").trim_end_matches('\r');
        let meant = text.get(start..end).unwrap_or("");
        let width = meant.split('\n').next().unwrap_or("").chars().count().max(1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Diagnostic {
            severity,
            file: self.name(span.file).to_owned(),
            line: count(line_before + 1),
            column: count(lead.chars().count() + 1),
            text: line.chars().take(SHOWN).collect(),
            width: count(width.min(SHOWN)),
            problem: problem.into(),
            help,
            service: None,
        }
    }
}

/// The nearest character boundary at or before `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The candidate nearest to `word` by edit distance, when it is near enough to be what was meant.
///
/// ```
/// use dagger_suite::diagnostic::nearest;
/// assert_eq!(nearest("prot", ["port", "path"]), Some("port"));
/// assert_eq!(nearest("zzz", ["port", "path"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + word.len().max(candidate.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_and_lines() {
        let mut sources = Sources::default();
        let file = sources.add("/etc/dagger/dagger.toml", "[suite]\r\nä = \"x\"\n");
        let span = Span {
            file,
            start: 14,
            end: 17,
        };
        let it = sources.at(span, Severity::Error, "wrong", Some("try y".into()));
        assert_eq!((it.line, it.column, it.width), (2, 5, 3));
        assert_eq!(it.one_line(), "/etc/dagger/dagger.toml:2:5: wrong (try y)");
        assert_eq!(
            it.to_string(),
            "/etc/dagger/dagger.toml:2:5: error: wrong\n 2 | ä = \"x\"\n   |     ^^^\n   = try y"
        );
    }

    #[test]
    fn spans_that_lie_are_not_a_panic() {
        let mut sources = Sources::default();
        let file = sources.add("x", "äö");
        for start in 0..9 {
            for end in 0..9 {
                sources.at(Span { file, start, end }, Severity::Error, "", None);
            }
        }
        sources.at(
            Span {
                file: 7,
                start: 1,
                end: 2,
            },
            Severity::Error,
            "",
            None,
        );
    }
}
