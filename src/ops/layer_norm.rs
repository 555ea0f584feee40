//! LayerNorm with a weight, no bias, eps 1e-5, and the adaLN modulation fused:
//! `y = n w (1 + scale) + shift`, n the normalised row.
//!
//! Backward, with dn = dy w (1 + scale): `dx = (dn - mean(dn) - n mean(dn n)) / deviation`; per
//! sample S1 = sum of dy and S2 = sum of dy n give `dshift = S1`, `dscale = w S2` and
//! `dw = sum over samples of (1 + scale) S2`.

use crate::cpu::{Float, Io, for_rows, for_rows2, math, sum_rows};
use crate::device::program::Extent;
use crate::error::Result;
use crate::gpu::{Grid, Source};
use crate::graph::{Backward, Graph, Launch, Lower, Op, Operand, Tensor};
use crate::{shader, twin};

/// Where a sample's modulation vector stands in a `[samples, stride]` tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modulation {
    /// Consecutive rows that share a vector.
    pub sample_rows: usize,
    /// Width of the tensor.
    pub stride: usize,
    /// First column: a gate, or a shift followed by a scale.
    pub column: usize,
}

impl Modulation {
    /// A shape error unless `t` holds such vectors, `columns` wide each, for `rows` rows.
    pub(super) fn check(
        &self,
        g: &Graph,
        op: &'static str,
        t: Tensor,
        rows: usize,
        columns: usize,
    ) -> Result<()> {
        let fits = self.column + columns <= self.stride
            && self.sample_rows > 0
            && rows.is_multiple_of(self.sample_rows)
            && g.len(t) == rows / self.sample_rows * self.stride;
        let expected = format!(
            "[{rows} / {}, {}] with {columns} columns from {} on",
            self.sample_rows, self.stride, self.column
        );
        g.require(op, t, fits, &expected)
    }

    /// First element of the vector of `row`.
    #[inline(always)]
    pub(crate) fn at(&self, row: usize) -> usize {
        row / self.sample_rows * self.stride + self.column
    }
}

/// Rows that one invocation of a column kernel sums.
pub(super) const BLOCK: usize = 64;
const EPS: f64 = 1e-5;

/// Reads x, weight and modulation; writes y and stats `[rows, 2]`.
#[derive(Clone, Debug)]
struct LayerNorm {
    rows: usize,
    width: usize,
    modulation: Option<Modulation>,
}

impl Graph {
    /// `y [rows, width]` of `x [.., width]`, normalised, times `weight`, modulated.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn layer_norm(
        &mut self,
        name: &str,
        x: Tensor,
        weight: Tensor,
        modulation: Option<(Tensor, Modulation)>,
    ) -> Result<Tensor> {
        let width = self.len(weight);
        self.require(
            "layer_norm",
            x,
            width > 0 && self.shape(x).last() == Some(&width),
            &format!("[.., {width}]"),
        )?;
        let rows = self.len(x) / width;
        let mut reads = vec![x, weight];
        if let Some((t, m)) = modulation {
            m.check(self, "layer_norm", t, rows, 2 * width)?;
            reads.push(t);
        }
        let y = self.activation(name, &[rows, width]);
        let stats = self.activation(&format!("{name}.stats"), &[rows, 2]);
        let op = LayerNorm {
            rows,
            width,
            modulation: modulation.map(|m| m.1),
        };
        self.push(op, &reads, &[y, stats], &[], Extent::Fixed(rows));
        Ok(y)
    }
}

/// The gradient of a modulation tensor, cleared before its first columns arrive.
pub(super) fn modulation_target(b: &mut Backward<'_>, i: usize) -> Result<Tensor> {
    let missing = || crate::Error::Internal("the modulation needs no gradient".into());
    let (dmod, accumulate) = b.target(i).ok_or_else(missing)?;
    if !accumulate {
        b.graph.zero(dmod);
    }
    Ok(dmod)
}

impl LayerNorm {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, w, n) = (io.read(0), io.read(1), self.width);
        let modulation = self.modulation.map(|m| (m, io.read(2)));
        let inverse = F::ONE / F::of(n as f64);
        for_rows2(io.write(0), n, io.write(1), 2, |first, y, stats| {
            for (i, (y, stats)) in y
                .chunks_exact_mut(n)
                .zip(stats.chunks_exact_mut(2))
                .enumerate()
            {
                let x = &x[(first + i) * n..][..n];
                let mean = math::sum(n, |d| x[d]) * inverse;
                let var = math::sum(n, |d| (x[d] - mean) * (x[d] - mean)) * inverse;
                let rstd = F::ONE / (var + F::of(EPS)).sqrt();
                for d in 0..n {
                    y[d] = (x[d] - mean) * rstd * w[d];
                }
                if let Some((m, values)) = modulation {
                    let (shift, scale) = values[m.at(first + i)..][..2 * n].split_at(n);
                    for d in 0..n {
                        y[d] = y[d] * (F::ONE + scale[d]) + shift[d];
                    }
                }
                stats.copy_from_slice(&[mean, rstd]);
            }
        });
    }

    fn params(&self) -> Vec<u32> {
        let m = self.modulation.unwrap_or(Modulation {
            sample_rows: self.rows,
            stride: 0,
            column: 0,
        });
        let blocks = m.sample_rows.div_ceil(BLOCK);
        let scale = m.column + self.width;
        let tiles = self.width.div_ceil(64);
        [
            self.rows,
            self.width,
            m.sample_rows,
            m.stride,
            m.column,
            scale,
            blocks,
            tiles,
        ]
        .map(|x| x as u32)
        .to_vec()
    }
}

twin!(LayerNorm);

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, x, weight, stats) = (b.dy(0)?, b.read(0), b.read(1), b.write(1));
        let mut reads = vec![dy, x, weight, stats];
        let mut modulated = None;
        if self.modulation.is_some() {
            reads.push(b.read(2));
            modulated = Some(modulation_target(b, 2)?);
        }
        let missing = || crate::Error::Internal("the norm weight needs no gradient".into());
        let (dw, _) = b.target(1).ok_or_else(missing)?;
        let (dx, accumulate) = match b.target(0) {
            Some(target) => target,
            None => (
                b.graph.activation("d x, unused", &[self.rows, self.width]),
                false,
            ),
        };
        let groups = self.modulation.map_or(1, |m| self.rows / m.sample_rows);
        let blocks = groups * (self.rows / groups).div_ceil(BLOCK);
        let partials = b
            .graph
            .activation("norm partials", &[blocks, 2, self.width]);
        let mut writes = vec![dx, dw];
        writes.extend(modulated);
        let op = LayerNormBackward {
            norm: self.clone(),
            accumulate,
        };
        b.graph
            .push(op, &reads, &writes, &[partials], Extent::Fixed(self.rows));
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch> {
        let modulated = self.modulation.is_some();
        vec![Launch {
            source: Source::new(shader!("layer_norm"))
                .flag("MODULATED", modulated)
                .constant("THREADS", lower.row_threads(self.width)),
            operands: vec![
                Some(Operand::Read(0)),
                Some(Operand::Read(1)),
                modulated.then_some(Operand::Read(2)),
                Some(Operand::Write(0)),
                Some(Operand::Write(1)),
            ],
            params: self.params(),
            grid: Grid::groups(self.rows),
            flops: 0,
        }]
    }
}

/// Reads dy, x, weight, stats and modulation; writes dx, adds to dw and d modulation.
#[derive(Clone, Debug)]
struct LayerNormBackward {
    norm: LayerNorm,
    accumulate: bool,
}

impl LayerNormBackward {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (dy, x, w, stats) = (io.read(0), io.read(1), io.read(2), io.read(3));
        let (rows, n) = (self.norm.rows, self.norm.width);
        let modulation = self.norm.modulation.map(|m| (m, io.read(4)));
        let inverse = F::ONE / F::of(n as f64);
        let scratch = io.scratch(rows * n + 2 * n);
        let (normal, sums) = scratch.split_at_mut(rows * n);
        for_rows(normal, n, |first, normal| {
            for (i, normal) in normal.chunks_exact_mut(n).enumerate() {
                let (x, mean, rstd) = (
                    &x[(first + i) * n..][..n],
                    stats[2 * (first + i)],
                    stats[2 * (first + i) + 1],
                );
                for d in 0..n {
                    normal[d] = (x[d] - mean) * rstd;
                }
            }
        });
        let normal = &*normal;
        for_rows(io.write(0), n, |first, dx| {
            for (i, dx) in dx.chunks_exact_mut(n).enumerate() {
                let row = first + i;
                let (normal, dy, rstd) = (
                    &normal[row * n..][..n],
                    &dy[row * n..][..n],
                    stats[2 * row + 1],
                );
                let scale = modulation.map(|(m, values)| &values[m.at(row) + n..][..n]);
                let dn = |d: usize| match scale {
                    Some(scale) => dy[d] * w[d] * (F::ONE + scale[d]),
                    None => dy[d] * w[d],
                };
                let mean = math::sum(n, dn) * inverse;
                let dot = math::sum(n, |d| dn(d) * normal[d]) * inverse;
                if self.accumulate {
                    for d in 0..n {
                        dx[d] += rstd * (dn(d) - mean - normal[d] * dot);
                    }
                } else {
                    for d in 0..n {
                        dx[d] = rstd * (dn(d) - mean - normal[d] * dot);
                    }
                }
            }
        });
        let dw = io.write(1);
        let mut dmod = modulation.map(|(m, values)| (m, values, io.write(2)));
        let (s1, s2) = sums.split_at_mut(n);
        let sample_rows = self.norm.modulation.map_or(rows, |m| m.sample_rows);
        for first in (0..rows).step_by(sample_rows) {
            s1.fill(F::ZERO);
            s2.fill(F::ZERO);
            let piece = |col: usize, row: usize| (first + row) * n + col;
            sum_rows(s1, sample_rows, |col, row, out| {
                let dy = &dy[piece(col, row)..][..out.len()];
                for j in 0..out.len() {
                    out[j] += dy[j];
                }
            });
            sum_rows(s2, sample_rows, |col, row, out| {
                let (dy, normal) = (
                    &dy[piece(col, row)..][..out.len()],
                    &normal[piece(col, row)..][..out.len()],
                );
                for j in 0..out.len() {
                    out[j] += dy[j] * normal[j];
                }
            });
            for d in 0..n {
                match &mut dmod {
                    Some((m, values, dmod)) => {
                        let at = m.at(first);
                        dmod[at + d] += s1[d];
                        dmod[at + n + d] += w[d] * s2[d];
                        dw[d] += (F::ONE + values[at + n + d]) * s2[d];
                    }
                    None => dw[d] += s2[d],
                }
            }
        }
    }
}

twin!(LayerNormBackward);

impl Op for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm_backward"
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Launch> {
        let params = self.norm.params();
        let modulated = self.norm.modulation.is_some();
        let modulation = modulated.then_some(Operand::Read(4));
        let [rows, width, sample_rows, .., blocks, tiles] = params[..] else {
            return Vec::new();
        };
        let source = Source::new(shader!("layer_norm_backward")).flag("MODULATED", modulated);
        let samples = (rows / sample_rows) as usize;
        let read = |i: usize| Some(Operand::Read(i));
        vec![
            Launch {
                source: source
                    .clone()
                    .entry("rows")
                    .flag("ROWS", true)
                    .flag("ACCUMULATE", self.accumulate)
                    .constant("THREADS", lower.row_threads(self.norm.width)),
                operands: vec![
                    read(0),
                    read(1),
                    read(2),
                    read(3),
                    modulation,
                    Some(Operand::Write(0)),
                ],
                params: params.clone(),
                grid: Grid::groups(rows as usize),
                flops: 0,
            },
            Launch {
                source: Source::new(shader!("layer_norm_backward"))
                    .entry("columns")
                    .flag("COLUMNS", true)
                    .constant("BLOCK", BLOCK as u32),
                operands: vec![read(0), read(1), read(3), Some(Operand::Temp(0))],
                params: params.clone(),
                grid: Grid::groups(samples * (blocks * tiles) as usize),
                flops: 0,
            },
            Launch {
                source: source.entry("finish").flag("FINISH", true),
                operands: vec![
                    Some(Operand::TempRead(0)),
                    read(2),
                    modulation,
                    Some(Operand::Write(1)),
                    modulated.then_some(Operand::Write(2)),
                ],
                params,
                grid: Grid::items(Extent::Fixed(width as usize), 64),
                flops: 0,
            },
        ]
    }
}
