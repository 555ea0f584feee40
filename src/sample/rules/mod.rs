//! Which positions a step reveals, and which it masks again: decided on the host in f64.
//!
//! A rule is a pure function of a canvas's state and of random numbers, so a step that fails can be
//! repeated, and what happens to a canvas does not depend on the others of its batch.

mod grid;
mod hitting;
mod order;
mod plan;
mod remask;

pub use plan::binomial;
pub(super) use plan::{Plan, Rule, View};

use crate::config::{Parameterization, SampleConfig, SamplerKind};
use crate::process::Schedule;

/// The rule of a configuration, for a model with this noise and parameterisation.
pub(super) fn rule(
    config: &SampleConfig,
    schedule: Schedule,
    parameterization: Parameterization,
    vocab_size: usize,
) -> Box<dyn Rule> {
    let steps = config.steps;
    let remask = |policy| {
        Box::new(remask::Remask {
            schedule: schedule.clone(),
            steps,
            policy,
        })
    };
    match config.sampler {
        SamplerKind::Analytic if parameterization == Parameterization::Sedd => {
            Box::new(grid::Analytic {
                schedule,
                steps,
                vocab_size,
            })
        }
        SamplerKind::Ancestral | SamplerKind::Analytic => {
            Box::new(grid::Ancestral { schedule, steps })
        }
        SamplerKind::FirstHitting => Box::new(hitting::FirstHitting {
            schedule,
            tokens_per_call: config.tokens_per_call,
        }),
        SamplerKind::LeftToRight => Box::new(hitting::LeftToRight { schedule }),
        SamplerKind::Confidence => Box::new(order::Confidence {
            schedule,
            steps,
            noise: config.order_noise,
        }),
        SamplerKind::Threshold => Box::new(order::Threshold {
            schedule,
            threshold: config.threshold,
        }),
        SamplerKind::EntropyBound => Box::new(order::EntropyBound {
            schedule,
            gamma: config.gamma,
        }),
        SamplerKind::RemdmCap => remask(remask::Policy::Cap(config.eta)),
        SamplerKind::RemdmRescale => remask(remask::Policy::Rescale(config.eta)),
        SamplerKind::RemdmConf => remask(remask::Policy::Confidence),
        SamplerKind::RemdmLoop => remask(remask::Policy::Loop {
            eta: config.eta,
            t_on: config.t_on,
            t_off: config.t_off,
            alpha_on: config.alpha_on,
        }),
    }
}
