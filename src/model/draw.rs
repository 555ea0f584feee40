//! The graphs that draw tokens.

use crate::error::{Error, Result};
use crate::graph::{FORWARD, Graph, Tensor};
use crate::model::network::Network;
use crate::model::trunk::{Call, Options, Trunk};
use crate::ops::{Allowed, Draws, KEY_WORDS, Last, Never, Race, RowList};
use crate::program::Phase;

use super::graphs::chunk_rows;

/// Which tokens may be drawn, and from which rows.
#[derive(Clone, Copy, Debug)]
pub struct Among {
    /// Ids below this one.
    pub below: usize,
    /// But not this one.
    pub never: Never,
    /// Logits are `l + guidance (l - m)`, m those of the batch's second half; 0: there is no such half.
    pub guidance: f64,
    /// Whether each run says which tokens a row may become: [`Drawing::allowed`].
    pub restricted: bool,
    /// Whether each run says which tokens stand at its rows: [`Drawing::standing`].
    pub standing: bool,
    /// Whether other tokens are drawn there, of which only the standing one's probability is said.
    pub redrawn: bool,
    /// Places at which distributions are kept to measure how far they move, see [`Drawing::places`]; 0: none.
    pub places: usize,
}

impl Among {
    /// All tokens but the mask.
    pub fn all(trunk: &dyn Trunk) -> Self {
        Self::new(trunk.vocab_size(), Never::absent(trunk.mask_index()))
    }

    /// The ids below one, but not another, in calls that are told nothing more.
    pub fn new(below: usize, never: Never) -> Self {
        Self {
            below,
            never,
            guidance: 0.0,
            restricted: false,
            standing: false,
            redrawn: false,
            places: 0,
        }
    }
}

/// Draws of tokens at listed rows of a call.
#[derive(Debug)]
pub struct Drawing {
    /// The network's inputs, for [`Call::write`].
    pub call: Call,
    /// The rows to draw at.
    pub list: RowList,
    /// Keys and numbers of the listed rows' random draws, `[rows, 3]`.
    pub keys: Tensor,
    /// Of guided draws: the same rows in the batch's second half.
    pub plain: Option<RowList>,
    /// The tokens that each row may become, in sets that all calls share; see [`Among::restricted`].
    pub allowed: Option<Allowed>,
    /// What stands at each row, or [`OPEN`](crate::ops::OPEN); see [`Among::standing`].
    pub standing: Option<Tensor>,
    /// The place of each row among those where distributions are kept; see [`Among::places`].
    pub places: Option<Tensor>,
    /// What is drawn, in the order of the list.
    pub draws: Draws,
}

impl Drawing {
    fn append(
        network: &Network,
        graph: &mut Graph,
        options: Options,
        among: Among,
        [sets, logs]: [Option<Tensor>; 2],
    ) -> Result<Self> {
        let (call, hidden) = network.append(graph, options)?;
        let trunk = &*network.trunk;
        let rows = graph.shape(hidden)[0];
        let list = graph.row_list(rows);
        let keys = graph.input_uint("keys", &[rows, KEY_WORDS]);
        let head_of = |g: &mut Graph, name: &str, list| {
            let rows = g.gather_rows(name, hidden, list)?;
            trunk.head(g, &mut network.params(), rows)
        };
        let mut head = head_of(graph, "revealed", list)?;
        let mut plain = None;
        if among.guidance != 0.0 {
            // the head is linear, so what it is given may be mixed instead of its logits
            let others = graph.row_list(rows);
            let other = head_of(graph, "plain", others)?.hidden;
            let near = graph.scale("guided", head.hidden, 1.0 + among.guidance)?;
            let far = graph.scale("unguided", other, -among.guidance)?;
            head.hidden = graph.add("mixed", near, far)?;
            plain = Some(others);
        }
        let (mut weight, mut bias) = (head.weight, head.bias);
        if among.below < graph.shape(weight)[0] {
            let width = graph.shape(weight)[1];
            weight = graph.view(weight, 0, &[among.below, width])?;
            bias = bias
                .map(|bias| graph.view(bias, 0, &[among.below]))
                .transpose()?;
        }
        let allowed = sets.map(|sets| Allowed {
            sets,
            choice: graph.input_uint("choice", &[rows]),
        });
        let standing = among
            .standing
            .then(|| graph.input_uint("standing", &[rows]));
        let last = logs.map(|logs| Last {
            logs,
            places: graph.input_uint("places", &[rows]),
        });
        let race = Race {
            allowed,
            standing,
            redrawn: among.redrawn,
            last,
            ..Race::new(among.never, chunk_rows(among.below, rows))
        };
        let draws = graph.categorical(head.hidden, weight, bias, keys, race)?;
        Ok(Self {
            call,
            list,
            keys,
            plain,
            allowed,
            standing,
            places: last.map(|last| last.places),
            draws,
        })
    }

    /// What comes back from a run: tokens, probabilities, entropies, log totals, margins, and where distributions are
    /// kept drifts, one for each row of the call.
    pub fn outputs(&self) -> Vec<Tensor> {
        let d = self.draws;
        let mut all = vec![d.tokens, d.probability, d.entropy, d.log_total, d.margin];
        all.extend(d.drift);
        all
    }
}

/// Draws from one network in calls of one or of several widths.
pub struct DrawGraph {
    /// Has a phase for each width.
    pub graph: Graph,
    /// The phases, and what is drawn in each.
    pub parts: Vec<(Phase, Drawing)>,
}

/// Names of the phases of a graph that draws in calls of several widths.
const PHASES: [Phase; 10] = [
    FORWARD,
    Phase("draw 1"),
    Phase("draw 2"),
    Phase("draw 3"),
    Phase("draw 4"),
    Phase("draw 5"),
    Phase("draw 6"),
    Phase("draw 7"),
    Phase("draw 8"),
    Phase("draw 9"),
];

impl DrawGraph {
    /// Draws in calls of the options' length.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] if the length is above the model's.
    pub fn new(network: &Network, options: Options, among: Among) -> Result<Self> {
        Self::of_widths(network, options, &[options.length], among)
    }

    /// Draws in calls of each of some lengths, which share what [`Options::kept`] keeps.
    ///
    /// # Errors
    /// As [`DrawGraph::new`]; [`Error::Internal`] for no width or more than ten.
    pub fn of_widths(
        network: &Network,
        options: Options,
        widths: &[usize],
        among: Among,
    ) -> Result<Self> {
        if !(1..=PHASES.len()).contains(&widths.len()) {
            let problem = format!("a graph of {} widths", widths.len());
            return Err(Error::Internal(problem));
        }
        let mut graph = Graph::new(network.layout.clone());
        let most = options.batch * widths.iter().max().unwrap_or(&0);
        let words = among.below.div_ceil(32);
        let sets = among
            .restricted
            .then(|| graph.input_uint("sets", &[most, words]));
        let logs = (among.places > 0).then(|| graph.state("logs", &[among.places, among.below]));
        let mut parts = Vec::new();
        for (&length, phase) in widths.iter().zip(PHASES) {
            if !parts.is_empty() {
                graph.begin_phase(phase);
            }
            let options = Options { length, ..options };
            let part = Drawing::append(network, &mut graph, options, among, [sets, logs])?;
            parts.push((phase, part));
        }
        Ok(Self { graph, parts })
    }

    /// Outputs of all phases, one after the other.
    pub fn outputs(&self) -> Vec<Tensor> {
        self.parts
            .iter()
            .flat_map(|(_, part)| part.outputs())
            .collect()
    }
}
