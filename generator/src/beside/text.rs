//! Unit files as lines, by the rules of systemd.syntax(7).

use std::fs;
use std::path::Path;

/// No unit file comes near it.
const FILE_MAX: u64 = 256 << 10;

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub number: usize,
    /// `Socket`, without its brackets.
    pub section: String,
    /// Left of the `=`.
    pub key: String,
    /// Right of it; a reset is empty.
    pub value: String,
}

/// The assignments in a file. One that cannot be read has none: systemd cannot read it either.
pub(super) fn read(path: &Path) -> Vec<Line> {
    let small = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= FILE_MAX);
    let text = small.then(|| fs::read_to_string(path).ok()).flatten();
    lines(&text.unwrap_or_default())
}

fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let mut section = "";
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let first = first.trim();
        if first.is_empty() || first.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = first.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let mut whole = first.to_owned();
        while let Some(begun) = whole.strip_suffix('\\') {
            whole = begun.to_owned();
            // Comments between the parts are left out.
            let next = lines.find(|(_, line)| !line.trim_start().starts_with(['#', ';']));
            let Some((_, next)) = next else { break };
            whole.push(' ');
            whole.push_str(next.trim());
        }
        if let Some((key, value)) = whole.split_once('=') {
            found.push(Line {
                number: index + 1,
                section: section.to_owned(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
    }
    found
}

/// The words of a line, which quotes hold together (systemd.syntax(7), "Quoting"; tmpfiles.d(5) has the same).
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut begun, mut quote) = (Vec::new(), String::new(), false, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => {
                begun = true;
                word.extend(letters.next());
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => {
                begun = true;
                quote = Some(letter);
            }
            (letter, None) if letter.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (letter, _) => {
                begun = true;
                word.push(letter);
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_sections_and_lines_that_go_on() {
        let text = "# ListenStream=1\n[Unit]\nAfter=a \\\n # no\n  b\n; x=y\n[Socket]\n ListenStream = 2 \nListenStream=\nx\n[Bad\ny=1\\";
        let found: Vec<_> = lines(text)
            .into_iter()
            .map(|line| (line.number, line.section, line.key, line.value))
            .collect();
        let line = |number, section: &str, key: &str, value: &str| {
            (number, section.to_owned(), key.to_owned(), value.to_owned())
        };
        assert_eq!(
            found,
            [
                line(3, "Unit", "After", "a  b"),
                line(8, "Socket", "ListenStream", "2"),
                line(9, "Socket", "ListenStream", ""),
                line(12, "Socket", "y", "1"),
            ]
        );
    }
}
