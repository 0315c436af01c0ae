//! Texts that mean something: each function takes what the user wrote and gives the value, or a sentence that says
//! what is wrong and what would be right.

use std::time::Duration;

/// What is wrong, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong(pub String, pub Option<String>);

impl Wrong {
    fn new(problem: impl Into<String>, help: &str) -> Self {
        Self(problem.into(), Some(help.to_owned()))
    }
}

/// Any text that a unit file and a command line can carry.
pub fn text(text: &str) -> Result<(), Wrong> {
    if text.contains('\0') {
        return Err(Wrong(
            "a NUL character cannot be passed to a program".into(),
            None,
        ));
    }
    Ok(())
}

/// An absolute path that means what it says: no `..`, nothing invisible.
pub fn path(path: &str) -> Result<(), Wrong> {
    if !path.starts_with('/') {
        return Err(Wrong::new(
            format!("{path:?} is not an absolute path"),
            "begin it with `/`",
        ));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Wrong::new(
            "a path with `..` is refused",
            "write the path that it leads to",
        ));
    }
    if path.chars().any(char::is_control) {
        return Err(Wrong::new(
            "a path with control characters is refused",
            "rename the directory",
        ));
    }
    if path.len() > 4095 {
        return Err(Wrong(
            format!("this path has {} bytes, the kernel takes 4095", path.len()),
            None,
        ));
    }
    Ok(())
}

/// A path that podman reads as part of a list (`--env-file`): no form of it carries commas and quotes in all versions.
pub fn file_in_list(text: &str) -> Result<(), Wrong> {
    if text.contains([',', '"']) {
        return Err(Wrong::new(
            "podman cannot take an environment file with `,` or `\"` in its path",
            "rename it",
        ));
    }
    path(text)
}

/// The path of a program in `ExecStart=`: systemd takes no quotes and backslashes in it (systemd.service(5)).
pub fn program(text: &str) -> Result<(), Wrong> {
    if text.contains(['"', '\'', '\\']) {
        return Err(Wrong::new(
            "systemd cannot run a program with quotes or backslashes in its path",
            "make a link to it",
        ));
    }
    path(text)
}

/// The path in one spelling: no doubled or trailing slashes.
pub fn normal_path(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        normal.push('/');
        normal.push_str(part);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    normal
}

/// A time span as systemd.time(7) writes it.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{text:?} is not a time span"),
            "write it like `90s`, `5min` or `1h 30min`",
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis: u64 = match unit {
            "ms" | "msec" => 1,
            "" | "s" | "sec" | "second" | "seconds" => 1000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return Err(wrong()),
        };
        let span = number
            .checked_mul(millis)
            .map(Duration::from_millis)
            .ok_or_else(wrong)?;
        total = total.checked_add(span).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    bounded(total)
}

/// A time span within the bounds of what systemd and podman take.
pub fn bounded(span: Duration) -> Result<Duration, Wrong> {
    if span.is_zero() || span > Duration::from_hours(24 * 365) {
        return Err(Wrong::new(
            "this time span is out of bounds",
            "write something between 1ms and a year",
        ));
    }
    Ok(span)
}

/// The time of a watchdog; none: `off`.
pub fn watchdog(text: &str) -> Result<Option<Duration>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    duration(text).and_then(watchdog_span).map(Some)
}

/// A time span that a watchdog can have.
pub fn watchdog_span(span: Duration) -> Result<Duration, Wrong> {
    // Zero would be "off" to systemd, without having been meant so.
    if span < Duration::from_secs(10) {
        return Err(Wrong::new(
            "a watchdog of less than ten seconds would fire on every pause",
            "write 10s or more, or `off`",
        ));
    }
    bounded(span)
}

/// An amount of memory for systemd.resource-control(5).
pub fn size(text: &str) -> Result<(), Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let good = match suffix {
        "" | "K" | "M" | "G" | "T" => number.parse::<u64>().is_ok_and(|it| it > 0),
        "%" => number.parse::<u64>().is_ok_and(|it| (1..=100).contains(&it)),
        _ => text == "infinity",
    };
    if good {
        Ok(())
    } else {
        Err(Wrong::new(
            format!("{text:?} is not an amount of memory"),
            "write it like `512M`, `2G` or `50%`",
        ))
    }
}

/// An amount in bytes; of memory, as podman takes it (podman-run(1), `--shm-size`).
pub fn bytes(text: &str) -> Result<u64, Wrong> {
    let number = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let unit = match text.as_bytes().last() {
        Some(b'K') => 1 << 10,
        Some(b'M') => 1 << 20,
        Some(b'G') => 1 << 30,
        Some(b'T') => 1 << 40,
        _ => 1,
    };
    if let (true, Ok(number @ 1..)) = (digits, number.parse::<u32>()) {
        return Ok(u64::from(number) * unit);
    }
    Err(Wrong::new(
        format!("{text:?} is not an amount of memory"),
        "write it like `512M` or `2G`",
    ))
}

/// An address in figures: names would have to be resolved first.
pub fn address(text: &str) -> Result<(), Wrong> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(()),
        _ => Err(Wrong::new(
            format!("{text:?} is not the address of a machine"),
            "write it in figures, like `192.168.1.2` or `fd00::2`",
        )),
    }
}

/// A percentage above zero.
pub fn percent(text: &str) -> Result<(), Wrong> {
    match text.strip_suffix('%').map(str::parse::<u32>) {
        Some(Ok(1..)) => Ok(()),
        _ => Err(Wrong::new(
            format!("{text:?} is not a percentage"),
            "write it like `150%`",
        )),
    }
}

/// A umask; the value is four octal digits.
pub fn umask(text: &str) -> Result<String, Wrong> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && text.bytes().all(|b| b.is_ascii_digit()) => Ok(format!("{mask:04o}")),
        _ => Err(Wrong::new(
            format!("{text:?} is not a umask"),
            "write it in octal, like `\"002\"` or `\"022\"`",
        )),
    }
}

/// The signals of signal(7) that mean something to a service.
const SIGNALS: [&str; 10] = [
    "SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGPWR", "SIGKILL",
    "SIGABRT",
];

/// A signal; the value has its `SIG`.
pub fn signal(text: &str) -> Result<String, Wrong> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    // As far as podman counts from this end, and written as podman writes it.
    let real_time = || (1..=15).any(|n| name == format!("SIGRTMIN+{n}"));
    if SIGNALS.contains(&name.as_str()) || real_time() {
        Ok(name)
    } else {
        Err(Wrong::new(
            format!("{text:?} is not a signal that stops a service"),
            "write it like `SIGTERM`",
        ))
    }
}

/// A unit that may own a service: a name with the suffix `.service`.
pub fn unit(text: &str) -> Result<(), Wrong> {
    let stem = text.strip_suffix(".service").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if stem.is_empty() || !stem.chars().all(plain) || text.len() > 255 {
        return Err(Wrong::new(
            format!("{text:?} is not the name of a service unit"),
            "write it like `sonarr.service`",
        ));
    }
    if stem.starts_with("dagger-") {
        return Err(Wrong::new(
            "a unit of dagger's own cannot be the native one",
            "name the unit that ran before",
        ));
    }
    Ok(())
}

/// An image reference with its registry: `registry/name:tag`, `registry/name@sha256:...` (podman-run(1)).
pub fn image(text: &str) -> Result<(), Wrong> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if let Some(bad) = text.chars().find(|c| !plain(*c)) {
        return Err(Wrong::new(
            format!("{bad:?} cannot stand in an image reference"),
            "write it like `lscr.io/linuxserver/sonarr:latest`",
        ));
    }
    let (registry, name) = text.split_once('/').unwrap_or_default();
    let named = registry == "localhost" || registry.contains(['.', ':']);
    let (repository, digest) = name.split_once('@').unwrap_or((name, ""));
    let pinned = digest.is_empty()
        || digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
    let (repository, tag) = repository.split_once(':').unwrap_or((repository, "latest"));
    let parts = repository.split('/').all(|part| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
    });
    let tagged = tag
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !named {
        return Err(Wrong::new(
            format!("{text:?} does not say which registry the image comes from"),
            "write it in full, like `docker.io/jellyfin/jellyfin:latest`",
        ));
    }
    if registry.starts_with('-') || !pinned || !parts || !tagged {
        return Err(Wrong::new(
            format!("{text:?} is not an image reference"),
            "write it like `lscr.io/linuxserver/sonarr:latest` or `...@sha256:` with 64 hex digits",
        ));
    }
    Ok(())
}

/// A time zone, by its name in the IANA database.
pub fn timezone(text: &str) -> Result<(), Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
    if text.is_empty() || text.starts_with(['/', '-']) || !text.bytes().all(plain) {
        return Err(Wrong::new(
            format!("{text:?} is not a time zone"),
            "write it like `Europe/Berlin`",
        ));
    }
    Ok(())
}

/// The path part of a URL.
pub fn url_path(text: &str) -> Result<(), Wrong> {
    if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Wrong::new(
            format!("{text:?} is not a path of a URL"),
            "begin it with `/`, without blanks",
        ));
    }
    Ok(())
}

/// A URL that systemd takes for `Documentation=` (systemd.unit(5)).
pub fn url(text: &str) -> Result<(), Wrong> {
    let known = ["https://", "http://", "man:", "file:", "info:"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if !known
        || !text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b))
    {
        return Err(Wrong::new(
            format!("{text:?} is not a URL"),
            "begin it with `https://`, without blanks",
        ));
    }
    Ok(())
}

/// `host`, `bridge` or `ns:` and an absolute path.
pub fn network(text: &str) -> Result<(), Wrong> {
    match text.strip_prefix("ns:") {
        Some(netns) => path(netns),
        None if matches!(text, "host" | "bridge" | "private") => Ok(()),
        None => Err(Wrong::new(
            format!("{text:?} is not a network"),
            "write `host`, `bridge`, `private` or `ns:/run/netns/NAME`",
        )),
    }
}

/// A device, optional with a leading `-`.
pub fn device(text: &str) -> Result<(), Wrong> {
    let name = text.strip_prefix('-').unwrap_or(text);
    if name.starts_with('/') {
        // These words are split at blanks on their way through the unit's environment.
        if name.contains([' ', '\t', ':', ',']) {
            return Err(Wrong(
                "the path of a device cannot hold blanks, colons or commas".into(),
                None,
            ));
        }
        return path(name);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"./=_:-".contains(&b);
    match name.split_once('=') {
        Some((kind, _)) if kind.contains('/') && name.bytes().all(plain) => Ok(()),
        _ => Err(Wrong::new(
            format!("{text:?} is not a device"),
            "write a path below `/dev`, or a CDI name like `nvidia.com/gpu=all`",
        )),
    }
}

/// A capability; the value is upper case, without `CAP_`.
pub fn capability(text: &str) -> Result<String, Wrong> {
    let name = match text.split_at_checked(4) {
        Some((prefix, name)) if prefix.eq_ignore_ascii_case("CAP_") => name,
        _ => text,
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Wrong::new(
            format!("{text:?} is not a capability"),
            "write it like `NET_RAW` (capabilities(7))",
        ));
    }
    Ok(name.to_ascii_uppercase())
}

/// A group by number or name.
pub fn group(text: &str) -> Result<(), Wrong> {
    if text.is_empty()
        || !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    {
        return Err(Wrong::new(
            format!("{text:?} is not a group"),
            "write its number or its name",
        ));
    }
    Ok(())
}

/// A mount point inside and options for it.
pub fn tmpfs(text: &str) -> Result<(), Wrong> {
    self::text(text)?;
    path(tmpfs_target(text))
}

/// The path of a tmpfs, without its options.
pub fn tmpfs_target(text: &str) -> &str {
    text.split_once(':').map_or(text, |(target, _)| target)
}

#[cfg(test)]
mod tests;
