//! Health: how a service is, in one word.

use serde::{Deserialize, Serialize};

/// How a service is, in one word; also what stands on the bus and in `DAGGER_HEALTH=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It does not run, and nothing says that it should.
    Inactive,
    /// It answers as it should.
    Healthy,
    /// Nothing is known: its unit is not loaded, or the agent has not asked yet.
    Unknown,
    /// It has been started and may take its time.
    Starting,
    /// It works, and says itself that something is not right.
    Degraded,
    /// It does not answer and is being restarted for that.
    Recovering,
    /// It should answer and does not.
    Unhealthy,
    /// systemd or the agent has given it up, or what it waits for does not come.
    Failed,
}

impl Health {
    /// All verdicts with their words, best first: of several services the last one in this order is shown for the whole.
    pub const ALL: [(&'static str, Self); 8] = [
        ("inactive", Self::Inactive),
        ("healthy", Self::Healthy),
        ("unknown", Self::Unknown),
        ("starting", Self::Starting),
        ("degraded", Self::Degraded),
        ("recovering", Self::Recovering),
        ("unhealthy", Self::Unhealthy),
        ("failed", Self::Failed),
    ];

    /// The word for this verdict.
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, health)| *health == self)
            .map_or("unknown", |(word, _)| word)
    }

    /// The verdict for a word; a word of a newer agent is [`Health::Unknown`].
    pub fn from_word(word: &str) -> Self {
        Self::ALL
            .iter()
            .find(|(name, _)| *name == word)
            .map_or(Self::Unknown, |(_, health)| *health)
    }

    /// The verdict for a whole: the worst of its parts. `Inactive` without any part.
    pub fn worst(parts: impl IntoIterator<Item = Self>) -> Self {
        let rank = |health: Self| Self::ALL.iter().position(|(_, each)| *each == health);
        parts
            .into_iter()
            .max_by_key(|health| rank(*health))
            .unwrap_or(Self::Inactive)
    }
}

/// How a service comes to a verdict.
#[derive(Debug)]
pub struct Transition {
    /// The verdict.
    pub to: Health,
    /// The verdicts before it.
    pub from: &'static [Health],
    /// When that happens.
    pub when: &'static str,
    /// What is done then.
    pub then: &'static str,
}

/// Every transition that people can see. The README's table is made of it, and a property test holds it against what
/// [`super::machine::Machine`] does.
pub const TRANSITIONS: [Transition; 8] = {
    use Health::{Degraded, Failed, Healthy, Inactive, Recovering, Starting, Unhealthy, Unknown};
    [
        Transition {
            to: Starting,
            from: &[
                Inactive, Unknown, Healthy, Degraded, Recovering, Unhealthy, Failed,
            ],
            when: "its unit begins to start, or the application says that it migrates",
            then: "bad answers are no news until the start budget has gone by",
        },
        Transition {
            to: Healthy,
            from: &[Unknown, Starting, Degraded, Recovering, Unhealthy, Failed],
            when: "a good answer; from unhealthy as many in a row as `successes` says",
            then: "the watchdog is armed and fed; whoever wants it is judged again",
        },
        Transition {
            to: Degraded,
            from: &[Unknown, Healthy, Starting, Recovering, Unhealthy, Failed],
            when: "it answers and says itself that something is wrong, or it comes and goes",
            then: "nothing is restarted",
        },
        Transition {
            to: Unhealthy,
            from: &[Inactive, Unknown, Healthy, Degraded, Starting, Recovering, Failed],
            when: "as many bad answers in a row as `failures` says, or it ended by itself, or its media is gone",
            then: "the agent looks around; where the reason is found elsewhere it waits and says for what",
        },
        Transition {
            to: Recovering,
            from: &[Unhealthy],
            when: "nothing around it explains the bad answers",
            then: "systemd restarts it, later and later, `restarts` times within an hour at most",
        },
        Transition {
            to: Failed,
            from: &[
                Inactive, Unknown, Healthy, Degraded, Starting, Recovering, Unhealthy,
            ],
            when: "the restarts are used up, it cannot stay up, systemd has given it up, or a wait has lasted for an hour",
            then: "one message with the application's last lines; `systemctl start` is a new beginning",
        },
        Transition {
            to: Inactive,
            from: &[
                Unknown, Healthy, Degraded, Starting, Recovering, Unhealthy, Failed,
            ],
            when: "somebody stops it",
            then: "nothing: an operator's stop is not fought",
        },
        Transition {
            to: Unknown,
            from: &[
                Inactive, Healthy, Degraded, Starting, Recovering, Unhealthy, Failed,
            ],
            when: "its unit is not loaded or masked, or the question cannot be put",
            then: "nothing",
        },
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_part_is_shown_for_the_whole() {
        assert_eq!(Health::worst([]), Health::Inactive);
        assert_eq!(
            Health::worst([Health::Healthy, Health::Inactive]),
            Health::Healthy
        );
        assert_eq!(
            Health::worst([Health::Failed, Health::Unhealthy, Health::Healthy]),
            Health::Failed
        );
        for (word, health) in Health::ALL {
            assert_eq!(Health::from_word(word), health);
        }
    }
}
