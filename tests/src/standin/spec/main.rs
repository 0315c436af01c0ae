//! The stand-in as a process, against what `facts` say of the originals: one module an application, one test a rule.
//!
//! `cargo test -p dagger-tests standin` runs these and the unit tests. What needs root says so and is skipped without it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod standin_bazarr;
mod standin_faults;
mod standin_image;
mod standin_jellyfin;
mod standin_servarr;
mod support;
