//! What one probe saw: a value that the gate and the agent judge, each by its own rules.

use std::fmt;
use std::time::Duration;

/// The answer of one try.
///
/// `detail` is always one line of printable text, at most a few hundred characters, whatever the application sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The application answered as it should.
    Good {
        /// From the first system call to the last byte that was needed.
        latency: Duration,
        /// What it said: `HTTP 200`; a remark may follow (`HTTP 403: alive, but this address is not in rpc-whitelist`).
        detail: String,
    },
    /// It answered that it is starting or migrating its database.
    Starting {
        /// What it said.
        detail: String,
    },
    /// It answered, and the answer is not a good one: wrong status, wrong body, not its own protocol.
    Bad {
        /// What it said.
        detail: String,
    },
    /// Nobody listens.
    Refused {
        /// Address and port that were asked.
        address: String,
    },
    /// No whole answer within the limit.
    TimedOut {
        /// The limit.
        after: Duration,
        /// Somebody took the connection and then said nothing.
        connected: bool,
    },
    /// The question could not be put: no such namespace, no such program, no route.
    Unable {
        /// Why.
        detail: String,
    },
}

impl Observation {
    /// Whether the application answered as it should.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good { .. })
    }

    /// How long a good answer took.
    pub fn latency(&self) -> Option<Duration> {
        match self {
            Self::Good { latency, .. } => Some(*latency),
            Self::Starting { .. }
            | Self::Bad { .. }
            | Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Unable { .. } => None,
        }
    }
}

/// The sentence for people, without a full stop: `HTTP 200 in 3 ms`.
impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good { latency, detail } => write!(f, "{detail} in {}", Span(*latency)),
            Self::Starting { detail } | Self::Bad { detail } | Self::Unable { detail } => f.write_str(detail),
            Self::Refused { address } => write!(f, "nobody listens on {address}"),
            Self::TimedOut {
                after,
                connected: true,
            } => {
                write!(
                    f,
                    "the connection is taken, but no answer comes within {}",
                    Span(*after)
                )
            }
            Self::TimedOut {
                after,
                connected: false,
            } => write!(f, "no answer within {}", Span(*after)),
        }
    }
}

/// A duration as people write it: `3 ms`, `0.4 ms`, `1.5 s`, `30 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1_000 => write!(f, "0.{} ms", micros / 100),
            1_000..1_000_000 => write!(f, "{} ms", micros / 1_000),
            _ if self.0.subsec_millis() >= 100 => {
                write!(f, "{}.{} s", self.0.as_secs(), self.0.subsec_millis() / 100)
            }
            _ => write!(f, "{} s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_for_people() {
        let good = |micros| Observation::Good {
            latency: Duration::from_micros(micros),
            detail: "HTTP 200".into(),
        };
        for (observation, says) in [
            (good(3_400), "HTTP 200 in 3 ms"),
            (good(340), "HTTP 200 in 0.3 ms"),
            (good(1_540_000), "HTTP 200 in 1.5 s"),
            (good(30_000_000), "HTTP 200 in 30 s"),
            (
                Observation::Refused {
                    address: "127.0.0.1:8989".into(),
                },
                "nobody listens on 127.0.0.1:8989",
            ),
            (
                Observation::TimedOut {
                    after: Duration::from_secs(5),
                    connected: true,
                },
                "the connection is taken, but no answer comes within 5 s",
            ),
        ] {
            assert_eq!(observation.to_string(), says);
        }
    }
}
