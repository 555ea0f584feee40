//! A denoiser that is exact: a hidden Markov model over short sequences, whose posterior at a
//! masked position given the tokens elsewhere is known by the forward-backward recursions in f64.

use std::collections::HashMap;

use mdlm::config::{NoiseConfig, Parameterization};
use mdlm::error::Result;
use mdlm::process::{Hybrid, Schedule};
use mdlm::rules::Filled;
use mdlm::sample::{Denoiser, Draw, DrawOptions, Drawn, Facts};
use mdlm_engine::rng::threefry2x32;

/// Rows of distributions.
pub type Matrix = Vec<Vec<f64>>;

#[derive(Clone)]
pub struct Oracle {
    /// Of the hidden state at the first position.
    pub initial: Vec<f64>,
    /// From hidden state to hidden state.
    pub transition: Matrix,
    /// From hidden state to token.
    pub emission: Matrix,
    pub length: usize,
    pub noise: NoiseConfig,
    pub hybrid: Option<Hybrid>,
    pub parameterization: Parameterization,
    pub autoregressive: bool,
    /// The first canvas's time in each call.
    pub asked: Vec<f64>,
    /// The rows of the last call that asked for drifts, and who read.
    last: HashMap<u32, Vec<f64>>,
    reader: usize,
}

impl Oracle {
    /// A hidden Markov model of `length` positions.
    fn new(initial: &[f64], transition: &[&[f64]], emission: &[&[f64]], length: usize) -> Self {
        let matrix = |rows: &[&[f64]]| rows.iter().map(|row| row.to_vec()).collect();
        Self {
            initial: initial.to_vec(),
            transition: matrix(transition),
            emission: matrix(emission),
            length,
            noise: NoiseConfig::default(),
            hybrid: None,
            parameterization: Parameterization::Subs,
            autoregressive: false,
            asked: Vec::new(),
            last: HashMap::new(),
            reader: 0,
        }
    }

    /// Three tokens, of which the next one depends strongly on the one before.
    pub fn chain(length: usize) -> Self {
        let transition: [&[f64]; 3] = [&[0.7, 0.2, 0.1], &[0.15, 0.15, 0.7], &[0.25, 0.6, 0.15]];
        let identity: [&[f64]; 3] = [&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0]];
        Self::new(&[0.5, 0.3, 0.2], &transition, &identity, length)
    }

    /// Three tokens from two hidden states, so that every position depends on all others.
    pub fn hidden(length: usize) -> Self {
        let transition: [&[f64]; 2] = [&[0.85, 0.15], &[0.25, 0.75]];
        let emission: [&[f64]; 2] = [&[0.75, 0.15, 0.1], &[0.1, 0.25, 0.65]];
        Self::new(&[0.4, 0.6], &transition, &emission, length)
    }

    /// Number of tokens, the mask not among them; also the mask's number.
    pub fn tokens(&self) -> usize {
        self.emission[0].len()
    }

    /// Probability of what stands at a position, given the hidden state there.
    fn evidence(&self, state: usize, token: u32) -> f64 {
        let row = &self.emission[state];
        row.get(token as usize).copied().unwrap_or(1.0)
    }

    /// Probability of the tokens of `xt`, summed over what the masks may be.
    pub fn likelihood(&self, xt: &[u32]) -> f64 {
        let mut state = self.initial.clone();
        for (l, &token) in xt.iter().enumerate() {
            if l > 0 {
                state = self.forward(&state);
            }
            for (h, p) in state.iter_mut().enumerate() {
                *p *= self.evidence(h, token);
            }
        }
        state.iter().sum()
    }

    fn forward(&self, state: &[f64]) -> Vec<f64> {
        let to = |h: usize| {
            let from = state.iter().zip(&self.transition);
            from.map(|(p, row)| p * row[h]).sum()
        };
        (0..state.len()).map(to).collect()
    }

    /// Distribution of the token at each position of `xt`, given the tokens at the others.
    pub fn posterior(&self, xt: &[u32]) -> Matrix {
        let (n, hidden) = (xt.len(), self.initial.len());
        // before[l]: P(tokens before l, state at l); after[l]: P(tokens after l | state at l)
        let mut before = vec![self.initial.clone()];
        let mut after = vec![vec![1.0; hidden]];
        for l in 1..n {
            let seen = before[l - 1].iter().enumerate();
            let seen: Vec<f64> = seen.map(|(h, p)| p * self.evidence(h, xt[l - 1])).collect();
            before.push(self.forward(&seen));
            let behind = xt[n - l];
            let reach = |row: &Vec<f64>| {
                let to = row.iter().enumerate();
                to.map(|(h, p)| p * self.evidence(h, behind) * after[l - 1][h])
                    .sum()
            };
            let reached = self.transition.iter().map(reach).collect();
            after.push(reached);
        }
        after.reverse();
        let law = |l: usize| {
            let joint = |v: usize| -> f64 {
                let states = 0..hidden;
                states
                    .map(|h| before[l][h] * after[l][h] * self.emission[h][v])
                    .sum()
            };
            let p: Vec<f64> = (0..self.tokens()).map(joint).collect();
            let sum: f64 = p.iter().sum();
            p.iter().map(|p| p / sum).collect()
        };
        (0..n).map(law).collect()
    }
}

impl Oracle {
    /// Number of tokens, the mask included.
    pub fn vocab_size(&self) -> usize {
        self.tokens() + 1
    }

    /// Id of the mask, the last one.
    pub fn mask_index(&self) -> u32 {
        self.tokens() as u32
    }

    /// The noise that its data is seen through.
    pub fn schedule(&self) -> Schedule {
        Schedule::new(&self.noise).expect("a schedule that the library has")
    }
}

impl Denoiser for Oracle {
    fn facts(&self) -> Facts {
        Facts {
            vocab_size: self.vocab_size(),
            mask_index: self.mask_index(),
            length: self.length,
            schedule: self.schedule(),
            hybrid: self.hybrid,
            parameterization: self.parameterization,
            autoregressive: self.autoregressive,
            blocks: None,
            tokenizer: None,
        }
    }

    async fn draw(
        &mut self,
        xt: &[u32],
        t: &[f64],
        rows: &[u32],
        options: &DrawOptions,
    ) -> Result<Drawn> {
        let anew = matches!(options.filled, Filled::Anew(_));
        assert!((anew || options.temperature == 1.0) && t.iter().all(|t| (0.0..=1.0).contains(t)));
        self.asked.push(t[0]);
        let length = xt.len() / t.len();
        let mut before = std::mem::take(&mut self.last);
        if std::mem::replace(&mut self.reader, options.reading.reader) != options.reading.reader {
            before.clear();
        }
        let mut draws = Vec::new();
        let (mut known, mut posterior) = (None, Matrix::new());
        for (i, &row) in rows.iter().enumerate() {
            let (canvas, l) = (row as usize / length, row as usize % length);
            if known != Some(canvas) {
                posterior = self.posterior(&xt[canvas * length..][..length]);
                known = Some(canvas);
            }
            let mut p = tempered(&posterior[l], options.temperature);
            if options.allowed.rows() > 0 {
                for (v, p) in p.iter_mut().enumerate() {
                    *p *= f64::from(options.allowed.allows(i, v as u32));
                }
                let sum: f64 = p.iter().sum();
                p.iter_mut().for_each(|p| *p /= sum);
            }
            let [a, b] = threefry2x32(options.keys[0], [row, 0]);
            let u = (f64::from(a) + f64::from(b) * 2f64.powi(-32)) * 2f64.powi(-32);
            let mut sum = 0.0;
            let token = p.iter().position(|p| {
                sum += p;
                u < sum
            });
            let token = token.unwrap_or(p.len() - 1);
            let stood = Some(xt[row as usize]).filter(|&token| token != self.mask_index());
            let (token, said) = match (stood, options.filled) {
                (None, _) | (_, Filled::Anew(_)) => (token, token),
                (Some(standing), Filled::Judged) => (token, standing as usize),
                (Some(standing), Filled::Said) => (standing as usize, standing as usize),
            };
            let drift = before
                .get(&row)
                .map_or(f64::INFINITY, |q| divergence(&p, q));
            draws.push(Draw {
                token: token as u32,
                probability: match options.temperature > 0.0 {
                    true => p[said],
                    false => posterior[l][said],
                },
                entropy: p
                    .iter()
                    .map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 })
                    .sum(),
                // exact scores p_v / expm1(sigma) have logits log p_v + log(V - 1)
                log_total: (self.tokens() as f64).ln(),
                margin: margin(&p),
                drift,
                stood,
            });
            if options.drifts {
                self.last.insert(row, p);
            }
        }
        Ok(Drawn { draws, calls: 1 })
    }
}

/// A distribution at a temperature; at 0 its largest probability is 1.
pub fn tempered(p: &[f64], temperature: f64) -> Vec<f64> {
    if temperature == 1.0 {
        return p.to_vec();
    }
    let top = p.iter().copied().fold(0.0, f64::max);
    let power = |p: &f64| match temperature > 0.0 {
        true => (p / top).powf(1.0 / temperature),
        false => f64::from(u8::from(*p == top)),
    };
    let p: Vec<f64> = p.iter().map(power).collect();
    let sum: f64 = p.iter().sum();
    p.iter().map(|p| p / sum).collect()
}

/// The Kullback-Leibler divergence of p from q.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    let part = |(&p, &q): (&f64, &f64)| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    p.iter().zip(q).map(part).sum()
}

/// By how much the largest of some probabilities is ahead of the next.
fn margin(p: &[f64]) -> f64 {
    let mut falling = p.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    falling[0] - falling.get(1).copied().unwrap_or(0.0)
}
