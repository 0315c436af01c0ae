//! The agent: domain, adapters and the programs built from them.
