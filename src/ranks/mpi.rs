//! Ranks that are processes which MPI has started, on any number of machines.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::common::to_others;
use super::courier::{Answer, Order, carry};
use crate::error::{Error, Result};
use crate::ranks::Ranks;

/// One of the processes that `mpirun` has started.
///
/// A thread of its own speaks MPI. So a rank that waits in vain comes back with an error, and one that computes still
/// answers the others.
pub struct Mpi {
    rank: usize,
    size: usize,
    sent: AtomicU64,
    line: Mutex<Line>,
    courier: Option<JoinHandle<()>>,
}

struct Line {
    /// None when it is over.
    orders: Option<Sender<Order>>,
    answers: Receiver<Answer>,
    /// Ends when the courier needs no time any more.
    ended: Receiver<()>,
    lost: bool,
}

impl Mpi {
    /// Joins the others. A rank that does not come to an exchange for `patience` while others wait, nor answers, is
    /// lost; that is said at most five seconds later.
    ///
    /// # Errors
    /// [`Error::Internal`] if this process has begun with MPI already.
    pub fn join(patience: Duration) -> Result<Self> {
        let (orders, taken) = channel();
        let (answer, answers) = channel();
        let (hello, begun) = channel();
        let (end, ended) = channel();
        let work = move || carry(patience, &hello, &taken, &answer, end);
        let courier = Builder::new().name("mdlm-mpi".to_owned()).spawn(work);
        let courier = courier.map_err(|e| Error::Internal(format!("no thread for MPI: {e}")))?;
        let (rank, size) = begun.recv().map_err(|_| over())?;
        Ok(Self {
            rank,
            size,
            sent: AtomicU64::new(0),
            line: Mutex::new(Line {
                orders: Some(orders),
                answers,
                ended,
                lost: false,
            }),
            courier: Some(courier),
        })
    }
}

fn over() -> Error {
    Error::Internal("MPI cannot be used, or not twice in a process".into())
}

impl Line {
    fn order(&self, order: Order) -> Result<()> {
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        sent.and_then(Result::ok).ok_or_else(over)
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let sent = to_others(&parts, self.rank);
        self.sent.fetch_add(sent, Ordering::Relaxed);
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.order(Order::Exchange(parts))?;
        let answer = line.answers.recv().map_err(|_| over())?;
        answer.map_err(|(rank, problem)| {
            line.lost = true;
            Error::RankLost { rank, problem }
        })
    }

    fn fail(&self, why: &str) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.lost = true;
        // a courier that has ended has nobody to tell
        let _ = line.order(Order::Fail(why.to_owned()));
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Mpi {
    /// Ends MPI; after a loss, lets rank 0 save first, since the end of one process may be that of all.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail("has panicked");
        }
        let line = self.line.get_mut().unwrap_or_else(PoisonError::into_inner);
        line.orders = None;
        // an error says that the courier is gone
        let _ = line.ended.recv();
        if let (false, Some(courier)) = (line.lost, self.courier.take()) {
            // its panic has been printed
            let _ = courier.join();
        }
    }
}
