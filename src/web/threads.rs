//! Threads of the page: workers that share this module's memory, each lent to rayon for good.
//!
//! JavaScript starts them, since only it can; see `web/modules.js`.

use std::sync::{Condvar, Mutex, PoisonError};

use rayon::{ThreadBuilder, ThreadPoolBuilder};
use wasm_bindgen::prelude::wasm_bindgen;

use super::error::{JsResult, thrown};
use crate::error::Error;

/// Threads of rayon that no worker has taken over yet.
static WAITING: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
static ARRIVED: Condvar = Condvar::new();

/// Becomes a thread of the library and never returns.
#[wasm_bindgen]
pub fn work() {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let thread = loop {
        match waiting.pop() {
            Some(thread) => break thread,
            None => {
                waiting = ARRIVED
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner)
            }
        }
    };
    drop(waiting);
    thread.run();
}

/// Shares what the CPU computes from now on among as many workers, each of which has called `work` or will.
#[wasm_bindgen(js_name = shareWork)]
pub fn share_work(workers: usize) -> JsResult<()> {
    let hand_over = |thread| {
        WAITING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        ARRIVED.notify_one();
        Ok(())
    };
    let pool = ThreadPoolBuilder::new().num_threads(workers);
    let built = pool.spawn_handler(hand_over).build_global();
    built.map_err(|e| thrown(Error::Internal(format!("the threads did not start: {e}"))))
}
