use super::*;

#[test]
fn durations_are_systemds() {
    for (text, seconds) in [
        ("90s", 90),
        ("90", 90),
        ("5min", 300),
        ("1h 30min", 5400),
        ("2 m", 120),
        ("1d", 86400),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "5 fortnights",
        "min",
        "-1s",
        "0",
        "99999999999999999999s",
        "5min x",
        "1000d",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn a_watchdog_has_time_or_is_off() {
    assert_eq!(watchdog("off"), Ok(None));
    assert_eq!(watchdog("10min"), Ok(Some(Duration::from_mins(10))));
    for text in ["", "0", "9s", "never", "1000d"] {
        assert!(watchdog(text).is_err(), "{text}");
    }
}

#[test]
fn images_name_their_registry_and_nothing_else() {
    let digest = format!("ghcr.io/hotio/sonarr@sha256:{}", "a1".repeat(32));
    for text in [
        "lscr.io/linuxserver/sonarr:latest",
        "localhost/x",
        "localhost:5000/x/y:1.2",
        &digest,
    ] {
        assert_eq!(image(text), Ok(()), "{text}");
    }
    for text in [
        "sonarr",
        "linuxserver/sonarr",
        "lscr.io/x;reboot",
        "lscr.io/$(id)",
        "lscr.io/x y",
        "lscr.io/X",
        "lscr.io/",
        "lscr.io/x:",
        "lscr.io/x@sha256:12",
        "-v.io/x",
        "lscr.io/x%n",
        "",
        "lscr.io/-x",
        "lscr.io//x",
    ] {
        assert!(image(text).is_err(), "{text}");
    }
}

#[test]
fn paths_mean_what_they_say() {
    for text in ["/", "/a b/%n/$x;\"'\\", "/ä", "/a..b"] {
        assert_eq!(path(text), Ok(()), "{text}");
    }
    for text in [
        "",
        "a",
        "./a",
        "/a/../b",
        "/..",
        "/a\nb",
        &format!("/{}", "x".repeat(5000)),
    ] {
        assert!(path(text).is_err(), "{text:?}");
    }
    assert_eq!(normal_path("//a/./b//"), "/a/b");
    assert_eq!(normal_path("/"), "/");
}

#[test]
fn small_values() {
    assert_eq!(umask("002"), Ok("0002".into()));
    assert!(umask("8").is_err() && umask("1777").is_err() && umask("+2").is_err());
    assert_eq!(signal("int"), Ok("SIGINT".into()));
    assert_eq!(signal("rtmin+3"), Ok("SIGRTMIN+3".into()));
    for text in [
        "SIGSTOP",
        "SIGRTMIN+16",
        "SIGRTMIN+255",
        "SIGRTMIN+0",
        "SIGRTMIN++3",
        "SIGRTMIN+03",
    ] {
        assert!(signal(text).is_err(), "{text}");
    }
    assert_eq!(
        ["64M", "2G", "65536", "1T"].map(|text| bytes(text).ok()),
        [64 << 20, 2 << 30, 65536, 1 << 40].map(Some)
    );
    for text in ["50%", "infinity", "", "M", "0", "+1M", "1.5G", "2GB"] {
        assert!(bytes(text).is_err(), "{text}");
    }
    assert!(address("192.168.15.1").is_ok() && address("fd00::1").is_ok());
    for text in [
        "localhost",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "[::1]",
        "1.2.3.4:80",
        "10.0.0.0/8",
        "",
    ] {
        assert!(address(text).is_err(), "{text}");
    }
    assert_eq!(capability("cap_net_raw"), Ok("NET_RAW".into()));
    assert!(size("2G").is_ok() && size("50%").is_ok() && size("infinity").is_ok());
    assert!(size("2GB").is_err() && size("0").is_err() && size("101%").is_err() && size("").is_err());
    assert!(percent("150%").is_ok() && percent("150").is_err() && percent("0%").is_err());
    assert!(unit("sonarr.service").is_ok() && unit("sonarr").is_err() && unit("dagger-x.service").is_err());
    assert!(
        device("/dev/dri").is_ok() && device("-/dev/dri").is_ok() && device("nvidia.com/gpu=all").is_ok()
    );
    assert!(device("dri").is_err() && device("/dev/a b").is_err());
    assert!(network("ns:/run/netns/wg").is_ok() && network("ns:wg").is_err() && network("none").is_err());
}
