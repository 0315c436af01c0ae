//! The media suite as one configuration file describes it.
pub mod diagnostic;
pub mod model;
pub mod names;
pub mod probe;
