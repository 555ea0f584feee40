//! The next batches are made while the current one trains.

pub use platform::Prefetch;

#[cfg(not(target_arch = "wasm32"))]
mod platform {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread::{Builder, JoinHandle};

    use crate::error::{Error, Result};

    /// Finished items that may wait.
    const DEPTH: usize = 2;

    /// Calls a closure for consecutive steps on a thread of its own, which ends with this value.
    #[derive(Debug)]
    pub struct Prefetch<T> {
        items: Option<Receiver<T>>,
        thread: Option<JoinHandle<()>>,
    }

    impl<T: Send + 'static> Prefetch<T> {
        /// Starts with `make(start)`.
        pub fn new(start: u64, mut make: impl FnMut(u64) -> T + Send + 'static) -> Result<Self> {
            let (sender, items) = sync_channel(DEPTH);
            let work = move || {
                for step in start.. {
                    if sender.send(make(step)).is_err() {
                        return;
                    }
                }
            };
            let thread = Builder::new()
                .name("mdlm-prefetch".to_owned())
                .spawn(work)
                .map_err(|e| Error::Internal(format!("cannot start the data thread: {e}")))?;
            Ok(Self {
                items: Some(items),
                thread: Some(thread),
            })
        }

        /// The item of the next step. Fails only if the closure has panicked.
        #[expect(
            clippy::should_implement_trait,
            reason = "it has no end, so it is no iterator"
        )]
        pub fn next(&mut self) -> Result<T> {
            let item = self.items.as_ref().and_then(|items| items.recv().ok());
            item.ok_or_else(|| Error::Internal("the data thread has died".to_owned()))
        }
    }

    impl<T> Drop for Prefetch<T> {
        fn drop(&mut self) {
            // Closing the channel wakes the thread if it waits to send.
            self.items = None;
            if let Some(thread) = self.thread.take() {
                // Its panic was reported by `next`, or nobody waits for its items.
                let _ = thread.join();
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod platform {
    use crate::error::Result;

    /// Calls a closure for consecutive steps, when asked: there are no threads here.
    pub struct Prefetch<T> {
        step: u64,
        make: Box<dyn FnMut(u64) -> T + Send>,
    }

    impl<T: Send + 'static> Prefetch<T> {
        /// Starts with `make(start)`.
        pub fn new(start: u64, make: impl FnMut(u64) -> T + Send + 'static) -> Result<Self> {
            Ok(Self {
                step: start,
                make: Box::new(make),
            })
        }

        /// The item of the next step.
        #[expect(
            clippy::should_implement_trait,
            reason = "it has no end, so it is no iterator"
        )]
        pub fn next(&mut self) -> Result<T> {
            let item = (self.make)(self.step);
            self.step += 1;
            Ok(item)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::Error;

    #[test]
    fn items_come_in_order_from_the_start() {
        let mut prefetch = Prefetch::new(7, |step| step * 10).unwrap();
        let items: Vec<u64> = (0..5).map(|_| prefetch.next().unwrap()).collect();
        assert_eq!(items, [70, 80, 90, 100, 110]);
    }

    #[test]
    fn dropping_ends_the_thread() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let mut prefetch = Prefetch::new(0, move |step| (step, Arc::clone(&inside))).unwrap();
        assert_eq!(prefetch.next().unwrap().0, 0);
        drop(prefetch);
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "the thread still owns its closure"
        );
    }

    #[test]
    fn a_panic_in_the_closure_is_an_error() {
        let mut prefetch = Prefetch::new(0, |step| {
            assert!(step < 2, "a panic that this test provokes");
            step
        })
        .unwrap();
        assert_eq!(prefetch.next().unwrap(), 0);
        assert_eq!(prefetch.next().unwrap(), 1);
        assert!(matches!(prefetch.next(), Err(Error::Internal(_))));
    }
}
