use super::*;

use crate::scratch::Scratch;

trait Tree {
    fn tree(&self) -> Vec<String>;
}

impl Tree for Scratch {
    fn tree(&self) -> Vec<String> {
        fn walk(dir: &Path, base: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    walk(&path, base, found);
                } else {
                    found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut found = Vec::new();
        walk(self.path(), self.path(), &mut found);
        found.sort();
        found
    }
}

fn file(path: &str, text: &str) -> Output {
    Output {
        path: path.into(),
        content: Content::File(format!("# {HEADER}\n{text}\n")),
    }
}

fn link(path: &str, target: &str) -> Output {
    Output {
        path: path.into(),
        content: Content::Link(target.into()),
    }
}

fn outputs() -> Vec<Output> {
    vec![
        file("dagger-a.service", "[Unit]"),
        link("dagger.target.wants/dagger-a.service", "../dagger-a.service"),
        file("x.service.d/50-dagger-owner.conf", "[Unit]"),
        link(
            "multi-user.target.wants/dagger.target",
            "/usr/lib/systemd/system/dagger.target",
        ),
    ]
}

#[test]
fn everything_is_written_and_a_second_time_nothing_changes() {
    let dir = Scratch::new("twice");
    let missing = dir.path().join("not/there/yet");
    for _ in 0..2 {
        assert!(write(&missing, &outputs()).is_empty());
        assert_eq!(diff(&missing, &outputs()).0, "");
    }
    assert_eq!(dir.tree().len(), 4);
}

#[test]
fn what_an_earlier_run_left_goes_and_what_is_others_stays() {
    let dir = Scratch::new("stale");
    write(dir.path(), &outputs());
    fs::write(dir.path().join("dagger-foreign.service"), "[Unit]\n").unwrap();
    fs::write(dir.path().join("x.service.d/other.conf"), "[Unit]\n").unwrap();
    let shown = diff(dir.path(), &[]).0;
    assert!(shown.contains("--- dagger-a.service\n+++ /dev/null\n"), "{shown}");
    assert!(
        shown.contains("--- dagger.target.wants/dagger-a.service\n+++ /dev/null\n@@ -1,1 +0,0 @@\n--> ../"),
        "{shown}"
    );
    assert!(write(dir.path(), &[]).is_empty());
    assert_eq!(dir.tree(), ["dagger-foreign.service", "x.service.d/other.conf"]);
    assert!(!dir.path().join("dagger.target.wants").exists());
}

#[test]
fn podman_29004_what_is_there_is_replaced_whole() {
    let dir = Scratch::new("replace");
    write(dir.path(), &outputs());
    let before = File::open(dir.path().join("dagger-a.service")).unwrap();
    let new = [
        file("dagger-a.service", "new"),
        link("dagger.target.wants/dagger-a.service", "elsewhere"),
    ];
    assert!(write(dir.path(), &new).is_empty());
    let old_text = io::read_to_string(before).unwrap();
    assert!(
        old_text.ends_with("[Unit]\n"),
        "a reader of the old file keeps it: {old_text}"
    );
    assert!(
        fs::read_to_string(dir.path().join("dagger-a.service"))
            .unwrap()
            .ends_with("new\n")
    );
    assert_eq!(
        fs::read_link(dir.path().join("dagger.target.wants/dagger-a.service")).unwrap(),
        Path::new("elsewhere")
    );
    assert_eq!(dir.tree().len(), 2, "no temporary file is left: {:?}", dir.tree());
}

#[test]
fn one_failure_does_not_stop_the_rest() {
    let dir = Scratch::new("failure");
    fs::create_dir_all(dir.path().join("dagger-a.service/in-the-way")).unwrap();
    fs::write(dir.path().join("dagger.target.wants"), "a file in the way").unwrap();
    let failures = write(dir.path(), &outputs());
    let said: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert!(
        said.iter().any(|line| line.contains("/dagger-a.service: ")),
        "{said:?}"
    );
    assert!(
        said.iter().any(|line| line.contains("/dagger.target.wants")),
        "{said:?}"
    );
    assert!(
        dir.path()
            .join("multi-user.target.wants/dagger.target")
            .is_symlink()
    );
    assert!(dir.path().join("x.service.d/50-dagger-owner.conf").is_file());
}

#[test]
fn a_large_suite_is_written_whole_and_every_failure_is_told() {
    let dir = Scratch::new("large");
    let mut many: Vec<Output> = (0..1000)
        .map(|n| file(&format!("dagger-{n:04}.service"), "[Unit]"))
        .collect();
    many.extend((0..1000).map(|n| link(&format!("dagger.target.wants/dagger-{n:04}.service"), "../x")));
    for n in [3, 700, 998] {
        fs::create_dir_all(dir.path().join(format!("dagger-{n:04}.service/in-the-way"))).unwrap();
    }
    assert_eq!(write(dir.path(), &many).len(), 3);
    assert_eq!(dir.tree().len(), 1997);
}

#[test]
fn a_large_suite_becomes_the_same_by_many_threads() {
    use std::fmt::Write as _;
    let dirs = ["root", "one", "many"].map(|name| Scratch::new(&format!("large-{name}")));
    let [root, one, many] = &dirs;
    let mut text = String::from("[suite]\nmedia = \"/fun\"\n");
    for port in 2000..2300 {
        let _ = writeln!(text, "[services.sonarr-{port}]\nlike = \"sonarr\"\nport = {port}");
    }
    fs::create_dir_all(root.path().join("etc/dagger")).unwrap();
    fs::write(root.path().join("etc/dagger/dagger.toml"), text).unwrap();
    let loaded = crate::load(&names::Root::new(root.path()));
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics.first());
    let programs = crate::render::Programs::below("/usr");
    let rendering = Rendering::new(&loaded.suite, &loaded.broken, loaded.file_errors(), &programs);
    assert!(write(one.path(), &rendering.all()).is_empty());
    assert!(write_suite(many.path(), &rendering).is_empty());
    assert_eq!(one.tree().len(), 3 * 300 + 1);
    assert_eq!(one.tree(), many.tree());
    for path in one.tree().iter().filter(|path| !path.contains('/')) {
        assert_eq!(
            fs::read(one.path().join(path)).unwrap(),
            fs::read(many.path().join(path)).unwrap(),
            "{path}"
        );
    }
    // Into a directory that holds an earlier run, the other way is taken: nothing changes.
    assert!(write_suite(many.path(), &rendering).is_empty());
    assert_eq!(diff(many.path(), &rendering.all()).0, "");
}
