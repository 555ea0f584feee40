//! A model that is large beside what loading it may take.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mdlm::io::safetensors::{Precision, TensorSpec, write_file};
use mdlm::model::{Load, inspect};
use serde_json::json;

use super::spoil::{copied, edit};
use crate::site::{Bench, RUN, Visit};

/// What opening a model may take of the program's memory beside the model itself: the parts of a file in passing, the
/// tokenizer, and what the allocator cannot use.
const BESIDES: f64 = 40e6;

const WIDTH: usize = 1024;
const ROWS: usize = 80_000;
const LAYERS: usize = 6;
const MLP: usize = 3072;

/// Makes a Qwen3 with random weights of 330 MB in f16, whose largest tensor has 82 million elements.
fn make(folder: &Path) -> Result<()> {
    edit(&folder.join("config.json"), |c| {
        for (key, value) in [
            ("vocab_size", ROWS),
            ("hidden_size", WIDTH),
            ("num_hidden_layers", LAYERS),
            ("intermediate_size", MLP),
            ("num_attention_heads", 16),
            ("num_key_value_heads", 16),
            ("head_dim", WIDTH / 16),
        ] {
            c[key] = json!(value);
        }
    })?;
    let mut specs = vec![
        TensorSpec::new("model.embed_tokens.weight", [ROWS, WIDTH]),
        TensorSpec::new("model.norm.weight", [WIDTH]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            let name = format!("model.layers.{layer}.{name}.weight");
            specs.push(TensorSpec::new(name, shape));
        };
        for name in ["input_layernorm", "post_attention_layernorm"] {
            add(name, &[WIDTH]);
        }
        for name in ["q_norm", "k_norm"] {
            add(&format!("self_attn.{name}"), &[WIDTH / 16]);
        }
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), &[WIDTH, WIDTH]);
        }
        add("mlp.gate_proj", &[MLP, WIDTH]);
        add("mlp.up_proj", &[MLP, WIDTH]);
        add("mlp.down_proj", &[WIDTH, MLP]);
    }
    let mut state = 1u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let path = folder.join("model.safetensors");
    Ok(write_file(&path, &specs, Precision::F16, |i| {
        let scale = if specs[i].shape.len() == 1 { 1.0 } else { 0.1 };
        Ok(Cow::Owned(
            (0..specs[i].count()).map(|_| scale * next()).collect(),
        ))
    })?)
}

/// Opens the files that were chosen in a worker of its own; returns the program's memory before and after.
const OPEN: &str = "(async () => {
    const { Engine } = await import('./engine.js');
    const engine = new Engine(() => {});
    const { info: { memory: before } } = await engine.start('DEVICE', 'plain');
    const { memory: after, info } = await engine.call('open', { name: 'large', files: window.chosen, how: { weights: 'WEIGHTS' } });
    engine.end('cancelled', 'done');
    return [before, after, info.bytes];
})()";

fn opened(visit: &mut Visit, device: &str, weights: &str) -> Result<[f64; 3]> {
    let code = OPEN.replace("DEVICE", device).replace("WEIGHTS", weights);
    let found = crate::site::numbers(&visit.browser.eval(&code)?)?;
    found.try_into().ok().context("three numbers")
}

pub(super) fn large(bench: &Bench) -> Result<String> {
    let (_guard, folder) = copied("qwen3_a2d")?;
    make(&folder)?;
    let at_rest = inspect(&folder, &Load::default())?;
    let mut notes = Vec::new();
    for (device, webgpu) in [("cpu", false), ("webgpu", true)] {
        let mut visit = bench.visit(webgpu)?;
        visit.open(&format!("?run=0&device={device}&compare=0"))?;
        visit.ready()?;
        let keep = "document.getElementById('published-folder').addEventListener('change', ({ target }) => (window.chosen = [...target.files]), { capture: true }); 0";
        visit.browser.eval(keep)?;
        visit.choose(&folder)?;
        visit.described()?;
        if device == "cpu" {
            cancelled(&mut visit)?;
        }
        for weights in ["q4", "q8"] {
            let [bytes, _] = at_rest.bytes(Some(weights.parse()?), 1)?;
            let [before, after, told] = opened(&mut visit, device, weights)?;
            ensure!(told == bytes as f64, "{told} bytes at rest, not {bytes}");
            // a GPU keeps the model in buffers of its own
            let kept = if webgpu { 0.0 } else { told };
            let more = after - before;
            ensure!(
                more >= kept && more <= kept + BESIDES,
                "{device}, {weights}: {more} bytes more, the model takes {kept}"
            );
            notes.push(format!(
                "{device} {weights}: model {:.0} MB, memory grew by {:.0} MB",
                told / 1e6,
                more / 1e6
            ));
        }
        visit.clean(&[])?;
    }
    Ok(notes.join("; "))
}

/// Begins to open it and thinks better of it.
fn cancelled(visit: &mut Visit) -> Result<()> {
    visit.click("published-load")?;
    visit
        .browser
        .wait("document.getElementById('published-bar').value > 0.02", RUN)?;
    visit.picture("published-loading")?;
    let begun = visit
        .browser
        .eval("document.getElementById('published-bar').value < 0.9")?;
    ensure!(begun == true, "it was over before it could be cancelled");
    visit.click("published-cancel")?;
    visit.text("It was not opened; the page's own model is back")?;
    visit.ready()?;
    visit.fill("steps", "4")?;
    visit.generate()
}
