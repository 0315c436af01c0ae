//! Answers as the applications give them, and answers that nobody should give.

use super::*;

const STATUS: &[u8] =
    br#"{ "appName": "Sonarr", "instanceName": "Series", "version": "4.0.19.2979", "isDocker": true }"#;

#[test]
fn servarr_counts_errors_and_nothing_else() {
    let item = |source: &str, kind: &str, message: &str| {
        format!(
            r#"{{"id":1,"source":"{source}","type":"{kind}","message":"{message}","wikiUrl":"https://w/"}}"#
        )
    };
    let list = format!(
        "[{},{},{},{},{}]",
        item(
            "IndexerStatusCheck",
            "error",
            "All indexers are unavailable due to failures"
        ),
        item("RootFolderCheck", "error", "Missing root folder: /fun/shows"),
        item("IndexerRssCheck", "warning", "No indexers are available"),
        item("OtherCheck", "ok", "Fine"),
        item("UpdateCheck", "warning", "New update is available"),
    );
    assert_eq!(
        servarr_health(list.as_bytes()).unwrap(),
        [
            "All indexers are unavailable due to failures",
            "Missing root folder: /fun/shows"
        ]
    );
    assert!(servarr_health(b"[]").unwrap().is_empty());
    // A problem without words is still one.
    assert_eq!(
        servarr_health(br#"[{"source":"X","type":"error","message":null}]"#).unwrap(),
        ["X"]
    );
}

#[test]
fn who_answers_is_compared_with_who_should() {
    let found = servarr_status(STATUS).unwrap();
    assert_eq!(
        (found.name.as_str(), found.version.as_str()),
        ("Sonarr", "4.0.19.2979")
    );
    assert_eq!(stranger(servarr("sonarr").name, &found, 8989), None);
    assert_eq!(stranger(servarr("a-fork").name, &found, 8989), None);
    assert_eq!(
        stranger(servarr("radarr").name, &found, 7878).unwrap(),
        "port 7878 answers as Sonarr, not as Radarr"
    );
    for (kind, api) in [
        ("radarr", "v3"),
        ("prowlarr", "v1"),
        ("lidarr", "v1"),
        ("readarr", "v1"),
    ] {
        assert_eq!(servarr(kind).api, api, "{kind}");
    }
}

#[test]
fn bazarr_of_a_new_installation_is_well() {
    let new = br#"{"data": [{"object": "Missing languages profile", "issue": "This is required"}]}"#;
    assert!(bazarr_health(new).unwrap().is_empty());
    let bad = br#"{"data": [{"object": "Sonarr", "issue": "Cannot connect"}, {"object": "", "issue": "x"}]}"#;
    assert_eq!(bazarr_health(bad).unwrap(), ["Sonarr: Cannot connect", "x"]);
    let status = br#"{"data": {"bazarr_version": "1.5.2", "start_time": 1}}"#;
    assert_eq!(bazarr_status(status).unwrap().version, "1.5.2");
}

#[test]
fn jellyfin_names_its_product() {
    let info =
        br#"{"LocalAddress":"x","ServerName":"s","Version":"10.11.0","ProductName":"Jellyfin Server"}"#;
    assert_eq!(jellyfin_info(info).unwrap().name, "Jellyfin Server");
}

#[test]
fn transmission_tells_of_room_and_port() {
    let session = rpc_session(
        br#"{"result":"success","arguments":{"version":"4.0.6 (38c1649)","download-dir":"/fun/t","peer-port":46634}}"#,
    )
    .unwrap();
    assert_eq!(
        (session.download_dir.as_str(), session.peer_port),
        ("/fun/t", 46634)
    );
    assert!(rpc_session(br#"{"result":"no such method"}"#).is_err());
    let room = |body: &str| rpc_free_space(body.as_bytes(), "/fun/t").unwrap();
    assert_eq!(
        room(r#"{"result":"success","arguments":{"size-bytes":99999999999}}"#),
        None
    );
    assert_eq!(
        room(r#"{"result":"success","arguments":{"size-bytes":-1}}"#),
        None
    );
    assert_eq!(
        room(r#"{"result":"success","arguments":{"size-bytes":1048576}}"#).unwrap(),
        "only 1 MiB are left in the download directory /fun/t"
    );
    assert_eq!(
        room(r#"{"result":"No such file or directory","arguments":{"size-bytes":-1}}"#).unwrap(),
        "the download directory /fun/t cannot be used: No such file or directory"
    );
    let port = |body: &str| rpc_port_test(body.as_bytes(), 46634).unwrap();
    assert_eq!(
        port(r#"{"result":"success","arguments":{"port-is-open":true}}"#),
        None
    );
    assert_eq!(
        port(r#"{"result":"portTested: http error 0: No Response","arguments":{}}"#),
        None
    );
    assert_eq!(
        port(r#"{"result":"success","arguments":{"port-is-open":false}}"#).unwrap(),
        "the peer port 46634 is closed from outside"
    );
}

/// Garbage is an error with a place, never a problem of the application and never quoted.
#[test]
fn what_is_no_answer_is_an_error() {
    let deep = "[".repeat(100_000);
    let huge = format!("[\"{}\"]", "x".repeat(10 << 20));
    let half = b"[{\"source\":\"X\",\"type\":\"err";
    for body in [
        b"".as_slice(),
        b"<html>secret</html>",
        b"\xff\xfe\x00",
        b"null",
        b"{}",
        b"42",
        b"[1]",
        b"[{\"type\":3}]",
        b"{\"data\":7}",
        b"{\"result\":[]}",
        half,
        deep.as_bytes(),
        huge.as_bytes(),
    ] {
        for error in [
            servarr_status(body).unwrap_err(),
            servarr_health(body).unwrap_err(),
            bazarr_status(body).unwrap_err(),
            bazarr_health(body).unwrap_err(),
            jellyfin_info(body).unwrap_err(),
            rpc_session(body).unwrap_err(),
            rpc_free_space(body, "/x").unwrap_err(),
            rpc_port_test(body, 1).unwrap_err(),
        ] {
            assert!(!error.contains("secret") && error.len() < 200, "{error}");
        }
    }
}

#[test]
fn no_secret_is_shown() {
    let key = "0123456789abcdef0123456789abcdef".to_owned();
    for (text, shown) in [
        ("key 0123456789abcdef0123456789abcdef!", "key [secret]!"),
        (
            "Unable to reach http://me:pass@host:1/x?apikey=other&y=1 now",
            "Unable to reach http://[secret]@host:1/x?apikey=[secret]&y=1 now",
        ),
        ("passkey=abc, token=d", "passkey=[secret], token=[secret]"),
        ("a = b, mail me@host", "a = b, mail me@host"),
        ("two\nlines\u{1b}[31m\ttabs", "two lines [31m tabs"),
        ("x=1&y=2", "x=1&y=2"),
    ] {
        assert_eq!(clean(text, std::slice::from_ref(&key)), shown);
    }
    assert_eq!(clean("unharmed", &[String::new()]), "unharmed");
}

#[test]
fn what_is_kept_is_bounded() {
    let kept = bounded(vec!["ä".repeat(100_000); 500], &[]);
    assert_eq!(kept.len(), PROBLEMS_MAX);
    assert!(kept.iter().all(|text| text.chars().count() <= TEXT_MAX));
    assert_eq!(
        kept.last().unwrap(),
        "and 481 more, which the application itself shows"
    );
    assert_eq!(bounded(vec![" \n".into(), "x".into()], &[]), ["x"]);
}
