//! LayerNorm and RMSNorm over rows, with a weight, perhaps a bias, and adaLN's modulation fused:
//! `y = (n w + b) (1 + scale) + shift`, n the normalised row: `(x - mean) / sqrt(var + eps)`, or for RMSNorm
//! `x / sqrt(mean(x^2) + eps)`.
//!
//! Backward, with dn = dy w (1 + scale): `dx = (dn - mean(dn) - n mean(dn n)) / deviation`, without mean(dn) for
//! RMSNorm; per sample S1 = sum of dy and S2 = sum of dy n give `dshift = S1`, `dscale = w S2`,
//! `dw = sum over samples of (1 + scale) S2` and `db = S1`. A bias and a modulation do not meet.

use crate::cpu::{Float, Io, for_rows, for_rows2, math, sum_rows};
use crate::error::{Error, Result};
use crate::graph::{Backward, Graph, Kernel, Lower, Op, Role, Tensor};
use crate::ops::Modulation;
use crate::ops::modulation::{BLOCK, modulation_target};
use crate::program::Extent;
use crate::{params, shader, twin};

/// A norm of rows.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    modulation: Option<(Tensor, Modulation)>,
    centred: bool,
    eps: f64,
}

impl Norm {
    /// LayerNorm with a weight `[width]` and eps 1e-5.
    pub fn layer(weight: Tensor) -> Self {
        Self {
            weight,
            bias: None,
            modulation: None,
            centred: true,
            eps: 1e-5,
        }
    }

    /// RMSNorm with a weight `[width]`.
    pub fn rms(weight: Tensor, eps: f64) -> Self {
        Self {
            centred: false,
            eps,
            ..Self::layer(weight)
        }
    }

    /// With this added to the variance, or to the mean square.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// With a bias `[width]`.
    #[must_use]
    pub fn bias(self, bias: Option<Tensor>) -> Self {
        Self { bias, ..self }
    }

    /// With adaLN's shift and scale: `2 width` columns from [`Modulation::column`] on.
    #[must_use]
    pub fn modulated(self, modulation: Option<(Tensor, Modulation)>) -> Self {
        Self { modulation, ..self }
    }
}

/// Reads x, weight and bias or modulation; writes y and stats `[rows, 2]`.
#[derive(Clone, Debug)]
struct NormRows {
    rows: usize,
    width: usize,
    centred: bool,
    eps: f64,
    bias: bool,
    modulation: Option<Modulation>,
}

params! {
    struct NormParams {
        rows: u32,
        width: u32,
        sample_rows: u32,
        mod_stride: u32,
        shift_column: u32,
        scale_column: u32,
        /// Of one sample.
        blocks: u32,
        /// Of 64 columns.
        tiles: u32,
        eps: f32,
    }
}

impl Graph {
    /// `x [.., n width]` with every `width` elements normalised, of x's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not agree.
    pub fn norm(&mut self, name: &str, x: Tensor, norm: Norm) -> Result<Tensor> {
        const OP: &str = "norm";
        let width = self.len(norm.weight);
        let last = self.shape(x).last().copied().unwrap_or(0);
        let fits = width > 0 && last > 0 && last.is_multiple_of(width);
        self.require(OP, x, fits, &format!("[.., n * {width}]"))?;
        let rows = self.len(x) / width;
        let mut reads = vec![x, norm.weight];
        if let Some(bias) = norm.bias {
            self.expect(OP, bias, &[width])?;
            reads.push(bias);
        }
        if let Some((t, m)) = norm.modulation {
            m.check(self, OP, t, rows, 2 * width)?;
            if norm.bias.is_some() {
                let problem = "a norm has a bias or a modulation, not both";
                return Err(Error::Internal(problem.into()));
            }
            reads.push(t);
        }
        let y = self.rounded(name, &[rows * width / last, last]);
        let stats = self.activation(&format!("{name}.stats"), &[rows, 2]);
        let op = NormRows {
            rows,
            width,
            centred: norm.centred,
            eps: norm.eps,
            bias: norm.bias.is_some(),
            modulation: norm.modulation.map(|m| m.1),
        };
        self.push(op, &reads, &[y, stats], &[], Extent::Fixed(rows))?;
        Ok(y)
    }
}

impl NormRows {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (x, w, n) = (io.read(0), io.read(1), self.width);
        let bias = self.bias.then(|| io.read(2));
        let modulation = self.modulation.map(|m| (m, io.read(2)));
        let inverse = F::ONE / F::of(n as f64);
        for_rows2(io.write(0), n, io.write(1), 2, |first, y, stats| {
            for (i, (y, stats)) in y
                .chunks_exact_mut(n)
                .zip(stats.chunks_exact_mut(2))
                .enumerate()
            {
                let x = &x[(first + i) * n..][..n];
                let mean = if self.centred {
                    math::sum(n, |d| x[d]) * inverse
                } else {
                    F::ZERO
                };
                let var = math::sum(n, |d| (x[d] - mean) * (x[d] - mean)) * inverse;
                let rstd = F::ONE / (var + F::of(self.eps)).sqrt();
                for d in 0..n {
                    y[d] = (x[d] - mean) * rstd * w[d];
                }
                if let Some(bias) = bias {
                    for d in 0..n {
                        y[d] += bias[d];
                    }
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

    fn params(&self) -> NormParams {
        let m = self.modulation.unwrap_or(Modulation {
            sample_rows: self.rows,
            stride: 0,
            column: 0,
        });
        NormParams {
            rows: self.rows as u32,
            width: self.width as u32,
            sample_rows: m.sample_rows as u32,
            mod_stride: m.stride as u32,
            shift_column: m.column as u32,
            scale_column: (m.column + self.width) as u32,
            blocks: m.sample_rows.div_ceil(BLOCK) as u32,
            tiles: self.width.div_ceil(64) as u32,
            eps: self.eps as f32,
        }
    }
}

/// Where the gradient of a weight or bias goes: its own, or nowhere.
fn vector(b: &mut Backward<'_>, i: usize, width: usize) -> Tensor {
    match b.target(i) {
        Some((target, _)) => target,
        None => b.graph.activation("d w, unused", &[width]),
    }
}

twin!(NormRows);

impl Op for NormRows {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn writes_half(&self, output: usize) -> bool {
        output == 0
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        let (dy, x, weight, stats) = (b.dy(0)?, b.read(0), b.read(1), b.write(1));
        let mut reads = vec![dy, x, weight, stats];
        let mut second = None;
        if self.modulation.is_some() {
            reads.push(b.read(2));
            second = Some(modulation_target(b, 2)?);
        } else if self.bias {
            second = Some(vector(b, 2, self.width));
        }
        let dw = vector(b, 1, self.width);
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
        writes.extend(second);
        let op = NormBackward {
            norm: self.clone(),
            accumulate,
        };
        b.graph
            .push(op, &reads, &writes, &[partials], Extent::Fixed(self.rows))?;
        Ok(())
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let modulated = self.modulation.is_some();
        vec![
            Kernel::new(shader!("norm"))
                .flag("CENTRED", self.centred)
                .flag("BIAS", self.bias)
                .flag("MODULATED", modulated)
                .numbers("Y", lower.write_element(0))
                .constant("THREADS", lower.row_threads(self.width))
                .read(0)
                .read(1)
                .read_if(modulated || self.bias, 2)
                .write(0)
                .write(1)
                .params(self.params())
                .groups(self.rows),
        ]
    }
}

/// Reads dy, x, weight, stats and modulation; writes dx, adds to dw and d modulation or d bias.
#[derive(Clone, Debug)]
struct NormBackward {
    norm: NormRows,
    accumulate: bool,
}

impl NormBackward {
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
                let mean = if self.norm.centred {
                    math::sum(n, dn) * inverse
                } else {
                    F::ZERO
                };
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
        let mut dbias = self.norm.bias.then(|| io.write(2));
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
                if let Some(dbias) = &mut dbias {
                    dbias[d] += s1[d];
                }
            }
        }
    }
}

twin!(NormBackward);

impl Op for NormBackward {
    fn name(&self) -> &'static str {
        "norm_backward"
    }

    fn role(&self, input: usize) -> Role {
        if input == 0 { Role::Half } else { Role::Number }
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let params = self.norm.params();
        let (modulated, bias) = (self.norm.modulation.is_some(), self.norm.bias);
        let kernel = || {
            Kernel::new(shader!("norm_backward"))
                .flag("MODULATED", modulated)
                .flag("BIAS", bias)
        };
        let samples = self.norm.rows / params.sample_rows as usize;
        let rows = kernel()
            .entry("rows")
            .numbers("Dy", lower.read_element(0))
            .flag("ROWS", true)
            .flag("CENTRED", self.norm.centred)
            .flag("ACCUMULATE", self.accumulate)
            .constant("THREADS", lower.row_threads(self.norm.width))
            .read(0)
            .read(1)
            .read(2)
            .read(3)
            .read_if(modulated, 4)
            .write(0)
            .params(params)
            .groups(self.norm.rows);
        let columns = Kernel::new(shader!("norm_backward"))
            .entry("columns")
            .numbers("Dy", lower.read_element(0))
            .flag("COLUMNS", true)
            .constant("BLOCK", BLOCK as u32)
            .read(0)
            .read(1)
            .read(3)
            .temp(0)
            .params(params)
            .groups(samples * (params.blocks * params.tiles) as usize);
        let finish = kernel()
            .entry("finish")
            .flag("FINISH", true)
            .temp_read(0)
            .read(2)
            .read_if(modulated, 4)
            .write(1)
            .write_if(modulated || bias, 2)
            .params(params)
            .items(self.norm.width, 64);
        vec![rows, columns, finish]
    }
}
