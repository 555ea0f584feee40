//! The networks of published models against the numbers of the public modelling code (see
//! `tests/golden_llm/README.md`): every layer, the logits, losses and every gradient.
#![allow(clippy::unwrap_used)]

#[path = "golden_llm_parts/chat.rs"]
mod chat;
mod common;
#[path = "golden_llm_parts/forward.rs"]
mod forward;
#[path = "golden_llm_parts/gguf.rs"]
mod gguf;
#[path = "golden_llm_parts/hybrid.rs"]
mod hybrid;
#[path = "golden_llm_parts/layouts.rs"]
mod layouts;
#[path = "golden_llm_parts/loss.rs"]
mod loss;
#[path = "golden_llm_parts/recipe.rs"]
mod recipe;
#[path = "golden_llm_parts/sample.rs"]
mod sample;
#[path = "golden_llm_parts/tune.rs"]
mod tune;

use common::Executor;
use common::fixtures::Set;

/// The fixtures of `tests/golden_llm`, or of the folder that `MDLM_GOLDEN_LLM` names.
const FIXTURES: Set = Set {
    folder: "golden_llm",
    variable: "MDLM_GOLDEN_LLM",
};

/// One test for each executor.
macro_rules! executors {
    ($($name:ident: $check:path;)*) => {$(
        mod $name {
            use crate::common::Executor;

            const NAME: &str = stringify!($name);

            #[test]
            fn gpu() {
                pollster::block_on($check(NAME, Executor::Gpu));
            }
            #[test]
            fn cpu_f32() {
                pollster::block_on($check(NAME, Executor::CpuF32));
            }
            #[test]
            fn cpu_f64() {
                pollster::block_on($check(NAME, Executor::CpuF64));
            }
        }
    )*};
}

executors! {
    llada_forward: crate::forward::every_layer;
    llada_gqa_forward: crate::forward::every_layer;
    dream_forward: crate::forward::every_layer;
    qwen3_a2d_forward: crate::forward::every_layer;
    modernbert_forward: crate::forward::every_layer;
    bert_forward: crate::forward::every_layer;
    gidd_forward: crate::forward::every_layer;
    smdm_forward: crate::forward::every_layer;
    half_llada_forward: crate::forward::at_rest;
    half_llada_gqa_forward: crate::forward::at_rest;
    half_dream_forward: crate::forward::at_rest;
    half_qwen3_a2d_forward: crate::forward::at_rest;
    half_modernbert_forward: crate::forward::at_rest;
    half_bert_forward: crate::forward::at_rest;
    half_gidd_forward: crate::forward::at_rest;
    half_smdm_forward: crate::forward::at_rest;
    loss_mdlm_llada: crate::loss::loss_and_gradients;
    loss_mdlm_qwen3: crate::loss::loss_and_gradients;
    loss_sft_llada: crate::loss::loss_and_gradients;
    loss_sft_qwen3: crate::loss::loss_and_gradients;
    lora_sft_qwen3: crate::loss::loss_and_gradients;
    loss_bd3lm_qwen3: crate::loss::loss_and_gradients;
    loss_variants_qwen3: crate::loss::variants;
    loss_dream_cart: crate::loss::cart;
    llada_generate: crate::sample::llada;
    fastdllm_generate: crate::sample::llada;
    dllm_mdlm_sampler: crate::sample::dllm;
    dllm_fastdllm_sampler: crate::sample::dllm;
    dream_generate: crate::sample::dream;
    dllm_bd3lm_sampler: crate::sample::blocks;
    gidd_draws: crate::hybrid::draws;
    gidd_samples: crate::hybrid::samples;
}

/// The bound of f32 (of the fixtures' README), or of f64: the golden numbers are rounded to f32.
fn bound(executor: Executor, f32_bound: f64) -> f64 {
    match executor {
        Executor::CpuF64 => 2e-7,
        _ => f32_bound,
    }
}
