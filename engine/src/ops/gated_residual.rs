//! Backward pass of the gated residual `y = x + gate * d * branch`, d the dropout factors:
//! `dbranch = gate * d * dy`, `dgate = sum over a sample's rows of dy * d * branch`, `dx = dy`.

use crate::cpu::{Float, Io, for_rows2, sum_rows};
use crate::error::Result;
use crate::graph::{Backward, Kernel, Lower, Op, Role, Tensor};
use crate::ops::DROPOUT_KEY;
use crate::ops::epilogue::Residual;
use crate::ops::modulation::{BLOCK, modulation_target};
use crate::program::{Declared, Extent};
use crate::{params, shader, twin};

/// Reads dy, branch and modulation; writes dbranch and adds to d modulation.
#[derive(Clone, Debug)]
pub(super) struct GatedResidualBackward {
    residual: Residual,
    rows: usize,
    width: usize,
}

params! {
    struct GatedParams {
        width: u32,
        group_rows: u32,
        /// Of one group.
        blocks: u32,
        groups: u32,
        mod_stride: u32,
        gate_column: u32,
        threshold: u32,
        keep_scale: f32,
        site: u32,
        /// Of 64 columns.
        tiles: u32,
    }
}

impl GatedResidualBackward {
    /// Appends the node; `modulation` is the index of the forward node's input.
    pub(super) fn push(
        b: &mut Backward<'_>,
        residual: &Residual,
        dy: Tensor,
        branch: Tensor,
        modulation: usize,
        rows: usize,
        width: usize,
    ) -> Result<Tensor> {
        let op = Self {
            residual: residual.clone(),
            rows,
            width,
        };
        let dbranch = b.graph.alike("d branch", branch, &[rows, width]);
        let (mut reads, mut writes, mut temps) = (vec![dy, branch], vec![dbranch], vec![]);
        if let Some(m) = &residual.modulation {
            reads.push(b.read(modulation));
            writes.push(modulation_target(b, modulation)?);
            let groups = rows / m.sample_rows;
            temps.push(b.graph.activation(
                "gate partials",
                &[groups * m.sample_rows.div_ceil(BLOCK), width],
            ));
        }
        b.graph
            .push(op, &reads, &writes, &temps, Extent::Fixed(rows))?;
        Ok(dbranch)
    }

    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        let (dy, branch, n) = (io.read(0), io.read(1), self.width);
        let gates = self.residual.modulation.as_ref().map(|g| (g, io.read(2)));
        let mask = self.residual.dropout.mask::<F>(io.step);
        let factors = io.scratch(self.rows * n);
        // factors become dy * d, which both results need
        for_rows2(io.write(0), n, factors, n, |first, out, factor| {
            mask.fill(first * n, factor);
            for (i, out) in out.chunks_exact_mut(n).enumerate() {
                let (f, dy) = (&mut factor[i * n..][..n], &dy[(first + i) * n..][..n]);
                match &gates {
                    Some((g, values)) => {
                        let gate = &values[g.at(first + i)..][..n];
                        for j in 0..n {
                            f[j] *= dy[j];
                            out[j] = f[j] * gate[j];
                        }
                    }
                    None => {
                        for j in 0..n {
                            out[j] = f[j] * dy[j];
                        }
                    }
                }
            }
        });
        if let Some((g, _)) = gates {
            let (dmod, factors) = (io.write(1), &*factors);
            for group in 0..self.rows / g.sample_rows {
                let first = group * g.sample_rows;
                sum_rows(
                    &mut dmod[g.at(first)..][..n],
                    g.sample_rows,
                    |col, row, out| {
                        let at = (first + row) * n + col;
                        let (d, b) = (&factors[at..][..out.len()], &branch[at..][..out.len()]);
                        for j in 0..out.len() {
                            out[j] += d[j] * b[j];
                        }
                    },
                );
            }
        }
    }
}

twin!(GatedResidualBackward);

impl Op for GatedResidualBackward {
    fn name(&self) -> &'static str {
        "gated_residual_backward"
    }

    fn role(&self, input: usize) -> Role {
        if input == 1 { Role::Half } else { Role::Number }
    }

    fn writes_half(&self, output: usize) -> bool {
        output == 0
    }

    fn scalars(&self) -> Vec<Declared> {
        vec![DROPOUT_KEY.declared]
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        let (gate, dropout) = (self.residual.modulation.as_ref(), self.residual.dropout);
        let (group_rows, stride, column) =
            gate.map_or((self.rows, 0, 0), |g| (g.sample_rows, g.stride, g.column));
        let groups = self.rows / group_rows;
        let (blocks, tiles) = (group_rows.div_ceil(BLOCK), self.width.div_ceil(64));
        let params = GatedParams {
            width: self.width as u32,
            group_rows: group_rows as u32,
            blocks: blocks as u32,
            groups: groups as u32,
            mod_stride: stride as u32,
            gate_column: column as u32,
            threshold: dropout.threshold(),
            keep_scale: dropout.scale(),
            site: dropout.site,
            tiles: tiles as u32,
        };
        let gated = gate.is_some();
        let mut kernels = vec![
            Kernel::new(shader!("gated_residual"))
                .entry("partial")
                .flag("GATE", gated)
                .numbers("Branch", lower.read_element(1))
                .flag("DROPOUT", dropout.p > 0.0)
                .constant("BLOCK", BLOCK as u32)
                .read(0)
                .read(1)
                .read_if(gated, 2)
                .write(0)
                .temp_if(gated, 0)
                .params(params)
                .groups(groups * blocks * tiles),
        ];
        if gated {
            let finish = Kernel::new(shader!("gated_residual")).entry("finish");
            let finish = finish.flag("FINISH", true).temp_read(0).write(1);
            kernels.push(finish.params(params).groups(groups * tiles));
        }
        kernels
    }
}
