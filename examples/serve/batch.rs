//! The model in a thread of its own, which computes together what several answers ask of it.
//!
//! Every answer has its own sampler, whose denoiser sends what it wants to know; whoever waits when a network call ends
//! takes part in the next one. Each canvas of a call has the key of its own answer, so that an answer is what it would be
//! alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use mdlm::blocking::wait;
use mdlm::config::Cache;
use mdlm::model::{Model, TokenSets};
use mdlm::sample::{Denoiser, DrawOptions, Drawn, Facts};
use mdlm::{Error, Result};
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// How long a call waits for answers that are about to ask.
const PATIENCE: Duration = Duration::from_millis(2);
/// Canvases are padded to a multiple of so many positions, so that graphs fit many of them.
const STRIDE: usize = 64;

/// What one answer wants to know.
struct Ask {
    xt: Vec<u32>,
    t: f64,
    rows: Vec<u32>,
    options: DrawOptions,
    reply: oneshot::Sender<Result<Drawn>>,
}

/// The model, from anywhere.
#[derive(Clone)]
pub struct Remote {
    facts: Arc<Facts>,
    asks: Sender<Ask>,
}

/// Moves the model to its thread.
pub fn start(model: Model, most: usize, metrics: Arc<Metrics>) -> std::io::Result<Remote> {
    let facts = Arc::new(model.facts());
    let (asks, inbox) = channel();
    let thread = std::thread::Builder::new().name("model".into());
    thread.spawn(move || run(model, &inbox, most, &metrics))?;
    Ok(Remote { facts, asks })
}

impl Denoiser for Remote {
    fn facts(&self) -> Facts {
        (*self.facts).clone()
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask {
            xt: xt.to_vec(),
            t: t[0],
            rows: rows.to_vec(),
            options: options.clone(),
            reply,
        };
        let gone = || Error::Internal("the model's thread has ended".into());
        self.asks.send(ask).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn run(mut model: Model, inbox: &Receiver<Ask>, most: usize, metrics: &Metrics) {
    let mut waiting: VecDeque<Ask> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match inbox.recv() {
                Ok(ask) => waiting.push_back(ask),
                Err(_) => return,
            }
        }
        let until = Instant::now() + PATIENCE;
        while waiting.len() < most.min(metrics.active.load(Relaxed) as usize) {
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(ask) => waiting.push_back(ask),
                Err(_) => break,
            }
        }
        waiting.extend(inbox.try_iter());
        waiting.retain(|ask| !ask.reply.is_closed());
        let Some(first) = waiting.pop_front() else {
            continue;
        };
        let mut group = vec![first];
        let mut place = 0;
        while place < waiting.len() && group.len() < most {
            match together(&group[0].options, &waiting[place].options) {
                true => group.extend(waiting.remove(place)),
                false => place += 1,
            }
        }
        Metrics::add(&metrics.batched, group.len());
        let made = wait(draw(&mut model, &group));
        if let Ok((_, calls)) = &made {
            Metrics::add(&metrics.network_calls, *calls);
        }
        deliver(group, made);
    }
}

/// Whether two may take part in one call. Those that keep something from call to call keep it alone.
fn together(a: &DrawOptions, b: &DrawOptions) -> bool {
    let what = |o: &DrawOptions| (o.temperature, o.top_k, o.top_p, o.filled, o.reading.block);
    let scale = |o: &DrawOptions| o.guidance.as_ref().map(|guidance| guidance.scale);
    let exact = |o: &DrawOptions| !o.drifts && matches!(o.reading.cache, Cache::Exact | Cache::Off);
    what(a) == what(b)
        && scale(a) == scale(b)
        && exact(a)
        && exact(b)
        && a.reading.cache == b.reading.cache
}

/// One call for all of a group, its canvases padded to one length, and their number to a power of two.
async fn draw(model: &mut Model, group: &[Ask]) -> Result<(Vec<Drawn>, usize)> {
    let mask = model.mask_index();
    let longest = group.iter().map(|ask| ask.xt.len()).max().unwrap_or(1);
    let length = longest
        .next_multiple_of(STRIDE)
        .min(model.length())
        .max(longest);
    let count = group.len().next_power_of_two();
    let mut options = group[0].options.clone();
    let (mut xt, mut plain, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let keys = group.iter().flat_map(|ask| &ask.options.keys).copied();
    options.keys = keys.chain(std::iter::repeat([0, 0])).take(count).collect();
    (options.reading.lengths, options.reading.first) = (Vec::new(), Vec::new());
    let mut t = vec![1.0; count];
    // what some may write is their own affair
    let vocab_size = model.vocab_size();
    let bound = group.iter().any(|ask| ask.options.allowed.rows() > 0);
    options.allowed = TokenSets::new(vocab_size);
    for (index, ask) in group.iter().enumerate() {
        let reading = &ask.options.reading;
        let own = reading.lengths.first().copied().unwrap_or(ask.xt.len());
        options.reading.lengths.push(own);
        options
            .reading
            .first
            .push(reading.first.first().copied().unwrap_or(0));
        t[index] = ask.t;
        if bound {
            match ask.options.allowed.rows() {
                0 => options
                    .allowed
                    .append(&TokenSets::all(vocab_size, ask.rows.len())),
                _ => options.allowed.append(&ask.options.allowed),
            }
        }
        rows.extend(ask.rows.iter().map(|row| (index * length) as u32 + row));
        xt.extend(&ask.xt);
        xt.resize((index + 1) * length, mask);
        if let Some(guidance) = &ask.options.guidance {
            plain.extend(&guidance.xt);
            plain.resize((index + 1) * length, mask);
        }
    }
    // canvases of nobody
    xt.resize(count * length, mask);
    options.reading.lengths.resize(count, 1);
    options.reading.first.resize(count, 0);
    if let Some(guidance) = &mut options.guidance {
        plain.resize(count * length, mask);
        guidance.xt = plain;
    }
    let drawn = model.draw(&xt, &t, &rows, &options).await?;
    let mut rest = drawn.draws.into_iter();
    let share = |ask: &Ask| Drawn {
        draws: rest.by_ref().take(ask.rows.len()).collect(),
        calls: drawn.calls,
    };
    Ok((group.iter().map(share).collect(), drawn.calls))
}

fn deliver(group: Vec<Ask>, made: Result<(Vec<Drawn>, usize)>) {
    match made {
        Ok((drawn, _)) => {
            for (ask, drawn) in group.into_iter().zip(drawn) {
                // whoever has left does not want it
                let _ = ask.reply.send(Ok(drawn));
            }
        }
        Err(error) => {
            let text = error.to_string();
            let mut first = Some(error);
            for ask in group {
                let error = first
                    .take()
                    .unwrap_or_else(|| Error::Internal(text.clone()));
                let _ = ask.reply.send(Err(error));
            }
        }
    }
}
