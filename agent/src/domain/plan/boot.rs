//! What systemd-tmpfiles does to the state at each boot: a rule that names its owner gives it back to that one, whoever has
//! it by then (tmpfiles.d(5)).

use dagger_suite::beside::words;
use dagger_suite::model::Service;

use super::facts::{Rule, Who};
use super::finding::{Code, Finding};

/// The rules of a file about directories.
pub fn rules(file: &str, text: &str) -> Vec<Rule> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(number, line)| rule(&format!("{file}:{}", number + 1), line))
        .collect()
}

fn rule(at: &str, line: &str) -> Option<Rule> {
    if line.trim_start().starts_with('#') {
        return None;
    }
    let mut words = words(line).into_iter();
    let kind = words.next()?;
    // Directories that are made or adjusted; modifiers may follow.
    if !kind.starts_with(['d', 'D', 'e', 'v', 'q', 'Q', 'z', 'Z']) {
        return None;
    }
    let path = words.next()?;
    let mut field = || {
        words
            .next()
            .filter(|word| !word.is_empty())
            .unwrap_or_else(|| "-".into())
    };
    let fields = [field(), field(), field()];
    Some(Rule {
        at: at.to_owned(),
        path,
        kind,
        fields,
    })
}

/// The container would have the state as another user, and after the next boot it could not start.
pub fn given_back(service: &Service, rule: &Rule, to: Who) -> Finding {
    let [mode, user, group] = rule.fields.each_ref().map(|field| match field.as_str() {
        "-" => "-".to_owned(),
        field => format!(":{}", field.trim_start_matches(':')),
    });
    let Rule { at, path, kind, .. } = rule;
    let [_, owner @ ..] = &rule.fields;
    let whom: Vec<&str> = owner
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "-")
        .collect();
    let whom = whom.join(":");
    Finding::new(
        Code::GivenBack,
        path,
        format!(
            "{at} gives {path} to {whom} at each boot, and the container is to have it as {to}: it could not start any more"
        ),
        format!(
            "write `{kind} {path} {mode} {user} {group}` into /etc/tmpfiles.d/00-dagger-{name}.conf (on NixOS, into systemd.tmpfiles.rules in the place of that rule), which then counts for a new directory only; or take `user` and `group` out of [services.{name}]",
            name = service.name
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_an_owner_are_found() {
        let text = "# d /a 0700 a b\n\nd /b 0755 root root\nd '/var/lib/a b' 0700 sonarr media - -\nd /c :0700 :sonarr :media\nf /file 0600 root root\nD! /d\nz /e - - media\nd\n";
        let mut found = rules("/etc/tmpfiles.d/x.conf", text);
        found.retain(Rule::gives_back);
        let told: Vec<_> = found
            .iter()
            .map(|rule| (rule.at.as_str(), rule.path.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("/etc/tmpfiles.d/x.conf:3", "/b"),
                ("/etc/tmpfiles.d/x.conf:4", "/var/lib/a b"),
                ("/etc/tmpfiles.d/x.conf:8", "/e"),
            ]
        );
        assert_eq!(found[1].fields, ["0700", "sonarr", "media"]);
    }
}
