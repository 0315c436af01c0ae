//! How much of the last ten seconds tasks stood still (Linux, Documentation/accounting/psi.rst).

use std::fs;

use dagger_suite::names::Root;

/// The root control group has the figures of the whole machine; a sandbox with `ProcSubset=pid` does not see the others.
const PLACES: [(&str, &str); 2] = [("/sys/fs/cgroup/", ".pressure"), ("/proc/pressure/", "")];
/// What is short, which line of its file counts, and its name. A processor is short as soon as one task waits; memory and
/// disk are when all do.
const KINDS: [(&str, &str, &str); 3] = [
    ("cpu", "some", "a processor"),
    ("memory", "full", "memory"),
    ("io", "full", "the disk"),
];

/// The shortest of the three, in percent of the last ten seconds; none where the kernel keeps no such figures.
pub fn worst(root: &Root) -> Option<(f64, &'static str)> {
    let of = |(file, line, name): (&str, &str, &'static str)| {
        let texts = PLACES.map(|(dir, suffix)| fs::read_to_string(root.join(format!("{dir}{file}{suffix}"))));
        let text = texts.into_iter().find_map(Result::ok)?;
        Some((average(&text, line)?, name))
    };
    KINDS
        .into_iter()
        .filter_map(of)
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

/// `some avg10=0.31 avg60=...`.
fn average(text: &str, line: &str) -> Option<f64> {
    let line = text.lines().find_map(|it| it.strip_prefix(line))?;
    line.split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_and_a_kernel_without_figures_tells_nothing() {
        let dir = std::env::temp_dir().join(format!("dagger-pressure-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let root = Root::new(&dir);
        assert_eq!(worst(&root), None);
        let (group, proc) = (dir.join("sys/fs/cgroup"), dir.join("proc/pressure"));
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(&proc).unwrap();
        let text = |some: &str, full: &str| {
            format!(
                "some avg10={some} avg60=1.00 avg300=0.00 total=9\nfull avg10={full} avg60=0.00 avg300=0.00 total=1\n"
            )
        };
        fs::write(proc.join("io"), text("99.00", "12.50")).unwrap();
        assert_eq!(worst(&root), Some((12.5, "the disk")));
        fs::write(group.join("cpu.pressure"), text("71.20", "0.00")).unwrap();
        assert_eq!(worst(&root), Some((71.2, "a processor")));
        fs::remove_dir_all(&dir).unwrap();
    }
}
