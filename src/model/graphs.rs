//! The graphs that training, evaluation, sampling and inspection run, over any network.

use crate::error::{Error, Result};
use crate::graph::{BACKWARD, Graph, Session, Tensor, UPDATE};
use crate::model::network::Network;
use crate::model::pass::Pass;
use crate::model::trunk::{Call, Options};
use crate::ops::{COEFFICIENTS, HeadLoss, ROWS, RowList, RowLoss, Rule};
use crate::program::{Element, Slab, Step};

/// Elements of a chunk's logits.
const CHUNK_LOGITS: usize = 1 << 24;

/// Rows of a chunk of the output head: a multiple of 64, so that chunks keep the alignment of
/// their tensors.
pub(super) fn chunk_rows(vocab: usize, rows: usize) -> usize {
    let most = (CHUNK_LOGITS / vocab).max(64) / 64 * 64;
    most.min(rows.next_multiple_of(64))
}

/// Inputs that say which rows a loss is about; each has room for all rows of the batch.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs {
    /// The rows that the loss is about: the masked ones, or all.
    pub list: RowList,
    /// Token that each listed row should predict, `[rows]`.
    pub targets: Tensor,
    /// Weight of each listed row's nll in the loss, `[rows]`.
    pub weights: Tensor,
    /// Coefficients `[rows, 4]` of losses that have them.
    pub coefficients: Option<Tensor>,
}

impl LossInputs {
    /// Uploads the listed rows of a pass, and sets how many there are.
    ///
    /// # Errors
    /// [`Error::Shape`] for more than the graph was built for.
    pub fn write(&self, session: &mut Session, pass: &Pass, step: &mut Step) -> Result<()> {
        session.write_uint(self.list.rows, &pass.rows)?;
        session.write_uint(self.targets, &pass.targets)?;
        session.write(self.weights, &pass.weights)?;
        if let Some(coefficients) = self.coefficients {
            session.write(coefficients, &pass.coefficients)?;
        }
        step.set(ROWS, pass.rows.len() as u32);
        Ok(())
    }
}

fn loss(
    network: &Network,
    g: &mut Graph,
    hidden: Tensor,
    loss: RowLoss,
    chunk: Option<usize>,
    gradient: bool,
) -> Result<(LossInputs, [Tensor; 2])> {
    let trunk = &*network.trunk;
    let rows = g.shape(hidden)[0];
    let list = g.row_list(rows);
    let inputs = LossInputs {
        list,
        targets: g.input_uint("x0", &[rows]),
        weights: g.input("weights", &[rows]),
        coefficients: loss
            .has_coefficients()
            .then(|| g.input("coefficients", &[rows, COEFFICIENTS])),
    };
    let listed = g.gather_rows("listed", hidden, list)?;
    let head = trunk.head(g, &mut network.params(), listed)?;
    let outputs = g.head_loss(&HeadLoss {
        loss,
        coefficients: inputs.coefficients,
        hidden: head.hidden,
        weight: head.weight,
        bias: head.bias,
        targets: inputs.targets,
        weights: inputs.weights,
        mask_index: trunk.mask_index(),
        chunk: chunk.unwrap_or_else(|| chunk_rows(trunk.vocab_size(), rows)),
        gradient,
    })?;
    Ok((inputs, outputs))
}

/// One micro-step of training and the optimiser's update.
pub struct TrainGraph {
    /// Has the phases `FORWARD`, `BACKWARD` and `UPDATE`.
    pub graph: Graph,
    /// The network's inputs, for [`Call::write`].
    pub call: Call,
    /// Listed rows with targets and weights, for [`LossInputs::write`].
    pub inputs: LossInputs,
    /// Sum of weight times nll over the listed rows, `[1]`, nats.
    pub loss: Tensor,
    /// Unweighted nll of each listed row, `[rows]`.
    pub nll: Tensor,
    /// What [`Graph::grad_norm`] makes, `[4]`: norm, clip factor, 1 if every gradient is finite.
    pub stats: Tensor,
}

impl TrainGraph {
    /// Builds it for micro-batches, listed rows scored by `row_loss`, parameters updated by `rule`; `chunk`: rows of an output chunk (a multiple of
    /// 64), by default what fits 64 MiB.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the length is above the model's.
    pub fn new(
        network: &Network,
        options: Options,
        row_loss: RowLoss,
        chunk: Option<usize>,
        clip: f64,
        rule: &dyn Fn(&str, &[usize]) -> Rule,
    ) -> Result<Self> {
        let half = |slab: &Slab| slab.element != Element::F32 && !slab.frozen;
        if network.layout.slabs().iter().any(half) {
            let problem = "weights in half precision are for inference: train in f32";
            return Err(Error::argument("weights", "half precision", problem));
        }
        let options = Options {
            training: true,
            ..options
        };
        let (mut graph, call, hidden) = network.begin(options)?;
        let (inputs, [loss, nll]) = loss(network, &mut graph, hidden, row_loss, chunk, true)?;
        graph.keep(nll);
        graph.begin_phase(BACKWARD);
        graph.backward(loss)?;
        graph.begin_phase(UPDATE);
        let stats = graph.grad_norm(clip)?;
        graph.update(stats, rule)?;
        Ok(Self {
            graph,
            call,
            inputs,
            loss,
            nll,
            stats,
        })
    }
}

/// The loss without gradients.
pub struct EvalGraph {
    /// Has the phase `FORWARD` alone.
    pub graph: Graph,
    /// The network's inputs, for [`Call::write`].
    pub call: Call,
    /// Listed rows with targets, for [`LossInputs::write`].
    pub inputs: LossInputs,
    /// Unweighted nll of each listed row, `[rows]`.
    pub nll: Tensor,
}

impl EvalGraph {
    /// Builds it, listed rows scored by `row_loss`.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the length is above the model's.
    pub fn new(network: &Network, options: Options, row_loss: RowLoss) -> Result<Self> {
        let (mut graph, call, hidden) = network.begin(options)?;
        let (inputs, [_, nll]) = loss(network, &mut graph, hidden, row_loss, None, false)?;
        Ok(Self {
            graph,
            call,
            inputs,
            nll,
        })
    }
}

/// Logits at every position, and a denoiser's SUBS log-probabilities.
pub struct LogitsGraph {
    /// Has the phase `FORWARD` alone.
    pub graph: Graph,
    /// The network's inputs, for [`Call::write`].
    pub call: Call,
    /// Raw logits, `[rows, V]`, the mask's among them.
    pub logits: Tensor,
}

impl LogitsGraph {
    /// Builds it.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the length is above the model's.
    pub fn new(network: &Network, options: Options) -> Result<Self> {
        let (mut graph, call, hidden) = network.begin(options)?;
        let head = network
            .trunk
            .head(&mut graph, &mut network.params(), hidden)?;
        let logits = graph.linear("logits", head.hidden, head.weight, head.bias)?;
        Ok(Self {
            graph,
            call,
            logits,
        })
    }

    /// Appends SUBS's log-probabilities `[rows, V]`.
    ///
    /// # Errors
    /// [`Error::Internal`] for a network without a mask.
    pub fn log_probs(&mut self, network: &Network) -> Result<Tensor> {
        let missing = || Error::Internal("SUBS needs the mask's id".into());
        let mask_index = network.trunk.mask_index().ok_or_else(missing)?;
        let (logits, xt) = (self.logits, self.call.xt);
        self.graph.subs("subs_log_probs", logits, xt, mask_index)
    }
}
