//! ReMDM (Wang et al. 2025): tokens already revealed are masked again with probability sigma, so
//! that later steps can correct earlier ones. From t to s, with alpha = 1 - P(mask), a masked
//! position is revealed with probability `(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)`, which
//! keeps the share of masks where the schedule wants it. Sigma is at most `(1 - alpha_s) / alpha_t`.

use super::declare::{Choice, Declaration, Options, SamplerKind, Setting};
use super::plan::{Plan, Rule, View, grid_times};
use crate::error::{Error, Result};
use crate::process::Schedule;
use crate::rng::Rng;

const ETA: Choice = Choice {
    key: "eta",
    help: "Chance of masking a token again in a step: the cap of `remdm-cap`, the share of the most that is possible in `remdm-rescale`, the chance inside the loop of `remdm-loop`.",
    default: 0.02,
    whole: false,
    holds: |x| (0.0..=1.0).contains(&x),
    problem: "must be in [0, 1]",
};

const T_ON: Choice = Choice {
    key: "t_on",
    help: "Time at which the loop of `remdm-loop` begins.",
    default: 0.55,
    whole: false,
    holds: inside,
    problem: "must be above 0 and below 1",
};

const T_OFF: Choice = Choice {
    key: "t_off",
    help: "Time at which it ends; before `t_on`.",
    default: 0.05,
    whole: false,
    holds: inside,
    problem: "must be above 0 and below sampling.t_on",
};

const ALPHA_ON: Choice = Choice {
    key: "alpha_on",
    help: "Share of tokens that are not masked in the loop.",
    default: 0.9,
    whole: false,
    holds: inside,
    problem: "must be above 0 and below 1",
};

fn inside(x: f64) -> bool {
    x > 0.0 && x < 1.0
}

/// Refuses a loop that ends before it begins, or that would mask more than it can fill again.
fn check_loop(options: &Options) -> Result<()> {
    let (eta, alpha_on) = (options.get(&ETA), options.get(&ALPHA_ON));
    let most = (1.0 - alpha_on) / alpha_on;
    if options.get(&T_OFF) >= options.get(&T_ON) {
        return Err(Error::config("sampling.t_off", options.get(&T_OFF), T_OFF.problem));
    }
    if eta > most {
        let problem = format!("must be at most {most:.4}, (1 - alpha_on) / alpha_on");
        return Err(Error::config("sampling.eta", eta, problem));
    }
    Ok(())
}

fn remask(setting: &Setting<'_>, policy: Policy) -> Box<dyn Rule> {
    Box::new(Remask {
        schedule: setting.schedule.clone(),
        steps: setting.steps,
        policy,
    })
}

impl SamplerKind {
    /// Remasking at a capped rate.
    pub const REMDM_CAP: Self = Self(&Declaration {
        name: "remdm-cap",
        summary: "masks again, at a capped rate (ReMDM)",
        has_steps: true,
        options: &[ETA],
        check: |_| Ok(()),
        make: |setting| remask(setting, Policy::Cap(setting.options.get(&ETA))),
    });
    /// Remasking at a share of the largest rate.
    pub const REMDM_RESCALE: Self = Self(&Declaration {
        name: "remdm-rescale",
        summary: "masks again, at a share of the largest rate",
        has_steps: true,
        options: &[ETA],
        check: |_| Ok(()),
        make: |setting| remask(setting, Policy::Rescale(setting.options.get(&ETA))),
    });
    /// Remasking of the tokens that were least probable when they were revealed.
    pub const REMDM_CONF: Self = Self(&Declaration {
        name: "remdm-conf",
        summary: "masks again what was least probable",
        has_steps: true,
        options: &[],
        check: |_| Ok(()),
        make: |setting| remask(setting, Policy::Confidence),
    });
    /// Remasking at a constant number of masks in between.
    pub const REMDM_LOOP: Self = Self(&Declaration {
        name: "remdm-loop",
        summary: "masks again, in a loop at a constant share",
        has_steps: true,
        options: &[ETA, T_ON, T_OFF, ALPHA_ON],
        check: check_loop,
        make: |setting| {
            let policy = Policy::Loop {
                eta: setting.options.get(&ETA),
                t_on: setting.options.get(&T_ON),
                t_off: setting.options.get(&T_OFF),
                alpha_on: setting.options.get(&ALPHA_ON),
            };
            remask(setting, policy)
        },
    });
}

/// How sigma is chosen.
#[derive(Clone, Copy, Debug)]
enum Policy {
    /// At most this.
    Cap(f64),
    /// This share of the largest.
    Rescale(f64),
    /// The largest, shared among the tokens by the softmax of minus their probability when they
    /// were revealed.
    Confidence,
    /// None until `t_on`, where `alpha_on` of the tokens are revealed; `eta` at that constant
    /// alpha until `t_off`; none after it.
    Loop {
        eta: f64,
        t_on: f64,
        t_off: f64,
        alpha_on: f64,
    },
}

struct Remask {
    schedule: Schedule,
    steps: usize,
    policy: Policy,
}

impl Remask {
    /// Share of the tokens that is not masked at t.
    fn alpha(&self, t: f64) -> f64 {
        match self.policy {
            _ if t == 0.0 => 1.0,
            Policy::Loop {
                t_on,
                t_off,
                alpha_on,
                ..
            } => {
                if t > t_on {
                    alpha_on * (1.0 - t) / (1.0 - t_on)
                } else if t > t_off {
                    alpha_on
                } else {
                    1.0 - (1.0 - alpha_on) * t / t_off
                }
            }
            _ => self.schedule.alpha_t(t),
        }
    }

    /// Sigma of a step from t to s, before it is shared among tokens.
    fn sigma(&self, t: f64, s: f64) -> f64 {
        let (alpha_t, alpha_s) = (self.alpha(t), self.alpha(s));
        let most = if alpha_t > 0.0 {
            ((1.0 - alpha_s) / alpha_t).min(1.0)
        } else {
            1.0
        };
        match self.policy {
            Policy::Cap(eta) => eta.min(most),
            Policy::Rescale(eta) => eta * most,
            Policy::Confidence => most,
            Policy::Loop {
                eta, t_on, t_off, ..
            } => {
                if t <= t_on && t > t_off {
                    eta.min(most)
                } else {
                    0.0
                }
            }
        }
    }

    /// Probability with which each filled position is masked again.
    fn chances(&self, sigma: f64, view: &View<'_>) -> Vec<f64> {
        if !matches!(self.policy, Policy::Confidence) {
            return vec![sigma; view.filled.len()];
        }
        let weights = view.filled.iter().map(|&i| (-view.probability[i]).exp());
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| sigma * w / sum).collect()
    }
}

impl Rule for Remask {
    fn plan(&self, view: &View<'_>, rng: &mut Rng) -> Plan {
        let (t, s) = grid_times(view.step, self.steps);
        let (alpha_t, alpha_s) = (self.alpha(t), self.alpha(s));
        let sigma = self.sigma(t, s);
        // the reference's conf reveals as if nothing were masked again
        let balance = match self.policy {
            Policy::Confidence => 0.0,
            _ => sigma,
        };
        let reveal = if s == 0.0 {
            1.0
        } else {
            (alpha_s - (1.0 - balance) * alpha_t) / (1.0 - alpha_t)
        };
        let mut take = |positions: &[usize], chance: &dyn Fn(usize) -> f64| -> Vec<usize> {
            let taken = positions.iter().enumerate();
            let taken = taken.filter(|&(i, _)| rng.uniform() < chance(i));
            taken.map(|(_, &position)| position).collect()
        };
        let chances = self.chances(sigma, view);
        Plan {
            network_t: match self.policy {
                Policy::Loop { .. } => self.schedule.time_at(1.0 - alpha_t),
                _ => t,
            },
            rows: take(view.masked, &|_| reveal),
            remask: take(view.filled, &|i| chances[i]),
            t: Some(s),
        }
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn remasks(&self) -> bool {
        true
    }
}
