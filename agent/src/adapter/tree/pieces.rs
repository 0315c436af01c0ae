//! Pieces of memory that go round between two threads: one puts something into them, the other takes it out. There are a few
//! of them only, so that neither gets far ahead and no memory is touched for the first time but theirs.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// So many go round.
const PIECES: usize = 3;

/// Where full pieces go to, and where used ones come from.
pub(super) struct Filler {
    full: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
}

/// Where full pieces come from, and where used ones go to.
pub(super) struct Emptier {
    full: Receiver<Vec<u8>>,
    used: SyncSender<Vec<u8>>,
}

/// Two ends, with pieces of this capacity between them.
pub(super) fn pair(capacity: usize) -> (Filler, Emptier) {
    let (full_to, full_from) = sync_channel(PIECES);
    let (used_to, used_from) = sync_channel(PIECES);
    for _ in 0..PIECES {
        // There is room for all of them, and the other end is there.
        let _ = used_to.send(Vec::with_capacity(capacity));
    }
    let filler = Filler {
        full: full_to,
        used: used_from,
    };
    let emptier = Emptier {
        full: full_from,
        used: used_to,
    };
    (filler, emptier)
}

impl Filler {
    /// A piece with something old in it; none when the other end has gone.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.used.recv().ok()
    }

    /// Hands a piece over. When the other end has gone nobody needs it.
    pub fn give(&self, piece: Vec<u8>) {
        let _ = self.full.send(piece);
    }
}

impl Emptier {
    /// The next full piece; none when the other end has gone and all was taken.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.full.recv().ok()
    }

    /// Gives a piece back.
    pub fn give(&self, piece: Vec<u8>) {
        // When the other end has gone nobody needs it.
        let _ = self.used.send(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrives_in_order_and_no_piece_is_new() {
        let (filler, emptier) = pair(8);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0..100 {
                    let mut piece = filler.take().unwrap();
                    assert_eq!(piece.capacity(), 8);
                    piece.clear();
                    piece.push(number);
                    filler.give(piece);
                }
            });
            for number in 0..100 {
                let piece = emptier.take().unwrap();
                assert_eq!(piece, [number]);
                emptier.give(piece);
            }
            assert!(emptier.take().is_none());
        });
    }

    #[test]
    fn who_is_alone_does_not_wait() {
        let (filler, emptier) = pair(8);
        drop(emptier);
        while let Some(piece) = filler.take() {
            filler.give(piece);
        }
    }
}
