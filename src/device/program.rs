//! What an executor runs: buffers, places in them, and the values that change from step to step.
//! Plain data, shared by both executors and free of any operation's meaning.

/// Which of the parallel parameter arenas a place lies in; all have the same layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arena {
    /// The weights.
    Params,
    /// Their gradients.
    Grads,
    /// AdamW's first moment.
    M,
    /// AdamW's second moment.
    V,
    /// Exponential moving average of the weights.
    Ema,
}

impl Arena {
    /// All arenas, in storage order.
    pub const ALL: [Self; 5] = [Self::Params, Self::Grads, Self::M, Self::V, Self::Ema];
}

/// A buffer of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferId {
    /// A slab of an arena; owned by the storage.
    Arena(Arena, usize),
    /// A buffer of the program's own.
    Local(usize),
}

/// Type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Floating point: f32, or f64 on the f64 twin.
    Float,
    /// Unsigned 32-bit integers.
    Uint,
}

/// A range of elements in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The buffer.
    pub buffer: BufferId,
    /// First element.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
    /// Type of the elements.
    pub dtype: Dtype,
}

impl Slot {
    /// The elements, as a range in the buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
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
    pub dtype: Dtype,
    /// Contents set once, for tables made on the host.
    pub constant: Option<Vec<f64>>,
}

/// A count that is known only when a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Always the same.
    Fixed(usize),
    /// `clamp(step.rows - base, 0, max)`.
    Rows {
        /// Rows handled by earlier nodes.
        base: usize,
        /// Most rows of this node.
        max: usize,
    },
    /// `step.parts`.
    Parts,
    /// `step.segments`.
    Segments,
}

impl Extent {
    /// The count in this step.
    pub fn get(self, step: &Step) -> usize {
        match self {
            Self::Fixed(n) => n,
            Self::Rows { base, max } => (step.rows as usize).saturating_sub(base).min(max),
            Self::Parts => step.parts as usize,
            Self::Segments => step.segments as usize,
        }
    }
}

/// Values that change from step to step; the GPU sees them as one uniform buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Key of this micro-step's dropout masks.
    pub dropout_key: [u32; 2],
    /// Key of this step's categorical draws.
    pub draw_key: [u32; 2],
    /// Listed rows (masked rows in training, revealed rows in sampling).
    pub rows: u32,
    /// Parts of the embedding gradient's segments.
    pub parts: u32,
    /// Distinct tokens in the batch.
    pub segments: u32,
    /// Draw among the most probable tokens only; 0: among all.
    pub top_k: u32,
    /// Learning rate.
    pub lr: f64,
    /// `1 - beta1^k` of AdamW at its k-th step.
    pub bias1: f64,
    /// `1 - beta2^k`.
    pub bias2: f64,
    /// Decay of the weights' moving average.
    pub ema_decay: f64,
    /// Divides the logits of a draw; 0: take the most probable token.
    pub temperature: f64,
    /// Draw among the most probable tokens with this share of the tempered probability.
    pub top_p: f64,
}

/// No rows, no learning rate, draws from the model's own distribution.
impl Default for Step {
    fn default() -> Self {
        Self {
            dropout_key: [0; 2],
            draw_key: [0; 2],
            rows: 0,
            parts: 0,
            segments: 0,
            top_k: 0,
            lr: 0.0,
            bias1: 0.0,
            bias2: 0.0,
            ema_decay: 0.0,
            temperature: 1.0,
            top_p: 1.0,
        }
    }
}

impl Step {
    /// What a draw multiplies logits with, so that temperature 1 changes no bit; 0 at temperature 0.
    pub fn inverse_temperature(&self) -> f64 {
        if self.temperature > 0.0 {
            1.0 / self.temperature
        } else {
            0.0
        }
    }

    /// Words of the uniform buffer, in the order of `shaders/lib/step.wgsl`.
    pub fn words(&self) -> [u32; 16] {
        let f = |x: f64| (x as f32).to_bits();
        let [d0, d1] = self.dropout_key;
        let [c0, c1] = self.draw_key;
        let mut words = [0; 16];
        words[..14].copy_from_slice(&[
            d0,
            d1,
            c0,
            c1,
            self.rows,
            self.parts,
            self.segments,
            self.top_k,
            f(self.lr),
            f(self.bias1),
            f(self.bias2),
            f(self.ema_decay),
            f(self.inverse_temperature()),
            f(self.top_p),
        ]);
        words
    }
}
