//! The few members of systemd that the agent uses, as small proxies of its own.
