//! Parameter arenas on a device, shared by all sessions of a model.

use std::sync::Arc;

use super::{Key, Layout};
use crate::cpu;
use crate::device::{Backend, Device};
use crate::error::{Error, Result};
use crate::gpu;
use crate::program::{Arena, Element, Slab};

/// Elements that are converted at a time: whole blocks of every element.
const PART: usize = 1 << 20;

pub(super) enum Arenas {
    Gpu(gpu::Memory),
    F32(cpu::Memory<f32>),
    #[cfg(not(target_arch = "wasm32"))]
    F64(cpu::Memory<f64>),
}

/// The arenas of a model: its weights, and in training what is kept beside them.
pub struct Storage {
    layout: Arc<Layout>,
    names: Vec<Arena>,
    pub(super) arenas: Arenas,
}

impl Storage {
    /// Allocates the given arenas, zeroed.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or what the device refuses.
    pub async fn new(device: &Device, layout: &Arc<Layout>, arenas: &[Arena]) -> Result<Self> {
        let slabs = layout.slabs();
        let made = match device.backend() {
            Backend::Gpu(context) => Arenas::Gpu(gpu::Memory::new(context, slabs, arenas).await?),
            Backend::CpuF32 => Arenas::F32(cpu::Memory::new(slabs, arenas)?),
            #[cfg(not(target_arch = "wasm32"))]
            Backend::CpuF64 => Arenas::F64(cpu::Memory::new(slabs, arenas)?),
        };
        Ok(Self {
            layout: layout.clone(),
            names: arenas.to_vec(),
            arenas: made,
        })
    }

    /// The layout of every arena.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// An error unless the arena was allocated.
    pub(super) fn require(&self, arena: Arena) -> Result<()> {
        if self.names.contains(&arena) {
            return Ok(());
        }
        let problem = format!("the storage has no arena {}", arena.name);
        Err(Error::Internal(problem))
    }

    /// Overwrites an arena; `tensor(index, key)` yields the elements of each key of the layout.
    ///
    /// # Errors
    /// What `tensor` says; [`Error::Shape`] for too few or too many elements; [`Error::Internal`] if the
    /// storage does not have the arena.
    pub fn write(
        &mut self,
        arena: Arena,
        mut tensor: impl FnMut(usize, &Key) -> Result<Vec<f64>>,
    ) -> Result<()> {
        let layout = self.layout.clone();
        for (index, key) in layout.keys().iter().enumerate() {
            // what another rank keeps is its affair
            if self.is_here(arena, index)? {
                self.set(arena, index, &tensor(index, key)?)?;
            }
        }
        Ok(())
    }

    /// Whether this rank has the elements of one key of the layout in an arena: it may be another's.
    ///
    /// # Errors
    /// [`Error::Internal`] for a key that there is not.
    pub fn is_here(&self, arena: Arena, index: usize) -> Result<bool> {
        let slab = self.layout.slabs()[self.key(arena, index)?.slab];
        Ok(slab.owned || !arena.shared)
    }

    /// Overwrites the elements of one key of the layout.
    ///
    /// # Errors
    /// As [`Storage::write`].
    pub fn set<T: Copy + Into<f64>>(
        &mut self,
        arena: Arena,
        index: usize,
        values: &[T],
    ) -> Result<()> {
        let key = self.key(arena, index)?;
        let len = self.len_in(arena, key);
        fits(key, "elements", values.len(), len)?;
        self.set_part(arena, index, 0, values)
    }

    /// Overwrites elements of one key of the layout from `first` on, the beginning of a block of its element type.
    ///
    /// # Errors
    /// As [`Storage::write`].
    pub fn set_part<T: Copy + Into<f64>>(
        &mut self,
        arena: Arena,
        index: usize,
        first: usize,
        values: &[T],
    ) -> Result<()> {
        let key = self.key(arena, index)?;
        let (block, _) = self.layout.slabs()[key.slab].element_in(arena).block();
        let rest = self.len_in(arena, key).saturating_sub(first);
        if values.len() > rest || !first.is_multiple_of(block) {
            return Err(Error::Shape {
                op: "write",
                tensor: key.key.clone(),
                expected: format!("at most {rest} elements from the beginning of a block on"),
                got: vec![values.len()],
            });
        }
        let (slab, mut offset) = (key.slab, key.offset + first);
        for part in values.chunks(PART) {
            let data: Vec<f64> = part.iter().map(|&x| x.into()).collect();
            self.put(arena, slab, offset, &data)?;
            offset += part.len();
        }
        Ok(())
    }

    /// Overwrites one key of the layout with the words that its packed elements lie in.
    ///
    /// # Errors
    /// As [`Storage::write`]; [`Error::Internal`] if its elements are not packed.
    pub fn set_words(&mut self, arena: Arena, index: usize, words: &[u32]) -> Result<()> {
        let key = self.key(arena, index)?;
        let (slab, mut offset) = (key.slab, key.offset);
        let element = self.layout.slabs()[slab].element_in(arena);
        fits(
            key,
            "words",
            words.len(),
            element.bytes(key.len()) as usize / 4,
        )?;
        if !element.is_packed() {
            return Err(Error::Internal(format!("words for {element} elements")));
        }
        let (block, length) = element.block();
        for part in words.chunks(PART / block * length) {
            let at = element.bytes(offset);
            match &mut self.arenas {
                Arenas::Gpu(m) => m.write(arena, slab, at, bytemuck::cast_slice(part))?,
                Arenas::F32(m) => m.write_words(arena, slab, offset, part),
                #[cfg(not(target_arch = "wasm32"))]
                Arenas::F64(m) => m.write_words(arena, slab, offset, part),
            }
            offset += part.len() / length * block;
        }
        Ok(())
    }

    /// Overwrites an arena with the elements of each key, in the order of [`Layout::keys`].
    ///
    /// # Errors
    /// As [`Storage::write`].
    pub fn fill<T: Copy + Into<f64>>(&mut self, arena: Arena, values: &[Vec<T>]) -> Result<()> {
        self.write(arena, |index, key| {
            let missing = || Error::Internal(format!("no values for {}", key.key));
            let values = values.get(index).ok_or_else(missing)?;
            Ok(values.iter().map(|&x| x.into()).collect())
        })
    }

    /// Elements of a key in an arena: none of one that is never trained, but for the weights themselves.
    fn len_in(&self, arena: Arena, key: &Key) -> usize {
        match self.layout.slabs()[key.slab].len_in(arena) {
            0 => 0,
            _ => key.len(),
        }
    }

    /// Reads an arena: the elements of each key, in the order of [`Layout::keys`]; of one that is never trained those of
    /// the weights alone.
    ///
    /// # Errors
    /// [`Error::Internal`] if the storage does not have the arena; [`Error::DeviceLost`] and its kin.
    pub async fn read(&self, arena: Arena) -> Result<Vec<Vec<f64>>> {
        self.read_slabs(arena, |_| true).await
    }

    /// As [`Storage::read`], nothing of what is never trained, the weights' arena included.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn read_trained(&self, arena: Arena) -> Result<Vec<Vec<f64>>> {
        self.read_slabs(arena, |slab| !slab.frozen).await
    }

    async fn read_slabs(
        &self,
        arena: Arena,
        wanted: impl Fn(&Slab) -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        self.require(arena)?;
        let mut slabs = Vec::new();
        for (index, slab) in self.layout.slabs().iter().enumerate() {
            slabs.push(match wanted(slab) {
                true => self.get(arena, index).await?,
                false => Vec::new(),
            });
        }
        let part = |k: &Key| match slabs[k.slab].as_slice() {
            [] => Vec::new(),
            slab => slab[k.offset..k.offset + k.len()].to_vec(),
        };
        Ok(self.layout.keys().iter().map(part).collect())
    }

    /// Overwrites a slab with that of another storage over the same layout, from an arena of its own.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn copy_slab(
        &mut self,
        arena: Arena,
        slab: usize,
        from: &Self,
        source: Arena,
    ) -> Result<()> {
        self.require(arena)?;
        from.require(source)?;
        let data = from.get(source, slab).await?;
        self.put(arena, slab, 0, &data)
    }

    /// The elements of a slab, for instance gradients on their way to other devices.
    ///
    /// # Errors
    /// As [`Storage::read`].
    pub async fn read_slab(&self, arena: Arena, slab: usize) -> Result<Vec<f32>> {
        self.require(arena)?;
        let info = self.layout.slabs()[slab];
        match &self.arenas {
            Arenas::Gpu(m) if info.element_in(arena) == Element::F32 && info.len_in(arena) > 0 => {
                let words = m.read(arena, slab, self.bytes(arena, slab)).await?;
                Ok(bytemuck::cast_vec(words))
            }
            _ => {
                let data = self.get(arena, slab).await?;
                Ok(data.into_iter().map(|x| x as f32).collect())
            }
        }
    }

    /// Overwrites a slab.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of elements; as [`Storage::read`].
    pub fn write_slab(&mut self, arena: Arena, slab: usize, data: &[f32]) -> Result<()> {
        self.require(arena)?;
        let len = self.layout.slabs()[slab].len_in(arena);
        if data.len() != len {
            return Err(Error::Shape {
                op: "write_slab",
                tensor: format!("{}[{slab}]", arena.name),
                expected: format!("{len} elements"),
                got: vec![data.len()],
            });
        }
        match &mut self.arenas {
            Arenas::Gpu(m) if self.layout.slabs()[slab].element_in(arena) == Element::F32 => {
                m.write(arena, slab, 0, bytemuck::cast_slice(data))
            }
            _ => {
                let data: Vec<f64> = data.iter().map(|&x| x.into()).collect();
                self.put(arena, slab, 0, &data)
            }
        }
    }

    fn key(&self, arena: Arena, index: usize) -> Result<&Key> {
        self.require(arena)?;
        let missing = || Error::Internal(format!("the layout has no key {index}"));
        self.layout.keys().get(index).ok_or_else(missing)
    }

    fn bytes(&self, arena: Arena, slab: usize) -> u64 {
        self.layout.slabs()[slab].bytes_in(arena)
    }

    async fn get(&self, arena: Arena, slab: usize) -> Result<Vec<f64>> {
        let info = self.layout.slabs()[slab];
        let len = info.len_in(arena);
        if len == 0 {
            return Ok(Vec::new());
        }
        Ok(match &self.arenas {
            Arenas::Gpu(m) => {
                let words = m.read(arena, slab, self.bytes(arena, slab)).await?;
                widen(&words, info.element_in(arena), len)
            }
            Arenas::F32(m) => m.read(arena, slab, len),
            #[cfg(not(target_arch = "wasm32"))]
            Arenas::F64(m) => m.read(arena, slab, len),
        })
    }

    /// Overwrites a slab from the beginning of a block on.
    fn put(&mut self, arena: Arena, slab: usize, offset: usize, data: &[f64]) -> Result<()> {
        let element = self.layout.slabs()[slab].element_in(arena);
        match &mut self.arenas {
            Arenas::Gpu(m) => {
                let mut words = Vec::new();
                narrow(data, element, &mut words);
                m.write(
                    arena,
                    slab,
                    element.bytes(offset),
                    bytemuck::cast_slice(&words),
                )?;
            }
            Arenas::F32(m) => m.write(arena, slab, offset, data),
            #[cfg(not(target_arch = "wasm32"))]
            Arenas::F64(m) => m.write(arena, slab, offset, data),
        }
        Ok(())
    }
}

/// An error unless a key is given what it takes.
fn fits(key: &Key, unit: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape {
        op: "write",
        tensor: key.key.clone(),
        expected: format!("{expected} {unit}"),
        got: vec![got],
    })
}

/// The elements in a device's words.
pub(super) fn widen(words: &[u32], element: Element, len: usize) -> Vec<f64> {
    match element {
        Element::U32 => words.iter().map(|&w| w.into()).collect(),
        _ => (0..len).map(|i| element.decode(words, i).into()).collect(),
    }
}

/// The words that a device keeps elements in, into `out`.
pub(super) fn narrow(data: &[f64], element: Element, out: &mut Vec<u32>) {
    out.clear();
    element.encode(data, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::PARAMS;

    /// A layout of two tensors of one element type.
    fn layout(element: Element) -> Arc<Layout> {
        let mut builder = Layout::builder(usize::MAX / 8);
        for name in ["a", "b"] {
            let part = (name.to_owned(), vec![130]);
            let made = builder.stacked(name, &[130], element, &[part]);
            made.unwrap();
        }
        Arc::new(builder.finish(|_| 0))
    }

    #[test]
    fn parts_are_the_whole() {
        let values: Vec<f32> = (0..130).map(|i| (i as f32 * 0.7).sin()).collect();
        for (element, name) in Element::WEIGHTS {
            let made =
                || pollster::block_on(Storage::new(&Device::cpu(), &layout(element), &[PARAMS]));
            let (mut whole, mut parts) = (made().unwrap(), made().unwrap());
            whole.set(PARAMS, 1, &values).unwrap();
            for first in [64, 0, 128] {
                let end = (first + 64).min(130);
                parts
                    .set_part(PARAMS, 1, first, &values[first..end])
                    .unwrap();
            }
            let read = |storage: &Storage| pollster::block_on(storage.read(PARAMS)).unwrap();
            assert_eq!(read(&whole), read(&parts), "{name}");
            let refused = |storage: &mut Storage, first: usize, count: usize| {
                let error = storage.set_part(PARAMS, 1, first, &values[..count]);
                assert_eq!(error.unwrap_err().code(), "shape");
            };
            refused(&mut parts, 128, 3);
            refused(&mut parts, 160, 1);
            if element.block().0 > 1 {
                refused(&mut parts, 65, 1);
            }
        }
    }
}
