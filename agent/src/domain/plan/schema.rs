//! Whether an image knows a database: the applications migrate upwards only, and test for nothing newer
//! (Sonarr's MigrationController.cs; SynoCommunity/spksrc#5271), so that the guard is ours.
//!
//! What is known are a few points: a version, and the last schema in it. An image between two of them knows at least the
//! one and at most the other. Sources: the numbers of the migration files in each application's repository at that tag.

/// The last schema of a version, by catalogue entry, in ascending order.
const KNOWN: [(&str, &[(&str, i64)]); 3] = [
    ("sonarr", &[("4.0.19", 217), ("5.0.0", 230)]),
    ("radarr", &[("6.0.3", 242)]),
    ("prowlarr", &[("2.3.6", 43)]),
];

/// Whether an image knows a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knows {
    /// Certainly.
    Yes,
    /// Certainly not: this is the last one it can know.
    No(i64),
    /// Nobody can tell.
    Perhaps,
}

/// Whether an image of this version (`4.0.19.2979-ls310`) knows the schema of that number.
pub fn knows(kind: &str, version: &str, schema: i64) -> Knows {
    let points = KNOWN.iter().find(|(name, _)| *name == kind);
    let (Some((_, points)), Some(version)) = (points, numbers(version)) else {
        return Knows::Perhaps;
    };
    let point = |(text, schema): &(&str, i64)| Some((numbers(text)?, *schema));
    let below = points.iter().filter_map(point).rfind(|(at, _)| *at <= version);
    if below.is_some_and(|(_, known)| schema <= known) {
        return Knows::Yes;
    }
    // The first point that this version has not gone beyond: what that one does not know, this one cannot.
    let above = points
        .iter()
        .filter_map(point)
        .find(|(at, _)| version.get(..at.len()).unwrap_or(&version) <= at.as_slice());
    match above {
        Some((_, last)) if schema > last => Knows::No(last),
        _ => Knows::Perhaps,
    }
}

/// The numbers at the beginning of a version: `4.0.19.2979-ls310` and `v1.5.3` have some.
pub fn numbers(version: &str) -> Option<Vec<u64>> {
    let version = version.trim().trim_start_matches('v');
    let end = version
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(version.len());
    version
        .get(..end)?
        .trim_end_matches('.')
        .split('.')
        .map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_knows_what_its_version_brings() {
        for (version, schema, expected) in [
            ("4.0.19.2979-ls310", 217, Knows::Yes),
            ("4.0.19.2979-ls310", 100, Knows::Yes),
            ("4.0.19.2979-ls310", 218, Knows::No(217)),
            ("4.0.16.2944-ls300", 217, Knows::Perhaps),
            ("4.0.16.2944-ls300", 218, Knows::No(217)),
            ("4.0.20.1-ls1", 218, Knows::Perhaps),
            ("4.0.20.1-ls1", 231, Knows::No(230)),
            ("5.1.0", 240, Knows::Perhaps),
            ("5.1.0", 230, Knows::Yes),
            ("", 1, Knows::Perhaps),
            ("latest", 1, Knows::Perhaps),
        ] {
            assert_eq!(knows("sonarr", version, schema), expected, "{version} {schema}");
        }
        assert_eq!(knows("lidarr", "2.0.0", 1), Knows::Perhaps);
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(numbers("v1.5.3-ls338"), Some(vec![1, 5, 3]));
        assert_eq!(numbers("10.11.6"), Some(vec![10, 11, 6]));
        assert_eq!(numbers("develop"), None);
        assert_eq!(numbers(""), None);
    }
}
