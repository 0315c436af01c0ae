//! How a native unit starts its application, as its files say: where its settings are follows from that.

use super::text;
use super::units::Units;

/// Directories that stand for specifiers in system units (systemd.unit(5)).
const SPECIFIERS: [(char, &str); 6] = [
    ('%', "%"),
    ('S', "/var/lib"),
    ('C', "/var/cache"),
    ('L', "/var/log"),
    ('E', "/etc"),
    ('t', "/run"),
];

/// How a unit starts its application.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// The unit.
    pub unit: String,
    /// `User=`, empty for root.
    pub user: String,
    /// Words of `ExecStart=`, the program first.
    pub argv: Vec<String>,
    /// `NAME=VALUE` of all `Environment=`.
    pub environment: Vec<String>,
    /// Paths of all `EnvironmentFile=`.
    pub environment_files: Vec<String>,
}

impl Start {
    /// As systemd would read it; none for a unit that starts nothing.
    pub(super) fn of(units: &Units, unit: &str) -> Option<Self> {
        let mut start = Self {
            unit: unit.to_owned(),
            ..Self::default()
        };
        let lines = units.read(unit).into_iter().flat_map(|(_, lines)| lines);
        for line in lines.filter(|line| line.section == "Service") {
            let value = line.value.as_str();
            match line.key.as_str() {
                "User" => start.user = specified(value),
                // The first command is the application's; an empty one takes back all that were said before.
                "ExecStart" if value.is_empty() => start.argv.clear(),
                "ExecStart" if start.argv.is_empty() => {
                    start.argv = words(value.trim_start_matches(['@', '-', ':', '+', '!', '|']));
                }
                "Environment" if value.is_empty() => start.environment.clear(),
                "Environment" => start.environment.extend(words(value)),
                "EnvironmentFile" if value.is_empty() => start.environment_files.clear(),
                "EnvironmentFile" => {
                    let path = value.strip_prefix('-').unwrap_or(value);
                    start.environment_files.push(specified(path));
                }
                _ => {}
            }
        }
        (!start.argv.is_empty()).then_some(start)
    }
}

/// The words of a line, with the directories that their specifiers name.
fn words(line: &str) -> Vec<String> {
    text::words(line).iter().map(|word| specified(word)).collect()
}

/// Specifiers that name directories are replaced; others stay, and lead nowhere.
fn specified(word: &str) -> String {
    let (mut text, mut letters) = (String::new(), word.chars());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let next = letters.next();
        if let Some((_, directory)) = SPECIFIERS.iter().find(|(known, _)| Some(*known) == next) {
            text.push_str(directory);
        } else {
            text.push('%');
            text.extend(next);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_held_together_by_quotes() {
        for (line, expected) in [
            ("/bin/a -data=/x", &["/bin/a", "-data=/x"][..]),
            ("  a  'b c' \"d 'e\" ", &["a", "b c", "d 'e"]),
            (r"a\ b '' x", &["a b", "", "x"]),
            ("%S/a %%x %i %", &["/var/lib/a", "%x", "%i", "%"]),
            ("\"A=b c\" D=e", &["A=b c", "D=e"]),
            ("", &[]),
            ("'open", &["open"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }
}
