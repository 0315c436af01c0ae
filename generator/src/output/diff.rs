//! A unified diff of one output, as diff(1) writes it: three lines of context around each change.

use std::fmt::Write as _;

use crate::render::Content;

/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// Above this many pairs of lines the shortest description is not looked for: all old lines go, all new ones come.
const PAIRS_MAX: usize = 1 << 20;

/// Appends what becomes of one path; nothing when it stays as it is.
pub(super) fn one(text: &mut String, path: &str, old: Option<&Content>, new: Option<&Content>) {
    if old == new {
        return;
    }
    let from = if old.is_some() { path } else { "/dev/null" };
    let to = if new.is_some() { path } else { "/dev/null" };
    let _ = writeln!(text, "--- {from}\n+++ {to}");
    let (old, new) = (shown(old), shown(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let edits = edits(&old, &new);
    for hunk in hunks(&edits) {
        write_hunk(text, hunk, &edits, &old, &new);
    }
}

/// A link is shown as one line that no unit file begins with.
fn shown(content: Option<&Content>) -> String {
    match content {
        None => String::new(),
        Some(Content::File(text)) => text.clone(),
        Some(Content::Link(target)) => format!("-> {target}"),
    }
}

/// One line of the result, with the line's number (from 0) in the old and in the new text.
#[derive(Clone, Copy)]
struct Edit {
    mark: char,
    old: usize,
    new: usize,
}

/// The whole way from old to new, unchanged lines included: the longest common subsequence stays.
fn edits(old: &[&str], new: &[&str]) -> Vec<Edit> {
    let width = new.len() + 1;
    let known = old.len().saturating_mul(new.len()) <= PAIRS_MAX;
    // `common[i * width + j]`: how many lines the rests old[i..] and new[j..] have in common.
    let mut common = vec![0_u32; if known { (old.len() + 1) * width } else { 0 }];
    let at = |common: &[u32], i: usize, j: usize| common.get(i * width + j).copied().unwrap_or(0);
    if known {
        for (i, a) in old.iter().enumerate().rev() {
            for (j, b) in new.iter().enumerate().rev() {
                let here = if a == b {
                    at(&common, i + 1, j + 1) + 1
                } else {
                    at(&common, i + 1, j).max(at(&common, i, j + 1))
                };
                if let Some(cell) = common.get_mut(i * width + j) {
                    *cell = here;
                }
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::with_capacity(old.len().max(new.len()));
    while i < old.len() || j < new.len() {
        let same = known && i < old.len() && j < new.len() && old.get(i) == new.get(j);
        let remove = i < old.len() && (j == new.len() || at(&common, i + 1, j) >= at(&common, i, j + 1));
        let mark = if same {
            ' '
        } else if remove {
            '-'
        } else {
            '+'
        };
        edits.push(Edit { mark, old: i, new: j });
        i += usize::from(mark != '+');
        j += usize::from(mark != '-');
    }
    edits
}

/// Ranges of edits that are shown together.
fn hunks(edits: &[Edit]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, _) in edits.iter().enumerate().filter(|(_, edit)| edit.mark != ' ') {
        let (start, end) = (at.saturating_sub(CONTEXT), (at + CONTEXT + 1).min(edits.len()));
        match hunks.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => hunks.push(start..end),
        }
    }
    hunks
}

fn write_hunk(text: &mut String, hunk: std::ops::Range<usize>, edits: &[Edit], old: &[&str], new: &[&str]) {
    let edits = edits.get(hunk).unwrap_or_default();
    let Some(first) = edits.first() else {
        return;
    };
    let removed = edits.iter().filter(|edit| edit.mark != '+').count();
    let added = edits.iter().filter(|edit| edit.mark != '-').count();
    // Lines count from 1; a side without lines names the line before it.
    let from = first.old + usize::from(removed > 0);
    let to = first.new + usize::from(added > 0);
    let _ = writeln!(text, "@@ -{from},{removed} +{to},{added} @@");
    for edit in edits {
        let line = if edit.mark == '+' {
            new.get(edit.new)
        } else {
            old.get(edit.old)
        };
        let _ = writeln!(text, "{}{}", edit.mark, line.copied().unwrap_or(""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: Option<&str>, new: Option<&str>) -> String {
        let file = |text: &str| Content::File(text.to_owned());
        let mut text = String::new();
        one(&mut text, "x", old.map(file).as_ref(), new.map(file).as_ref());
        text
    }

    #[test]
    fn a_change_has_its_surroundings() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = old.replace("5\n", "five\n5b\n");
        assert_eq!(
            diff(Some(old), Some(&new)),
            "--- x\n+++ x\n@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-5\n+five\n+5b\n 6\n 7\n 8\n"
        );
        assert_eq!(diff(Some(old), Some(old)), "");
    }

    #[test]
    fn new_and_removed_files_say_so() {
        assert_eq!(
            diff(None, Some("a\n")),
            "--- /dev/null\n+++ x\n@@ -0,0 +1,1 @@\n+a\n"
        );
        assert_eq!(
            diff(Some("a\nb\n"), None),
            "--- x\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n"
        );
    }

    #[test]
    fn changes_far_apart_are_apart() {
        let numbers: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        let old = numbers.join("\n");
        let new = old.replace("\n2\n", "\n").replace("\n28\n", "\n");
        let text = diff(Some(&old), Some(&new));
        assert_eq!(text.matches("@@ -").count(), 2, "{text}");
    }

    #[test]
    fn a_huge_change_is_shown_without_looking_for_the_shortest() {
        let old = "a\n".repeat(2000);
        let new = "b\n".repeat(2000);
        assert_eq!(diff(Some(&old), Some(&new)).matches("\n-a").count(), 2000);
    }
}
