//! Linear layer `y = x W^T + b` with fused GELU or gated residual.
//!
//! Backward, with dY the gradient of the product's own output: `dX = dY W`, `dW += dY^T X`,
//! `db += sum over rows of dY`.

use crate::cpu::{Float, Io};
use crate::error::Result;
use crate::graph::{Backward, Graph, Tensor};
use crate::graph::{Kernel, Lower, Op, Role};
use crate::ops::elementwise::Elementwise;
use crate::ops::epilogue::{Epilogue, Residual};
use crate::ops::gated_residual::GatedResidualBackward;
use crate::ops::matmul::{Form, Matmul};
use crate::ops::parts::parts;
use crate::ops::{Dropout, Modulation};
use crate::program::Declared;
use crate::program::Extent;
use crate::twin;

/// A product in its forward form, with the backward rule; operands are those of [`Matmul`].
#[derive(Clone, Debug)]
struct Linear(Matmul);

impl Graph {
    /// `y [rows, n] = x [rows, k] w [n, k]^T + bias [n]`. A weight that does not fit a binding is taken part by part and
    /// cannot be trained.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shapes do not agree.
    pub fn linear(
        &mut self,
        name: &str,
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
    ) -> Result<Tensor> {
        let rows = self.rows(x);
        self.linear_rows(name, x, w, bias, Extent::Fixed(rows))
    }

    /// [`Graph::linear`] on as many rows as the step says.
    ///
    /// # Errors
    /// As [`Graph::linear`].
    pub fn linear_rows(
        &mut self,
        name: &str,
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
        extent: Extent,
    ) -> Result<Tensor> {
        let parts = match *self.shape(w) {
            [n, k] => parts(self, w, [n, k])?,
            _ => Vec::new(),
        };
        if parts.len() < 2 {
            return Ok(self.linear_with(name, x, w, bias, Epilogue::None, None, extent)?[0]);
        }
        let (n, k) = (self.shape(w)[0], self.shape(w)[1]);
        let y = self.activation(name, &[self.rows(x), n]);
        for part in parts {
            let w = self.view(w, part.start * k, &[part.len(), k])?;
            let bias = bias.map(|bias| self.view(bias, part.start, &[part.len()]));
            let bias = bias.transpose()?;
            let [some, _] = self.linear_with(name, x, w, bias, Epilogue::None, None, extent)?;
            self.columns(some, y, part.start, extent)?;
        }
        Ok(y)
    }

    /// `[u, gelu(u)]` with `u = x w^T + bias`.
    ///
    /// # Errors
    /// As [`Graph::linear`].
    pub fn linear_gelu(
        &mut self,
        name: [&str; 2],
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
    ) -> Result<[Tensor; 2]> {
        let extent = Extent::Fixed(self.rows(x));
        let [u, y] = self.linear_with(name[0], x, w, bias, Epilogue::Gelu, None, extent)?;
        self.rename(y, name[1]);
        Ok([u, y])
    }

    /// `[branch, residual + gate * dropout(branch)]` with `branch = x w^T + bias`; without `gate` it
    /// is 1.
    ///
    /// # Errors
    /// As [`Graph::linear`].
    pub fn linear_residual(
        &mut self,
        name: [&str; 2],
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
        residual: Tensor,
        gate: Option<(Tensor, Modulation)>,
        dropout: Dropout,
    ) -> Result<[Tensor; 2]> {
        let extent = Extent::Fixed(self.rows(x));
        let rest = Some((residual, gate));
        let options = Residual {
            modulation: gate.map(|g| g.1),
            dropout,
        };
        let [branch, y] = self.linear_with(
            name[0],
            x,
            w,
            bias,
            Epilogue::Residual(options),
            rest,
            extent,
        )?;
        self.rename(y, name[1]);
        Ok([branch, y])
    }

    fn rows(&self, x: Tensor) -> usize {
        let width = self.shape(x).last().copied().unwrap_or(1).max(1);
        self.len(x) / width
    }

    fn linear_with(
        &mut self,
        name: &str,
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
        epilogue: Epilogue,
        rest: Option<(Tensor, Option<(Tensor, Modulation)>)>,
        extent: Extent,
    ) -> Result<[Tensor; 2]> {
        let &[n, k] = self.shape(w) else {
            return Err(self.misfit("linear", w, "[n, k]"));
        };
        let rows = self.rows(x);
        self.require(
            "linear",
            x,
            self.shape(x).last() == Some(&k),
            &format!("[.., {k}]"),
        )?;
        let mut reads = vec![x, w];
        if let Some(bias) = bias {
            self.expect("linear", bias, &[n])?;
            reads.push(bias);
        }
        let y = self.rounded(name, &[rows, n]);
        let mut writes = vec![y];
        if let Some((residual, gate)) = rest {
            self.require(
                "linear",
                residual,
                self.len(residual) == rows * n,
                &format!("[{rows}, {n}]"),
            )?;
            reads.push(residual);
            if let Some((gate, place)) = gate {
                place.check(self, "linear", gate, rows, n)?;
                reads.push(gate);
            }
        }
        match epilogue {
            Epilogue::None => {}
            Epilogue::Gelu => writes.push(self.rounded(name, &[rows, n])),
            // what runs through all blocks is never rounded
            Epilogue::Residual(_) => writes.push(self.activation(name, &[rows, n])),
        }
        let op = Linear(Matmul {
            bias: bias.is_some(),
            epilogue,
            ..Matmul::new(Form::Nt, rows, n, k)
        });
        self.push(op, &reads, &writes, &[], extent)?;
        Ok([y, *writes.last().unwrap_or(&y)])
    }
}

impl Linear {
    fn run<F: Float>(&self, io: &mut Io<'_, F>) {
        self.0.run(io);
    }
}

twin!(Linear);

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn role(&self, input: usize) -> Role {
        self.0.role(input)
    }

    fn writes_half(&self, output: usize) -> bool {
        self.0.writes_half(output)
    }

    fn scalars(&self) -> Vec<Declared> {
        self.0.scalars()
    }

    fn backward(&self, b: &mut Backward<'_>) -> Result<()> {
        backward(&self.0, b)
    }

    fn kernels(&self, lower: &Lower<'_>) -> Vec<Kernel> {
        self.0.kernels(lower)
    }
}

fn backward(op: &Matmul, b: &mut Backward<'_>) -> Result<()> {
    let (rows, n, k) = (op.m, op.n, op.k);
    let (x, w) = (b.read(0), b.read(1));
    let at = 2 + usize::from(op.bias);
    let dy = match &op.epilogue {
        Epilogue::None => b.dy(0)?,
        Epilogue::Gelu => {
            // in place: nobody else reads the gradient of gelu(u)
            let (dy, u) = (b.dy(1)?, b.write(0));
            b.graph.push(
                Elementwise::GeluBackward,
                &[u],
                &[dy],
                &[],
                Extent::Fixed(rows * n),
            )?;
            dy
        }
        Epilogue::Residual(r) => {
            let (dy, branch) = (b.dy(1)?, b.write(0));
            let dbranch = GatedResidualBackward::push(b, r, dy, branch, at + 1, rows, n)?;
            b.pass(at, dy)?;
            dbranch
        }
    };
    if let Some((dw, _)) = b.target(1) {
        let mut writes = vec![dw];
        let mut product = Matmul {
            accumulate: true,
            ..Matmul::new(Form::Tn, n, k, rows)
        };
        if op.bias
            && let Some((db, _)) = b.target(2)
        {
            product.column_sum = true;
            writes.push(db);
        }
        let extent = b.extent();
        product.push(b.graph, [dy, x], &writes, extent)?;
    }
    if let Some((dx, accumulate)) = b.target(0) {
        let product = Matmul {
            accumulate,
            ..Matmul::new(Form::Nn, rows, k, n)
        };
        let extent = b.extent();
        product.push(b.graph, [dy, w], &[dx], extent)?;
    }
    Ok(())
}
