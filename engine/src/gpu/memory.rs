//! Parameter arenas on the device, and reading buffers back.

use std::sync::Arc;

use super::Context;
use super::readback::Pending;
use crate::error::{Error, Result};
use crate::program::{Arena, Slab};

/// Parameter arenas on the device.
#[derive(Debug)]
pub struct Memory {
    context: Arc<Context>,
    arenas: Vec<(Arena, Vec<wgpu::Buffer>)>,
}

pub(super) const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

impl Memory {
    /// Allocates `slabs`, zeroed, for each of `arenas`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn new(context: &Arc<Context>, slabs: &[Slab], arenas: &[Arena]) -> Result<Self> {
        let bytes = arenas
            .iter()
            .flat_map(|&arena| slabs.iter().map(move |slab| slab.bytes_in(arena)))
            .sum();
        let make = |&arena: &Arena| {
            // a buffer has at least a word
            let bytes = |slab: &Slab| slab.bytes_in(arena).max(4);
            let slab = |slab: &Slab| context.buffer(arena.name, bytes(slab), STORAGE);
            (arena, slabs.iter().map(slab).collect())
        };
        let arenas = context
            .guarded("allocation", "the parameter arenas", bytes, || {
                Ok(arenas.iter().map(make).collect())
            })
            .await?;
        context.ensure_alive("allocation")?;
        Ok(Self {
            context: context.clone(),
            arenas,
        })
    }

    pub(super) fn buffer(&self, arena: Arena, slab: usize) -> Result<&wgpu::Buffer> {
        let slabs = self.arenas.iter().find(|(a, _)| *a == arena);
        let missing = || Error::Internal(format!("no arena {}[{slab}]", arena.name));
        slabs.and_then(|(_, s)| s.get(slab)).ok_or_else(missing)
    }

    /// Overwrites a slab from byte `offset` on, a multiple of 4, with the bytes of its elements.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub fn write(&self, arena: Arena, slab: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let buffer = self.buffer(arena, slab)?;
        self.context.guarded_now("upload", "the arenas", || {
            self.context.queue.write_buffer(buffer, offset, bytes);
        })
    }

    /// Reads the words of a slab that takes `bytes`.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub async fn read(&self, arena: Arena, slab: usize, bytes: u64) -> Result<Vec<u32>> {
        read_buffer(&self.context, self.buffer(arena, slab)?, 0, bytes).await
    }
}

/// The words of `bytes` bytes of a buffer from `offset` on, both multiples of 4.
pub(super) async fn read_buffer(
    context: &Context,
    buffer: &wgpu::Buffer,
    offset: u64,
    bytes: u64,
) -> Result<Vec<u32>> {
    let staging = context
        .guarded("readback", "a staging buffer", bytes, || {
            let staging = context.buffer(
                "staging",
                bytes,
                wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            );
            let mut encoder = context.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
            context.queue.submit([encoder.finish()]);
            Ok(staging)
        })
        .await?;
    Pending::new(context, &staging, bytes, None)?
        .wait(context, bytemuck::pod_collect_to_vec)
        .await
}
