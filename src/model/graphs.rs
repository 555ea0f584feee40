//! The graphs that training, evaluation, sampling and inspection run.

use crate::config::ModelKind;
use crate::error::Result;
use crate::graph::{BACKWARD, UPDATE};
use crate::graph::{Graph, Tensor};
use crate::model::{Backbone, Trunk, TrunkOptions};
use crate::ops::{AdamwConfig, COEFFICIENTS, Draws, HeadLoss, RowList, RowLoss};

/// Elements of a chunk's logits.
const CHUNK_LOGITS: usize = 1 << 24;

/// Rows of a chunk of the output head: a multiple of 64, so that chunks keep the alignment of
/// their tensors.
fn chunk_rows(vocab: usize, rows: usize) -> usize {
    let most = (CHUNK_LOGITS / vocab).max(64) / 64 * 64;
    most.min(rows.next_multiple_of(64))
}

/// Inputs of the loss.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs {
    /// The rows that the loss is about: the masked ones, or all.
    pub list: RowList,
    /// What each listed row should predict.
    pub targets: Tensor,
    /// Weight of each listed row's nll in the loss.
    pub weights: Tensor,
    /// Coefficients `[rows, 4]` of losses that have them.
    pub coefficients: Option<Tensor>,
}

/// A graph with the network in it.
fn begin(
    backbone: &Backbone,
    batch: usize,
    length: usize,
    training: bool,
) -> Result<(Graph, Trunk)> {
    let mut graph = Graph::new(backbone.layout.clone());
    let options = TrunkOptions {
        batch,
        length,
        training,
        decode: false,
    };
    let trunk = backbone.trunk(&mut graph, options)?;
    Ok((graph, trunk))
}

fn loss(
    backbone: &Backbone,
    g: &mut Graph,
    trunk: &Trunk,
    loss: RowLoss,
    chunk: Option<usize>,
    gradient: bool,
) -> Result<(LossInputs, [Tensor; 2])> {
    let rows = g.shape(trunk.hidden)[0];
    let list = g.row_list(rows);
    let inputs = LossInputs {
        list,
        targets: g.input_uint("x0", &[rows]),
        weights: g.input("weights", &[rows]),
        coefficients: loss
            .has_coefficients()
            .then(|| g.input("coefficients", &[rows, COEFFICIENTS])),
    };
    let hidden = g.gather_rows("masked", trunk.hidden, list)?;
    let [weight, bias] = backbone.params.output.map(|id| g.param(id));
    let outputs = g.head_loss(&HeadLoss {
        loss,
        coefficients: inputs.coefficients,
        hidden,
        weight,
        bias,
        targets: inputs.targets,
        weights: inputs.weights,
        mask_index: backbone.config.mask_index,
        chunk: chunk.unwrap_or_else(|| chunk_rows(backbone.config.vocab_size, rows)),
        gradient,
    })?;
    Ok((inputs, outputs))
}

/// One micro-step of training and the optimiser's update.
pub struct TrainGraph {
    /// The graph.
    pub graph: Graph,
    /// Its network.
    pub trunk: Trunk,
    /// Inputs of the loss.
    pub inputs: LossInputs,
    /// `[1]`
    pub loss: Tensor,
    /// Unweighted nll of each listed row, `[rows]`.
    pub nll: Tensor,
    /// `[4]`: gradient norm, clip factor, 1 if finite.
    pub stats: Tensor,
}

impl TrainGraph {
    /// Builds it for micro-batches of `batch` sequences of `length` tokens, listed rows scored by
    /// `row_loss`; `chunk`: rows of an output chunk (a multiple of 64), by default what fits 64 MiB.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the length is above the model's.
    pub fn new(
        backbone: &Backbone,
        row_loss: RowLoss,
        batch: usize,
        length: usize,
        chunk: Option<usize>,
        clip: f64,
        adamw: AdamwConfig,
    ) -> Result<Self> {
        let (mut graph, trunk) = begin(backbone, batch, length, true)?;
        let (inputs, [loss, nll]) = loss(backbone, &mut graph, &trunk, row_loss, chunk, true)?;
        graph.keep(nll);
        graph.begin_phase(BACKWARD);
        graph.backward(loss)?;
        graph.begin_phase(UPDATE);
        let stats = graph.grad_norm(clip)?;
        graph.adamw(stats, adamw)?;
        Ok(Self {
            graph,
            trunk,
            inputs,
            loss,
            nll,
            stats,
        })
    }
}

/// The loss without gradients.
pub struct EvalGraph {
    /// The graph.
    pub graph: Graph,
    /// Its network.
    pub trunk: Trunk,
    /// Inputs of the loss.
    pub inputs: LossInputs,
    /// Unweighted nll of each listed row, `[rows]`.
    pub nll: Tensor,
}

impl EvalGraph {
    /// Builds it for `batch` sequences of `length` tokens, listed rows scored by `row_loss`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the length is above the model's.
    pub fn new(
        backbone: &Backbone,
        row_loss: RowLoss,
        batch: usize,
        length: usize,
    ) -> Result<Self> {
        let (mut graph, trunk) = begin(backbone, batch, length, false)?;
        let (inputs, [_, nll]) = loss(backbone, &mut graph, &trunk, row_loss, None, false)?;
        Ok(Self {
            graph,
            trunk,
            inputs,
            nll,
        })
    }
}

/// Logits at every position, and a denoiser's SUBS log-probabilities.
pub struct LogitsGraph {
    /// The graph.
    pub graph: Graph,
    /// Its network.
    pub trunk: Trunk,
    /// `[rows, V]`
    pub logits: Tensor,
    /// `[rows, V]`; `None` for autoregressive models.
    pub log_probs: Option<Tensor>,
}

impl LogitsGraph {
    /// Builds it for `batch` sequences of `length` tokens; `keep_all` keeps every activation
    /// readable.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the length is above the model's.
    pub fn new(backbone: &Backbone, batch: usize, length: usize, keep_all: bool) -> Result<Self> {
        let (mut graph, trunk) = begin(backbone, batch, length, false)?;
        if keep_all {
            graph.keep_all();
        }
        let [w, b] = backbone.params.output.map(|id| graph.param(id));
        let logits = graph.linear("logits", trunk.hidden, w, Some(b))?;
        let subs = |g: &mut Graph| {
            let mask_index = backbone.config.mask_index;
            g.subs("subs_log_probs", logits, trunk.xt, mask_index)
        };
        let log_probs = match backbone.config.kind {
            ModelKind::Ar => None,
            _ => Some(subs(&mut graph)?),
        };
        Ok(Self {
            graph,
            trunk,
            logits,
            log_probs,
        })
    }
}

/// Draws of tokens at listed rows.
pub struct DrawGraph {
    /// The graph.
    pub graph: Graph,
    /// Its network.
    pub trunk: Trunk,
    /// The rows to draw at.
    pub list: RowList,
    /// What is drawn there.
    pub draws: Draws,
}

impl DrawGraph {
    /// Builds it for `batch` sequences of `length` tokens.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if the length is above the model's.
    pub fn new(backbone: &Backbone, batch: usize, length: usize) -> Result<Self> {
        Self::over(backbone, begin(backbone, batch, length, false)?)
    }

    /// Builds it for the next token of `batch` sequences of an autoregressive model, whose keys and
    /// values are cached; rows are sequences.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a batch of none.
    pub fn decode(backbone: &Backbone, batch: usize) -> Result<Self> {
        let mut graph = Graph::new(backbone.layout.clone());
        let options = TrunkOptions {
            batch,
            length: 1,
            training: false,
            decode: true,
        };
        let trunk = backbone.trunk(&mut graph, options)?;
        Self::over(backbone, (graph, trunk))
    }

    fn over(backbone: &Backbone, (mut graph, trunk): (Graph, Trunk)) -> Result<Self> {
        let rows = graph.shape(trunk.hidden)[0];
        let list = graph.row_list(rows);
        let hidden = graph.gather_rows("revealed", trunk.hidden, list)?;
        let [w, b] = backbone.params.output.map(|id| graph.param(id));
        let chunk = chunk_rows(backbone.config.vocab_size, rows);
        let mask_index = backbone.config.mask_index;
        let draws = graph.categorical(hidden, w, b, list.rows, mask_index, chunk)?;
        Ok(Self {
            graph,
            trunk,
            list,
            draws,
        })
    }
}
