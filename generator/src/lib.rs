//! The media suite as one configuration file describes it.
pub mod names;
pub mod diagnostic;
pub mod node;
pub mod source;
pub mod schema;
pub mod value;
pub mod check;
pub mod probe;
pub mod model;
pub mod catalog;
pub mod layers;
pub mod service;
pub mod cross;
pub mod load;
pub mod unit;
pub mod render;
pub mod output;

pub use load::{Loaded, load};
