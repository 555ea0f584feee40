//! Embedding lookup `x[row] = E[id[row]]`; its gradient sums the rows of each token through
//! segments that the host sorts when it builds the batch.

use crate::cpu::{Float, Io, for_rows};
use crate::error::{Error, Result};
use crate::gpu::Grid;
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::parts::parts;
use crate::program::{Declared, Extent, Scalar};
use crate::{params, shader, twin};

/// Rows that one GPU invocation sums.
const PART: usize = 256;

/// Rows of a batch grouped by token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Row numbers, sorted by token and within a token by row.
    pub order: Vec<u32>,
    /// (first, count) in `order`, at most 256 rows each.
    pub parts: Vec<u32>,
    /// (token, first part, number of parts).
    pub segments: Vec<u32>,
}

impl Segments {
    /// Number of parts.
    pub fn part_count(&self) -> u32 {
        (self.parts.len() / 2) as u32
    }

    /// Number of distinct tokens.
    pub fn segment_count(&self) -> u32 {
        (self.segments.len() / 3) as u32
    }
}

/// Groups the rows of `ids` by token, without those of `frozen`; reuses the memory of `out`.
pub fn embedding_segments(ids: &[u32], frozen: Option<u32>, out: &mut Segments) {
    let Segments {
        order,
        parts,
        segments,
    } = out;
    order.clear();
    order.extend((0..ids.len() as u32).filter(|&row| Some(ids[row as usize]) != frozen));
    order.sort_by_key(|&row| ids[row as usize]);
    parts.clear();
    segments.clear();
    let mut first = 0;
    while first < order.len() {
        let token = ids[order[first] as usize];
        let count = order[first..]
            .iter()
            .take_while(|&&row| ids[row as usize] == token)
            .count();
        let first_part = (parts.len() / 2) as u32;
        for at in (0..count).step_by(PART) {
            parts.extend([(first + at) as u32, PART.min(count - at) as u32]);
        }
        segments.extend([token, first_part, (parts.len() / 2) as u32 - first_part]);
        first += count;
    }
}

/// Inputs that the gradient of an embedding needs besides the ids.
#[derive(Clone, Copy, Debug)]
pub struct SegmentInputs {
    /// [`Segments::order`], `[rows]`.
    pub order: Tensor,
    /// [`Segments::parts`], `[most parts, 2]`.
    pub parts: Tensor,
    /// [`Segments::segments`], `[most segments, 3]`.
    pub segments: Tensor,
}

/// Reads ids and the table; the segments are read by the backward pass only.
#[derive(Clone, Debug)]
struct Embedding {
    rows: usize,
    width: usize,
    segments: Option<SegmentInputs>,
    /// The rows of the table that are read, of a table that is taken in parts: those of other ids stay as they are.
    part: Option<[usize; 2]>,
}

impl Graph {
    /// The segment inputs for a batch of `rows` tokens out of `vocab_size`.
    pub fn segment_inputs(&mut self, rows: usize, vocab_size: usize) -> SegmentInputs {
        let distinct = rows.min(vocab_size);
        SegmentInputs {
            order: self.input_uint("segments.order", &[rows]),
            parts: self.input_uint("segments.parts", &[distinct + rows / PART, 2]),
            segments: self.input_uint("segments.tokens", &[distinct, 3]),
        }
    }

    /// `x [rows, width]` of `ids [rows]` in `table [vocab, width]`. Only a table that is not
    /// trained can do without `segments`. One that does not fit a binding is read part by part and cannot be trained.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not agree.
    pub fn embedding(
        &mut self,
        name: &str,
        ids: Tensor,
        table: Tensor,
        segments: Option<SegmentInputs>,
    ) -> Result<Tensor> {
        let &[vocab, width] = self.shape(table) else {
            return Err(self.misfit("embedding", table, "[vocab, width]"));
        };
        let rows = self.len(ids);
        if let Some(s) = segments {
            self.expect("embedding", s.order, &[rows])?;
            for (t, columns) in [(s.parts, 2), (s.segments, 3)] {
                let fits = matches!(self.shape(t), &[_, n] if n == columns);
                self.require("embedding", t, fits, &format!("[.., {columns}]"))?;
            }
        }
        let x = self.activation(name, &[rows, width]);
        let parts = parts(self, table, [vocab, width])?;
        let whole = parts.len() == 1;
        for part in parts {
            let table = match whole {
                true => table,
                false => self.view(table, part.start * width, &[part.len(), width])?,
            };
            let op = Embedding {
                rows,
                width,
                segments,
                part: (!whole).then_some([part.start, part.end]),
            };
            self.push(op, &[ids, table], &[x], &[], Extent::Fixed(rows))?;
        }
        Ok(x)
    }
}

params! {
    struct EmbeddingParams {
        rows: u32,
        width: u32,
        /// Of 64 columns.
        tiles: u32,
        /// The ids whose rows the table has, if it has not all.
        first: u32,
        end: u32,
    }
}

impl EmbeddingParams {
    fn new(rows: usize, width: usize) -> Self {
        let [rows, width, tiles] = [rows, width, width.div_ceil(64)].map(|n| n as u32);
        Self {
            rows,
            width,
            tiles,
            first: 0,
            end: u32::MAX,
        }
    }
}

/// [`Segments::part_count`] of the batch.
pub const PARTS: Scalar<u32> = Scalar::uint("parts", 0);
/// [`Segments::segment_count`] of the batch.
pub const SEGMENTS: Scalar<u32> = Scalar::uint("segments", 0);

impl Embedding {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (ids, table, n) = (io.read_uint(0), io.weights(1), self.width);
        let [begin, end] = self.part.unwrap_or([0, usize::MAX]);
        for_rows(io.write(0), n, |first, x| {
            for (i, x) in x.chunks_exact_mut(n).enumerate() {
                let id = ids[first + i] as usize;
                if (begin..end).contains(&id) {
                    table.copy((id - begin) * n, x);
                }
            }
        });
    }
}

twin!(Embedding);

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn role(&self, input: usize) -> Role {
        if input == 0 {
            Role::Index
        } else {
            Role::Weight
        }
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        if self.part.is_some() {
            let problem = "a table that does not fit a binding has no gradient";
            return Err(Error::Internal(problem.into()));
        }
        let missing = || Error::Internal("a trained embedding needs segments".into());
        let s = self.segments.ok_or_else(missing)?;
        let dx = b.dy(0)?;
        if let Some((dtable, _)) = b.target(1) {
            let parts = b.graph.shape(s.parts)[0];
            let partials = b
                .graph
                .activation("embedding partials", &[parts, self.width]);
            let op = EmbeddingBackward {
                rows: self.rows,
                width: self.width,
            };
            let reads = [dx, s.order, s.parts, s.segments];
            b.graph
                .push(op, &reads, &[dtable], &[partials], Extent::Fixed(self.rows))?;
        }
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let mut params = EmbeddingParams::new(self.rows, self.width);
        if let Some(part) = self.part {
            [params.first, params.end] = part.map(|id| id as u32);
        }
        vec![
            Kernel::new(shader!("embedding"))
                .entry("gather")
                .flag("GATHER", true)
                .flag("PART", self.part.is_some())
                .at_rest(lower.read_element(1))
                .read(0)
                .read(1)
                .write(0)
                .params(params)
                .items(self.rows * self.width, 256),
        ]
    }
}

/// Reads dx, order, parts and segments; adds to d table.
#[derive(Clone, Debug)]
struct EmbeddingBackward {
    rows: usize,
    width: usize,
}

impl EmbeddingBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (dx, order, parts, segments) = (
            io.read(0),
            io.read_uint(1),
            io.read_uint(2),
            io.read_uint(3),
        );
        let (dtable, n) = (io.write(0), self.width);
        for segment in segments
            .chunks_exact(3)
            .take(io.step.get(SEGMENTS) as usize)
        {
            let row = &mut dtable[segment[0] as usize * n..][..n];
            let (first, count) = (segment[1] as usize, segment[2] as usize);
            for part in parts[2 * first..2 * (first + count)].chunks_exact(2) {
                for &from in &order[part[0] as usize..][..part[1] as usize] {
                    let from = &dx[from as usize * n..][..n];
                    row.iter_mut().zip(from).for_each(|(sum, &x)| *sum += x);
                }
            }
        }
    }
}

twin!(EmbeddingBackward);

impl Op for EmbeddingBackward {
    fn name(&self) -> &'static str {
        "embedding_backward"
    }

    fn role(&self, input: usize) -> Role {
        if input == 0 {
            Role::Number
        } else {
            Role::Index
        }
    }

    fn scalars(&self) -> Vec<Declared> {
        vec![PARTS.declared, SEGMENTS.declared]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let kernel = || Kernel::new(shader!("embedding"));
        let params = EmbeddingParams::new(self.rows, self.width);
        let grid = |scalar, most| Grid {
            extent: Extent::counted(scalar, 0, most),
            per_group: 1,
            repeat: self.width.div_ceil(64),
        };
        let partial = kernel().entry("partial").flag("PARTIAL", true);
        let finish = kernel().entry("finish").flag("FINISH", true);
        vec![
            partial
                .read(0)
                .read(1)
                .read(2)
                .temp(0)
                .params(params)
                .grid(grid(PARTS, lower.read_len(2) / 2)),
            finish
                .temp_read(0)
                .read(3)
                .write(0)
                .params(params)
                .grid(grid(SEGMENTS, lower.read_len(3) / 3)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_segments_are_split() {
        let mut ids = vec![7; 600];
        ids[3] = 2;
        let mut out = Segments::default();
        embedding_segments(&ids, None, &mut out);
        assert_eq!(out.segments, [2, 0, 1, 7, 1, 3]);
        assert_eq!(out.parts, [0, 1, 1, 256, 257, 256, 513, 87]);
        assert_eq!(out.order[..5], [3, 0, 1, 2, 4]);
    }
}
