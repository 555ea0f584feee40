//! What a network has to provide to be trained, evaluated and sampled, and what its graphs are fed.

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::Recompute;
use crate::error::{Error, Result};
use crate::graph::{Graph, Session, Tensor};
use crate::model::params::Params;
use crate::model::pass::Pass;
use crate::ops::visibility::{Sight, padded};
use crate::ops::{Attend, Heads, Seen, SegmentInputs, rotary_row};
use crate::program::Element;

/// A network from tokens to hidden states, and the head that makes logits of them.
pub trait Trunk: Debug + Send + Sync {
    /// Logits of a row.
    fn vocab_size(&self) -> usize;

    /// The mask, if it takes no part in the softmax.
    fn mask_index(&self) -> Option<u32> {
        None
    }

    /// The same with another mask, where any token could be it.
    fn for_mask(&self, _mask_index: u32) -> Option<Arc<dyn Trunk>> {
        None
    }

    /// Tokens of the longest sequence.
    fn length(&self) -> usize;

    /// A token whose embedding is never trained: a pad.
    fn frozen_token(&self) -> Option<u32> {
        None
    }

    /// Who sees whom in sequences of `length` tokens of which `mask` says which are no pads: pads are not seen.
    fn padded(&self, mask: &[bool], length: usize) -> Vec<Sight> {
        padded(mask, length, false)
    }

    /// Appends the network up to its last norm: `[rows, width]`.
    ///
    /// # Errors
    /// [`Error::Argument`] or [`Error::Internal`] for a call that it does not support.
    fn build(&self, g: &mut Graph, p: &mut Params, call: &mut Call) -> Result<Tensor>;

    /// Appends what stands between the trunk and the logits.
    ///
    /// # Errors
    /// [`Error::Shape`] for hidden states of another width.
    fn head(&self, g: &mut Graph, p: &mut Params, hidden: Tensor) -> Result<Head>;

    /// The noise levels of a pass, embedded, for the input [`Call::time`]; nothing by default.
    fn time_rows(&self, _conditioning: &[f64]) -> Vec<f64> {
        Vec::new()
    }

    /// Whether it can keep the activations of its blocks in half precision.
    fn rounds(&self) -> bool {
        false
    }

    /// Whether its projections may have low-rank adapters, see [`LoraConfig`](crate::config::LoraConfig).
    fn adaptable(&self) -> bool {
        false
    }

    /// Names of tensors that weight files may hold and that are passed over.
    fn ignored(&self) -> Vec<String> {
        Vec::new()
    }
}

/// How logits are made: `hidden weight^T + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Hidden states, `[rows, width]`.
    pub hidden: Tensor,
    /// Output weight, `[vocab, width]`; a tied head's is the embedding.
    pub weight: Tensor,
    /// Output bias, `[vocab]`, if there is one.
    pub bias: Option<Tensor>,
}

/// Where the tokens of a sequence stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// One after the other.
    #[default]
    Plain,
    /// One after the other, and again from 0 after so many.
    Period(usize),
    /// As each pass says.
    Given,
}

/// Who sees whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sights {
    /// As the network was made for.
    #[default]
    Own,
    /// As each pass says, for the rows of one sequence or of all.
    Given {
        /// Rows that a pass describes: those of one sequence, or of the batch.
        rows: usize,
    },
}

/// How to build a network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Number of sequences B.
    pub batch: usize,
    /// Tokens of each. Positions may not go beyond the network's length; under [`Positions::Period`] they begin again.
    pub length: usize,
    /// Dropout and embedding gradient: for training.
    pub training: bool,
    /// Rows of each sequence whose keys and values stay on the device from run to run; a call's rows go to their places
    /// among them, which its pass says, and attend to all of them. 0: none.
    pub kept: usize,
    /// Where the tokens of a sequence stand.
    pub positions: Positions,
    /// Who sees whom in attention.
    pub sights: Sights,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// What activations of blocks are kept in: f32 or f16, see [`Trunk::rounds`].
    pub precision: Element,
    /// Keeps every activation readable after a run.
    pub keep_all: bool,
}

/// What a call needs besides its tokens if keys and values are kept.
#[derive(Clone, Copy, Debug)]
pub struct KeptInputs {
    /// Where its tokens stand, `[B * length]`.
    pub places: Tensor,
    /// The kept rows as keys, `[B * kept, 4]`: the words of [`Sight`].
    pub keys: Tensor,
}

impl Options {
    /// For `batch` sequences of `length` tokens.
    pub fn of(batch: usize, length: usize) -> Self {
        Self {
            batch,
            length,
            ..Self::default()
        }
    }
}

/// A network under construction: how it is built, and the inputs that it asks for.
#[derive(Debug)]
pub struct Call {
    /// Sizes and switches that it is built with.
    pub options: Options,
    /// Tokens, `[B * length]`.
    pub xt: Tensor,
    /// Noise levels, embedded, see [`Trunk::time_rows`]; `None` in networks that do not read them.
    pub time: Option<Tensor>,
    /// What [`Options::kept`] asks for.
    pub kept: Option<KeptInputs>,
    /// Rows grouped by token, for the gradient of the embedding; `None` unless training.
    pub segments: Option<SegmentInputs>,
    /// Rotary tables whose rows are those of given positions, with their frequencies.
    tables: Vec<(Tensor, Vec<f64>)>,
    /// Who sees whom, within a reach or without.
    sights: Vec<(Tensor, Option<usize>)>,
}

impl Call {
    /// A block begins, or the last one has ended.
    pub fn block(&self, g: &mut Graph) {
        if self.options.training && self.options.recompute == Recompute::Blocks {
            g.checkpoint();
        }
    }

    /// Checks the sizes and makes the inputs that every network has.
    ///
    /// # Errors
    /// [`Error::Argument`] for a batch or a length that cannot be.
    pub fn new(g: &mut Graph, trunk: &dyn Trunk, mut options: Options) -> Result<Self> {
        let (batch, length) = (options.batch, options.length);
        if options.kept > 0 {
            options.positions = Positions::Given;
            options.sights = Sights::Given {
                rows: batch.saturating_mul(length),
            };
        }
        let period = match options.positions {
            Positions::Period(n) => n,
            _ => length.max(options.kept),
        };
        if batch == 0 || length == 0 || period == 0 || period > trunk.length() {
            return Err(Error::argument(
                "batch x length",
                format!("{batch} x {length}"),
                format!(
                    "both must be positive, and the length at most the model's {}",
                    trunk.length()
                ),
            ));
        }
        let rows = batch.saturating_mul(length);
        // rows are numbered in 32 bits
        if rows > 1 << 31 {
            let problem = "makes more than 2147483648 tokens at a time";
            let shown = format!("{batch} x {length}");
            return Err(Error::argument("batch x length", shown, problem));
        }
        let xt = g.input_uint("xt", &[rows]);
        let segments = options
            .training
            .then(|| g.segment_inputs(rows, trunk.vocab_size()));
        let kept = (options.kept > 0).then(|| KeptInputs {
            places: g.input_uint("places", &[rows]),
            keys: g.input_uint("kept sights", &[batch * options.kept, 4]),
        });
        Ok(Self {
            options,
            xt,
            time: None,
            kept,
            segments,
            tables: Vec::new(),
            sights: Vec::new(),
        })
    }

    /// Rows of the batch: `B * length`.
    pub fn rows(&self) -> usize {
        self.options.batch * self.options.length
    }

    /// A rotary table for the tokens' positions.
    pub fn rotary_table(&mut self, g: &mut Graph, frequencies: &[f64]) -> Tensor {
        match self.options.positions {
            Positions::Plain => g.rotary_table(self.options.length, frequencies),
            Positions::Period(n) => g.rotary_table(n, frequencies),
            Positions::Given => {
                let table = g.input("rotary", &[self.rows(), frequencies.len(), 2]);
                self.tables.push((table, frequencies.to_vec()));
                table
            }
        }
    }

    /// `x` with the rows of a table of learned positions, those of its tokens' places.
    ///
    /// # Errors
    /// [`Error::Internal`] for places that a table of this kind cannot be trained with; [`Error::Shape`].
    pub fn positions(&self, g: &mut Graph, name: &str, x: Tensor, table: Tensor) -> Result<Tensor> {
        let period = match (self.kept, self.options.positions) {
            (Some(inputs), _) => {
                let rows = g.embedding(name, inputs.places, table, None)?;
                return g.add(name, x, rows);
            }
            (None, Positions::Plain) => self.options.length,
            (None, Positions::Period(n)) => n,
            (None, Positions::Given) => {
                let problem = "learned positions go one after the other";
                return Err(Error::Internal(problem.into()));
            }
        };
        g.add_rows(name, x, table, period)
    }

    /// Attention of the call's rows, `reach` rows away at most if that is given: among themselves, or with
    /// [`Options::kept`] over all that is kept, their own keys and values included. `attend` may be causal.
    ///
    /// # Errors
    /// As [`Graph::attention`].
    pub fn attention(
        &mut self,
        g: &mut Graph,
        name: &str,
        mut attend: Attend,
        reach: Option<usize>,
    ) -> Result<Tensor> {
        match self.kept {
            Some(inputs) => {
                let kept = [attend.batch, self.options.kept];
                let width = attend.kv_heads * attend.head_dim;
                let [k, v] = [attend.k, attend.v];
                if k.tensor == v.tensor && v.column == k.column + width {
                    let state = keep(g, &format!("{name}.kv"), kept, 2 * width);
                    g.store_rows(k, inputs.places, state)?;
                    [attend.k, attend.v] = [0, width].map(|column| Heads {
                        tensor: state,
                        column,
                    });
                } else {
                    for (part, heads) in [("k", &mut attend.k), ("v", &mut attend.v)] {
                        let state = keep(g, &format!("{name}.{part}"), kept, width);
                        g.store_rows(*heads, inputs.places, state)?;
                        *heads = Heads::whole(state);
                    }
                }
                attend.seen = Seen::By {
                    queries: self.sights(g, self.rows(), reach),
                    keys: inputs.keys,
                };
            }
            None if matches!(attend.seen, Seen::Causal) => {}
            None => attend.seen = self.seen(g, reach),
        }
        g.attention(name, &attend)
    }

    /// Who sees whom, `reach` rows away at most if that is given.
    fn seen(&mut self, g: &mut Graph, reach: Option<usize>) -> Seen {
        let length = self.options.length;
        let sights = match (self.options.sights, reach) {
            (Sights::Own, None) => return Seen::All,
            (Sights::Own, Some(reach)) => {
                let rows = crate::ops::visibility::window(length, reach);
                let words = rows.iter().flat_map(|s| s.words()).collect();
                g.constant_uint("sights", &[length, 4], words)
            }
            (Sights::Given { rows }, _) => self.sights(g, rows, reach),
        };
        Seen::By {
            queries: sights,
            keys: sights,
        }
    }

    /// The input of given sights.
    fn sights(&mut self, g: &mut Graph, rows: usize, reach: Option<usize>) -> Tensor {
        let known = self.sights.iter().find(|(_, r)| *r == reach);
        known.map(|(t, _)| *t).unwrap_or_else(|| {
            let made = g.input_uint("sights", &[rows, 4]);
            self.sights.push((made, reach));
            made
        })
    }

    /// Uploads what the network reads of a pass.
    ///
    /// # Errors
    /// [`Error::Shape`] for a pass of another size, or one that lacks what the network was built for.
    pub fn write(&self, session: &mut Session, trunk: &dyn Trunk, pass: &Pass) -> Result<()> {
        let rows = self.rows();
        let check = |tensor: &str, got: usize, expected: usize| {
            if got == expected {
                return Ok(());
            }
            Err(Error::Shape {
                op: "pass",
                tensor: tensor.into(),
                expected: format!("{expected} tokens"),
                got: vec![got],
            })
        };
        check("batch", pass.xt.len(), rows)?;
        session.write_uint(self.xt, &pass.xt)?;
        if let Some(time) = self.time {
            session.write(time, &trunk.time_rows(&pass.conditioning))?;
        }
        if let Some(s) = self.segments {
            session.write_uint(s.order, &pass.segments.order)?;
            session.write_uint(s.parts, &pass.segments.parts)?;
            session.write_uint(s.segments, &pass.segments.segments)?;
        }
        if !self.tables.is_empty() || self.kept.is_some() {
            check("positions", pass.positions.len(), rows)?;
        }
        if let Some(inputs) = self.kept {
            let kept = self.options.kept;
            check("kept sights", pass.kept.len(), self.options.batch * kept)?;
            if let Some(&place) = pass.positions.iter().find(|&&at| at as usize >= kept) {
                let problem = format!("is beyond the {kept} rows that are kept");
                return Err(Error::argument("position", place, problem));
            }
            session.write_uint(inputs.places, &pass.positions)?;
            let words: Vec<u32> = pass.kept.iter().flat_map(|sight| sight.words()).collect();
            session.write_uint(inputs.keys, &words)?;
        }
        for (table, frequencies) in &self.tables {
            let row = |&at: &u32| rotary_row(at as usize, frequencies);
            let data: Vec<f64> = pass.positions.iter().flat_map(row).collect();
            session.write(*table, &data)?;
        }
        for &(tensor, reach) in &self.sights {
            if let Sights::Given { rows } = self.options.sights {
                check("sights", pass.sights.len(), rows)?;
            }
            let words = pass.sights.iter().enumerate().flat_map(|(row, &sight)| {
                let given = pass.positions.get(row).map(|&at| at as usize);
                let at = given.unwrap_or(row % self.options.length);
                let sight = reach.map_or(sight, |reach| near(sight, at, reach));
                sight.words()
            });
            session.write_uint(tensor, &words.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// What is kept under that name: the same in all calls of a graph.
fn keep(g: &mut Graph, name: &str, [batch, rows]: [usize; 2], width: usize) -> Tensor {
    g.find(name)
        .unwrap_or_else(|| g.state(name, &[batch, rows, width]))
}

/// The sight of a row that stands at place `at` of its sequence, cut to a reach around it. Ranks must be places.
fn near(sight: Sight, at: usize, reach: usize) -> Sight {
    Sight {
        from: sight.from.max(at.saturating_sub(reach) as u32),
        upto: sight.upto.min((at + reach + 1) as u32),
        ..sight
    }
}
