//! Faults, one after the other, on a machine that runs the six: each is repaired or waited for as it should be.
//!
//! There are two kinds. A fault of the service's own ([`own`]) has to be found within its threshold and one interval, and
//! the service has to be healthy again by itself, after a restart. A fault of somebody else's ([`foreign`]) may make
//! services unhealthy, but restarts none of them. `tests/run --long faults` tries a thousand of each ([`campaign`]), and
//! each `tests/run` one of every kind.
//!
//! Left out, because no machine of the rig can have them: steps of the clock (it is the host's) and disks that are slow by
//! themselves (machines live in memory). The agent's own tests tell it of both.

pub mod dice;
pub mod stage;
pub mod own;
pub mod foreign;
pub mod campaign;
