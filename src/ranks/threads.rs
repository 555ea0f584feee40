//! Ranks that are threads of one process: several devices, or shares of the CPU.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::common::to_others;
use crate::error::{Error, Result};
use crate::ranks::Ranks;

/// How often a rank looks again that has waited for too long.
const AGAIN: Duration = Duration::from_millis(20);

/// One of several threads.
pub struct Threads {
    rank: usize,
    size: usize,
    patience: Duration,
    sent: AtomicU64,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// What lies ready, `[to][from]`; a rank may be an exchange ahead of another.
    boxes: Vec<Vec<VecDeque<Vec<u8>>>>,
    ranks: Vec<Doing>,
    /// The first one that went no further, and why.
    lost: Option<(usize, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Computing,
    Waiting,
    Ended,
}

impl Threads {
    /// Ranks for `size` threads. A rank that does not come to an exchange for `patience` while others wait is lost.
    pub fn group(size: usize, patience: Duration) -> Vec<Self> {
        let state = State {
            boxes: vec![vec![VecDeque::new(); size]; size],
            ranks: vec![Doing::Computing; size],
            lost: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let rank = |rank| Self {
            rank,
            size,
            patience,
            sent: AtomicU64::new(0),
            shared: shared.clone(),
        };
        (0..size).map(rank).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing in here is left half done
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// What every rank has given to this one; an error if one will not.
    fn wait(&self) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + self.patience;
        let mut state = self.state();
        state.ranks[self.rank] = Doing::Waiting;
        let result = loop {
            if state.boxes[self.rank].iter().all(|from| !from.is_empty()) {
                let given = state.boxes[self.rank].iter_mut();
                break Ok(given.filter_map(VecDeque::pop_front).collect());
            }
            if state.lost.is_none() {
                state.lost = self.missing(&state, Instant::now() >= deadline);
            }
            if let Some((rank, problem)) = state.lost.clone() {
                break Err(Error::RankLost { rank, problem });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // later, whoever waits for the one that is late says so
            let waited = self.shared.changed.wait_timeout(state, left.max(AGAIN));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.ranks[self.rank] = Doing::Computing;
        self.shared.changed.notify_all();
        result
    }

    /// The rank that keeps this one waiting in vain, and why: one that has ended, or, when it is `late`, one that is
    /// not waiting itself.
    fn missing(&self, state: &State, late: bool) -> Option<(usize, String)> {
        let open = (0..self.size).filter(|&from| state.boxes[self.rank][from].is_empty());
        for rank in open {
            match state.ranks[rank] {
                Doing::Ended => return Some((rank, "has ended".to_owned())),
                Doing::Computing if late => {
                    let seconds = self.patience.as_secs_f64();
                    return Some((rank, format!("has not answered for {seconds} s")));
                }
                _ => {}
            }
        }
        None
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let sent = to_others(&parts, self.rank);
        self.sent.fetch_add(sent, Ordering::Relaxed);
        {
            let mut state = self.state();
            for (to, part) in state.boxes.iter_mut().zip(parts) {
                to[self.rank].push_back(part);
            }
            self.shared.changed.notify_all();
        }
        self.wait()
    }

    fn fail(&self, why: &str) {
        let mut state = self.state();
        state.lost.get_or_insert((self.rank, why.to_owned()));
        self.shared.changed.notify_all();
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("has panicked");
        }
        self.state().ranks[self.rank] = Doing::Ended;
        self.shared.changed.notify_all();
    }
}

/// Does `work` once for every rank, each in a thread of its own with an equal share of the CPU's, and returns what
/// came of it in the order of ranks; that of one that panicked is [`Error::RankLost`].
///
/// ```
/// use std::time::Duration;
/// use mdlm::ranks::{Ranks, each};
///
/// let sums = each(3, Duration::from_secs(60), |ranks| {
///     let mut data = [ranks.rank() as f32, 1.0];
///     ranks.sum(&mut data).map(|()| data)
/// });
/// for sum in sums {
///     assert_eq!(sum??, [3.0, 3.0]);
/// }
/// # Ok::<(), mdlm::Error>(())
/// ```
pub fn each<T: Send>(
    size: usize,
    patience: Duration,
    work: impl Fn(Arc<dyn Ranks>) -> T + Sync,
) -> Vec<Result<T>> {
    let share = (mdlm_engine::cpu::threads() / size.max(1)).max(1);
    let work = &work;
    let run = |ranks: Threads| {
        let rank = ranks.rank;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(share).build();
        let pool = pool.map_err(|e| Error::Internal(format!("no threads for rank {rank}: {e}")))?;
        Ok(pool.install(|| work(Arc::new(ranks))))
    };
    let lost = |rank| Error::RankLost {
        rank,
        problem: "has panicked".to_owned(),
    };
    std::thread::scope(|scope| {
        let group = Threads::group(size, patience).into_iter();
        let threads: Vec<_> = group.map(|ranks| scope.spawn(|| run(ranks))).collect();
        let ended = threads.into_iter().enumerate();
        ended
            .map(|(rank, thread)| thread.join().unwrap_or_else(|_| Err(lost(rank))))
            .collect()
    })
}
