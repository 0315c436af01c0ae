//! The media suite as one configuration file describes it.
pub mod names;
pub mod diagnostic;
pub mod node;
pub mod source;
pub mod schema;
pub mod value;
pub mod probe;
pub mod model;
