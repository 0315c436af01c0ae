//! How a service is asked whether it is well: one value, written into units by the generator and read back by the gate.

use std::time::Duration;

/// The tongue an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Sonarr and its kin: `/ping`, 503 while starting, 307 to the URL base.
    Servarr,
    /// Bazarr: `/api/system/ping`; unknown paths redirect to the web UI.
    Bazarr,
    /// Jellyfin: `/health`, whose body counts (`Degraded` comes with 200 while it starts or migrates).
    Jellyfin,
    /// Transmission's RPC: the 409 handshake is the good answer.
    Transmission,
    /// Any HTTP answer with the expected status (and body, when one is given).
    Http,
    /// The port accepts a connection.
    Tcp,
    /// A command, run inside the container, ends with status 0. The last resort.
    Exec,
}

impl Kind {
    /// All kinds with the word that stands for each in the configuration and on the gate's command line.
    pub const ALL: [(&'static str, Self); 7] = [
        ("servarr", Self::Servarr),
        ("bazarr", Self::Bazarr),
        ("jellyfin", Self::Jellyfin),
        ("transmission", Self::Transmission),
        ("http", Self::Http),
        ("tcp", Self::Tcp),
        ("exec", Self::Exec),
    ];

    /// The word for this kind.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("http", |(word, _)| word)
    }

    /// The kind for a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, kind)| *kind)
    }
}

/// One way to ask one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The tongue.
    pub kind: Kind,
    /// Address that is asked, without brackets: `127.0.0.1` unless the service lives in a namespace of its own.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the request, beginning with `/`; the URL base is already part of it.
    pub path: String,
    /// Status of the good answer (kinds `http` only; the others know theirs).
    pub expect: u16,
    /// Text that the body of a good answer must hold (kind `http` only).
    pub body: Option<String>,
    /// How long one try may take.
    pub timeout: Duration,
    /// Named network namespace that the service lives in, as an absolute path.
    pub netns: Option<String>,
    /// Container to run `command` in (kind `exec`).
    pub container: String,
    /// Command of kind `exec`.
    pub command: Vec<String>,
}

/// What stands behind the `=` of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(u64),
}

impl Probe {
    /// The probe as command-line words for `dagger-gate post`, each a flag with its `=` and what stands behind it;
    /// [`Probe::from_args`] reads exactly these.
    pub fn words(&self) -> impl Iterator<Item = (&'static str, Argument<'_>)> {
        use Argument::{Number, Text};
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let always = [
            ("--probe=", Text(self.kind.word())),
            ("--host=", Text(&self.host)),
            ("--port=", Number(self.port.into())),
            ("--path=", Text(&self.path)),
            ("--expect=", Number(self.expect.into())),
            ("--timeout-ms=", Number(timeout)),
        ];
        let body = self.body.iter().map(|it| ("--body=", Text(it)));
        let netns = self.netns.iter().map(|it| ("--netns=", Text(it)));
        let exec = Some(self).filter(|probe| probe.kind == Kind::Exec).into_iter();
        let command = exec.clone().flat_map(|probe| &probe.command);
        always
            .into_iter()
            .chain(body)
            .chain(netns)
            .chain(exec.map(|probe| ("--container=", Text(&probe.container))))
            .chain(command.map(|word| ("--command=", Text(word))))
    }

    /// The same words as texts of their own.
    pub fn to_args(&self) -> Vec<String> {
        self.words()
            .map(|(flag, argument)| match argument {
                Argument::Text(text) => [flag, text].concat(),
                Argument::Number(number) => format!("{flag}{number}"),
            })
            .collect()
    }

    /// Reads the words of [`Probe::to_args`], in any order; words it does not know are handed back for the caller.
    pub fn from_args(args: impl IntoIterator<Item = String>) -> Result<(Self, Vec<String>), String> {
        let mut probe = Self {
            kind: Kind::Tcp,
            host: "127.0.0.1".into(),
            port: 0,
            path: "/".into(),
            expect: 200,
            body: None,
            timeout: Duration::from_secs(5),
            netns: None,
            container: String::new(),
            command: Vec::new(),
        };
        let mut rest = Vec::new();
        for arg in args {
            let Some((flag, value)) = arg.split_once('=') else {
                rest.push(arg);
                continue;
            };
            let number = |what: &str| {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{what} is not a number: {value:?}"))
            };
            let small = |what: &str| {
                value
                    .parse::<u16>()
                    .map_err(|_| format!("{what} is not a number from 0 to 65535: {value:?}"))
            };
            match flag {
                "--probe" => {
                    probe.kind = Kind::from_word(value).ok_or_else(|| format!("no such probe: {value:?}"))?;
                }
                "--host" => value.clone_into(&mut probe.host),
                "--port" => probe.port = small("--port")?,
                "--path" => value.clone_into(&mut probe.path),
                "--expect" => probe.expect = small("--expect")?,
                "--timeout-ms" => probe.timeout = Duration::from_millis(number("--timeout-ms")?),
                "--body" => probe.body = Some(value.to_owned()),
                "--netns" => probe.netns = Some(value.to_owned()),
                "--container" => value.clone_into(&mut probe.container),
                "--command" => probe.command.push(value.to_owned()),
                _ => rest.push(arg),
            }
        }
        Ok((probe, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_survives_the_command_line() {
        let probe = Probe {
            kind: Kind::Exec,
            host: "::1".into(),
            port: 65535,
            path: "/a=b c".into(),
            expect: 204,
            body: Some("=\n".into()),
            timeout: Duration::from_millis(1500),
            netns: Some("/run/netns/wg".into()),
            container: "dagger-x".into(),
            command: vec!["sh".into(), "-c".into(), "--path=x".into()],
        };
        let mut args = probe.to_args();
        args.push("--budget=3".into());
        let (read, rest) = Probe::from_args(args).unwrap();
        assert_eq!(read, probe);
        assert_eq!(rest, ["--budget=3"]);
    }

    #[test]
    fn numbers_that_are_none_are_named() {
        assert!(
            Probe::from_args(["--port=65536".to_owned()])
                .unwrap_err()
                .contains("65536")
        );
        assert!(
            Probe::from_args(["--probe=ftp".to_owned()])
                .unwrap_err()
                .contains("ftp")
        );
    }
}
