//! Work on many items, spread over the processors. A suite of a few services never starts a thread.

use std::num::NonZero;
use std::thread;

/// Fewer items than this for each thread are not worth starting it (about 100 microseconds).
const LEAST: usize = 32;
/// More threads than this would only wait for each other: in the end all of them write into the same directories.
const MOST: usize = 4;

/// Applies `work` to consecutive pieces of `items`, and returns the results in the order of the pieces.
pub fn spread<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = match items.len() / LEAST {
        0 | 1 => 1,
        most => thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MOST)
            .min(most),
    };
    if threads == 1 {
        return vec![work(items)];
    }
    let work = &work;
    let mut pieces = items.chunks(items.len().div_ceil(threads));
    let first = pieces.next().unwrap_or_default();
    thread::scope(|scope| {
        // A thread that cannot be started is no reason not to do its work: then it is done here.
        let others: Vec<_> = pieces
            .map(|piece| {
                let started = thread::Builder::new().spawn_scoped(scope, move || work(piece));
                (piece, started.ok())
            })
            .collect();
        let mut results = vec![work(first)];
        for (piece, other) in others {
            let done = match other {
                Some(other) => other.join().ok(),
                None => Some(work(piece)),
            };
            results.extend(done);
        }
        results
    })
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
