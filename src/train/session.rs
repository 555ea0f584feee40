//! The optimiser step on a device: uploads, micro-steps and the update.

use crate::config::OptimConfig;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::PARAMS;
use crate::graph::{BACKWARD, FORWARD, UPDATE};
use crate::graph::{Session, Storage};
use crate::model::{Backbone, TrainGraph};
use crate::ops::{AdamwConfig, RowLoss};
use crate::ops::{PARTS, ROWS, SEGMENTS};
use crate::program::Step;
use crate::train::Batch;

/// What a run of the training graph reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The micro-batch's share of the loss.
    pub loss: f64,
    /// Gradient norm before clipping; only after an update.
    pub grad_norm: f64,
    /// Whether every gradient was finite, so the weights were updated; only after an update.
    pub finite: bool,
}

/// The training graph of a model on its device.
pub struct TrainSession {
    /// The graph and its handles.
    pub graph: TrainGraph,
    session: Session,
}

impl TrainSession {
    /// Builds the graph for micro-batches of `batch` sequences, listed rows scored by `row_loss`, and
    /// creates everything it needs.
    ///
    /// # Errors
    /// [`Error::Config`] for impossible sizes, [`Error::Unsupported`] or
    /// [`Error::OutOfMemory`] if the device cannot hold it.
    pub async fn new(
        device: &Device,
        backbone: &Backbone,
        storage: &Storage,
        optim: &OptimConfig,
        row_loss: RowLoss,
        batch: usize,
        length: usize,
        chunk: Option<usize>,
    ) -> Result<Self> {
        let &OptimConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
            ..
        } = optim;
        let adamw = AdamwConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
        };
        let mut graph =
            TrainGraph::new(backbone, row_loss, batch, length, chunk, optim.clip, adamw)?;
        let outputs = [graph.loss, graph.stats];
        let session = Session::new(device, &mut graph.graph, storage, PARAMS, &outputs).await?;
        Ok(Self { graph, session })
    }

    /// Uploads a micro-batch, adds its gradients, and with `update` applies them. `step` holds the
    /// learning rate and keys; the batch's counts are filled in.
    ///
    /// # Errors
    /// [`Error::Shape`] for a batch of another size, [`Error::DeviceLost`] and its kin.
    pub async fn run(
        &mut self,
        storage: &mut Storage,
        batch: &Batch,
        mut step: Step,
        update: bool,
    ) -> Result<StepOutcome> {
        let (noised, segments) = (&batch.noised, &batch.segments);
        let (inputs, trunk, s) = (&self.graph.inputs, &self.graph.trunk, &mut self.session);
        let rows = self.graph.graph.len(trunk.xt);
        if noised.xt.len() != rows {
            return Err(Error::Shape {
                op: "train",
                tensor: "batch".into(),
                expected: format!("{rows} tokens"),
                got: vec![noised.xt.len()],
            });
        }
        trunk.write(s, &noised.xt, &batch.time)?;
        s.write_uint(inputs.list.rows, &noised.rows)?;
        s.write_uint(inputs.list.row_of, &noised.row_of)?;
        s.write_uint(inputs.targets, &noised.targets)?;
        s.write(inputs.weights, &noised.weights)?;
        if let Some(coefficients) = inputs.coefficients {
            s.write(coefficients, &noised.coefficients)?;
        }
        if let Some(t) = trunk.segments {
            s.write_uint(t.order, &segments.order)?;
            s.write_uint(t.parts, &segments.parts)?;
            s.write_uint(t.segments, &segments.segments)?;
        }
        step.set(ROWS, noised.rows.len() as u32);
        step.set(PARTS, segments.part_count());
        step.set(SEGMENTS, segments.segment_count());
        let phases = &[FORWARD, BACKWARD, UPDATE][..if update { 3 } else { 2 }];
        let results = s.run(storage, &step, phases).await?;
        Ok(StepOutcome {
            loss: results[0],
            grad_norm: results[1],
            finite: results[3] != 0.0,
        })
    }

    /// The session, to read tensors from.
    pub fn session(&self) -> &Session {
        &self.session
    }
}
