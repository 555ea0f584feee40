//! Filling canvases step by step.
//!
//! Everything random is a function of the seed, the step, the canvas's index in its batch, and the
//! position. So a batch's first canvas becomes what it would become alone (as long as the rule's
//! decisions do not hang on the last bits of a prediction), and canvases do not touch each other.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{Parameterization, SampleConfig};
use crate::error::{Error, Result};
use crate::model::check_tokens;
use crate::process::Schedule;
use crate::rng::{Rng, Stream, stream_key};
use crate::rules::{Filled, Rule, Setting, View, draw_all};
use crate::sample::check::{check_cache, check_canvases, check_prefix, left_to_right};
use crate::sample::fit::Fit;
use crate::sample::limits::Limits;
use crate::sample::window::Windows;
use crate::sample::work::{Planned, Work, ranked};
use crate::sample::{
    Canvas, Denoiser, Draw, DrawOptions, Guidance, Reading, Remasked, Revealed, StepReport,
};

/// Numbers of samplers; 0 is nobody's.
static READERS: AtomicUsize = AtomicUsize::new(1);

/// Fills canvases step by step. It borrows a model ([`Model::sampler`](crate::Model::sampler)) or owns one
/// (`Sampler::new(model, ..)`, for an application that keeps them together).
///
/// ```
/// use mdlm::{Canvas, Device, Model, SampleConfig, Sampler, blocking::wait};
///
/// # let config = mdlm::ModelConfig {
/// #     vocab_size: 20,
/// #     mask_index: 19,
/// #     hidden_size: 32,
/// #     n_blocks: 1,
/// #     length: 16,
/// #     ..mdlm::ModelConfig::default()
/// # };
/// let model = wait(Model::new(&Device::cpu(), &config, 1))?;
/// let settings = SampleConfig { steps: 4, ..SampleConfig::default() };
/// let mut sampler = Sampler::new(model, vec![Canvas::open(16)], &settings)?;
/// while let Some(report) = wait(sampler.step())? {
///     println!("step {}: {} positions revealed", report.step, report.revealed.len());
/// }
/// assert!(sampler.canvas().masked().is_empty());
/// # Ok::<(), mdlm::Error>(())
/// ```
pub struct Sampler<D> {
    denoiser: D,
    mask_index: u32,
    work: Vec<Work>,
    config: SampleConfig,
    rule: Box<dyn Rule>,
    schedule: Schedule,
    limits: Arc<Limits>,
    windows: Windows,
    window: usize,
    /// Steps done in the window.
    step: usize,
    /// Steps done in it beyond the rule's, for what a constraint has left masked.
    rest: usize,
    /// Steps done, or skipped because a window was full.
    done: usize,
    /// Whether nothing has been drawn in the window.
    fresh: bool,
    network_calls: usize,
    /// Its number among all samplers, by which a model that several use knows whose it has kept what for.
    reader: usize,
}

impl<D: Denoiser> Sampler<D> {
    /// A sampler for the open positions of canvases. Those longer than the model must be of one length and are filled
    /// window after window.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot work; [`Error::Argument`] for canvases that are empty, longer than
    /// the model and of different lengths, or hold the mask as a token, and for what an autoregressive model cannot fill;
    /// [`Error::Token`] for a token outside the vocabulary.
    pub fn new(denoiser: D, canvases: Vec<Canvas>, config: &SampleConfig) -> Result<Self> {
        let automaton = config.checked()?;
        let mut config = config.clone();
        let facts = denoiser.facts();
        check_canvases(&canvases, facts.vocab_size, facts.mask_index)?;
        for tokens in [&config.ends, &config.suppress, &config.late] {
            check_tokens(tokens, facts.vocab_size)?;
        }
        if facts.autoregressive {
            config.sampler = left_to_right(config.sampler)?;
            check_cache(config.cache)?;
            canvases.iter().try_for_each(check_prefix)?;
        }
        let blocks = facts.blocks;
        if let (Some(blocks), 0) = (blocks, config.block) {
            config.block = blocks.size;
        }
        // behind a prompt, or from the beginning if there are gaps
        let open = |canvas: &Canvas| {
            let length = canvas.len();
            let open = canvas.masked().first().copied().unwrap_or(length);
            let gaps = (open..length).any(|position| canvas.is_frozen(position));
            match blocks {
                _ if gaps => 0..length,
                Some(blocks) if blocks.from_start => open / config.block * config.block..length,
                _ => open..length,
            }
        };
        let open = canvases.iter().map(open).collect();
        let windows = Windows::new(facts.length, config.stride, config.block, open)?;
        let rule = (config.sampler.make)(&Setting {
            schedule: &facts.schedule,
            hybrid: facts.hybrid,
            steps: config.steps,
            scores: facts.parameterization == Parameterization::Sedd,
            vocab_size: facts.vocab_size,
            options: &config.options,
        });
        let limits = Limits::new(&config, automaton, &facts, &canvases)?;
        let length = canvases.iter().map(Canvas::len).max().unwrap_or(0);
        let work = canvases.into_iter().map(|canvas| Work {
            t: 1.0,
            probability: vec![1.0; length],
            drift: vec![f64::INFINITY; length],
            rests: false,
            canvas,
        });
        let mut sampler = Self {
            work: work.collect(),
            denoiser,
            mask_index: facts.mask_index,
            config,
            rule,
            schedule: facts.schedule,
            limits: Arc::new(limits),
            windows,
            window: 0,
            step: 0,
            rest: 0,
            done: 0,
            fresh: true,
            network_calls: 0,
            reader: READERS.fetch_add(1, Ordering::Relaxed),
        };
        sampler.begin();
        Ok(sampler)
    }

    /// Puts what its open positions begin as into the window.
    fn begin(&mut self) {
        for (index, work) in self.work.iter_mut().enumerate() {
            let counter = (index as u64) << 32 | self.done as u64;
            let mut rng = Rng::new(self.config.seed, Stream::Begin, counter);
            let reach = self.windows.reach(self.window, index);
            work.begin(reach, || self.rule.begins(&mut rng));
        }
    }

    /// The canvas as it stands; of a batch, the first one.
    pub fn canvas(&self) -> &Canvas {
        &self.work[0].canvas
    }

    /// All canvases as they stand.
    pub fn canvases(&self) -> impl ExactSizeIterator<Item = &Canvas> {
        self.work.iter().map(|work| &work.canvas)
    }

    /// The denoiser and the canvases, for whoever owned the model.
    pub fn into_parts(self) -> (D, Vec<Canvas>) {
        let canvases = self.work.into_iter().map(|work| work.canvas);
        (self.denoiser, canvases.collect())
    }

    /// Does the next step; `None` when there is nothing left to do.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin; the canvases stay as they were.
    pub async fn step(&mut self) -> Result<Option<StepReport>> {
        let mut planned: Vec<Option<Planned>> = self.plan();
        while planned.iter().all(Option::is_none) {
            if !self.next_window() {
                return Ok(None);
            }
            planned = self.plan();
        }
        let limits = self.limits.clone();
        let works = self.work.iter().zip(&planned);
        let fit = |(work, planned): (&Work, &Option<Planned>)| {
            let draws = |planned: &&Planned| !planned.plan.rows.is_empty();
            let planned = planned.as_ref().filter(draws);
            planned.and_then(|_| limits.fit(&work.canvas))
        };
        let fits = works.map(fit);
        let fits: Vec<Option<Fit<'_>>> = fits.collect();
        let rest = self.over();
        let draws = self.draw(&planned, &fits).await?;
        let mut report = StepReport {
            step: self.done + usize::from(!rest),
            steps: self.windows.count() * self.rule.steps(),
            t: 0.0,
            revealed: Vec::new(),
            remasked: Vec::new(),
            masked: 0,
            network_calls: self.network_calls,
        };
        let mut left = &draws[..];
        for ((canvas, planned), fit) in planned.into_iter().enumerate().zip(fits) {
            if let Some(planned) = planned {
                let (mine, later) = left.split_at(planned.plan.rows.len());
                left = later;
                self.apply(canvas, planned, fit, mine, &mut report);
            }
        }
        if rest {
            self.rest += 1;
        } else {
            self.step += 1;
            self.done += 1;
        }
        report.masked = self.canvases().map(|canvas| canvas.masked().len()).sum();
        Ok(Some(report))
    }

    /// Runs the remaining steps; `Break` stops early and keeps the canvas.
    ///
    /// # Errors
    /// As [`Sampler::step`].
    pub async fn finish(
        self,
        observe: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Canvas> {
        Ok(self.finish_all(observe).await?.swap_remove(0))
    }

    /// [`Sampler::finish`] for all canvases of a batch.
    ///
    /// # Errors
    /// As [`Sampler::step`].
    pub async fn finish_all(
        mut self,
        mut observe: impl FnMut(&StepReport) -> ControlFlow<()>,
    ) -> Result<Vec<Canvas>> {
        while let Some(report) = self.step().await? {
            if observe(&report).is_break() {
                break;
            }
        }
        Ok(self.into_parts().1)
    }

    /// Goes on to the next window, if there is one.
    fn next_window(&mut self) -> bool {
        if self.config.block > 0 && !self.config.ends.is_empty() {
            self.cut();
        }
        if self.window + 1 == self.windows.count() {
            return false;
        }
        self.window += 1;
        (self.step, self.rest) = (0, 0);
        self.fresh = true;
        self.done = self.done.max(self.window * self.rule.steps());
        self.work
            .iter_mut()
            .for_each(|work| (work.t, work.rests) = (1.0, false));
        self.begin();
        true
    }

    /// Ends the canvases whose block has been filled with a token that ends texts.
    fn cut(&mut self) {
        for (index, Work { canvas, .. }) in self.work.iter_mut().enumerate() {
            let reach = self.windows.reach(self.window, index);
            let listed = |token| self.config.ends.contains(&token);
            let ends = |at: usize| !canvas.is_frozen(at) && canvas.token(at).is_some_and(listed);
            let filled =
                reach.end <= canvas.len() && reach.clone().all(|at| canvas.token(at).is_some());
            if filled && reach.clone().any(ends) {
                canvas.truncate(reach.end);
            }
        }
    }

    /// What to do with each canvas in this window; `None` where nothing is left to do.
    fn plan(&self) -> Vec<Option<Planned>> {
        let canvases = 0..self.work.len();
        canvases.map(|index| self.plan_canvas(index)).collect()
    }

    fn plan_canvas(&self, index: usize) -> Option<Planned> {
        let Work { canvas, rests, .. } = &self.work[index];
        let range = self.windows.range(self.window);
        let reach = self.windows.reach(self.window, index);
        let (mut masked, mut filled) = (Vec::new(), Vec::new());
        for position in range.start..reach.end.min(canvas.len()) {
            if canvas.token(position).is_none() {
                masked.push(position - range.start);
            } else if position >= reach.start && !canvas.is_frozen(position) {
                filled.push(position - range.start);
            }
        }
        let over = self.over();
        let rest = self.limits.binds() && !masked.is_empty();
        let idle = masked.is_empty() && (filled.is_empty() || !self.rule.remasks() || *rests);
        if over && !rest || idle {
            return None;
        }
        let counter = (index as u64) << 32 | self.done as u64;
        let mut rng = Rng::new(self.config.seed, Stream::Reveal, counter);
        let view = self.view(index, &masked, &filled);
        let plan = match over {
            true => draw_all(&self.schedule, &view),
            false => self.rule.plan(&view, &mut rng),
        };
        Some(Planned {
            masked,
            filled,
            rng,
            plan,
        })
    }

    /// Whether the rule's steps are done, and what a constraint has left masked is drawn.
    fn over(&self) -> bool {
        self.rule.steps() > 0 && self.step == self.rule.steps()
    }

    fn view<'a>(&'a self, index: usize, masked: &'a [usize], filled: &'a [usize]) -> View<'a> {
        let work = &self.work[index];
        View {
            step: self.step,
            t: work.t,
            masked,
            filled,
            probability: &work.probability[self.windows.range(self.window)],
            drift: &work.drift[self.windows.range(self.window)],
        }
    }

    /// Draws at all planned rows, canvas after canvas, without a network call if there are none.
    async fn draw(
        &mut self,
        planned: &[Option<Planned>],
        fits: &[Option<Fit<'_>>],
    ) -> Result<Vec<Draw>> {
        let range = self.windows.range(self.window);
        let length = range.len();
        let (mut rows, mut times) = (Vec::new(), Vec::new());
        for (index, planned) in planned.iter().enumerate() {
            let plan = planned.as_ref().map(|planned| &planned.plan);
            times.push(plan.map_or(1.0, |plan| plan.network_t));
            let positions = plan.into_iter().flat_map(|plan| &plan.rows);
            rows.extend(positions.map(|position| (index * length + position) as u32));
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let positions = |planned: &Option<Planned>| -> Vec<usize> {
            let rows = planned.iter().flat_map(|planned| &planned.plan.rows);
            rows.map(|position| range.start + position).collect()
        };
        let allowed = self
            .limits
            .sets(fits.iter().zip(planned.iter().map(positions)));
        let mask_index = self.mask_index;
        let mut xt = Vec::with_capacity(length * self.work.len());
        let (scale, mut plain) = (self.config.guidance, Vec::new());
        for Work { canvas, .. } in &self.work {
            let mut tokens = canvas.tokens(mask_index);
            // what a shorter canvas does not have is seen by nobody
            tokens.resize(tokens.len().max(range.end), mask_index);
            let tokens = &tokens[range.clone()];
            xt.extend_from_slice(tokens);
            if scale == 0.0 {
                continue;
            }
            let given = range.clone().map(|position| canvas.is_frozen(position));
            let without = tokens.iter().zip(given);
            plain.extend(without.map(|(&id, given)| if given { mask_index } else { id }));
        }
        let guidance = (scale > 0.0).then_some(Guidance { scale, xt: plain });
        let [lengths, first] = self.windows.places(self.window);
        let reading = Reading {
            lengths,
            block: self.config.block,
            first,
            cache: self.config.cache,
            fresh: self.fresh,
            reader: self.reader,
        };
        // steps beyond the rule's count for themselves, so that other canvases know nothing of them
        let rest = self.over();
        let number = self.done as u64 | ((self.rest + usize::from(rest)) as u64) << 32;
        let filled = match rest {
            true => Filled::Said,
            false => self.rule.filled(self.step),
        };
        let (temperature, top_k, top_p) = match filled {
            Filled::Anew(temperature) => (temperature, 0, 1.0),
            _ => (
                self.config.temperature,
                self.config.top_k,
                self.config.top_p,
            ),
        };
        let options = DrawOptions {
            temperature,
            top_k,
            top_p,
            filled,
            guidance,
            allowed,
            reading,
            drifts: self.rule.drifts(),
            keys: vec![stream_key(self.config.seed, Stream::Token, number)],
        };
        let drawn = self.denoiser.draw(&xt, &times, &rows, &options).await?;
        if drawn.draws.len() != rows.len() {
            let problem = format!("{} draws for {} rows", drawn.draws.len(), rows.len());
            return Err(Error::Internal(problem));
        }
        self.network_calls += drawn.calls;
        self.fresh = false;
        Ok(drawn.draws)
    }

    /// Reveals and masks what a canvas's rule chooses.
    fn apply(
        &mut self,
        index: usize,
        planned: Planned,
        fit: Option<Fit<'_>>,
        draws: &[Draw],
        report: &mut StepReport,
    ) {
        let Planned {
            masked,
            filled,
            mut rng,
            plan,
        } = planned;
        let view = self.view(index, &masked, &filled);
        let judged = self.rule.filled(self.step) == Filled::Judged;
        let mut ranked = ranked(draws, &self.config.late, judged);
        let [mut chosen, doubted] = match self.over() {
            true => [(0..draws.len()).collect(), Vec::new()],
            false => self.rule.settle(&view, &mut ranked, &mut rng),
        };
        let start = self.windows.range(self.window).start;
        if let Some(mut fit) = fit {
            // the surest first; what does not go with them is drawn again later
            let sure = |&i: &usize| ranked[i].probability;
            chosen.sort_by(|a, b| sure(b).total_cmp(&sure(a)));
            chosen.retain(|&i| fit.write(start + plan.rows[i], ranked[i].token));
            chosen.sort_unstable();
        }
        // what a rule writes of its own was never held to this
        chosen.retain(|&i| !self.config.suppress.contains(&ranked[i].token));
        let mut remask = plan.remask;
        remask.extend(doubted.iter().map(|&i| plan.rows[i]));
        let open = masked.len() + filled.len();
        let written = chosen.iter().filter(|&&i| draws[i].stood.is_none());
        let left = masked.len() + remask.len() - written.count();
        let rests = chosen.is_empty() && remask.is_empty() && self.rule.rests(self.step);
        let work = &mut self.work[index];
        work.drift.fill(f64::INFINITY);
        for (row, draw) in plan.rows.iter().zip(draws) {
            work.drift[start + row] = draw.drift;
        }
        for i in chosen {
            let (position, draw) = (start + plan.rows[i], draws[i]);
            let token = ranked[i].token;
            work.canvas.reveal(position, token);
            work.probability[position] = draw.probability;
            report.revealed.push(Revealed {
                canvas: index,
                position,
                token,
                probability: draw.probability,
                entropy: draw.entropy,
            });
        }
        for position in remask.iter().map(|p| start + p) {
            work.canvas.mask(position);
            report.remasked.push(Remasked {
                canvas: index,
                position,
            });
        }
        // a plan that had come to its end has not if something was left
        let t = plan.t.filter(|&t| t > 0.0 || left == 0);
        work.t = t.unwrap_or(left as f64 / open as f64);
        work.rests = rests;
        report.t = report.t.max(work.t);
        report.network_calls = self.network_calls;
    }
}
