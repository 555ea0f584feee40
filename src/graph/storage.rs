//! Parameter arenas on a device, shared by all sessions of a model.

use std::sync::Arc;

use super::{Key, Layout};
use crate::cpu;
use crate::device::program::Arena;
use crate::device::{Backend, Device};
use crate::error::{Error, Result};
use crate::gpu;

pub(super) enum Place {
    Gpu(gpu::Memory),
    F32(cpu::Memory<f32>),
    F64(cpu::Memory<f64>),
}

/// The arenas of a model.
pub struct Storage {
    layout: Arc<Layout>,
    arenas: Vec<Arena>,
    pub(super) place: Place,
}

impl Storage {
    /// Allocates the given arenas, zeroed.
    pub async fn new(device: &Device, layout: &Arc<Layout>, arenas: &[Arena]) -> Result<Self> {
        let slabs = layout.slabs();
        let place = match device.backend() {
            Backend::Gpu(context) => Place::Gpu(gpu::Memory::new(context, slabs, arenas).await?),
            Backend::CpuF32 => Place::F32(cpu::Memory::new(slabs, arenas)?),
            Backend::CpuF64 => Place::F64(cpu::Memory::new(slabs, arenas)?),
        };
        Ok(Self {
            layout: layout.clone(),
            arenas: arenas.to_vec(),
            place,
        })
    }

    /// The layout of every arena.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// An error unless the arena was allocated.
    pub(super) fn require(&self, arena: Arena) -> Result<()> {
        if self.arenas.contains(&arena) {
            return Ok(());
        }
        let problem = format!("the storage has no arena {arena:?}");
        Err(Error::Internal(problem))
    }

    /// Overwrites an arena; `tensor(index, key)` yields the elements of each key of the layout.
    pub fn write(
        &mut self,
        arena: Arena,
        mut tensor: impl FnMut(usize, &Key) -> Result<Vec<f64>>,
    ) -> Result<()> {
        self.require(arena)?;
        for (slab, &len) in self.layout.slabs().iter().enumerate() {
            let mut data = vec![0.0; len];
            let keys = self.layout.keys().iter().enumerate();
            for (index, key) in keys.filter(|(_, k)| k.slab == slab) {
                let values = tensor(index, key)?;
                if values.len() != key.len() {
                    let (expected, got) = (format!("{} elements", key.len()), vec![values.len()]);
                    return Err(Error::Shape {
                        op: "write",
                        tensor: key.key.clone(),
                        expected,
                        got,
                    });
                }
                data[key.offset..key.offset + key.len()].copy_from_slice(&values);
            }
            match &mut self.place {
                Place::Gpu(m) => {
                    let data: Vec<f32> = data.iter().map(|&x| x as f32).collect();
                    m.write(arena, slab, &data)?;
                }
                Place::F32(m) => m.write(arena, slab, &data),
                Place::F64(m) => m.write(arena, slab, &data),
            }
        }
        Ok(())
    }

    /// Overwrites an arena with the elements of each key, in the order of [`Layout::keys`].
    pub fn fill<T: Copy + Into<f64>>(&mut self, arena: Arena, values: &[Vec<T>]) -> Result<()> {
        self.write(arena, |index, key| {
            let missing = || Error::Internal(format!("no values for {}", key.key));
            let values = values.get(index).ok_or_else(missing)?;
            Ok(values.iter().map(|&x| x.into()).collect())
        })
    }

    /// Reads an arena: the elements of each key, in the order of [`Layout::keys`].
    pub async fn read(&self, arena: Arena) -> Result<Vec<Vec<f64>>> {
        self.require(arena)?;
        let mut slabs = Vec::new();
        for (slab, &len) in self.layout.slabs().iter().enumerate() {
            slabs.push(match &self.place {
                Place::Gpu(m) => m
                    .read(arena, slab, len)
                    .await?
                    .into_iter()
                    .map(f64::from)
                    .collect(),
                Place::F32(m) => m.read(arena, slab),
                Place::F64(m) => m.read(arena, slab),
            });
        }
        let part = |k: &Key| slabs[k.slab][k.offset..k.offset + k.len()].to_vec();
        Ok(self.layout.keys().iter().map(part).collect())
    }
}
