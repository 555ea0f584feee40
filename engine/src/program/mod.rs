//! What an executor runs: buffers, places in them, and the values that change from run to run. Plain
//! data, shared by both executors and free of any operation's meaning.

mod element;
mod params;
mod scalars;

use std::ops::Range;

use crate::error::{Error, Result};

pub use element::Element;
pub use params::Words;
pub use scalars::{Declared, Kind, Scalar, Scalars, Step, Value};

/// One of the parallel arenas that parameters lie in; all have the same layout. Whoever needs one declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arena {
    /// Name, as in labels and errors.
    pub name: &'static str,
    /// Type of its elements.
    pub elements: Elements,
    /// Whether a rank keeps only the slabs that it owns.
    pub shared: bool,
}

/// Where the type of an arena's elements is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elements {
    /// What the layout says of each parameter.
    Layout,
    /// f32, whatever the parameters are.
    F32,
    /// What the layout says of an optimiser's state.
    State,
}

impl Arena {
    /// An arena whose elements are those of the layout.
    pub const fn of_layout(name: &'static str) -> Self {
        Self::new(name, Elements::Layout)
    }

    /// An arena of f32, whatever the parameters are.
    pub const fn f32(name: &'static str) -> Self {
        Self::new(name, Elements::F32)
    }

    /// An arena of an optimiser's state, see [`Slab::state`].
    pub const fn state(name: &'static str) -> Self {
        Self::new(name, Elements::State)
    }

    const fn new(name: &'static str, elements: Elements) -> Self {
        Self {
            name,
            elements,
            shared: false,
        }
    }

    /// The same arena, of which a rank keeps only the slabs that it owns.
    pub const fn shared(self) -> Self {
        let shared = true;
        Self { shared, ..self }
    }
}

/// A buffer of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferId {
    /// A slab of an arena; owned by the storage.
    Arena(Arena, usize),
    /// By its index among the program's own buffers.
    Local(usize),
}

/// A range of elements in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// A slab of an arena, or one of the program's own buffers.
    pub buffer: BufferId,
    /// First element, counted from the buffer's beginning.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
    /// Type of the elements.
    pub element: Element,
}

impl Slot {
    /// The elements, as a range in the buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        self.element.bytes(self.len)
    }

    /// Bytes in front of it.
    pub fn first_byte(&self) -> u64 {
        let (block, words) = self.element.block();
        4 * (self.offset / block * words) as u64
    }
}

/// What a device has room for, in elements of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of one binding: what a kernel sees at once.
    pub binding: usize,
    /// Of one buffer.
    pub buffer: usize,
}

impl From<usize> for Room {
    /// Buffers that can be bound whole.
    fn from(elements: usize) -> Self {
        Self {
            binding: elements,
            buffer: elements,
        }
    }
}

/// A slab of an arena: one buffer on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slab {
    /// Number of elements, gaps between tensors included.
    pub len: usize,
    /// Type of the elements in arenas that follow the layout.
    pub element: Element,
    /// Whether its tensors are never trained: arenas beside the weights' have no room for them.
    pub frozen: bool,
    /// Type of the elements of an optimiser's state: f32, or bf16 where room counts. The twin keeps it as numbers.
    pub state: Element,
    /// Whether this rank updates it: arenas that are shared among ranks have room for no other.
    pub owned: bool,
}

impl Slab {
    /// Elements that it has in an arena.
    pub fn len_in(&self, arena: Arena) -> usize {
        match arena.elements {
            Elements::F32 | Elements::State if self.frozen => 0,
            _ if arena.shared && !self.owned => 0,
            _ => self.len,
        }
    }

    /// Type of its elements in an arena.
    pub fn element_in(&self, arena: Arena) -> Element {
        match arena.elements {
            Elements::Layout => self.element,
            Elements::F32 => Element::F32,
            Elements::State => self.state,
        }
    }

    /// Bytes that it takes in an arena.
    pub fn bytes_in(&self, arena: Arena) -> u64 {
        self.element_in(arena).bytes(self.len_in(arena))
    }
}

/// A buffer of the program's own.
#[derive(Clone, Debug)]
pub struct BufferSpec {
    /// Name of the tensor it was made for: the largest that it will hold.
    pub name: String,
    /// Number of elements.
    pub len: usize,
    /// Type of the elements.
    pub element: Element,
    /// Elements of the longest tensor in it, which are smaller ones if they are more than `len`.
    pub longest: usize,
    /// Contents set once, for tables made on the host.
    pub constant: Option<Vec<f64>>,
}

/// A count that may be known only when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Known when the graph is built.
    Fixed(usize),
    /// `clamp(scalar - base, 0, most)`.
    Counted {
        /// The scalar of the step that counts rows.
        scalar: Declared,
        /// Rows that earlier nodes take care of.
        base: usize,
        /// Most rows that this node takes.
        most: usize,
    },
}

impl Extent {
    /// What a scalar counts from `base` on, `most` at most.
    pub const fn counted(scalar: Scalar<u32>, base: usize, most: usize) -> Self {
        Self::Counted {
            scalar: scalar.declared,
            base,
            most,
        }
    }

    /// The count in this step.
    pub fn get(self, step: &Step) -> usize {
        match self {
            Self::Fixed(n) => n,
            Self::Counted { scalar, base, most } => {
                step.count(scalar).saturating_sub(base).min(most)
            }
        }
    }

    /// The scalar that it depends on; `None` for a fixed count.
    pub fn scalar(self) -> Option<Declared> {
        match self {
            Self::Fixed(_) => None,
            Self::Counted { scalar, .. } => Some(scalar),
        }
    }
}

/// A part of a program that can be run by itself, for instance `backward` or `update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Phase(pub &'static str);

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// The ranges of `phases` that `wanted` names, in the program's order.
pub(crate) fn selected(
    phases: &[(Phase, Range<usize>)],
    wanted: &[Phase],
) -> Result<Vec<Range<usize>>> {
    if let Some(missing) = wanted.iter().find(|w| phases.iter().all(|(p, _)| p != *w)) {
        return Err(Error::Internal(format!(
            "the program has no phase {missing}"
        )));
    }
    let of = |(phase, range): &(Phase, Range<usize>)| wanted.contains(phase).then(|| range.clone());
    Ok(phases.iter().filter_map(of).collect())
}
