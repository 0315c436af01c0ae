//! The media suite as it is described by its configuration.
