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
    Packed(Packed<'a>),
}

/// Packed numbers at rest: a buffer's words, and where the operand begins in them.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    pub(super) element: Element,
    pub(super) words: &'a [u32],
    pub(super) first: usize,
}

pub(super) enum Out<'a, F> {
    Number(&'a mut [F]),
    Uint(&'a mut [u32]),
    Taken,
}

/// Numbers that may be packed.
#[derive(Clone, Copy)]
pub enum Weights<'a, F> {
    /// In the executor's own type.
    Number(&'a [F]),
    /// To be unpacked, see [`Weights::part`].
    Packed(Packed<'a>),
}

impl<'a, F: Float> Weights<'a, F> {
    /// The `len` elements from `first` on, unpacked into `space` if need be.
    #[inline(always)]
    pub fn part<'b>(&self, first: usize, len: usize, space: &'b mut [F]) -> &'b [F]
    where
        'a: 'b,
    {
        match *self {
            Self::Number(x) => &x[first..first + len],
            Self::Packed(packed) => {
                let space = &mut space[..len];
                packed.unpack(first, space);
                space
            }
        }
    }

    /// Copies the elements from `first` on.
    pub fn copy(&self, first: usize, out: &mut [F]) {
        match *self {
            Self::Number(x) => out.copy_from_slice(&x[first..first + out.len()]),
            Self::Packed(packed) => packed.unpack(first, out),
        }
    }

    /// Whether they need unpacking.
    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }
}

impl Packed<'_> {
    /// The elements from `first` on.
    #[inline(always)]
    fn unpack<F: Float>(&self, first: usize, out: &mut [F]) {
        let (words, first, element) = (self.words, self.first + first, self.element);
        let each = |first: usize, out: &mut [F]| {
            for (i, to) in out.iter_mut().enumerate() {
                *to = F::of(element.decode(words, first + i).into());
            }
        };
        // whole blocks by themselves, since that is many times as fast
        let (size, length) = element.block();
        let before = (first.next_multiple_of(size) - first).min(out.len());
        let (head, rest) = out.split_at_mut(before);
        each(first, head);
        let begin = (first + before) / size * length;
        let mut blocks = rest.chunks_exact_mut(size);
        let whole = blocks.len();
        match element {
            Element::Q8 | Element::Q4 => {
                let mut block = [0.0; 32];
                for (words, out) in words[begin..].chunks_exact(length).zip(&mut blocks) {
                    element.decode_block(words, &mut block);
                    for (to, &x) in out.iter_mut().zip(&block) {
                        *to = F::of(x.into());
                    }
                }
            }
            _ => {
                for (&word, out) in words[begin..].iter().zip(&mut blocks) {
                    out[0] = F::of(element.decode(&[word], 0).into());
                    out[1] = F::of(element.decode(&[word], 1).into());
                }
            }
        }
        each(first + before + whole * size, blocks.into_remainder());
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

    /// Operand `i` read as numbers that may be packed.
    pub fn weights(&self, i: usize) -> Weights<'a, F> {
        match self.reads[i] {
            View::Number(x) => Weights::Number(x),
            View::Packed(packed) => Weights::Packed(packed),
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
