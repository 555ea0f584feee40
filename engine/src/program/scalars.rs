//! Numbers that change from run to run. Whoever reads one declares it as a constant; a run's values are a
//! [`Step`], and the uniform of a program holds the scalars that its operations declare.

use std::fmt::Write as _;

use arrayvec::ArrayVec;

/// Most scalars that a step can hold.
const MOST: usize = 24;

/// Type of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A count or an index: `u32`.
    Uint,
    /// A number: f64 on the host, `f32` in kernels.
    Float,
    /// The key of a random stream: `vec2<u32>`.
    Key,
}

impl Kind {
    const fn wgsl(self) -> &'static str {
        match self {
            Self::Uint => "u32",
            Self::Float => "f32",
            Self::Key => "vec2<u32>",
        }
    }
}

/// A scalar without its Rust type, as lists of them need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Declared {
    name: &'static str,
    kind: Kind,
    /// Bits of the value of a step that does not say: a float's are those of an f64.
    default: u64,
}

impl Declared {
    /// Its name in kernels.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// Declaration of a scalar, for instance `pub const LR: Scalar<f64> = Scalar::float("lr", 0.0)`.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<T> {
    /// The scalar without its Rust type, as operations list it.
    pub declared: Declared,
    value: std::marker::PhantomData<T>,
}

/// A Rust type that a scalar can have: `u32`, `f64` or, for a key, `[u32; 2]`.
pub trait Value: Copy {
    #[doc(hidden)]
    fn bits(self) -> u64;
    #[doc(hidden)]
    fn of_bits(bits: u64) -> Self;
}

impl Value for u32 {
    fn bits(self) -> u64 {
        self.into()
    }
    fn of_bits(bits: u64) -> Self {
        bits as Self
    }
}

impl Value for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn of_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }
}

impl Value for [u32; 2] {
    fn bits(self) -> u64 {
        u64::from(self[0]) | u64::from(self[1]) << 32
    }
    fn of_bits(bits: u64) -> Self {
        [bits as u32, (bits >> 32) as u32]
    }
}

impl<T> Scalar<T> {
    const fn new(name: &'static str, kind: Kind, default: u64) -> Self {
        let declared = Declared {
            name,
            kind,
            default,
        };
        Self {
            declared,
            value: std::marker::PhantomData,
        }
    }
}

impl Scalar<u32> {
    /// A count or an index, called `name` in kernels; `default` in steps that do not set it.
    pub const fn uint(name: &'static str, default: u32) -> Self {
        Self::new(name, Kind::Uint, default as u64)
    }
}

impl Scalar<f64> {
    /// A number, called `name` in kernels; `default` in steps that do not set it.
    pub const fn float(name: &'static str, default: f64) -> Self {
        Self::new(name, Kind::Float, default.to_bits())
    }
}

impl Scalar<[u32; 2]> {
    /// The key of a random stream, called `name` in kernels; zeros in steps that do not set it.
    pub const fn key(name: &'static str) -> Self {
        Self::new(name, Kind::Key, 0)
    }
}

/// The scalars of a run; those that are not set have the value of their declaration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    values: ArrayVec<(&'static str, u64), MOST>,
}

impl Step {
    /// Sets a scalar.
    ///
    /// # Panics
    /// For more than 24 different scalars.
    pub fn set<T: Value>(&mut self, scalar: Scalar<T>, value: T) {
        let name = scalar.declared.name;
        match self.values.iter_mut().find(|(n, _)| *n == name) {
            Some((_, bits)) => *bits = value.bits(),
            None => self.values.push((name, value.bits())),
        }
    }

    /// The step with a scalar set; see [`Step::set`].
    #[must_use]
    pub fn with<T: Value>(mut self, scalar: Scalar<T>, value: T) -> Self {
        self.set(scalar, value);
        self
    }

    /// Value of a scalar; its default if it was not set.
    pub fn get<T: Value>(&self, scalar: Scalar<T>) -> T {
        T::of_bits(self.bits(scalar.declared))
    }

    fn bits(&self, scalar: Declared) -> u64 {
        let set = self.values.iter().find(|(name, _)| *name == scalar.name);
        set.map_or(scalar.default, |&(_, bits)| bits)
    }

    /// Value of a count.
    pub(super) fn count(&self, scalar: Declared) -> usize {
        self.bits(scalar) as usize
    }
}

/// The scalars of a program, in the order of its uniform: keys first, which are aligned to their size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scalars(Vec<Declared>);

impl Scalars {
    /// Each scalar once, whatever the order and number of its declarations.
    pub fn new(declared: impl IntoIterator<Item = Declared>) -> Self {
        let mut list: Vec<_> = declared.into_iter().collect();
        list.sort_by_key(|d| (d.kind != Kind::Key, d.name));
        list.dedup();
        Self(list)
    }

    /// Bytes of the uniform: never none, as a binding needs some.
    pub fn bytes(&self) -> u64 {
        let words: usize = self.0.iter().map(|d| words_of(d.kind)).sum();
        4 * words.max(1).next_multiple_of(4) as u64
    }

    /// The uniform's contents in a step, into `out`.
    pub fn words(&self, step: &Step, out: &mut Vec<u32>) {
        out.clear();
        for &d in &self.0 {
            let bits = step.bits(d);
            match d.kind {
                Kind::Uint => out.push(bits as u32),
                Kind::Float => out.push((f64::from_bits(bits) as f32).to_bits()),
                Kind::Key => out.extend(<[u32; 2]>::of_bits(bits)),
            }
        }
        out.resize((self.bytes() / 4) as usize, 0);
    }

    /// The WGSL struct `Step` that kernels see the uniform as.
    pub fn wgsl(&self) -> String {
        let mut text = String::from("struct Step {\n");
        for d in &self.0 {
            let _ = writeln!(text, "  {}: {},", d.name, d.kind.wgsl());
        }
        if self.0.is_empty() {
            text.push_str("  none: u32,\n");
        }
        text + "}\n"
    }
}

const fn words_of(kind: Kind) -> usize {
    match kind {
        Kind::Key => 2,
        Kind::Uint | Kind::Float => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Scalar<f64> = Scalar::float("rate", 0.5);
    const COUNT: Scalar<u32> = Scalar::uint("count", 7);
    const KEY: Scalar<[u32; 2]> = Scalar::key("key");

    #[test]
    fn the_uniform_follows_the_declarations() {
        let list = Scalars::new([RATE.declared, COUNT.declared, KEY.declared, RATE.declared]);
        let text = "struct Step {\n  key: vec2<u32>,\n  count: u32,\n  rate: f32,\n}\n";
        assert_eq!((list.wgsl(), list.bytes()), (text.to_owned(), 16));
        let step = Step::default().with(KEY, [3, 4]).with(RATE, 2.0);
        let mut words = Vec::new();
        list.words(&step, &mut words);
        assert_eq!(words, [3, 4, 7, 2f32.to_bits()]);
        assert_eq!(step.get(COUNT), 7);
        assert_eq!(step.with(RATE, 3.0).get(RATE), 3.0);
    }
}
