//! The media suite as its configuration describes it, and the units that it becomes.
//!
//! ```text
//! files --source--> texts --node--> values with places --check--> diagnostics
//!                                        | merge
//!                              catalogue + user's tables --service, cross--> model::Suite --render--> outputs
//! ```
//!
//! [`load`] goes from files to the suite, [`render::render`] from the suite to units, [`output`] writes or compares
//! them. The agent and the client use [`load`] and nothing below it.
//!
//! The modules stand in an order in which each uses only those above it. Only [`source`], [`installed`],
//! [`beside`] and [`left`] read the disk, only [`output`] writes it; everything between is a function of its arguments. No clock, no network, no other process:
//! this runs before anything is mounted, at every boot and at every daemon-reload.
//!
//! To add an application, add a file to `catalog/`. To add a key, add it to [`schema`], read it in [`service`], write
//! it in [`render`], and give it a golden case in `tests/golden/`.

pub mod names;
#[cfg(test)]
mod scratch;
pub mod spread;
pub mod diagnostic;
pub mod node;
pub mod source;
pub mod installed;
pub mod schema;
pub mod value;
pub mod check;
pub mod probe;
pub mod model;
pub mod catalog;
pub mod layers;
pub mod shadow;
pub mod service;
pub mod cross;
pub mod guard;
pub mod beside;
pub mod load;
pub mod left;
pub mod unit;
pub mod render;
pub mod output;

pub use load::{Loaded, load, load_beside};
