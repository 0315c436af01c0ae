//! Events: everything that the agent tells the journal, one row each.
