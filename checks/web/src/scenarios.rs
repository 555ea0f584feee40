//! What the page must do.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mdlm::blocking::wait;
use mdlm::config::SampleConfig;
use mdlm::device::Device;
use mdlm::model::{Model, Published};
use mdlm::sample::Canvas;

use crate::models::LENGTH;
use crate::race;
use crate::site::{Bench, RUN, numbers};

type Scenario = fn(&Bench) -> Result<String>;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("twin-equals-native", twin_equals_native),
    ("frozen-words-stay", frozen_words_stay),
    ("mask-and-fill-anew", mask_and_fill_anew),
    ("scrub-and-share", scrub_and_share),
    ("cancel", cancel),
    ("corrupt-checkpoint", corrupt_checkpoint),
    ("missing-model", missing_model),
    ("no-webgpu", no_webgpu),
    ("webgpu-equals-native", webgpu_equals_native),
    ("device-lost", device_lost),
    ("training", training),
    ("looks", looks),
    ("insecure", insecure),
];

/// Runs the scenarios whose names contain `only`.
pub fn run(site: &Path, chromium: &Path, out: &Path, only: &str) -> Result<()> {
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|(name, _)| name.contains(only))
        .collect();
    ensure!(!chosen.is_empty(), "no scenario is called {only}");
    let bench = Bench::new(site, chromium, out)?;
    let mut failed = Vec::new();
    for (name, scenario) in chosen {
        let begin = Instant::now();
        let outcome = scenario(&bench);
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(note) => println!("ok     {name} ({seconds:.1} s) {note}"),
            Err(error) => {
                println!("FAILED {name} ({seconds:.1} s): {error:#}");
                failed.push(*name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    println!("Pictures are in {}", out.display());
    Ok(())
}

fn native(files: &Published) -> Result<Model> {
    Ok(wait(files.load(&Device::cpu()))?)
}

/// The canvas that the page makes of a prompt.
fn canvas(model: &Model, template: &str) -> Result<Canvas> {
    let tokenizer = model.tokenizer().context("no tokenizer")?;
    let mut canvas = Canvas::prompt(&[tokenizer.bos()], 1)?;
    canvas.append(Canvas::parse(template, tokenizer)?);
    canvas.append(Canvas::open(LENGTH.saturating_sub(canvas.len())));
    Ok(canvas)
}

fn settings(seed: u64) -> SampleConfig {
    SampleConfig {
        steps: 24,
        seed,
        ..SampleConfig::default()
    }
}

/// Loads the model in a worker of its own and returns what its logits differ by from the native ones.
const LOGITS: &str = "(async () => {
    const { Engine } = await import('./engine.js');
    const engine = new Engine(() => {});
    const { info } = await engine.start('DEVICE');
    const { info: model } = await engine.call('load', { name: 'mdlm' });
    const logits = await engine.call('logits', { name: 'mdlm', tokens: Uint32Array.from(TOKENS), t: 0 });
    engine.end('cancelled', 'done');
    return { kind: info.kind, hardware: info.hardware, adapter: info.adapter ?? '', logits: Array.from(logits) };
})()";

/// Largest difference of logits between the page on a device and the native twin.
fn difference(
    visit: &mut crate::site::Visit,
    model: &mut Model,
    device: &str,
    tokens: &[u32],
) -> Result<(f64, String)> {
    let code = LOGITS
        .replace("DEVICE", device)
        .replace("TOKENS", &format!("{tokens:?}"));
    let found = visit.browser.eval(&code)?;
    let kind = if device == "cpu" { "cpu" } else { "webgpu" };
    ensure!(found["kind"] == kind, "computed on {}", found["kind"]);
    let logits = numbers(&found["logits"])?;
    let expected = wait(model.logits(tokens, &[0.0]))?;
    ensure!(logits.len() == expected.len(), "{} logits", logits.len());
    let mask = model.config().mask_index as usize;
    let vocab = model.config().vocab_size;
    let live = |&(i, _): &(usize, (&f64, &f32))| i % vocab != mask;
    let worst = logits
        .iter()
        .zip(&expected)
        .enumerate()
        .filter(live)
        .map(|(_, (a, b))| (a - f64::from(*b)).abs())
        .fold(0.0, f64::max);
    Ok((
        worst,
        found["adapter"].as_str().unwrap_or_default().to_owned(),
    ))
}

fn twin_equals_native(bench: &Bench) -> Result<String> {
    let mut model = native(&bench.mdlm)?;
    let prompt = "once upon";
    let open = canvas(&model, prompt)?;
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    let mask = model.config().mask_index;
    let (rounding, _) = difference(&mut visit, &mut model, "cpu", &open.tokens(mask))?;
    // A seed whose closest race cannot be turned by rounding.
    let mut chosen = None;
    for seed in 1..40 {
        let run = race::run(&mut model, open.clone(), &settings(seed))?;
        if run.margin > 20.0 * rounding.max(1e-6) {
            chosen = Some((seed, run));
            break;
        }
    }
    let (seed, run) = chosen.context("no seed has a margin")?;
    visit.open(&format!(
        "?run=0&device=cpu&compare=0&top_p=1&temperature=1&steps=24&length={LENGTH}&seed={seed}&prompt=once+upon"
    ))?;
    visit.ready()?;
    visit.picture("ready")?;
    visit.generate()?;
    let tokens = visit.tokens()?;
    ensure!(
        tokens == run.tokens,
        "other tokens: {tokens:?}, natively {:?}",
        run.tokens
    );
    let titles = visit.browser.eval(
        "Object.fromEntries([...document.querySelectorAll('#tokens [data-at]')].map((s) => [s.dataset.at, s.title]))",
    )?;
    for (position, probability) in &run.probabilities {
        let title = titles[position.to_string()].as_str().unwrap_or_default();
        let digits = usize::from(*probability < 0.1);
        let expected = format!("{:.digits$} % sure", probability * 100.0);
        ensure!(
            title.starts_with(&expected),
            "position {position}: {title}, expected {expected}"
        );
    }
    visit.picture("finished-cpu")?;
    visit.clean(&[])?;
    Ok(format!(
        "seed {seed}: smallest race margin {:.2e}, largest difference of logits {rounding:.2e}, {} tokens equal",
        run.margin,
        tokens.len()
    ))
}

fn frozen_words_stay(bench: &Bench) -> Result<String> {
    let model = native(&bench.mdlm)?;
    let template = "the hen [MASK:8] the cat";
    let expected = canvas(&model, template)?;
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&steps=8&top_p=1")?;
    visit.ready()?;
    visit.fill("prompt", template)?;
    visit.generate()?;
    let tokens = visit.tokens()?;
    ensure!(tokens.len() == LENGTH, "{} tokens", tokens.len());
    let mut frozen = 0;
    for i in 0..expected.len() {
        if let Some(token) = expected.token(i) {
            ensure!(
                tokens[i] == token,
                "frozen position {i} became {}",
                tokens[i]
            );
            frozen += 1;
        }
    }
    visit.text("cannot fill gaps")?;
    visit.picture("infill")?;
    visit.clean(&[])?;
    Ok(format!("{frozen} frozen tokens kept"))
}

/// Middle of a position's box.
const PLACE: &str = "(() => { const s = document.querySelector('#tokens [data-at=\"AT\"]'); s.scrollIntoView({block: 'center'}); \
    const r = s.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; })()";

fn mask_and_fill_anew(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.browser.size(1280, 1600, false)?;
    visit.open("?run=0&device=cpu&steps=8&top_p=1&compare=0&seed=5")?;
    visit.ready()?;
    visit.fill("prompt", "the hen and ")?;
    visit.generate()?;
    let before = visit.tokens()?;
    let mut place = |at: usize| -> Result<(f64, f64)> {
        let found = numbers(&visit.browser.eval(&PLACE.replace("AT", &at.to_string()))?)?;
        Ok((found[0], found[1]))
    };
    // freeze a word, then drag over it and its neighbours
    let (from, frozen, to) = (place(18)?, place(24)?, place(32)?);
    visit
        .browser
        .eval("document.querySelector('input[value=freeze]').click()")?;
    visit.browser.drag(frozen, frozen)?;
    let kept = "[...document.querySelectorAll('#tokens .frozen')].map((s) => Number(s.dataset.at)).filter((i) => i > 12)";
    let kept = numbers(&visit.browser.eval(kept)?)?;
    ensure!(kept.contains(&24.0), "nothing was frozen: {kept:?}");
    visit.picture("frozen")?;
    visit
        .browser
        .eval("document.querySelector('input[value=reopen]').click()")?;
    visit.browser.drag(from, to)?;
    visit.finished()?;
    let after = visit.tokens()?;
    let changed: Vec<usize> = (0..LENGTH).filter(|&i| before[i] != after[i]).collect();
    ensure!(!changed.is_empty(), "nothing was filled anew");
    ensure!(
        changed.iter().all(|i| *i > 12),
        "the prompt changed: {changed:?}"
    );
    for i in &kept {
        ensure!(
            !changed.contains(&(*i as usize)),
            "frozen position {i} changed"
        );
    }
    // by keyboard: the last word anew
    visit
        .browser
        .eval("document.querySelector('#tokens [data-at=\"40\"]').focus()")?;
    visit.browser.key("Enter", "\r")?;
    visit.browser.wait(
        "document.getElementById('c-step').textContent.startsWith('8')",
        RUN,
    )?;
    visit.finished()?;
    visit.picture("filled-anew")?;
    visit.clean(&[])?;
    Ok(format!(
        "{} tokens changed, {} frozen ones did not",
        changed.len(),
        kept.len()
    ))
}

fn scrub_and_share(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.open("?device=cpu&steps=12&length=40&seed=9&top_p=0.9&temperature=0.8&prompt=the+hen&sampler=confidence")?;
    visit.finished()?;
    visit
        .browser
        .wait("!document.getElementById('scrub').disabled", RUN)?;
    let end = visit.tokens()?;
    let frames = visit
        .browser
        .eval("Number(document.getElementById('scrub').max)")?;
    ensure!(frames == 12, "{frames} frames");
    let to = |step: usize| {
        format!(
            "(() => {{ const s = document.getElementById('scrub'); s.value = {step}; s.dispatchEvent(new Event('input')); }})()"
        )
    };
    visit.browser.eval(&to(6))?;
    let masked: usize = visit.read("c-masked")?.parse()?;
    let shown = visit
        .browser
        .eval("document.querySelectorAll('#tokens .mask').length")?;
    ensure!(
        masked > 0 && shown == masked,
        "{masked} masked, {shown} shown"
    );
    visit.picture("scrubbed")?;
    visit.browser.eval(&to(12))?;
    ensure!(visit.tokens()? == end, "the end changed");
    // the address gives the same run again
    let address = visit.browser.eval("location.search")?;
    let address = address.as_str().context("no address")?.to_owned();
    for part in [
        "sampler=confidence",
        "seed=9",
        "length=40",
        "top_p=0.9",
        "temperature=0.8",
        "prompt=the+hen",
        "device=cpu",
    ] {
        ensure!(address.contains(part), "{address} lacks {part}");
    }
    visit.open(&address)?;
    visit.finished()?;
    ensure!(
        visit.tokens()? == end,
        "the shared address gives another text"
    );
    // settings that cannot be are explained
    visit.fill("top_p", "7")?;
    visit.click("generate")?;
    visit.text("config sampling.top_p = 7: must be in (0, 1]")?;
    visit.picture("bad-settings")?;
    visit.clean(&[])?;
    Ok(format!("{masked} masked at half time"))
}

fn cancel(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&steps=1000&length=48&compare=0")?;
    visit.ready()?;
    visit.click("generate")?;
    visit.browser.wait(
        "Number(document.getElementById('c-step').textContent.split('/')[0]) >= 3",
        RUN,
    )?;
    let begin = Instant::now();
    visit.click("stop")?;
    visit.ready()?;
    let took = begin.elapsed();
    let step = visit.read("c-step")?;
    ensure!(!step.starts_with("1000"), "it ran to its end");
    visit.picture("stopped")?;
    // and it can begin again
    visit.fill("steps", "6")?;
    visit.generate()?;
    visit.clean(&[])?;
    Ok(format!(
        "stopped at step {step} within {} ms",
        took.as_millis()
    ))
}

/// Copies the models of the tests, to be spoilt.
fn spoilt(bench: &Bench) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for name in ["mdlm", "ar"] {
        std::fs::create_dir(folder.path().join(name))?;
        for entry in std::fs::read_dir(bench.models.path().join(name))? {
            let entry = entry?;
            std::fs::copy(
                entry.path(),
                folder.path().join(name).join(entry.file_name()),
            )?;
        }
    }
    Ok(folder)
}

fn corrupt_checkpoint(bench: &Bench) -> Result<String> {
    // one bit of the weights: the digest
    let folder = spoilt(bench)?;
    let path = folder.path().join("mdlm/model.safetensors");
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes)?;
    let mut visit = bench.visit_with(false, folder.path())?;
    visit.open("?device=cpu")?;
    visit.text("mdlm/model.safetensors is damaged: its SHA-256")?;
    visit.picture("corrupt")?;
    visit.clean(&[])?;
    // a torn file with the card that fits it: the reader
    let mut files = bench.mdlm.clone();
    files.weights.truncate(middle);
    crate::models::write(&files, &folder.path().join("mdlm"))?;
    visit.open("?device=cpu")?;
    visit.text("checkpoint model.safetensors: truncated")?;
    // the whole one again: nothing bad was kept
    crate::models::write(&bench.mdlm, &folder.path().join("mdlm"))?;
    visit.open("?device=cpu&steps=4&compare=0")?;
    visit.finished()?;
    // and the second visit takes the files from the cache
    let fetched = |visit: &crate::site::Visit| {
        visit
            .server
            .requests()
            .iter()
            .filter(|path| path.ends_with("mdlm/model.safetensors"))
            .count()
    };
    let before = fetched(&visit);
    visit.open("?device=cpu&steps=4&compare=0")?;
    visit.finished()?;
    ensure!(
        fetched(&visit) == before,
        "the cached weights were fetched again"
    );
    visit.clean(&[])?;
    Ok("bit flip and truncation named, cache verified".into())
}

fn missing_model(bench: &Bench) -> Result<String> {
    let folder = spoilt(bench)?;
    std::fs::remove_dir_all(folder.path().join("ar"))?;
    let mut visit = bench.visit_with(false, folder.path())?;
    visit.open("?device=cpu&steps=4")?;
    visit.finished()?;
    visit.text("The left-to-right model is not on this host")?;
    std::fs::remove_dir_all(folder.path().join("mdlm"))?;
    visit.open("?device=cpu")?;
    visit.text("The demo model is not on this host")?;
    visit
        .browser
        .wait("!document.getElementById('train-start').disabled", RUN)?;
    visit.picture("missing")?;
    visit.clean(&["404"])?;
    Ok(String::new())
}

fn no_webgpu(bench: &Bench) -> Result<String> {
    // a browser that has the interface and no adapter, and one without the interface
    for (name, prelude) in [
        ("no adapter", None),
        (
            "no interface",
            Some("Object.defineProperty(WorkerNavigator.prototype, 'gpu', { value: undefined })"),
        ),
    ] {
        let mut visit = bench.visit(false)?;
        visit.browser.worker_prelude = prelude.map(str::to_owned);
        visit.open("?steps=4&compare=0")?;
        visit.finished().with_context(|| name.to_owned())?;
        let line = visit.read("device-text")?;
        ensure!(line.starts_with("Computing on the CPU"), "{name}: {line}");
        ensure!(line.contains("no hardware GPU"), "{name}: {line}");
        visit.open("?device=webgpu")?;
        visit
            .text("no GPU adapter")
            .with_context(|| name.to_owned())?;
        visit.picture("no-adapter")?;
        visit.clean(&[])?;
    }
    // only a software adapter: the twin is faster
    let mut visit = bench.visit(true)?;
    visit.open("?steps=4&compare=0")?;
    visit.finished()?;
    let line = visit.read("device-text")?;
    ensure!(
        line.starts_with("Computing on the CPU") && line.contains("software"),
        "{line}"
    );
    visit.clean(&[])?;
    Ok(line)
}

/// Largest accepted difference of logits; they are of the order of 10.
const TOLERANCE: f64 = 2e-3;

fn webgpu_equals_native(bench: &Bench) -> Result<String> {
    let mut model = native(&bench.mdlm)?;
    let open = canvas(&model, "once upon")?;
    let mask = model.config().mask_index;
    let mut visit = bench.visit(true)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    let (worst, adapter) = difference(&mut visit, &mut model, "webgpu", &open.tokens(mask))?;
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
        "?run=0&device=webgpu&top_p=1&temperature=1&steps=24&length={LENGTH}&seed={seed}&prompt=once+upon"
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

fn device_lost(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(true)?;
    visit.open(&format!(
        "?run=0&device=webgpu&compare=0&steps=300&length={LENGTH}&top_p=1"
    ))?;
    visit.ready()?;
    visit.fill("prompt", "the hen")?;
    for round in 1..=2 {
        visit.click("generate")?;
        visit.browser.wait(
            "Number(document.getElementById('c-step').textContent.split('/')[0]) >= 2",
            RUN,
        )?;
        let kept = "[...document.querySelectorAll('#tokens [data-at]')].filter((s) => !s.classList.contains('mask')).length";
        let before = visit.browser.eval(kept)?;
        // the browser answers only if the process ends in order
        let _ = visit
            .browser
            .call("", "Browser.crashGpuProcess", serde_json::json!({}));
        if round == 1 {
            visit
                .text("Started again; the text went on from where it stood")
                .with_context(|| "no recovery")?;
            visit.finished()?;
            ensure!(before.as_u64() > Some(1), "nothing stood before the loss");
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
    let errors = visit.browser.errors.clone();
    visit.browser.errors.clear();
    visit.clean(&[])?;
    Ok(format!(
        "recovered once, then offered a button; {} lines on the console",
        errors.len()
    ))
}

fn training(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu")?;
    visit.ready()?;
    let folder = tempfile::tempdir()?;
    visit.browser.call(
        "",
        "Browser.setDownloadBehavior",
        serde_json::json!({"behavior": "allow", "downloadPath": folder.path()}),
    )?;
    visit.fill("train-text", crate::models::TEXT)?;
    for (field, value) in [
        ("train-steps", "60"),
        ("train-batch", "4"),
        ("train-length", "32"),
        ("train-lr", "0.003"),
    ] {
        visit.fill(field, value)?;
    }
    let losses = "window.losses = []; new MutationObserver(() => { const m = /loss ([0-9.]+)/.exec(document.getElementById('train-info').textContent); if (m) window.losses.push(Number(m[1])); }).observe(document.getElementById('train-info'), { childList: true, characterData: true, subtree: true })";
    visit.browser.eval(&format!("{losses}; 0"))?;
    visit.click("train-start")?;
    visit.browser.wait(
        "/step 2[0-9] of 60/.test(document.getElementById('train-info').textContent)",
        RUN,
    )?;
    visit.click("train-stop")?;
    visit.text("(stopped)")?;
    visit.picture("training-stopped")?;
    visit
        .browser
        .wait("!document.getElementById('train-continue').disabled", RUN)?;
    visit.click("train-continue")?;
    visit.text("(done)")?;
    visit.picture("training-done")?;
    let losses = numbers(&visit.browser.eval("window.losses")?)?;
    ensure!(losses.len() >= 40, "{} losses", losses.len());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..8]), mean(&losses[losses.len() - 8..]));
    ensure!(last < 0.85 * first, "the loss went from {first} to {last}");
    let samples = visit
        .browser
        .eval("document.querySelectorAll('#train-samples li').length")?;
    ensure!(samples.as_u64() >= Some(3), "{samples} samples");
    visit
        .browser
        .wait("!document.getElementById('train-save').disabled", RUN)?;
    visit.click("train-save")?;
    let archive = folder.path().join("mdlm-nano.tar");
    let end = Instant::now() + Duration::from_secs(60);
    while !archive.is_file() {
        if Instant::now() > end {
            bail!("nothing was downloaded");
        }
        visit.browser.idle(Duration::from_millis(100))?;
    }
    visit.browser.idle(Duration::from_millis(300))?;
    let unpacked = std::process::Command::new("tar")
        .arg("-xf")
        .arg(&archive)
        .current_dir(folder.path())
        .status()?;
    ensure!(unpacked.success(), "tar refuses the download");
    let mut model = wait(Model::load(
        &Device::cpu(),
        &folder.path().join("mdlm-nano"),
    ))?;
    let filled = wait(
        model
            .sampler(Canvas::open(32), &settings(1))?
            .finish(|_| std::ops::ControlFlow::Continue(())),
    )?;
    let text = filled.text(model.tokenizer().context("no tokenizer")?);
    ensure!(!text.contains('_'), "masks are left: {text}");
    visit.clean(&[])?;
    Ok(format!(
        "loss {first:.2} to {last:.2}; the download has {} parameters natively and writes {text:?}",
        model.info().parameters
    ))
}

fn looks(bench: &Bench) -> Result<String> {
    let query = "?device=cpu&steps=16&seed=3&prompt=once+upon+a+time";
    for (name, width, height, mobile, scheme) in [
        ("desktop-light", 1280, 900, false, "light"),
        ("desktop-dark", 1280, 900, false, "dark"),
        ("phone-light", 390, 844, true, "light"),
        ("phone-dark", 390, 844, true, "dark"),
    ] {
        let mut visit = bench.visit(false)?;
        visit.browser.size(width, height, mobile)?;
        visit.browser.prefer(&[("prefers-color-scheme", scheme)])?;
        visit.open(query)?;
        visit.finished()?;
        let over = visit
            .browser
            .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth")?;
        ensure!(over == 0, "{name}: the page is {over} pixels too wide");
        let poor = visit.browser.eval(CONTRAST)?;
        ensure!(
            poor.as_array().is_some_and(Vec::is_empty),
            "{name}: too little contrast: {poor}"
        );
        visit.picture(name)?;
        visit.clean(&[])?;
    }
    // who wants less motion starts it himself
    let mut visit = bench.visit(false)?;
    visit
        .browser
        .prefer(&[("prefers-reduced-motion", "reduce")])?;
    visit.open(query)?;
    visit.ready()?;
    visit.browser.idle(Duration::from_millis(500))?;
    ensure!(
        visit.tokens()?.is_empty(),
        "it started although less motion was asked for"
    );
    visit.generate()?;
    let animated = visit.browser.eval("document.getAnimations().length")?;
    ensure!(animated == 0, "{animated} animations");
    visit.clean(&[])?;
    Ok("contrast of all texts at least 4.5, no overflow".into())
}

/// Texts whose contrast with what lies behind them is below 4.5 (3 for large ones).
const CONTRAST: &str = r"(() => {
    const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return [m[0], m[1], m[2], m[3] ?? 1]; };
    const linear = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const behind = (e) => { for (let n = e; n; n = n.parentElement) { const c = parse(getComputedStyle(n).backgroundColor); if (c[3] === 1) return c; }
        return parse(getComputedStyle(document.body).backgroundColor); };
    const poor = [];
    for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        const box = e.getBoundingClientRect();
        if (!own || box.width < 2 || e.closest('.hidden, .skip, noscript, [hidden], option') || e.matches('.mask') || e.matches(':disabled')) continue;
        const style = getComputedStyle(e);
        const [a, b] = [light(parse(style.color)), light(behind(e))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) poor.push(`${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 20)}: ${ratio.toFixed(2)}`);
    }
    return poor;
})()";

fn insecure(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    // what a page from another host without https finds
    visit.browser.on_page(
        "Page.addScriptToEvaluateOnNewDocument",
        serde_json::json!({"source": "Object.defineProperty(window, 'isSecureContext', { value: false })"}),
    )?;
    visit.open("")?;
    visit.text("open it with https:// or as http://localhost")?;
    ensure!(
        !visit
            .server
            .requests()
            .iter()
            .any(|path| path.ends_with(".wasm")),
        "it loaded the program in vain"
    );
    visit.picture("insecure")?;
    visit.clean(&[])?;
    Ok(String::new())
}
