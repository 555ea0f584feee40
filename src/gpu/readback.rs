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

/// Maps `buffer` for reading and hands its first `bytes` to `f`.
pub(super) async fn map_read<T>(
    context: &Context,
    buffer: &wgpu::Buffer,
    bytes: u64,
    f: impl FnOnce(&[u8]) -> T,
) -> Result<T> {
    let shared = Arc::new(Mutex::new(Shared::default()));
    let lock = |s: &Arc<Mutex<Shared>>, f: &mut dyn FnMut(&mut Shared)| {
        f(&mut s.lock().unwrap_or_else(PoisonError::into_inner))
    };
    let sender = shared.clone();
    let bytes = bytes.next_multiple_of(4);
    let mapped = move |result| {
        let mut result = Some(result);
        lock(&sender, &mut |s| {
            s.result = result.take();
            if let Some(waker) = s.waker.take() {
                waker.wake();
            }
        });
    };
    context.guarded_now("readback", "a staging buffer", || {
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, mapped);
    })?;
    // Natively somebody has to drive the device; on the web the browser does.
    #[cfg(not(target_arch = "wasm32"))]
    if let Err(error) = context.device.poll(wgpu::PollType::wait_indefinitely()) {
        context.check("readback")?;
        return Err(Error::DeviceLost {
            reason: error.to_string(),
            during: "readback",
        });
    }
    let result = poll_fn(|cx| {
        let mut s = shared.lock().unwrap_or_else(PoisonError::into_inner);
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
    result.map_err(|e| Error::DeviceLost {
        reason: e.to_string(),
        during: "readback",
    })?;
    let view = buffer
        .get_mapped_range(0..bytes)
        .map_err(|e| Error::Internal(format!("mapped range: {e}")))?;
    let out = f(&view);
    drop(view);
    buffer.unmap();
    Ok(out)
}
