//! Faults, one after the other, on a machine that runs the six: each is repaired or waited for as it should be.
//!
//! There are two kinds. A fault of the service's own ([`own`]) has to be found within its threshold and one interval, and
//! the service has to be healthy again by itself, after a restart. A fault of somebody else's ([`foreign`]) may make
//! services unhealthy, but restarts none of them. `tests/run --long faults` tries a thousand of each ([`campaign`]), and
//! each `tests/run` one of every kind.
//!
//! Left out, because no machine of the rig can have them: steps of the clock. CLOCK_REALTIME is the host's, and what a time
//! namespace adds to the other clocks is fixed before its first process runs (time_namespaces(7)). The agent's own tests
//! tell it of them.

pub mod dice;
pub mod stage;
pub mod own;
pub mod foreign;
pub mod campaign;
