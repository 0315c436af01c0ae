//! A directory of the source and what stands for it in the target.

use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::error::TreeError;
use super::place::{Place, Tree};

/// A directory on both sides. Of a copy that is brought up to date both are held only ([`Place::hold`]), and the target's only
/// once something is done in it: in most of them there is nothing to do.
pub(super) struct Sides<'a> {
    /// The source's.
    pub from: OwnedFd,
    place: Arc<Place>,
    tree: &'a Tree,
    to: OnceCell<OwnedFd>,
}

impl<'a> Sides<'a> {
    /// The source's, open, with the place that it has in the target.
    pub fn new(from: OwnedFd, place: &Arc<Place>, tree: &'a Tree) -> Self {
        Self {
            from,
            place: Arc::clone(place),
            tree,
            to: OnceCell::new(),
        }
    }

    /// The same with the target's, which is open already.
    pub fn with(self, to: OwnedFd) -> Self {
        Self {
            to: OnceCell::from(to),
            ..self
        }
    }

    /// The target's.
    pub fn to(&self) -> Result<&OwnedFd, TreeError> {
        if let Some(to) = self.to.get() {
            return Ok(to);
        }
        let to = self
            .place
            .hold(self.tree)
            .map_err(|errno| TreeError::io("open", &self.place.path(self.tree, None))(errno))?;
        Ok(self.to.get_or_init(|| to))
    }
}
