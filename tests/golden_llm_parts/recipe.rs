//! Batches with their random numbers, and what the published recipes make of them: noise, rows and weights.

use std::f64::consts::FRAC_PI_2;

use crate::common::fixtures::Fixture;
use mdlm::model::Pass;
use serde_json::Value;

/// Sequences, and the random numbers that noise them.
#[derive(Clone, Debug)]
pub struct Batch {
    pub x0: Vec<u32>,
    /// Which positions may be masked: those with a label.
    maskable: Vec<bool>,
    u_t: Vec<f64>,
    u_mask: Vec<f64>,
}

impl Batch {
    pub fn of(fixture: &Fixture) -> Option<Self> {
        Some(Self {
            x0: fixture.tokens("input_ids")?,
            maskable: fixture.get("labels")?.iter().map(|&x| x >= 0.0).collect(),
            u_t: fixture.get("u_t")?.to_vec(),
            u_mask: fixture.get("u_mask")?.to_vec(),
        })
    }

    /// One that stands in a description.
    pub fn described(json: &Value) -> Self {
        let labels = numbers(&json["labels"]);
        Self {
            x0: tokens(&json["input_ids"]),
            maskable: labels.iter().map(|&label| label >= 0.0).collect(),
            u_t: numbers(&json["u_t"]),
            u_mask: numbers(&json["u_mask"]),
        }
    }

    pub fn sequences(&self) -> usize {
        self.u_t.len()
    }

    pub fn length(&self) -> usize {
        self.x0.len() / self.u_t.len()
    }

    /// With a token before each sequence that is never masked.
    pub fn after(&self, token: u32) -> Self {
        fn before<T: Copy>(all: &[T], length: usize, first: T) -> Vec<T> {
            let rows = all.chunks_exact(length);
            rows.flat_map(|row| [&[first], row].concat()).collect()
        }
        let length = self.length();
        Self {
            x0: before(&self.x0, length, token),
            maskable: before(&self.maskable, length, false),
            u_t: self.u_t.clone(),
            u_mask: before(&self.u_mask, length, 0.5),
        }
    }
}

/// The numbers of nested lists, one after the other.
pub fn numbers(json: &Value) -> Vec<f64> {
    match json.as_array() {
        Some(all) => all.iter().flat_map(numbers).collect(),
        None => vec![json.as_f64().unwrap()],
    }
}

/// As [`numbers`], of token ids.
pub fn tokens(json: &Value) -> Vec<u32> {
    numbers(json).iter().map(|&x| x as u32).collect()
}

/// How a masked position's nll is weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weights {
    /// -alpha'(t) / (1 - alpha(t) + 1e-6).
    Schedule,
    Uniform,
    /// Dream's: the sum over unmasked positions at distance d of p (1 - p)^(d - 1) / 2.
    Cart {
        p: f64,
    },
}

/// What the sum is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// The batch's positions that may be masked.
    Token,
    /// The sequence's, and the number of sequences.
    Sequence,
    /// The number of sequences.
    Batch,
}

/// A recipe's settings.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// alpha = 1 - cos(pi / 2 (1 - t)); otherwise 1 - t.
    pub cosine: bool,
    pub weights: Weights,
    pub share: Share,
    /// A position is predicted by the row before it.
    pub shift: bool,
}

impl Recipe {
    pub const PLAIN: Self = Self {
        cosine: false,
        weights: Weights::Schedule,
        share: Share::Token,
        shift: false,
    };

    /// The one of a name such as `uniform.sequence.linear.right_shift`.
    pub fn named(name: &str) -> Self {
        let parts: Vec<&str> = name.split('.').collect();
        Self {
            weights: match parts[0] {
                "scheduler" => Weights::Schedule,
                "uniform" => Weights::Uniform,
                other => panic!("weights {other}"),
            },
            share: match parts[1] {
                "token" => Share::Token,
                "sequence" => Share::Sequence,
                "batch" => Share::Batch,
                other => panic!("share {other}"),
            },
            cosine: match parts[2] {
                "linear" => false,
                "cosine" => true,
                other => panic!("schedule {other}"),
            },
            shift: parts.get(3) == Some(&"right_shift"),
        }
    }

    /// 1 - alpha(t), and -alpha'(t).
    fn at(self, t: f64) -> [f64; 2] {
        match self.cosine {
            false => [t, 1.0],
            true => {
                let angle = FRAC_PI_2 * (1.0 - t);
                [angle.cos(), FRAC_PI_2 * angle.sin()]
            }
        }
    }

    /// The noisy batch, its rows and their weights.
    pub fn pass(self, batch: &Batch, mask: u32, vocab_size: usize) -> Pass {
        let (length, sequences) = (batch.length(), batch.sequences() as f64);
        let noise = |u: &f64| self.at(1e-3 + (1.0 - 1e-3) * u);
        let noise: Vec<_> = batch.u_t.iter().map(noise).collect();
        let chosen = |at: usize| batch.maskable[at] && batch.u_mask[at] < noise[at / length][0];
        let weight = |at: usize| {
            let sequence = at / length * length..(at / length + 1) * length;
            match self.weights {
                Weights::Uniform => 1.0,
                Weights::Schedule => {
                    let [hidden, slope] = noise[at / length];
                    slope / (hidden + 1e-6)
                }
                Weights::Cart { p } => {
                    let near = |j: usize| 0.5 * p * (1.0 - p).powi(j.abs_diff(at) as i32 - 1);
                    sequence.filter(|&j| !chosen(j)).map(near).sum()
                }
            }
        };
        let count = |all: &[bool]| all.iter().filter(|&&x| x).count() as f64;
        let share = |at: usize| match self.share {
            Share::Token => count(&batch.maskable),
            Share::Batch => sequences,
            Share::Sequence => sequences * count(&batch.maskable[at / length * length..][..length]),
        };
        // the position that a row predicts
        let ahead = |row: usize| match self.shift {
            false => Some(row),
            true => Some(row + 1).filter(|at| at % length > 0),
        };
        let masked = |row: usize| ahead(row).filter(|&at| chosen(at));
        if self.shift {
            let first = (0..batch.x0.len()).step_by(length).any(chosen);
            assert!(!first, "nothing stands before a masked first position");
        }
        let x0 = &batch.x0;
        let xt = (0..x0.len()).map(|at| if chosen(at) { mask } else { x0[at] });
        let target = |row: usize| masked(row).map(|at| x0[at]);
        let mut pass = Pass::listing(x0, xt.collect(), vocab_size, target).unwrap();
        let at = |&row: &u32| masked(row as usize).unwrap();
        let weights = pass.rows.iter().map(at).map(|at| weight(at) / share(at));
        pass.weights = weights.collect();
        pass
    }
}
