//! Runs a program of twins over plain vectors.

use std::mem::take;
use std::ops::Range;

use arrayvec::ArrayVec;

use super::io::{MAX_WRITES, Out, View};
use super::memory::Buffer;
use super::{Float, Io, Memory, for_rows};
use crate::error::Result;
use crate::program::{BufferId, BufferSpec, Element, Extent, Phase, Slot, Step, selected};

/// The CPU side of an operation: the same loop in both number types.
pub trait Twin: Send + Sync {
    /// Computes the outputs from the inputs, for [`Io::rows`] rows, in f32.
    fn run_f32(&self, io: &mut Io<'_, f32>);
    /// As [`Twin::run_f32`], in f64.
    #[cfg(not(target_arch = "wasm32"))]
    fn run_f64(&self, io: &mut Io<'_, f64>);
}

/// One call of a twin.
pub struct Call {
    /// What computes it, shared with the node of the graph.
    pub twin: std::sync::Arc<dyn Twin>,
    /// Operands that it reads, in the order of [`Io::read`].
    pub reads: Vec<Slot>,
    /// Operands that it writes or updates, in the order of [`Io::write`].
    pub writes: Vec<Slot>,
    /// Its row count in a step. At 0 the call is skipped, unless it takes the first of the counted
    /// rows.
    pub extent: Extent,
}

/// What the CPU executor runs; `Plan::lower_cpu` makes it.
pub struct Program {
    /// Buffers besides the arenas; a [`BufferId::Local`] is an index into them.
    pub buffers: Vec<BufferSpec>,
    /// Calls, in the order of the graph's nodes.
    pub calls: Vec<Call>,
    /// The calls of each phase, in order.
    pub phases: Vec<(Phase, Range<usize>)>,
}

/// A program with its buffers.
pub struct Cpu<F> {
    calls: Vec<Call>,
    phases: Vec<(Phase, Range<usize>)>,
    buffers: Vec<Buffer<F>>,
    scratch: Vec<F>,
}

type Held<F> = ArrayVec<(BufferId, Buffer<F>), MAX_WRITES>;

impl<F: Float> Cpu<F> {
    /// Allocates the program's buffers.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] that names the tensor.
    pub fn new(program: Program) -> Result<Self> {
        let buffers: Result<_> = program.buffers.iter().map(Buffer::new).collect();
        Ok(Self {
            calls: program.calls,
            phases: program.phases,
            buffers: buffers?,
            scratch: Vec::new(),
        })
    }

    /// Runs the calls of some phases, in the program's order; `run` picks the twin's method for
    /// `F`.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] for a phase that the program does not have.
    pub fn run(
        &mut self,
        memory: &mut Memory<F>,
        step: &Step,
        phases: &[Phase],
        run: fn(&dyn Twin, &mut Io<'_, F>),
    ) -> Result<()> {
        // on a thread of the pool, where the loops of the twins begin without waking one
        rayon::scope(|_| self.run_here(memory, step, phases, run))
    }

    fn run_here(
        &mut self,
        memory: &mut Memory<F>,
        step: &Step,
        phases: &[Phase],
        run: fn(&dyn Twin, &mut Io<'_, F>),
    ) -> Result<()> {
        let Self {
            calls,
            buffers,
            scratch,
            phases: all,
        } = self;
        for call in selected(all, phases)?.into_iter().flat_map(|r| &calls[r]) {
            let rows = call.extent.get(step);
            // a count of none leaves nothing to do but for the first of its nodes, which may have a sum to write
            if rows == 0 && !matches!(call.extent, Extent::Counted { base: 0, .. }) {
                continue;
            }
            // Outputs are moved out of the pool while inputs are borrowed from it: the plan never
            // puts an input and an output of one call in one buffer.
            let mut held: Held<F> = ArrayVec::new();
            for slot in &call.writes {
                if held.iter().all(|(id, _)| *id != slot.buffer) {
                    let buffer = find_mut(buffers, memory, slot.buffer);
                    held.push((slot.buffer, buffer.take()));
                }
            }
            let view = |slot: &Slot| -> View<'_, F> {
                match slot.buffer {
                    BufferId::Local(i) => buffers[i].view(slot),
                    BufferId::Arena(arena, slab) => memory.slab(arena, slab).view(slot),
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
            for slot in call
                .writes
                .iter()
                .filter(|slot| slot.element == Element::F16)
            {
                if let Some((_, Buffer::Number(data))) =
                    held.iter_mut().find(|(id, _)| *id == slot.buffer)
                {
                    for_rows(&mut data[slot.range()], 1, |_, part| F::round_to_f16(part));
                }
            }
            for (id, buffer) in held {
                *find_mut(buffers, memory, id) = buffer;
            }
        }
        Ok(())
    }

    /// Overwrites the first elements of a slot of numbers.
    pub fn write(&mut self, slot: &Slot, data: &[f64]) {
        if let BufferId::Local(i) = slot.buffer {
            self.buffers[i].write(slot.offset, data);
        }
    }

    /// Overwrites the first elements of a slot of integers.
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
            BufferId::Arena(arena, slab) => memory.slab(arena, slab).read(range, out),
            BufferId::Local(i) => self.buffers[i].read(range, out),
        }
    }
}

fn find_mut<'a, F: Float>(
    buffers: &'a mut [Buffer<F>],
    memory: &'a mut Memory<F>,
    id: BufferId,
) -> &'a mut Buffer<F> {
    match id {
        BufferId::Arena(arena, slab) => memory.slab_mut(arena, slab),
        BufferId::Local(i) => &mut buffers[i],
    }
}

impl<F> Buffer<F> {
    /// Moves the elements out.
    fn take(&mut self) -> Self {
        match self {
            Self::Number(x) => Self::Number(take(x)),
            Self::Uint(x) => Self::Uint(take(x)),
            Self::Packed(element, x) => Self::Packed(*element, take(x)),
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
            Buffer::Number(data) => split(data, &order, slots, |i, x| outs[i] = Out::Number(x)),
            Buffer::Uint(data) => split(data, &order, slots, |i, x| outs[i] = Out::Uint(x)),
            Buffer::Packed(..) => {
                unreachable!("no node writes numbers at rest: checked by the plan")
            }
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
