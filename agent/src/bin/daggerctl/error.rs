//! What can go wrong for a caller, each with an exit code and a sentence that says what to do.

use std::fmt;

use dagger_suite::names::{AGENT_UNIT, exit};

/// Why a command did not do what was asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The bus cannot be reached, or nobody answers to the agent's name; the reason.
    NoAgent(String),
    /// polkit or the bus policy said no; what they said.
    NotAuthorized(String),
    /// The command line names something that does not exist.
    Usage(String),
    /// Anything else, in one sentence.
    Failed(String),
}

impl Error {
    /// The exit code that scripts rely on.
    pub fn exit(&self) -> u8 {
        match self {
            Self::NoAgent(_) => exit::NO_AGENT,
            Self::NotAuthorized(_) => exit::NOT_AUTHORIZED,
            Self::Usage(_) => exit::USAGE,
            Self::Failed(_) => exit::FAILED,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAgent(why) => {
                let unit = AGENT_UNIT.trim_end_matches(".service");
                // systemd's words where it would start the agent for a call (org.freedesktop.systemd1.UnitMasked).
                if why.ends_with("is masked") {
                    return write!(
                        f,
                        "the agent cannot be reached ({why}); `systemctl unmask {unit}` and then `systemctl start {unit}` brings it back"
                    );
                }
                write!(
                    f,
                    "the agent cannot be reached ({why}); `systemctl status {unit}` says why, `systemctl start {unit}` starts it"
                )
            }
            Self::NotAuthorized(why) => {
                write!(
                    f,
                    "not authorized ({why}); run it as root, or in a session that polkit can ask"
                )
            }
            Self::Usage(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_own_code_and_says_something() {
        let all = [
            Error::Failed("x".into()),
            Error::Usage("x".into()),
            Error::NotAuthorized("x".into()),
            Error::NoAgent("x".into()),
        ];
        assert_eq!(all.iter().map(Error::exit).collect::<Vec<_>>(), [1, 2, 4, 5]);
        assert!(all.iter().all(|error| error.to_string().contains('x')));
        assert!(all[3].to_string().contains("systemctl status monitoring"));
    }

    #[test]
    fn a_masked_agent_is_not_started_but_unmasked() {
        let said = Error::NoAgent("Unit dagger-agent.service is masked".into()).to_string();
        assert!(said.contains("`systemctl unmask monitoring`"), "{said}");
        assert!(!said.contains("systemctl status"), "{said}");
    }
}
