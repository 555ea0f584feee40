//! WebGPU, on the browser's software adapter.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{canvas, difference, native, settings};
use crate::models::LENGTH;
use crate::race;
use crate::site::{Bench, RUN};

/// Largest accepted difference of logits; they are of the order of 10.
const TOLERANCE: f64 = 2e-3;

pub(super) fn webgpu_equals_native(bench: &Bench) -> Result<String> {
    let mut model = native(&bench.mdlm)?;
    let open = canvas(&model, "once upon")?;
    let mask = model.mask_index();
    let mut visit = bench.visit(true)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    let (worst, adapter) = difference(
        &mut visit,
        &mut model,
        "webgpu",
        "plain",
        &open.tokens(mask),
    )?;
    ensure!(worst > 0.0 && worst < TOLERANCE, "logits differ by {worst}");
    let mut chosen = None;
    for seed in 1..40 {
        let run = race::run(&mut model, open.clone(), &settings(seed))?;
        if run.margin > 4.0 * worst {
            chosen = Some((seed, run));
            break;
        }
    }
    let (seed, run) = chosen.context("no seed has a margin")?;
    visit.open(&format!(
        "?run=0&sampler=ancestral&temperature=1&device=webgpu&top_p=1&steps=24&length={LENGTH}&seed={seed}&prompt=once+upon"
    ))?;
    visit.ready()?;
    let line = visit.read("device-text")?;
    ensure!(line.contains("software driver"), "{line}");
    visit.generate()?;
    ensure!(visit.tokens()? == run.tokens, "other tokens than natively");
    visit.picture("finished-webgpu")?;
    visit.clean(&[])?;
    Ok(format!(
        "{adapter}: logits within {worst:.1e} (bound {TOLERANCE:.0e}); seed {seed}, margin {:.1e}: tokens equal",
        run.margin
    ))
}

/// Compiles shaders one after the other; what the browser says against them.
/// In the label of a kernel for discrete GPUs, which a page never takes; a software driver compiles them for minutes.
const DISCRETE: &str = "TILE_M=128";

const COMPILE: &str = "(async () => {
    const adapter = await navigator.gpu.requestAdapter();
    const f16 = adapter.features.has('shader-f16');
    const device = await adapter.requestDevice({ requiredFeatures: f16 ? ['shader-f16'] : [] });
    const problems = [];
    for (const [label, code] of SHADERS) {
        const half = code.startsWith('enable f16;');
        if (half && !f16) {
            window.unread = (window.unread ?? 0) + 1;
            continue;
        }
        const module = device.createShaderModule({ label, code });
        const { messages } = await module.getCompilationInfo();
        problems.push(...messages.filter(({ type }) => type === 'error').map(({ message }) => `${label}: ${message}`));
        // a page trains in f32
        if (half || label.includes('DISCRETE')) {
            continue;
        }
        for (const [, entry] of code.matchAll(/@compute[^{]*fn\\s+(\\w+)/g)) {
            try {
                await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: entry } });
                window.compiled = (window.compiled ?? 0) + 1;
            } catch (error) {
                problems.push(`${label}, ${entry}: ${error.message}`);
            }
        }
    }
    device.destroy();
    return problems;
})()";

pub(super) fn every_shader(bench: &Bench) -> Result<String> {
    let all = crate::catalogue::catalogue();
    // browsers have no matrix units
    let elsewhere = crate::catalogue::cooperative();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../engine/shaders");
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .context("no name")?
            .to_string_lossy()
            .into_owned();
        let used = |(label, _): &(String, String)| {
            label
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                == Some(&stem)
        };
        ensure!(
            path.is_dir() || all.iter().chain(&elsewhere).any(used),
            "no graph uses {stem}"
        );
    }
    let mut visit = bench.visit(true)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    let script = COMPILE.replace("DISCRETE", DISCRETE);
    let mut problems = Vec::new();
    for part in all.chunks(40) {
        let shaders = serde_json::to_string(part)?;
        let found = visit.browser.eval(&script.replace("SHADERS", &shaders))?;
        let found = found.as_array().context("no list")?.clone();
        problems.extend(found.iter().map(ToString::to_string));
    }
    ensure!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
    let compiled = visit.browser.eval("window.compiled")?.as_u64().unwrap_or(0);
    let half = |text: &str| text.starts_with("enable f16;");
    let taken = all
        .iter()
        .filter(|(label, text)| !label.contains(DISCRETE) && !half(text));
    ensure!(
        compiled >= taken.count() as u64,
        "only {compiled} entry points"
    );
    visit.clean(&[])?;
    let unread = visit.browser.eval("window.unread ?? 0")?;
    Ok(format!(
        "{} specialisations, {compiled} entry points; {unread} with 16-bit floats not read, which the adapter has not",
        all.len()
    ))
}

pub(super) fn device_lost(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(true)?;
    visit.open(&format!(
        "?run=0&sampler=ancestral&temperature=1&device=webgpu&compare=0&steps=300&length={LENGTH}&top_p=1"
    ))?;
    visit.ready()?;
    visit.fill("prompt", "the hen")?;
    for round in 1..=2 {
        visit.click("generate")?;
        // the token that begins the block and the prompt's seven stand from the start
        visit.browser.wait(
            "document.querySelectorAll('#tokens [data-at]:not(.mask)').length > 10",
            RUN,
        )?;
        let written = "[...document.querySelectorAll('#tokens [data-at]:not(.mask)')].map((s) => `${s.dataset.at}: ${s.dataset.token}`)";
        let before = visit.browser.eval(written)?;
        // the browser answers only if the process ends in order
        let _ = visit
            .browser
            .call("", "Browser.crashGpuProcess", serde_json::json!({}));
        if round == 1 {
            visit
                .text("Started again; the text went on from where it stood")
                .with_context(|| "no recovery")?;
            visit.finished()?;
            let (before, after) = (before.as_array(), visit.browser.eval(written)?);
            let (before, after) = (before.context("no tokens")?, after.as_array());
            let after = after.context("no tokens")?;
            ensure!(before.len() > 10, "nothing was written before the loss");
            let lost = before.iter().find(|token| !after.contains(token));
            ensure!(lost.is_none(), "the text did not go on: {lost:?}");
            visit.picture("recovered")?;
        } else {
            visit.browser.wait("[...document.querySelectorAll('.notice button')].some((b) => b.innerText === 'Start again')", RUN)?;
            visit.picture("lost-again")?;
            visit.browser.eval("[...document.querySelectorAll('.notice button')].find((b) => b.innerText === 'Compute on the CPU').click()")?;
            visit.browser.wait(
                "document.getElementById('device').dataset.kind === 'cpu'",
                RUN,
            )?;
            visit.ready()?;
            visit.fill("steps", "6")?;
            visit.generate()?;
        }
    }
    visit.clean(&[])?;
    Ok("recovered once, then offered a button".into())
}
