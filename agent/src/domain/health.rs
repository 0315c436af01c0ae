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
