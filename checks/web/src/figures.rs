//! Figures: a cold start, and speed in the browser against native speed on this machine.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use mdlm::blocking::wait;
use mdlm::config::{ModelKind, SampleConfig};
use mdlm::device::{AdapterChoice, Device};
use mdlm::io::safetensors::Precision;
use mdlm::model::{Load, Model, Published};
use mdlm::sample::Canvas;
use serde_json::json;
use xtask::server::Server;

use crate::browser::Browser;
use crate::models;
use crate::site::{MODULES, RUN};

const STEPS: usize = 64;
const LENGTH: usize = 128;
/// Browser and native by turns, since the machine's speed drifts.
const ROUNDS: usize = 3;

/// Tokens a second natively: the same canvas and settings as in the page.
fn native(files: &Published, device: &Device, length: usize, steps: usize) -> Result<f64> {
    let mut model = wait(Model::load_files(device, files, &Load::default()))?;
    let bos = model.tokenizer().context("no tokenizer")?.bos();
    let canvas = Canvas::prompt(&[bos], length)?;
    let config = SampleConfig {
        steps,
        ..SampleConfig::default()
    };
    let mut best: f64 = 0.0;
    // the first run makes plans and pipelines
    for _ in 0..3 {
        let mut sampler = model.sampler(canvas.clone(), &config)?;
        let begin = Instant::now();
        while wait(sampler.step())?.is_some() {}
        best = best.max((length - 1) as f64 / begin.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Tokens a second in the page: the best of three runs.
fn page(browser: &mut Browser) -> Result<f64> {
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        browser.eval("document.getElementById('generate').click()")?;
        browser.wait(
            "!document.getElementById('generate').disabled && document.getElementById('c-masked').textContent === '0'",
            RUN * 4,
        )?;
        let speed = browser.eval("Number(document.getElementById('c-speed').textContent)")?;
        best = best.max(speed.as_f64().context("no speed")?);
    }
    Ok(best)
}

/// Resident memory of the largest process that renders a page.
fn resident(browser: &mut Browser) -> Result<Option<f64>> {
    let info = browser.call("", "SystemInfo.getProcessInfo", json!({}))?;
    let processes = info["processInfo"].as_array().context("no processes")?;
    let renderers = processes.iter().filter(|p| p["type"] == "renderer");
    let bytes = renderers.filter_map(|p| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", p["id"])).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(1024.0 * line.trim().trim_end_matches(" kB").parse::<f64>().ok()?)
    });
    Ok(bytes.reduce(f64::max))
}

/// Measures and prints.
pub fn run(site: &Path, chromium: &Path, tokenizer: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tokenizer = std::fs::read(tokenizer)?;
    let demo = models::random(ModelKind::Dit, &tokenizer)?;
    models::write(&demo, &folder.path().join("mdlm"))?;
    let parameters = wait(Model::load_files(&Device::cpu(), &demo, &Load::default()))?
        .info()
        .parameters;
    println!(
        "a model of the demo's size: {parameters} parameters, f16, {LENGTH} tokens in {STEPS} steps"
    );
    let server = Server::start(&[("model", folder.path()), ("", site)], 0)?;
    let query = format!(
        "?sampler=ancestral&temperature=1&device=cpu&compare=0&top_p=1&steps={STEPS}&length={LENGTH}"
    );

    let mut browser = Browser::start(chromium, false)?;
    browser.open(&format!("{}{query}", server.url()))?;
    browser.wait(
        "document.querySelectorAll('#tokens [data-at]:not(.mask)').length > 1",
        RUN,
    )?;
    let first = browser
        .eval("performance.now()")?
        .as_f64()
        .context("no time")?;
    println!(
        "first token after {:.2} s from a cold load, on the twin",
        first / 1000.0
    );
    browser.wait("!document.getElementById('generate').disabled", RUN * 4)?;
    match resident(&mut browser)? {
        Some(bytes) => println!(
            "memory of the process that holds page and worker: {:.0} MB",
            bytes / 1e6
        ),
        None => println!("memory: this system does not say"),
    }
    let mut speeds = [0.0_f64; MODULES.len()];
    let mut there = 0.0_f64;
    for _ in 0..ROUNDS {
        for (module, speed) in MODULES.iter().zip(&mut speeds) {
            let address = format!("{}{query}&run=0&module={module}", server.url());
            browser.open(&address)?;
            browser.wait("!document.getElementById('generate').disabled", RUN)?;
            *speed = speed.max(page(&mut browser)?);
        }
        there = there.max(native(&demo, &Device::cpu(), LENGTH, STEPS)?);
    }
    drop(browser);
    let threads = mdlm_engine::cpu::threads();
    println!("twin natively, {threads} threads: {there:.0} tokens/s");
    for (module, speed) in MODULES.iter().zip(speeds) {
        println!(
            "twin in the browser, module {module}: {speed:.0} tokens/s, {:.0} % of native",
            100.0 * speed / there
        );
    }

    // a software driver is slow: a small model
    let small = wait(models::trained(ModelKind::Dit, 30)?.publish(Precision::F16))?;
    models::write(&small, &folder.path().join("mdlm"))?;
    let (length, steps) = (models::LENGTH, 24);
    let mut browser = Browser::start(chromium, true)?;
    browser.open(&format!(
        "{}?run=0&sampler=ancestral&temperature=1&device=webgpu&compare=0&top_p=1&steps={steps}&length={length}",
        server.url()
    ))?;
    browser.wait("!document.getElementById('generate').disabled", RUN)?;
    let line = browser.eval("document.getElementById('device-text').innerText")?;
    let device = wait(Device::gpu(&AdapterChoice::Any))?;
    println!(
        "small model in the page: {line}; natively: {}",
        device.info()
    );
    // without a GPU the browser paints the page on the cores that compute
    let (mut shown, mut hidden, mut there): (f64, f64, f64) = (0.0, 0.0, 0.0);
    for _ in 0..ROUNDS {
        shown = shown.max(page(&mut browser)?);
        browser.eval("document.body.style.display = 'none'")?;
        hidden = hidden.max(page(&mut browser)?);
        browser.eval("document.body.style.display = ''")?;
        there = there.max(native(&small, &device, length, steps)?);
    }
    ensure!(shown > 0.0 && there > 0.0, "nothing was measured");
    println!(
        "WebGPU: {shown:.0} tokens/s ({:.0} % of native), {hidden:.0} with nothing painted ({:.0} %), {there:.0} natively",
        100.0 * shown / there,
        100.0 * hidden / there
    );
    Ok(())
}
