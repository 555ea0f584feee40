//! Decoding autoregressive models token by token, keys and values kept from call to call.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::FORWARD;
use crate::graph::PARAMS;
use crate::graph::{Session, Storage};
use crate::model::trunks::frequencies;
use crate::model::{Among, Backbone, DrawGraph, Options};
use crate::ops::ROWS;
use crate::ops::rotary_row;
use crate::ops::visibility::Sight;
use crate::program::Step;

/// Sequences whose keys and values are on the device.
pub(crate) struct Decoder {
    graph: DrawGraph,
    session: Session,
    frequencies: Vec<f64>,
    /// Tokens whose keys and values are there, of each sequence.
    cached: Vec<Vec<u32>>,
}

impl Decoder {
    /// Room for `batch` sequences of the model's length.
    pub(crate) async fn new(
        device: &Device,
        backbone: &Backbone,
        storage: &Storage,
        batch: usize,
    ) -> Result<Self> {
        let options = Options {
            batch,
            length: 1,
            decode: true,
            ..Options::default()
        };
        let network = &backbone.network;
        let mut graph = DrawGraph::new(network, options, Among::all(&*network.trunk))?;
        let d = graph.draws;
        let outputs = [d.tokens, d.probability, d.entropy, d.log_total];
        let made = Session::new(device, &mut graph.graph, storage, PARAMS, &outputs);
        Ok(Self {
            session: made.await?,
            graph,
            frequencies: frequencies(backbone.config.head_dim()),
            cached: vec![Vec::new(); batch],
        })
    }

    /// How many sequences there are.
    pub(crate) fn batch(&self) -> usize {
        self.cached.len()
    }

    /// Brings the caches to `prefixes`, none of them empty, and draws what follows those of the
    /// `listed` sequences: tokens, probabilities, entropies and log totals, `[batch]` each. What the
    /// caches already share with the prefixes is not computed again.
    pub(crate) async fn draw(
        &mut self,
        storage: &mut Storage,
        prefixes: &[&[u32]],
        listed: &[u32],
        step: Step,
    ) -> Result<&[f64]> {
        let inputs = self.graph.call.decode;
        let inputs = inputs.ok_or_else(|| Error::Internal("not a decoding graph".into()))?;
        let mut runs = 1;
        for (cached, prefix) in self.cached.iter_mut().zip(prefixes) {
            let same = cached.iter().zip(*prefix).take_while(|(a, b)| a == b);
            // the last token is fed in any case: the draw needs its output
            let shared = same.count().min(prefix.len().saturating_sub(1));
            cached.truncate(shared);
            runs = runs.max(prefix.len() - shared);
        }
        self.session.write_uint(self.graph.list.rows, listed)?;
        for left in (0..runs).rev() {
            let (mut tokens, mut positions) = (Vec::new(), Vec::new());
            let (mut rotary, mut sight) = (Vec::new(), Vec::new());
            for (cached, prefix) in self.cached.iter().zip(prefixes) {
                // who is there already feeds the last token again, which changes nothing
                let at = cached.len().min(prefix.len().saturating_sub(1));
                tokens.push(prefix.get(at).copied().unwrap_or_default());
                positions.push(at as u32);
                rotary.extend(rotary_row(at, &self.frequencies));
                sight.extend(Sight::new(at, 0..at + 1).words());
            }
            self.session.write_uint(self.graph.call.xt, &tokens)?;
            self.session.write_uint(inputs.positions, &positions)?;
            self.session.write(inputs.rotary, &rotary)?;
            self.session.write_uint(inputs.sight, &sight)?;
            let rows = if left == 0 { listed.len() } else { 0 };
            let step = step.clone().with(ROWS, rows as u32);
            self.session.run(storage, &step, &[FORWARD]).await?;
            for ((cached, &at), &token) in self.cached.iter_mut().zip(&positions).zip(&tokens) {
                cached.truncate(at as usize);
                cached.push(token);
            }
        }
        Ok(self.session.results())
    }
}
