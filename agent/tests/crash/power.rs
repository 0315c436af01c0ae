//! Power that goes at a chosen point, and dice for what that leaves.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

/// What the dice do about what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    /// None of it arrived.
    None,
    /// All of it did.
    All,
    /// Each thing for itself, by this seed.
    Some(u64),
}

#[derive(Debug)]
struct Shared {
    /// Points that were passed.
    passed: Cell<u64>,
    /// The point at which it goes.
    ends: Cell<u64>,
    luck: RefCell<Luck>,
}

/// One supply; its clones are the same.
#[derive(Debug, Clone)]
pub struct Power(Rc<Shared>);

impl Power {
    /// It goes at this point, counted from 0.
    pub fn until(point: u64, luck: Luck) -> Self {
        Self(Rc::new(Shared {
            passed: Cell::new(0),
            ends: Cell::new(point),
            luck: RefCell::new(luck),
        }))
    }

    /// Back again, until another point.
    pub fn restore(&self, point: u64) {
        self.0.passed.set(0);
        self.0.ends.set(point);
    }

    pub fn passed(&self) -> u64 {
        self.0.passed.get()
    }

    pub fn is_gone(&self) -> bool {
        self.0.passed.get() > self.0.ends.get()
    }

    /// A point. Once the power is gone nothing happens any more.
    pub fn point(&self) -> io::Result<()> {
        if !self.is_gone() {
            self.0.passed.set(self.0.passed.get() + 1);
        }
        if self.is_gone() {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }

    pub fn yes(&self) -> bool {
        let mut luck = self.0.luck.borrow_mut();
        match &mut *luck {
            Luck::None => false,
            Luck::All => true,
            Luck::Some(seed) => next(seed) & 1 == 1,
        }
    }

    /// How many of so many bytes arrived.
    pub fn part(&self, whole: usize) -> usize {
        let mut luck = self.0.luck.borrow_mut();
        match &mut *luck {
            Luck::None => 0,
            Luck::All => whole,
            Luck::Some(seed) => usize::try_from(next(seed)).unwrap_or(0) % (whole + 1),
        }
    }
}

/// SplitMix64 (https://prng.di.unimi.it/splitmix64.c).
pub fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 1
}
