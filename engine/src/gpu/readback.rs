//! Reading buffers back: a copy into a mappable buffer, then an asynchronous map.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use super::Context;
use crate::error::{Error, Result};

#[derive(Default)]
struct Shared {
    result: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// A buffer that is being mapped for reading; dropping it gives the buffer up.
pub(super) struct Pending {
    device: wgpu::Device,
    buffer: wgpu::Buffer,
    bytes: u64,
    shared: Arc<Mutex<Shared>>,
    /// What must have run; the newest submission if it is not known.
    submission: Option<wgpu::SubmissionIndex>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // a lost device has destroyed its buffers, which whoever waits is told
        let ignored = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        self.buffer.unmap();
        drop(ignored);
    }
}

impl Pending {
    /// Begins to map the first `bytes` of `buffer`, which a submission has filled.
    pub(super) fn new(
        context: &Context,
        buffer: &wgpu::Buffer,
        bytes: u64,
        submission: Option<wgpu::SubmissionIndex>,
    ) -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let sender = shared.clone();
        let mapped = move |result| {
            let mut s = sender.lock().unwrap_or_else(PoisonError::into_inner);
            s.result = Some(result);
            if let Some(waker) = s.waker.take() {
                waker.wake();
            }
        };
        let bytes = bytes.next_multiple_of(4);
        context.guarded_now("readback", "a staging buffer", || {
            buffer.map_async(wgpu::MapMode::Read, 0..bytes, mapped);
        })?;
        Ok(Self {
            device: context.device.clone(),
            buffer: buffer.clone(),
            bytes,
            shared,
            submission,
        })
    }

    /// Waits until the bytes are there and hands them to `f`.
    pub(super) async fn wait<T>(
        mut self,
        context: &Context,
        f: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        // Natively somebody has to drive the device; on the web the browser does.
        let submission_index = self.submission.take();
        #[cfg(not(target_arch = "wasm32"))]
        {
            let wait = wgpu::PollType::Wait {
                submission_index,
                timeout: None,
            };
            if let Err(error) = context.device.poll(wait) {
                context.check("readback")?;
                return Err(lost(&error));
            }
        }
        #[cfg(target_arch = "wasm32")]
        drop(submission_index);
        let result = poll_fn(|cx| {
            let mut s = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            match s.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    s.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        context.check("readback")?;
        result.map_err(|e| lost(&e))?;
        match self.buffer.get_mapped_range(0..self.bytes) {
            Ok(view) => Ok(f(&view)),
            Err(e) => {
                // lost between the two calls
                context.ensure_alive("readback")?;
                Err(Error::Internal(format!("mapped range: {e}")))
            }
        }
    }
}

fn lost(error: &dyn std::fmt::Display) -> Error {
    Error::DeviceLost {
        reason: error.to_string(),
        during: "readback",
    }
}
