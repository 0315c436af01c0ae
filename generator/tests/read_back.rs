//! Properties of rendered text: systemd and podman read exactly what was meant, whatever the values are.

mod support;

use std::collections::BTreeMap;

use dagger_suite::unit::{Part, Unfit, Unit};
use support::random::Random;
use support::systemd::{self, Escapes};

#[test]
fn any_words_come_back_as_they_were() {
    let mut random = Random(0x5eed_0001);
    let environment = BTreeMap::from([("DAGGER_UID", "568")]);
    for case in 0..200_000 {
        let words: Vec<String> = (0..random.below(6)).map(|_| random.text()).collect();
        let mut unit = Unit::default();
        unit.section("Service");
        let mut exec = unit.exec("ExecStart", "-", "/usr/bin/pod%n $man");
        for word in &words {
            match random.below(4) {
                0 => exec.next_line().arg(word),
                1 => exec.word(&[
                    Part::Raw("--user=${DAGGER_UID}:"),
                    Part::Text(word),
                    Part::Number(7),
                ]),
                _ => exec.arg(word),
            };
        }
        drop(exec);
        let text = unit.finish().unwrap();
        let parsed = systemd::parse(&text).unwrap_or_else(|error| panic!("case {case}: {error}\n{text}"));
        let line = parsed.one("Service", "ExecStart").unwrap();
        let command = systemd::command(line, "x.service", &environment)
            .unwrap_or_else(|error| panic!("case {case}: {error}\n{text}"));
        let read = command.text().unwrap();
        assert!(command.ignore_failure);
        assert_eq!(read[0], "/usr/bin/pod%n $man");
        assert_eq!(read.len(), words.len() + 1, "case {case}: {words:?}\n{text}");
        for (read, word) in read[1..].iter().zip(&words) {
            let decorated = format!("--user=568:{word}7");
            assert!(
                read == word || *read == decorated,
                "case {case}: {read:?} for {word:?}\n{text}"
            );
        }
    }
}

#[test]
fn any_paths_come_back_as_far_as_a_list_can_hold_them() {
    let mut random = Random(0x5eed_0002);
    for case in 0..100_000 {
        let paths: Vec<String> = (0..=random.below(4))
            .map(|_| format!("/{}", random.text()))
            .collect();
        let mut unit = Unit::default();
        unit.section("Unit");
        unit.paths("RequiresMountsFor", paths.iter().map(String::as_str));
        let text = unit.finish().unwrap();
        let parsed = systemd::parse(&text).unwrap_or_else(|error| panic!("case {case}: {error}\n{text}"));
        let list = systemd::words(parsed.one("Unit", "RequiresMountsFor").unwrap(), Escapes::Plain).unwrap();
        let list: Vec<String> = list
            .iter()
            .map(|word| String::from_utf8(systemd::specifiers(word, "x.service").unwrap()).unwrap())
            .collect();
        for path in &paths {
            assert!(
                list.iter().any(|read| path.starts_with(read.as_str())),
                "case {case}: nothing for {path:?} in {list:?}"
            );
            if !path.contains(['\r', '\n', '\u{fffe}', '\u{fdd0}', '\u{1ffff}']) && path.is_ascii() {
                assert!(list.contains(path), "case {case}: {path:?} is not in {list:?}");
            }
        }
    }
}

#[test]
fn free_text_stays_in_its_line() {
    let mut random = Random(0x5eed_0003);
    for case in 0..100_000 {
        let (title, path) = (random.text(), format!("/{}", random.text()));
        let mut unit = Unit::default();
        unit.comment(&["from ", &path]);
        unit.section("Unit");
        unit.free("Description", &[&title]);
        unit.path("SourcePath", &path);
        unit.set("PartOf", &["x.target"]);
        let text = unit.finish().unwrap();
        let parsed = systemd::parse(&text).unwrap_or_else(|error| panic!("case {case}: {error}\n{text}"));
        let keys: Vec<&str> = parsed
            .assignments
            .iter()
            .map(|(_, key, _)| key.as_str())
            .collect();
        assert!(
            keys == ["Description", "SourcePath", "PartOf"] || keys == ["Description", "PartOf"],
            "case {case}: {keys:?}\n{text}"
        );
        let read =
            systemd::specifiers(parsed.one("Unit", "Description").unwrap().as_bytes(), "x.service").unwrap();
        if title.is_ascii()
            && !title
                .bytes()
                .any(|byte| byte < b' ' || byte == 0x7f || byte == b'\\')
        {
            assert_eq!(
                String::from_utf8(read).unwrap(),
                title.trim_matches(' '),
                "case {case}"
            );
        }
    }
}

#[test]
fn the_reader_is_as_strict_as_systemd() {
    let none = BTreeMap::new();
    let command =
        |line: &str| systemd::command(line, "x.service", &none).map(|command| command.text().unwrap());
    assert_eq!(
        command("/p \"a b\" 'c' d\\x20e %% $$").unwrap(),
        ["/p", "a b", "c", "d e", "%", "$"]
    );
    for wrong in [
        "p",
        "",
        "/p ; /q",
        "/p \"a",
        "/p a\"b",
        "/p \\q",
        "/p %q",
        "/p a$b",
        "/p ${X}",
        "/p \"a\"b",
        "/p \\x00",
    ] {
        assert!(command(wrong).is_err(), "{wrong}");
    }
    assert_eq!(command("/p \";\"").unwrap(), ["/p", ";"]);
    assert!(systemd::parse("[Unit]\nA=\u{fffe}\n").is_err());
    assert!(systemd::parse("A=b\n").is_err());
    let joined = systemd::parse("[Unit]\nA=a \\\n# gone \\\n;gone\n   b\\\\\nC=d").unwrap();
    assert_eq!(joined.one("Unit", "A").unwrap(), "a     b\\\\");
    assert_eq!(joined.one("Unit", "C").unwrap(), "d");
}

#[test]
fn a_program_that_systemd_cannot_name_is_refused() {
    for path in ["/usr/bin/pod\"man", "/a\\b", "/a\nb", "/a'b", "podman"] {
        let mut unit = Unit::default();
        unit.exec("ExecStart", "", path);
        assert_eq!(unit.finish(), Err(Unfit::Program), "{path:?}");
    }
}
