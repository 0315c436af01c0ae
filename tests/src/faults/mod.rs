//! Faults, one after the other, on a machine that runs the six: each is repaired or waited for as it should be.
//!
//! There are two kinds. A fault of the service's own ([`own`]) has to be found within its threshold and one interval, and
//! the service has to be healthy again by itself, after a restart. A fault of somebody else's ([`foreign`]) may make
//! services unhealthy, but restarts none of them. `tests/run --long faults` tries a thousand of each ([`campaign`]), and
//! each `tests/run` one of every kind.
//!
//! Steps of the clock are tried only where `DAGGER_STEP_CLOCK=1` allows it, best in a virtual machine that has nothing else
//! to do: CLOCK_REALTIME is the host's, and what a time namespace adds to the other clocks is fixed before its first process
//! runs (time_namespaces(7)). What is decided about them the agent's own tests show each time.

pub mod dice;
pub mod stage;
pub mod own;
pub mod foreign;
pub mod campaign;
