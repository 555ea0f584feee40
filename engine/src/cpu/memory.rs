//! Buffers and parameter arenas in main memory.

use super::Float;
use super::io::{Packed, View};
use crate::error::{Error, ON_CPU, Result};
use crate::program::{Arena, BufferSpec, Element, Elements, Slab, Slot};

/// A buffer: numbers in the executor's own type, indices, or packed numbers at rest.
pub(super) enum Buffer<F> {
    Number(Vec<F>),
    Uint(Vec<u32>),
    Packed(Element, Vec<u32>),
}

impl<F: Float> Buffer<F> {
    /// A buffer of a program. What a program computes is kept as numbers, rounded to their element, so room is counted in
    /// them.
    pub(super) fn new(spec: &BufferSpec) -> Result<Self> {
        let constant = spec.constant.as_ref();
        Ok(match (spec.element, constant) {
            (Element::U32, None) => Self::Uint(zeroed(&spec.name, spec.longest)?),
            (Element::U32, Some(data)) => Self::Uint(data.iter().map(|&x| x as u32).collect()),
            (_, None) => Self::Number(zeroed(&spec.name, spec.longest)?),
            (_, Some(data)) => Self::Number(data.iter().map(|&x| F::of(x)).collect()),
        })
    }

    fn at_rest(name: &str, element: Element, len: usize) -> Result<Self> {
        Ok(match element {
            element if element.is_packed() => {
                let words = element.bytes(len) as usize / 4;
                Self::Packed(element, zeroed(name, words)?)
            }
            Element::U32 => Self::Uint(zeroed(name, len)?),
            _ => Self::Number(zeroed(name, len)?),
        })
    }

    pub(super) fn view(&self, slot: &Slot) -> View<'_, F> {
        let range = slot.range();
        match self {
            Self::Number(x) => View::Number(&x[range]),
            Self::Uint(x) => View::Uint(&x[range]),
            Self::Packed(element, words) => View::Packed(Packed {
                element: *element,
                words,
                first: slot.offset,
            }),
        }
    }

    pub(super) fn write(&mut self, offset: usize, data: &[f64]) {
        match self {
            Self::Number(x) => set(&mut x[offset..], data, F::of),
            Self::Uint(x) => set(&mut x[offset..], data, |x| x as u32),
            Self::Packed(element, words) => {
                let mut packed = Vec::new();
                element.encode(data, &mut packed);
                let first = element.bytes(offset) as usize / 4;
                words[first..first + packed.len()].copy_from_slice(&packed);
            }
        }
    }

    /// Overwrites packed numbers from the beginning of a block on; nothing in a buffer that has none.
    fn write_words(&mut self, offset: usize, data: &[u32]) {
        if let Self::Packed(element, words) = self {
            let first = element.bytes(offset) as usize / 4;
            words[first..first + data.len()].copy_from_slice(data);
        }
    }

    /// Appends elements to `out`.
    pub(super) fn read(&self, range: std::ops::Range<usize>, out: &mut Vec<f64>) {
        match self {
            Self::Number(x) => out.extend(x[range].iter().map(|x| x.f64())),
            Self::Uint(x) => out.extend(x[range].iter().map(|&x| f64::from(x))),
            Self::Packed(element, words) => {
                out.extend(range.map(|i| f64::from(element.decode(words, i))))
            }
        }
    }
}

fn set<T>(to: &mut [T], from: &[f64], f: impl Fn(f64) -> T) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f(from);
    }
}

/// Parameter arenas in main memory.
#[derive(Default)]
pub struct Memory<F> {
    arenas: Vec<(Arena, Vec<Buffer<F>>)>,
}

impl<F: Float> Memory<F> {
    /// Allocates `slabs`, zeroed, for each of `arenas`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] that names the arena.
    pub fn new(slabs: &[Slab], arenas: &[Arena]) -> Result<Self> {
        let make = |&arena: &Arena| {
            let name = format!("arena {}", arena.name);
            // nodes write an optimiser's state, and they write numbers
            let element = |s: &Slab| match arena.elements {
                Elements::State => Element::F32,
                _ => s.element_in(arena),
            };
            let slab = |s: &Slab| Buffer::at_rest(&name, element(s), s.len_in(arena));
            Ok((arena, slabs.iter().map(slab).collect::<Result<_>>()?))
        };
        let arenas = arenas.iter().map(make).collect::<Result<_>>()?;
        Ok(Self { arenas })
    }

    /// A slab. That the arena is there is checked when a session is made.
    pub(super) fn slab(&self, arena: Arena, slab: usize) -> &Buffer<F> {
        match self.arenas.iter().find(|(a, _)| *a == arena) {
            Some((_, slabs)) => &slabs[slab],
            None => unreachable!("arenas are checked when a session is made"),
        }
    }

    pub(super) fn slab_mut(&mut self, arena: Arena, slab: usize) -> &mut Buffer<F> {
        match self.arenas.iter_mut().find(|(a, _)| *a == arena) {
            Some((_, slabs)) => &mut slabs[slab],
            None => unreachable!("arenas are checked when a session is made"),
        }
    }

    /// Overwrites a slab from the beginning of a block on; packed elements are rounded to the nearest.
    pub fn write(&mut self, arena: Arena, slab: usize, offset: usize, data: &[f64]) {
        self.slab_mut(arena, slab).write(offset, data);
    }

    /// Overwrites a slab of packed elements from the beginning of a block on.
    pub fn write_words(&mut self, arena: Arena, slab: usize, offset: usize, words: &[u32]) {
        self.slab_mut(arena, slab).write_words(offset, words);
    }

    /// The first `len` elements of a slab, widened to f64.
    pub fn read(&self, arena: Arena, slab: usize, len: usize) -> Vec<f64> {
        let mut out = Vec::with_capacity(len);
        self.slab(arena, slab).read(0..len, &mut out);
        out
    }
}

/// Zeros, or an error where the system has no memory for them.
fn zeroed<T: Clone + Default>(what: &str, len: usize) -> Result<Vec<T>> {
    let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
    let none = || Error::OutOfMemory {
        what: format!("{what} {ON_CPU}"),
        bytes,
    };
    // a system may promise memory that it does not have, and end the program when it is used
    if bytes > 1 << 20 && available().is_some_and(|available| bytes > available) {
        return Err(none());
    }
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|_| none())?;
    data.resize(len, T::default());
    Ok(data)
}

/// Bytes of memory that the system can still give, where it says so.
pub fn available() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let number = |text: &str| text.split_whitespace().next()?.parse::<u64>().ok();
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free = |key| {
        memory
            .lines()
            .find_map(|line| number(line.strip_prefix(key)?))
    };
    let free = 1024 * (free("MemAvailable:")? + free("SwapFree:").unwrap_or(0));
    // what a container may use
    let group = |file| number(&std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?);
    let left = group("memory.max").zip(group("memory.current"));
    Some(left.map_or(free, |(most, used)| free.min(most.saturating_sub(used))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_an_error() {
        let slab = Slab {
            len: 1 << 60,
            element: Element::F32,
            frozen: false,
            state: Element::F32,
            owned: true,
        };
        let error = Memory::<f32>::new(&[slab], &[Arena::f32("ema")])
            .err()
            .unwrap();
        assert_eq!(error.code(), "out_of_memory");
        assert!(error.to_string().contains("arena ema"), "{error}");
    }
}
