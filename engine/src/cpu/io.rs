//! What a twin sees of its call.

use arrayvec::ArrayVec;

use super::Float;
use crate::program::{Element, Step};

/// Most operands a node may read or write.
pub(super) const MAX_READS: usize = 64;
pub(super) const MAX_WRITES: usize = 8;

/// Operands of a twin's call.
pub struct Io<'a, F> {
    pub(super) reads: ArrayVec<View<'a, F>, MAX_READS>,
    pub(super) writes: ArrayVec<Out<'a, F>, MAX_WRITES>,
    /// The scalars of the step that runs, see [`Step::get`].
    pub step: &'a Step,
    /// Rows to compute in this step; operands may have room for more.
    pub rows: usize,
    pub(super) scratch: Option<&'a mut Vec<F>>,
}

#[derive(Clone, Copy)]
pub(super) enum View<'a, F> {
    Number(&'a [F]),
    Uint(&'a [u32]),
    Half(Element, &'a [u16]),
}

pub(super) enum Out<'a, F> {
    Number(&'a mut [F]),
    Uint(&'a mut [u32]),
    Taken,
}

/// Numbers that may be at rest in 16 bits.
#[derive(Clone, Copy)]
pub enum Weights<'a, F> {
    /// In the executor's own type.
    Number(&'a [F]),
    /// 16 bits an element, F16 or Bf16, see [`Weights::part`].
    Half(Element, &'a [u16]),
}

impl<'a, F: Float> Weights<'a, F> {
    /// The `len` elements from `first` on, unpacked into `space` if need be.
    pub fn part<'b>(&self, first: usize, len: usize, space: &'b mut [F]) -> &'b [F]
    where
        'a: 'b,
    {
        match *self {
            Self::Number(x) => &x[first..first + len],
            Self::Half(element, x) => {
                let space = &mut space[..len];
                for (to, &from) in space.iter_mut().zip(&x[first..first + len]) {
                    *to = F::of(element.unpack(from).into());
                }
                space
            }
        }
    }

    /// Copies the elements from `first` on.
    pub fn copy(&self, first: usize, out: &mut [F]) {
        match *self {
            Self::Number(x) => out.copy_from_slice(&x[first..first + out.len()]),
            Self::Half(..) => {
                self.part(first, out.len(), out);
            }
        }
    }

    /// Whether they need unpacking.
    pub fn is_half(&self) -> bool {
        matches!(self, Self::Half(..))
    }
}

impl<'a, F> Io<'a, F> {
    /// Number of operands read.
    pub fn read_count(&self) -> usize {
        self.reads.len()
    }

    /// Operand `i` read as numbers.
    pub fn read(&self, i: usize) -> &'a [F] {
        match self.reads[i] {
            View::Number(x) => x,
            _ => unreachable!("operand types are checked when the graph is built"),
        }
    }

    /// Operand `i` read as numbers that may be at rest in 16 bits.
    pub fn weights(&self, i: usize) -> Weights<'a, F> {
        match self.reads[i] {
            View::Number(x) => Weights::Number(x),
            View::Half(element, x) => Weights::Half(element, x),
            View::Uint(_) => unreachable!("operand types are checked when the graph is built"),
        }
    }

    /// Operand `i` read as integers.
    pub fn read_uint(&self, i: usize) -> &'a [u32] {
        match self.reads[i] {
            View::Uint(x) => x,
            _ => unreachable!("operand types are checked when the graph is built"),
        }
    }

    /// Takes output `i`; each can be taken once.
    pub fn write(&mut self, i: usize) -> &'a mut [F] {
        match std::mem::replace(&mut self.writes[i], Out::Taken) {
            Out::Number(x) => x,
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
