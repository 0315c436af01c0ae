//! The rig: throw-away machines with real systemd, podman, D-Bus and polkit, and what the tests in them share.
//!
//! A test asks for a [`rig::Machine`], which is a root tree of a Debian release (made once, cached), layers above it
//! (the product as `units/install` lays it out), and an overlay that takes everything the machine writes. It boots in
//! less than a second, can lose its power at any moment and boot again from what was on its disk.

pub mod rig;
pub mod standin;
pub mod suite;
pub mod native;
pub mod crash;
pub mod dirty;
pub mod harness;
pub mod demo;
pub mod bench;
pub mod faults;
pub mod trips;
