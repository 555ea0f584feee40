//! Runs a program of twins over plain vectors.

use std::mem::take;

use arrayvec::ArrayVec;

use super::Float;
use crate::device::program::{Arena, BufferId, BufferSpec, Dtype, Extent, Slot, Step};
use crate::error::{Error, ON_CPU, Result};

/// Most operands a node may read or write.
const MAX_READS: usize = 64;
const MAX_WRITES: usize = 8;

/// The CPU side of an operation.
pub trait Twin: Send + Sync {
    /// Runs in f32.
    fn run_f32(&self, io: &mut Io<'_, f32>);
    /// Runs in f64.
    fn run_f64(&self, io: &mut Io<'_, f64>);
}

/// One call of a twin.
pub struct Call {
    /// The operation.
    pub twin: std::sync::Arc<dyn Twin>,
    /// Operands it reads.
    pub reads: Vec<Slot>,
    /// Operands it writes or updates.
    pub writes: Vec<Slot>,
    /// Its row count in a step.
    pub extent: Extent,
}

/// What the CPU executor runs.
pub struct Program {
    /// Buffers of the program's own.
    pub buffers: Vec<BufferSpec>,
    /// Calls in order.
    pub calls: Vec<Call>,
    /// Calls before this index belong to every run, later ones to updating runs only.
    pub update_start: usize,
}

enum Buffer<F> {
    Float(Vec<F>),
    Uint(Vec<u32>),
}

/// Parameter arenas in main memory: `[arena][slab]`.
#[derive(Debug, Default)]
pub struct Memory<F> {
    arenas: [Vec<Vec<F>>; 5],
}

impl<F: Float> Memory<F> {
    /// Allocates `slabs` (elements each), zeroed, for each of `arenas`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] that names the arena.
    pub fn new(slabs: &[usize], arenas: &[Arena]) -> Result<Self> {
        let mut memory = Self::default();
        for &arena in arenas {
            let name = format!("arena {arena:?}");
            let made: Result<_> = slabs.iter().map(|&n| zeroed(&name, n)).collect();
            memory.arenas[arena as usize] = made?;
        }
        Ok(memory)
    }

    /// Overwrites a slab.
    pub fn write(&mut self, arena: Arena, slab: usize, data: &[f64]) {
        for (to, &from) in self.arenas[arena as usize][slab].iter_mut().zip(data) {
            *to = F::of(from);
        }
    }

    /// Copies a slab.
    pub fn read(&self, arena: Arena, slab: usize) -> Vec<f64> {
        self.arenas[arena as usize][slab]
            .iter()
            .map(|x| x.f64())
            .collect()
    }
}

/// A program with its buffers.
pub struct Cpu<F> {
    calls: Vec<Call>,
    update_start: usize,
    buffers: Vec<Buffer<F>>,
    scratch: Vec<F>,
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

/// Bytes that the system can still give, where it says so.
fn available() -> Option<u64> {
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

type Held<F> = ArrayVec<(BufferId, Buffer<F>), MAX_WRITES>;

/// Operands of a twin's call.
pub struct Io<'a, F> {
    reads: ArrayVec<View<'a, F>, MAX_READS>,
    writes: ArrayVec<Out<'a, F>, MAX_WRITES>,
    /// Values of this step.
    pub step: &'a Step,
    /// The call's row count.
    pub rows: usize,
    scratch: Option<&'a mut Vec<F>>,
}

#[derive(Clone, Copy)]
enum View<'a, F> {
    Float(&'a [F]),
    Uint(&'a [u32]),
}

enum Out<'a, F> {
    Float(&'a mut [F]),
    Uint(&'a mut [u32]),
    Taken,
}

impl<'a, F> Io<'a, F> {
    /// Number of operands read.
    pub fn read_count(&self) -> usize {
        self.reads.len()
    }

    /// Operand `i` read as numbers.
    pub fn read(&self, i: usize) -> &'a [F] {
        match self.reads[i] {
            View::Float(x) => x,
            View::Uint(_) => unreachable!("operand types are checked when the graph is built"),
        }
    }

    /// Operand `i` read as integers.
    pub fn read_uint(&self, i: usize) -> &'a [u32] {
        match self.reads[i] {
            View::Uint(x) => x,
            View::Float(_) => unreachable!("operand types are checked when the graph is built"),
        }
    }

    /// Takes output `i`; each can be taken once.
    pub fn write(&mut self, i: usize) -> &'a mut [F] {
        match std::mem::replace(&mut self.writes[i], Out::Taken) {
            Out::Float(x) => x,
            _ => unreachable!("operand types are checked when the graph is built"),
        }
    }

    /// Takes the work area, grown to `len` elements of any value; it keeps its memory from call to
    /// call, so a step allocates nothing once every size has been seen.
    pub fn scratch(&mut self, len: usize) -> &'a mut [F]
    where
        F: Float,
    {
        match self.scratch.take() {
            Some(scratch) => {
                if scratch.len() < len {
                    scratch.resize(len, F::ZERO);
                }
                &mut scratch[..len]
            }
            None => unreachable!("a twin takes the work area once"),
        }
    }

    /// Takes output `i` as integers.
    pub fn write_uint(&mut self, i: usize) -> &'a mut [u32] {
        match std::mem::replace(&mut self.writes[i], Out::Taken) {
            Out::Uint(x) => x,
            _ => unreachable!("operand types are checked when the graph is built"),
        }
    }
}

impl<F: Float> Cpu<F> {
    /// Allocates the program's buffers. `weights` stands in for [`Arena::Params`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] that names the tensor.
    pub fn new(program: Program, weights: Arena) -> Result<Self> {
        let made: Result<_> = program.buffers.iter().map(Buffer::new).collect();
        let buffers = made?;
        let Program {
            mut calls,
            update_start,
            ..
        } = program;
        for slot in calls
            .iter_mut()
            .flat_map(|c| c.reads.iter_mut().chain(&mut c.writes))
        {
            if let BufferId::Arena(arena @ Arena::Params, _) = &mut slot.buffer {
                *arena = weights;
            }
        }
        Ok(Self {
            calls,
            update_start,
            buffers,
            scratch: Vec::new(),
        })
    }

    /// Runs the calls, those of the update only if `update`.
    pub fn run(
        &mut self,
        memory: &mut Memory<F>,
        step: &Step,
        update: bool,
        run: fn(&dyn Twin, &mut Io<'_, F>),
    ) {
        let Self {
            calls,
            update_start,
            buffers,
            scratch,
        } = self;
        let end = if update { calls.len() } else { *update_start };
        for call in &calls[..end] {
            let rows = call.extent.get(step);
            if rows == 0 && !matches!(call.extent, Extent::Rows { base: 0, .. }) {
                continue;
            }
            // Outputs are moved out of the pool while inputs are borrowed from it: the plan never
            // puts an input and an output of one call in one buffer.
            let mut held: Held<F> = ArrayVec::new();
            for slot in &call.writes {
                if held.iter().all(|(id, _)| *id != slot.buffer) {
                    held.push((slot.buffer, take_buffer(buffers, memory, slot.buffer)));
                }
            }
            let view = |slot: &Slot| match slot.buffer {
                BufferId::Local(i) => buffers[i].view(slot),
                BufferId::Arena(arena, slab) => {
                    View::Float(&memory.arenas[arena as usize][slab][slot.range()])
                }
            };
            run(
                &*call.twin,
                &mut Io {
                    reads: call.reads.iter().map(view).collect(),
                    writes: outputs(&mut held, &call.writes),
                    step,
                    rows,
                    scratch: Some(scratch),
                },
            );
            for (id, buffer) in held {
                match (id, buffer) {
                    (BufferId::Local(i), buffer) => buffers[i] = buffer,
                    (BufferId::Arena(arena, slab), Buffer::Float(data)) => {
                        memory.arenas[arena as usize][slab] = data
                    }
                    (BufferId::Arena(..), Buffer::Uint(_)) => unreachable!("arenas hold numbers"),
                }
            }
        }
    }

    /// Overwrites a slot of numbers.
    pub fn write(&mut self, slot: &Slot, data: &[f64]) {
        if let (BufferId::Local(i), true) = (slot.buffer, data.len() <= slot.len)
            && let Buffer::Float(buffer) = &mut self.buffers[i]
        {
            for (to, &from) in buffer[slot.offset..].iter_mut().zip(data) {
                *to = F::of(from);
            }
        }
    }

    /// Overwrites a slot of integers.
    pub fn write_uint(&mut self, slot: &Slot, data: &[u32]) {
        if let BufferId::Local(i) = slot.buffer
            && let Buffer::Uint(buffer) = &mut self.buffers[i]
        {
            buffer[slot.offset..slot.offset + data.len()].copy_from_slice(data);
        }
    }

    /// Appends the first `len` elements of a slot to `out`, integers widened.
    pub fn read(&self, memory: &Memory<F>, slot: &Slot, len: usize, out: &mut Vec<f64>) {
        let range = slot.offset..slot.offset + len.min(slot.len);
        match slot.buffer {
            BufferId::Arena(arena, slab) => {
                out.extend(
                    memory.arenas[arena as usize][slab][range]
                        .iter()
                        .map(|x| x.f64()),
                );
            }
            BufferId::Local(i) => match &self.buffers[i] {
                Buffer::Float(x) => out.extend(x[range].iter().map(|x| x.f64())),
                Buffer::Uint(x) => out.extend(x[range].iter().map(|&x| f64::from(x))),
            },
        }
    }
}

fn take_buffer<F>(buffers: &mut [Buffer<F>], memory: &mut Memory<F>, id: BufferId) -> Buffer<F> {
    match id {
        BufferId::Arena(arena, slab) => {
            Buffer::Float(take(&mut memory.arenas[arena as usize][slab]))
        }
        BufferId::Local(i) => match &mut buffers[i] {
            Buffer::Float(x) => Buffer::Float(take(x)),
            Buffer::Uint(x) => Buffer::Uint(take(x)),
        },
    }
}

impl<F: Float> Buffer<F> {
    fn new(spec: &BufferSpec) -> Result<Self> {
        Ok(match (spec.dtype, &spec.constant) {
            (Dtype::Uint, _) => Self::Uint(zeroed(&spec.name, spec.len)?),
            (Dtype::Float, None) => Self::Float(zeroed(&spec.name, spec.len)?),
            (Dtype::Float, Some(data)) => Self::Float(data.iter().map(|&x| F::of(x)).collect()),
        })
    }

    fn view(&self, slot: &Slot) -> View<'_, F> {
        let range = slot.range();
        match self {
            Self::Float(x) => View::Float(&x[range]),
            Self::Uint(x) => View::Uint(&x[range]),
        }
    }
}

/// Disjoint mutable views of the held buffers, in the order of `slots`.
fn outputs<'a, F>(held: &'a mut Held<F>, slots: &[Slot]) -> ArrayVec<Out<'a, F>, MAX_WRITES> {
    let mut outs: ArrayVec<Out<'a, F>, MAX_WRITES> = slots.iter().map(|_| Out::Taken).collect();
    for (id, buffer) in held {
        let mut order: ArrayVec<usize, MAX_WRITES> = (0..slots.len())
            .filter(|&i| slots[i].buffer == *id)
            .collect();
        order.sort_unstable_by_key(|&i| slots[i].offset);
        match buffer {
            Buffer::Float(data) => split(data, &order, slots, |i, x| outs[i] = Out::Float(x)),
            Buffer::Uint(data) => split(data, &order, slots, |i, x| outs[i] = Out::Uint(x)),
        }
    }
    outs
}

fn split<'a, T>(
    data: &'a mut [T],
    order: &[usize],
    slots: &[Slot],
    mut give: impl FnMut(usize, &'a mut [T]),
) {
    let (mut rest, mut start) = (data, 0);
    for &i in order {
        let (_, tail) = rest.split_at_mut(slots[i].offset - start);
        let (piece, tail) = tail.split_at_mut(slots[i].len);
        (rest, start) = (tail, slots[i].offset + slots[i].len);
        give(i, piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_an_error() {
        let error = Memory::<f32>::new(&[1 << 60], &[Arena::Ema]).unwrap_err();
        assert_eq!(error.code(), "out_of_memory");
        assert!(error.to_string().contains("arena Ema"), "{error}");
    }
}
