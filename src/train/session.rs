//! The optimiser step on a device: uploads, micro-steps and the update.

use std::sync::Arc;

use crate::config::{HiddenUpdate, OptimConfig};
use crate::device::Device;
use crate::error::Result;
use crate::graph::PARAMS;
use crate::graph::{BACKWARD, FORWARD, UPDATE};
use crate::graph::{Running, Session, Storage};
use crate::model::{Group, Network, Options, Pass, TrainGraph, Trunk};
use crate::ops::{AdamwConfig, MuonConfig, RowLoss, Rule};
use crate::ops::{PARTS, SEGMENTS};
use crate::program::Step;

/// What a run of the training graph reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// The micro-batch's share of the loss.
    pub loss: f64,
    /// Gradient norm before clipping; only after an update.
    pub grad_norm: f64,
    /// Whether every gradient was finite, so the weights were updated; only after an update. They are not where a loss
    /// is not.
    pub finite: bool,
}

/// How a parameter of a group is updated, by resolved settings.
pub fn rule(optim: &OptimConfig, group: Group) -> Rule {
    let &OptimConfig {
        beta1,
        beta2,
        eps,
        weight_decay,
        momentum,
        ..
    } = optim;
    let share = optim.hidden_lr.map_or(1.0, |lr| lr / optim.peak());
    let rate = match group {
        Group::Hidden { .. } => share,
        Group::Embedding => optim.embedding_rate,
        Group::Head => optim.head_rate,
        Group::Modulation => optim.modulation_rate,
        Group::Vector => optim.vector_rate,
        Group::Adapter => 1.0,
    };
    match (group, optim.hidden) {
        (Group::Hidden { parts }, Some(HiddenUpdate::Muon)) => Rule::Muon {
            config: MuonConfig {
                momentum,
                weight_decay,
            },
            rate,
            parts,
        },
        _ => Rule::Adamw {
            config: AdamwConfig {
                beta1,
                beta2,
                eps,
                weight_decay,
            },
            rate,
        },
    }
}

/// The training graph of a model on its device.
pub struct TrainSession {
    /// The graph and its handles.
    pub graph: TrainGraph,
    session: Session,
    trunk: Arc<dyn Trunk>,
}

impl TrainSession {
    /// Builds the graph for micro-batches of the options' sizes (an objective's), listed rows scored by `row_loss`, and
    /// creates everything it needs. Settings of `optim` that are not resolved are the reference's.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] for impossible sizes, [`crate::Error::Unsupported`] or
    /// [`crate::Error::OutOfMemory`] if the device cannot hold it.
    pub async fn new(
        device: &Device,
        network: &Network,
        storage: &Storage,
        optim: &OptimConfig,
        row_loss: RowLoss,
        options: Options,
        chunk: Option<usize>,
    ) -> Result<Self> {
        let rule = |name: &str, _: &[usize]| rule(optim, network.group(name));
        let mut graph = TrainGraph::new(network, options, row_loss, chunk, optim.clip, &rule)?;
        let outputs = [graph.loss, graph.stats];
        let session = Session::new(device, &mut graph.graph, storage, PARAMS, &outputs).await?;
        Ok(Self {
            graph,
            session,
            trunk: network.trunk.clone(),
        })
    }

    /// Uploads a micro-batch, adds its gradients, and with `update` applies them. `step` holds the
    /// learning rate and keys; the batch's counts are filled in.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for a batch of another size, [`crate::Error::DeviceLost`] and its kin.
    pub async fn run(
        &mut self,
        storage: &mut Storage,
        pass: &Pass,
        step: Step,
        update: bool,
    ) -> Result<StepOutcome> {
        let running = self.submit(storage, pass, step, update).await?;
        self.finish(running).await
    }

    /// Runs that are worth having on their way at a time, see [`Session::runs`].
    pub fn runs(&self) -> usize {
        self.session.runs()
    }

    /// As [`TrainSession::run`] without waiting for what it reports: at most [`RUNS`](crate::engine::graph::RUNS) are on
    /// their way, and [`TrainSession::finish`] takes them in order.
    ///
    /// # Errors
    /// As [`TrainSession::run`].
    pub async fn submit(
        &mut self,
        storage: &mut Storage,
        pass: &Pass,
        mut step: Step,
        update: bool,
    ) -> Result<Running> {
        let (graph, session) = (&self.graph, &mut self.session);
        graph.call.write(session, &*self.trunk, pass)?;
        graph.inputs.write(session, pass, &mut step)?;
        session.write_uint(graph.inputs.list.row_of, &pass.row_of)?;
        step.set(PARTS, pass.segments.part_count());
        step.set(SEGMENTS, pass.segments.segment_count());
        let phases = &[FORWARD, BACKWARD, UPDATE][..if update { 3 } else { 2 }];
        session.submit(storage, &step, phases).await
    }

    /// Applies the gradients that runs without an update have left, changed or not in between
    /// ([`Storage::read_slab`], [`Storage::write_slab`]). The loss it reports is that of the last run.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] and its kin.
    pub async fn update(&mut self, storage: &mut Storage, step: &Step) -> Result<StepOutcome> {
        let running = self.session.submit(storage, step, &[UPDATE]).await?;
        self.finish(running).await
    }

    /// What a submitted run reports.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`] and its kin.
    pub async fn finish(&mut self, running: Running) -> Result<StepOutcome> {
        let results = self.session.finish(running).await?;
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
