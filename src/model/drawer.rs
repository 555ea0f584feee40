//! Draws from a model's predictions: in runs over whole canvases, or over the rows that have changed, keys and values of
//! the others kept on the device.

use std::ops::Range;

use crate::config::Cache;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{PARAMS, Session, Storage};
use crate::model::{Among, DrawGraph, Network, Options, Pass, Sights, TokenSets};
use crate::ops::visibility::Sight;
use crate::ops::{OPEN, ROWS};
use crate::program::Step;

/// Most rows of a sequence in a run that catches up with a text.
const CHUNK: usize = 128;

/// What a sequence's rows see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vision {
    /// Every row.
    All,
    /// Those of its block and of the blocks before it.
    Blocks,
    /// Those up to itself.
    Causal,
}

/// What graphs are built for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setup {
    /// Sequences of a run; with guidance twice the canvases.
    pub(crate) sequences: usize,
    /// Positions of each.
    pub(crate) length: usize,
    /// See [`Among::guidance`].
    pub(crate) guidance: f64,
    pub(crate) vision: Vision,
    /// What is kept; [`Cache::Exact`] where every row sees all keeps nothing.
    pub(crate) cache: Cache,
    /// Positions of a block.
    pub(crate) block: usize,
    /// Whether some sequences are shorter than the others.
    pub(crate) ragged: bool,
    /// How many rows behind the one that predicts it a token stands: 0 or 1.
    pub(crate) shift: usize,
    /// Whether rows have tokens that they may not become: [`Ask::allowed`].
    pub(crate) restricted: bool,
    /// Whether draws are asked for at rows where a token stands.
    pub(crate) standing: bool,
    /// Whether other tokens are drawn there.
    pub(crate) redrawn: bool,
    /// Whether draws say how far predictions have moved.
    pub(crate) drifts: bool,
}

impl Setup {
    fn keeps(&self) -> bool {
        self.cache.keeps(self.vision != Vision::All)
    }

    /// Whether runs say who sees whom.
    fn sighted(&self) -> bool {
        self.keeps() || self.vision == Vision::Blocks || self.ragged
    }

    /// Rows of a sequence in a run, rising.
    fn widths(&self) -> Vec<usize> {
        let (block, all) = (self.block + self.shift, self.length);
        let mut widths = match (self.keeps(), self.cache) {
            (false, _) => vec![all],
            (true, Cache::Prefix) => (1..=8).map(|n| (all * n).div_ceil(8)).collect(),
            (true, Cache::Dual) => vec![block, all],
            (true, _) if self.vision == Vision::Causal => vec![1, 16, CHUNK],
            (true, _) => vec![block, block + self.block, CHUNK],
        };
        let least = if self.vision == Vision::Causal {
            1
        } else {
            block
        };
        for width in &mut widths {
            *width = (*width).max(least).min(all);
        }
        widths.sort_unstable();
        widths.dedup();
        widths
    }

    /// The block that holds a position; the first one of `first` begins there.
    fn block(&self, first: usize, position: usize) -> Range<usize> {
        if self.vision == Vision::Causal {
            return position..position + 1;
        }
        let before = first % self.block;
        match position.checked_sub(before) {
            None => 0..before,
            Some(behind) => {
                let start = before + behind / self.block * self.block;
                start..start.saturating_add(self.block).min(self.length)
            }
        }
    }
}

/// Where to draw, in what.
pub(crate) struct Ask<'a> {
    /// Tokens, `[sequences, length]`.
    pub(crate) xt: &'a [u32],
    /// Which of them is the mask.
    pub(crate) mask_index: u32,
    /// Positions of each sequence that are seen.
    pub(crate) lengths: &'a [usize],
    /// Where a block of each sequence begins.
    pub(crate) first: &'a [usize],
    /// Noise level of each sequence.
    pub(crate) levels: &'a [f64],
    /// Positions to draw at, of each canvas, rising.
    pub(crate) positions: &'a [Vec<usize>],
    /// A key of two words and a number for each draw, canvas after canvas.
    pub(crate) keys: &'a [u32],
    /// The tokens that each row may become; of all rows, in the order of the positions.
    pub(crate) allowed: &'a TokenSets,
    /// Whether rows where a token stands are drawn at as if none did.
    pub(crate) anew: bool,
    /// Whether what an inexact cache has kept is out of date.
    pub(crate) fresh: bool,
    /// Whose canvases these are: what was kept for another's is out of date.
    pub(crate) reader: usize,
}

impl Ask<'_> {
    fn tokens(&self, sequence: usize) -> &[u32] {
        let length = self.xt.len() / self.lengths.len();
        &self.xt[sequence * length..][..length]
    }
}

/// What a draw gives.
pub(crate) struct Answer<'a> {
    /// Tokens, probabilities, entropies, log totals, margins and, if asked for, drifts: as long as one another, the draws
    /// first.
    pub(crate) results: Vec<&'a [f64]>,
    /// Runs that it took.
    pub(crate) runs: usize,
    /// Whether the draw before this one drew at the row too, so that there is something to drift from.
    pub(crate) again: Vec<bool>,
}

/// Graphs that draw, and what they keep.
pub(crate) struct Drawer {
    setup: Setup,
    widths: Vec<usize>,
    /// Ids that may be drawn lie below this one.
    below: usize,
    graph: DrawGraph,
    session: Session,
    /// The token of each row when its key and value were computed after all that it sees; of exact caches.
    known: Vec<Vec<Option<u32>>>,
    /// Where the blocks of each sequence began then.
    first: Vec<usize>,
    /// Whether every row has had a key and a value; of inexact caches.
    filled: bool,
    /// Whom the last draw was for, and the positions of its canvases.
    reader: usize,
    drawn: Vec<Vec<usize>>,
}

impl Drawer {
    pub(crate) async fn new(
        device: &Device,
        network: &Network,
        storage: &Storage,
        setup: Setup,
        among: Among,
    ) -> Result<Self> {
        let (widths, n) = (setup.widths(), setup.sequences);
        let rows = n.saturating_mul(setup.length);
        let sights = match setup.sighted() {
            true => Sights::Given { rows },
            false => Sights::Own,
        };
        let options = Options {
            batch: n,
            kept: if setup.keeps() { setup.length } else { 0 },
            sights,
            ..Options::default()
        };
        let among = Among {
            guidance: setup.guidance,
            restricted: setup.restricted,
            standing: setup.standing,
            redrawn: setup.redrawn,
            places: usize::from(setup.drifts) * rows,
            ..among
        };
        let mut graph = DrawGraph::of_widths(network, options, &widths, among)?;
        let outputs = graph.outputs();
        let session = Session::new(device, &mut graph.graph, storage, PARAMS, &outputs).await?;
        Ok(Self {
            known: vec![vec![None; setup.length]; n],
            first: vec![0; n],
            filled: false,
            reader: 0,
            drawn: Vec::new(),
            below: among.below,
            setup,
            widths,
            graph,
            session,
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Draws at the positions asked for.
    pub(crate) async fn draw(
        &mut self,
        network: &Network,
        storage: &mut Storage,
        ask: &Ask<'_>,
        step: &Step,
    ) -> Result<Answer<'_>> {
        // until the draw is done it is not known what is kept
        let mut before = std::mem::take(&mut self.drawn);
        if std::mem::replace(&mut self.reader, ask.reader) != ask.reader {
            self.filled = false;
            before.clear();
        }
        for (s, &first) in ask.first.iter().enumerate() {
            // in other blocks the same tokens see others
            if first % self.setup.block != self.first[s] % self.setup.block {
                self.known[s].fill(None);
            }
            self.first[s] = first;
        }
        let wanted = self.wanted(ask);
        let mut runs = 1;
        loop {
            let (ranges, last) = self.due(ask, &wanted);
            let part = self.run(network, storage, ask, &ranges, last, step).await?;
            if last {
                return Ok(self.answer(ask, part, runs, &before));
            }
            runs += 1;
        }
    }

    fn answer(
        &mut self,
        ask: &Ask<'_>,
        part: usize,
        runs: usize,
        before: &[Vec<usize>],
    ) -> Answer<'_> {
        self.drawn = ask.positions.to_vec();
        let again = ask.positions.iter().enumerate().flat_map(|(s, positions)| {
            let drawn = before.get(s).map_or(&[][..], |drawn| drawn);
            positions
                .iter()
                .map(move |position| drawn.binary_search(position).is_ok())
        });
        let outputs = self.graph.parts[part].1.outputs().len();
        let size = |i: usize| self.setup.sequences * self.widths[i];
        let begin = outputs * (0..part).map(size).sum::<usize>();
        let results = &self.session.results()[begin..][..outputs * size(part)];
        Answer {
            results: results.chunks_exact(size(part)).collect(),
            runs,
            again: again.collect(),
        }
    }

    /// Rows of each sequence that a draw needs anew; `None` where nothing is drawn.
    fn wanted(&self, ask: &Ask<'_>) -> Vec<Option<Range<usize>>> {
        let Setup { vision, shift, .. } = self.setup;
        let fresh = ask.fresh || !self.filled;
        let of = |s: usize| {
            let positions = &ask.positions[s % ask.positions.len()];
            let (&first, &last) = (positions.first()?, positions.last()?);
            let (all, length) = (0..self.setup.length, ask.lengths[s]);
            if !self.setup.keeps() {
                return Some(all);
            }
            let block = |position| self.setup.block(ask.first[s], position);
            let start = block(first).start.saturating_sub(shift);
            let end = block(last).end.min(length);
            Some(match self.setup.cache {
                Cache::Prefix | Cache::Dual if fresh => 0..length,
                Cache::Prefix => start..length,
                _ if vision == Vision::Causal => start..last,
                _ => start..end,
            })
        };
        (0..self.setup.sequences).map(of).collect()
    }

    /// The rows of the next run, and whether it may be the draw's. Before an exact one come whole blocks of what has
    /// changed since their keys and values were kept.
    fn due(&self, ask: &Ask<'_>, wanted: &[Option<Range<usize>>]) -> (Vec<Range<usize>>, bool) {
        let exact = self.setup.keeps() && self.setup.cache == Cache::Exact;
        let most = self.widths.last().copied().unwrap_or(1);
        let mut last = true;
        let mut ranges = Vec::new();
        for (s, wanted) in wanted.iter().enumerate() {
            let Some(wanted) = wanted.clone() else {
                // a row that says again what it has said
                ranges.push(0..1);
                continue;
            };
            let block = |position| self.setup.block(ask.first[s], position);
            // a row of the block before that predicts this one's first token needs all of its block
            let settled = match self.setup.vision {
                Vision::Causal => wanted.start,
                _ => block((wanted.start + self.setup.shift).min(wanted.end - 1)).start,
            };
            let seen = self.known[s].iter().zip(ask.tokens(s)).take(settled);
            let stale = seen
                .enumerate()
                .find(|(_, (known, token))| **known != Some(**token));
            let Some((stale, _)) = stale.filter(|_| exact) else {
                ranges.push(wanted);
                continue;
            };
            let start = block(stale).start;
            if wanted.end - start <= most {
                ranges.push(start..wanted.end);
                continue;
            }
            last = false;
            let mut end = block(start).end;
            while block(end).end - start <= most && block(end).end <= wanted.start {
                end = block(end).end;
            }
            ranges.push(start..end);
        }
        (ranges, last)
    }

    /// Runs the rows of each sequence's range and says which part did.
    async fn run(
        &mut self,
        network: &Network,
        storage: &mut Storage,
        ask: &Ask<'_>,
        ranges: &[Range<usize>],
        draw: bool,
        step: &Step,
    ) -> Result<usize> {
        let most = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(1);
        let part = self.widths.iter().position(|&width| width >= most);
        let misfit = || Error::Internal(format!("{most} rows in a run of {:?}", self.widths));
        let part = part.ok_or_else(misfit)?;
        let width = self.widths[part];
        let pass = self.pass(ask, ranges, width);
        let (phase, drawing) = &self.graph.parts[part];
        let phase = *phase;
        let session = &mut self.session;
        drawing.call.write(session, &*network.trunk, &pass)?;
        let (mut listed, mut standing, mut places) = (Vec::new(), Vec::new(), Vec::new());
        if draw {
            for (s, positions) in ask.positions.iter().enumerate() {
                for &position in positions {
                    // the first token of a canvas has no row before it
                    let row = position.saturating_sub(self.setup.shift);
                    let at = row.checked_sub(ranges[s].start).filter(|&at| at < width);
                    let outside = || {
                        let problem = "is outside of the block that is being filled";
                        Error::argument("position", position, problem)
                    };
                    listed.push((s * width + at.ok_or_else(outside)?) as u32);
                    standing.push(match ask.tokens(s)[position] {
                        token if ask.anew || token == ask.mask_index => OPEN,
                        token => token,
                    });
                    places.push((s * self.setup.length + position) as u32);
                }
            }
            session.write_uint(drawing.keys, ask.keys)?;
            if let Some(allowed) = drawing.allowed {
                session.write_uint(allowed.sets, &ask.allowed.sets(self.below))?;
                session.write_uint(allowed.choice, ask.allowed.choice())?;
            }
            for (input, words) in [(drawing.standing, &standing), (drawing.places, &places)] {
                if let Some(input) = input {
                    session.write_uint(input, words)?;
                }
            }
        }
        session.write_uint(drawing.list.rows, &listed)?;
        let step = step.clone().with(ROWS, listed.len() as u32);
        if let Some(plain) = drawing.plain {
            let half = (self.setup.sequences / 2 * width) as u32;
            listed.iter_mut().for_each(|row| *row += half);
            session.write_uint(plain.rows, &listed)?;
        }
        self.forget(ask, ranges);
        self.session.run(storage, &step, &[phase]).await?;
        self.learn(ask, ranges);
        Ok(part)
    }

    /// The rows of the ranges; a range that is shorter than the run says its last row again.
    fn pass(&self, ask: &Ask<'_>, ranges: &[Range<usize>], width: usize) -> Pass {
        let mut pass = Pass {
            conditioning: ask.levels.to_vec(),
            ..Pass::default()
        };
        let sighted = self.setup.sighted();
        for (s, range) in ranges.iter().enumerate() {
            let (tokens, length) = (ask.tokens(s), ask.lengths[s]);
            for at in (range.start..range.start + width).map(|at| at.min(range.end - 1)) {
                pass.xt.push(tokens[at]);
                if !sighted {
                    continue;
                }
                let end = match self.setup.vision {
                    Vision::All => length,
                    _ => self.setup.block(ask.first[s], at).end.min(length),
                };
                pass.sights.push(match at < length {
                    true => Sight::new(at, 0..end),
                    false => Sight::none(),
                });
                if self.setup.keeps() {
                    pass.positions.push(at as u32);
                }
            }
            if self.setup.keeps() {
                let key = |at| match at < length {
                    true => Sight::new(at, 0..0),
                    false => Sight::none(),
                };
                pass.kept.extend((0..self.setup.length).map(key));
            }
        }
        pass
    }

    /// What is about to be computed is not there until it is.
    fn forget(&mut self, ask: &Ask<'_>, ranges: &[Range<usize>]) {
        for (s, range) in ranges.iter().enumerate() {
            let again = ask.positions[s % ask.positions.len()].is_empty()
                && self.known[s][0] == Some(ask.tokens(s)[0]);
            if !again {
                self.known[s][range.start..].fill(None);
            }
        }
        self.filled &= !ask.fresh;
    }

    fn learn(&mut self, ask: &Ask<'_>, ranges: &[Range<usize>]) {
        for (s, range) in ranges.iter().enumerate() {
            if !ask.positions[s % ask.positions.len()].is_empty() {
                for at in range.clone() {
                    self.known[s][at] = Some(ask.tokens(s)[at]);
                }
            }
        }
        self.filled = true;
    }
}
