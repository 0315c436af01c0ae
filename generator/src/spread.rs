//! Work on many items, spread over the processors. A suite of a few services never starts a thread.

use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How many items are worked on at once: as much as stays in the processor's cache.
pub const PIECE: usize = 16;
/// Fewer items than this for each thread are not worth starting it (about 100 microseconds).
const LEAST: usize = 32;
/// More threads than this would only wait for each other: in the end all of them write into the same directories.
const MOST: usize = 4;

/// Applies `work` to consecutive pieces of `items`, and returns the results in the order of the pieces. Each thread takes
/// the next piece when it is done with one: at boot, others want the processors too, and a thread may start late.
pub fn spread<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = match items.len() / LEAST {
        0 | 1 => 1,
        most => processors().min(MOST).min(most),
    };
    if threads == 1 {
        return items.chunks(PIECE).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match items.chunks(PIECE).nth(index) {
                Some(piece) => done.push((index, work(piece))),
                None => return done,
            }
        }
    };
    let mut results = thread::scope(|scope| {
        // A thread that cannot be started is no reason not to do its work: the others take it.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, run).ok())
            .collect();
        let mut results = run();
        for other in others {
            results.extend(other.join().unwrap_or_default());
        }
        results
    });
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Asked once: the answer is read from several files.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_the_order_stays() {
        for count in [0, 1, 63, 64, 128, 1000, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let seen: Vec<usize> = spread(&items, <[usize]>::to_vec).concat();
            assert_eq!(seen, items);
        }
    }
}
