//! Work on several files at once.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{Builder, available_parallelism, scope};

use crate::error::{Error, Result};
use crate::progress::{Event, Flow, Observer};

/// Files at once, each of which has its part of documents in memory.
const MOST: usize = 8;

/// What a thread says of a file.
enum Told<T> {
    /// How much of it is done.
    Share(f64),
    Ended(Result<T>),
}

/// Calls `work` for each of several files, of `sizes` bytes, on as many threads as the machine has, at most [`MOST`]. What
/// they say of their progress is told in bytes of all. The results come in the order of files; so does the error, of those
/// that have one.
///
/// # Errors
/// Those of `work`; [`Error::Cancelled`] if the observer asks to stop.
pub(super) fn each<T: Send>(
    what: &'static str,
    sizes: &[u64],
    observer: &mut dyn Observer,
    work: impl Fn(usize, &mut dyn Observer) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let threads = available_parallelism().map_or(1, NonZeroUsize::get);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, told) = channel();
    let mut results: Vec<Option<Result<T>>> = sizes.iter().map(|_| None).collect();
    scope(|scope| {
        for _ in 0..threads.min(MOST).min(sizes.len()) {
            let (sender, work, next, stop) = (sender.clone(), &work, &next, &stop);
            let files = move || {
                while !stop.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= sizes.len() {
                        return;
                    }
                    let mut observer = |event: &Event| {
                        if let Event::Progress { done, total, .. } = event {
                            let share = *done as f64 / (*total).max(1) as f64;
                            // whoever listens ends when all senders have
                            let _ = sender.send((i, Told::Share(share)));
                        }
                        match stop.load(Ordering::Relaxed) {
                            true => Flow::Stop,
                            false => Flow::Continue,
                        }
                    };
                    let ended = work(i, &mut observer);
                    stop.fetch_or(ended.is_err(), Ordering::Relaxed);
                    let _ = sender.send((i, Told::Ended(ended)));
                }
            };
            let thread = Builder::new().name("mdlm-files".to_owned());
            let started = thread.spawn_scoped(scope, files);
            started.map_err(|e| {
                stop.store(true, Ordering::Relaxed);
                Error::Internal(format!("cannot start a thread for files: {e}"))
            })?;
        }
        drop(sender);
        let mut done = vec![0; sizes.len()];
        for (i, told) in told {
            done[i] = match told {
                Told::Share(share) => (sizes[i] as f64 * share) as u64,
                Told::Ended(ended) => {
                    results[i] = Some(ended);
                    sizes[i]
                }
            };
            let progress = Event::Progress {
                what,
                done: done.iter().sum(),
                total: sizes.iter().sum(),
            };
            if observer.event(&progress) == Flow::Stop {
                stop.store(true, Ordering::Relaxed);
            }
        }
        Ok::<_, Error>(())
    })?;
    let mut all = Vec::new();
    let mut first = None;
    for result in results.into_iter().flatten() {
        match result {
            Ok(result) => all.push(result),
            // the others only ended because of it
            Err(Error::Cancelled) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) => Err(error),
        None if stop.into_inner() => Err(Error::Cancelled),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn results_and_progress_of_all() {
        let sizes: Vec<u64> = (1..40).collect();
        let mut last = (0, 0);
        let squares = each(
            "squaring",
            &sizes,
            &mut |event: &Event| {
                if let Event::Progress { done, total, .. } = event {
                    last = (*done, *total);
                }
                Flow::Continue
            },
            |i, observer| {
                let (done, total) = (1, 2);
                let what = "half";
                observer.event(&Event::Progress { what, done, total });
                Ok(i * i)
            },
        );
        assert_eq!(squares.unwrap(), (0..39).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(last, (780, 780));
        let none: Result<Vec<()>> = each("nothing", &[], &mut Silent, |_, _| Ok(()));
        assert_eq!(none.unwrap(), []);
    }

    #[test]
    fn an_error_and_a_stop_end_all() {
        let fails = |i: usize, _: &mut dyn Observer| match i {
            3 => Err(Error::Internal("three".into())),
            _ => Ok(()),
        };
        let failed = each("failing", &[1; 1000], &mut Silent, fails);
        assert!(matches!(failed, Err(Error::Internal(problem)) if problem == "three"));
        let stopped = each(
            "stopping",
            &[1; 1000],
            &mut |_: &Event| Flow::Stop,
            |_, _| Ok(()),
        );
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }
}
