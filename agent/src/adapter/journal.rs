//! Events as journald entries.
