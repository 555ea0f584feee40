//! Samplers: which positions a step reveals, and which it masks again, decided on the host in f64. A file each,
//! which declares its name, its options and their bounds; settings, command line and page follow from [`ALL`].
//!
//! A rule is a pure function of a canvas's state and of random numbers, so a step that fails can be
//! repeated, and what happens to a canvas does not depend on the others of its batch.

mod declare;
mod files;
mod plan;

pub use declare::{Choice, Declaration, Options, SamplerKind, Setting};
pub(crate) use plan::draw_all;
pub use plan::{Draw, Filled, Plan, Rule, View, binomial};

/// The files with samplers, and the constants of [`SamplerKind`] that each declares.
macro_rules! samplers {
    ($($file:ident: $($kind:ident)+;)+) => {
        $(mod $file;)+

        /// Every sampler.
        pub const ALL: &[SamplerKind] = &[$($(SamplerKind::$kind),+),+];
    };
}

samplers! {
    ancestral: ANCESTRAL;
    first_hitting: FIRST_HITTING;
    analytic: ANALYTIC;
    confidence: CONFIDENCE;
    threshold: THRESHOLD;
    settled: KLASS;
    entropy_bound: ENTROPY_BOUND;
    remask: REMDM_CAP REMDM_RESCALE REMDM_CONF REMDM_LOOP;
    path: P2;
    hybrid: HYBRID;
    published: SCHEDULED DREAM DREAM_ENTROPY DREAM_MARGIN FACTOR;
    left_to_right: LEFT_TO_RIGHT;
}

/// Every option of a sampler, once.
pub fn choices() -> Vec<Choice> {
    let mut found: Vec<Choice> = Vec::new();
    for choice in ALL.iter().flat_map(|kind| kind.options) {
        if found.iter().all(|known| known.key != choice.key) {
            found.push(*choice);
        }
    }
    found
}
