use super::*;

fn line(write: impl FnOnce(&mut Unit)) -> String {
    let mut unit = Unit::default();
    write(&mut unit);
    unit.finish().unwrap()
}

fn word(text: &str) -> String {
    let line = line(|unit| {
        unit.exec("E", "", "/p").arg(text);
    });
    line.strip_prefix("E=/p ")
        .unwrap()
        .trim_end_matches('\n')
        .to_owned()
}

#[test]
fn words_are_bare_where_they_can_be() {
    assert_eq!(word("--publish=8989:8989/tcp"), "--publish=8989:8989/tcp");
    assert_eq!(word(""), "\"\"");
    assert_eq!(word(";"), "\";\"");
    assert_eq!(word("#x"), "\"#x\"");
    assert_eq!(word("Ä b"), "\"Ä b\"");
}

#[test]
fn what_systemd_would_read_otherwise_is_escaped() {
    assert_eq!(word("100% $HOME ${X} $$"), "\"100%% $$HOME $${X} $$$$\"");
    assert_eq!(word("a\"b\\c'd"), "\"a\\\"b\\\\c'd\"");
    assert_eq!(word("a\nb\tc\r\x07\x7f"), "\"a\\nb\\tc\\x0d\\x07\\x7f\"");
    assert_eq!(word("\u{fffe}\u{fdd0}"), "\"\\xef\\xbf\\xbe\\xef\\xb7\\x90\"");
}

#[test]
fn our_own_variables_stay_variables() {
    let text = line(|unit| {
        unit.exec("ExecStart", "-", "/a b/$p%").word(&[
            Part::Raw("--user=${DAGGER_UID}:"),
            Part::Text("$x"),
            Part::Number(7),
        ]);
    });
    assert_eq!(text, "ExecStart=\"-/a b/$p%%\" \"--user=${DAGGER_UID}:$$x7\"\n");
}

#[test]
fn free_text_never_breaks_its_line() {
    assert_eq!(
        line(|u| u.free("Description", &["50%\nx\\\\ \\"])),
        "Description=50%% x\n"
    );
    assert_eq!(line(|u| u.comment(&["a\r", "b"])), "# a b\n");
    assert_eq!(line(|u| u.path("SourcePath", "/a\nb")), "");
    assert_eq!(line(|u| u.path("SourcePath", "/a b%")), "SourcePath=/a b%%\n");
}

#[test]
fn path_lists_are_quoted_each_path_once() {
    let paths = ["/a b", "/c", "/a b", "/d\"\\%", "/e/f\ng/h", "/\n"];
    assert_eq!(
        line(|u| u.paths("RequiresMountsFor", paths.into_iter())),
        "RequiresMountsFor=/ \"/a b\" /c \"/d\\\"\\\\%%\" /e\n"
    );
}

#[test]
fn what_cannot_be_carried_is_said() {
    let finish = |text: &str| {
        let mut unit = Unit::default();
        unit.exec("E", "", "/p").arg(text);
        unit.finish().map(|text| text.len())
    };
    assert_eq!(finish("a\0b"), Err(Unfit::Nul));
    assert_eq!(finish(&"x".repeat(128 << 10)), Err(Unfit::TooLong));
    assert_eq!(finish(&" ".repeat(128 << 10)), Err(Unfit::TooLong));
    assert_eq!(finish(&"x".repeat(127 << 10)), Ok((127 << 10) + 6));
    let mut unit = Unit::default();
    {
        let mut exec = unit.exec("E", "", "/p");
        for _ in 0..9 {
            exec.arg(&"x".repeat(120 << 10));
        }
    }
    assert_eq!(unit.finish(), Err(Unfit::TooLong));
}
