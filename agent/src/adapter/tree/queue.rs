//! Work that makes more work, done by a few threads. What was found last is done first, so that little waits.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::error::TreeError;

/// What waits, and who works.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    news: Condvar,
}

#[derive(Debug)]
struct State<T> {
    tasks: Vec<T>,
    working: usize,
    /// How many wait for news: telling nobody is a system call all the same.
    waiting: usize,
    failed: Option<TreeError>,
}

impl<T: Send> Queue<T> {
    /// Does these tasks and what they add, and returns when all is done or one has failed.
    pub fn run(
        tasks: Vec<T>,
        threads: usize,
        work: impl Fn(&Self, T) -> Result<(), TreeError> + Sync,
    ) -> Result<(), TreeError> {
        let queue = Self {
            state: Mutex::new(State {
                tasks,
                working: 0,
                waiting: 0,
                failed: None,
            }),
            news: Condvar::new(),
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| queue.serve(&work));
            }
            queue.serve(&work);
        });
        match queue.lock().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Adds a task.
    pub fn push(&self, task: T) {
        let mut state = self.lock();
        state.tasks.push(task);
        if state.waiting > 0 {
            self.news.notify_one();
        }
    }

    fn serve(&self, work: &impl Fn(&Self, T) -> Result<(), TreeError>) {
        while let Some(task) = self.take() {
            let at_work = AtWork(self);
            let result = work(self, task);
            if let Err(error) = result {
                let mut state = self.lock();
                state.tasks.clear();
                state.failed.get_or_insert(error);
            }
            drop(at_work);
        }
    }

    /// The next task; none when nothing is left and nobody can add any.
    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(task) = state.tasks.pop() {
                state.working += 1;
                return Some(task);
            }
            if state.working == 0 {
                return None;
            }
            state.waiting += 1;
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Also a task that ends by a panic is no longer waited for.
struct AtWork<'a, T: Send>(&'a Queue<T>);

impl<T: Send> Drop for AtWork<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.working -= 1;
        if state.waiting > 0 {
            self.0.news.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn work_makes_work_until_all_is_done() {
        let done = AtomicU32::new(0);
        Queue::run(vec![12_u32], 3, |queue, task| {
            done.fetch_add(1, Ordering::Relaxed);
            if task > 0 {
                queue.push(task - 1);
                queue.push(task - 1);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), (1 << 13) - 1);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let result = Queue::run((0..1000).collect(), 2, |_, task: u32| {
            if task == 990 {
                Err(TreeError::Stopped)
            } else {
                Ok(())
            }
        });
        assert!(matches!(result, Err(TreeError::Stopped)));
    }
}
