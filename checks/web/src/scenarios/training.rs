//! Training in the tab.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mdlm::blocking::wait;
use mdlm::device::Device;
use mdlm::model::Model;
use mdlm::sample::Canvas;

use super::settings;
use crate::site::{Bench, RUN, numbers};

pub(super) fn training(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu")?;
    visit.ready()?;
    let folder = tempfile::tempdir()?;
    visit.browser.call(
        "",
        "Browser.setDownloadBehavior",
        serde_json::json!({"behavior": "allow", "downloadPath": folder.path()}),
    )?;
    // regular enough to be learnt in a minute
    visit.fill(
        "train-text",
        &"not i, said the cat. i will, said the hen. ".repeat(80),
    )?;
    for (field, value) in [
        ("train-steps", "500"),
        ("train-batch", "8"),
        ("train-length", "32"),
        ("train-lr", "0.003"),
    ] {
        visit.fill(field, value)?;
    }
    let losses = "window.losses = []; new MutationObserver(() => { const m = /loss ([0-9.]+)/.exec(document.getElementById('train-info').textContent); if (m) window.losses.push(Number(m[1])); }).observe(document.getElementById('train-info'), { childList: true, characterData: true, subtree: true })";
    visit.browser.eval(&format!("{losses}; 0"))?;
    visit.click("train-start")?;
    visit.browser.wait(
        "/step [2-4][0-9] of 500/.test(document.getElementById('train-info').textContent)",
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
    ensure!(losses.len() >= 300, "{} losses", losses.len());
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..20]), mean(&losses[losses.len() - 40..]));
    ensure!(last < 0.8 * first, "the loss went from {first} to {last}");
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

/// Files that are text come in, in whatever encoding they say; others are told, and what was there stays.
pub(super) fn text_files(bench: &Bench) -> Result<String> {
    const BEFORE: &str = "what was there";
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu")?;
    visit.ready()?;
    let mut drop_file = |name: &str, bytes: &[u8], expected: &str| {
        visit.fill("train-text", BEFORE)?;
        let code = format!(
            "(() => {{ document.getElementById('notices').replaceChildren();
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from({bytes:?})], '{name}'));
            const event = new DragEvent('drop', {{ dataTransfer: data, cancelable: true }});
            document.getElementById('training').dispatchEvent(event); return 0; }})()"
        );
        visit.browser.eval(&code)?;
        let told = "document.getElementById('notices').textContent";
        let text = "document.getElementById('train-text').value";
        let changed = format!("{told} !== '' || {text} !== '{BEFORE}'");
        visit.browser.wait(&changed, RUN)?;
        let (told, text) = (visit.browser.eval(told)?, visit.browser.eval(text)?);
        let (told, text) = (told.as_str().unwrap_or(""), text.as_str().unwrap_or(""));
        if told.is_empty() {
            ensure!(text == expected, "{name} became {text:?}");
        } else {
            ensure!(told.contains(expected), "{name}: {told:?}");
            ensure!(text == BEFORE, "{name} replaced the text by {text:?}");
        }
        Ok(())
    };
    let units = |mark: &[u8], text: &str, of: fn(u16) -> [u8; 2]| {
        [mark.to_vec(), text.encode_utf16().flat_map(of).collect()].concat()
    };
    let text = "na\u{EF}ve \u{1F600} text";
    drop_file("latin1.txt", b"caf\xE9 au lait", "not UTF-8 at byte 3")?;
    drop_file(
        "picture.png.txt",
        b"\x89PNG\r\n\x1a\n\0",
        "not UTF-8 at byte 0",
    )?;
    drop_file(
        "cut.txt",
        "na\u{EF}".as_bytes().split_at(3).0,
        "not UTF-8 at byte 2",
    )?;
    drop_file("binary.txt", b"abc\0", "a NUL at byte 3")?;
    drop_file("thesis.pdf", b"%PDF-1.7 text", "not plain text")?;
    drop_file("utf8.txt", text.as_bytes(), text)?;
    drop_file(
        "marked.txt",
        &[b"\xEF\xBB\xBF", text.as_bytes()].concat(),
        text,
    )?;
    drop_file(
        "little.txt",
        &units(b"\xFF\xFE", text, u16::to_le_bytes),
        text,
    )?;
    drop_file("big.txt", &units(b"\xFE\xFF", text, u16::to_be_bytes), text)?;
    visit.picture("text-files")?;
    visit.clean(&[])?;
    Ok("nine files".to_owned())
}

/// A run whose device is lost goes on from the weights of its last sample.
pub(super) fn training_recovers(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(true)?;
    visit.open("?run=0&device=webgpu&compare=0")?;
    visit.ready()?;
    visit.click("train-sample")?;
    visit.browser.wait(
        "document.getElementById('train-text').value.length > 100000",
        RUN,
    )?;
    visit.fill("train-text", &"the cat sat on the mat. ".repeat(40))?;
    for (field, value) in [
        ("train-steps", "100"),
        ("train-batch", "1"),
        ("train-length", "8"),
    ] {
        visit.fill(field, value)?;
    }
    visit.click("train-start")?;
    visit.browser.wait(
        "document.querySelectorAll('#train-samples li').length > 0",
        RUN,
    )?;
    // the browser answers only if the process ends in order
    let _ = visit
        .browser
        .call("", "Browser.crashGpuProcess", serde_json::json!({}));
    visit.text("are kept, so it can be continued from there")?;
    let kept = visit.read("train-info")?;
    visit.picture("training-lost")?;
    visit
        .browser
        .wait("!document.getElementById('train-continue').disabled", RUN)?;
    let steps = "window.steps = []; new MutationObserver(() => { const m = /^step ([0-9]+)/.exec(document.getElementById('train-info').textContent); if (m) window.steps.push(Number(m[1])); }).observe(document.getElementById('train-info'), { childList: true, characterData: true, subtree: true })";
    visit.browser.eval(&format!("{steps}; 0"))?;
    visit.click("train-continue")?;
    visit.browser.wait("window.steps.length > 1", RUN)?;
    visit.click("train-stop")?;
    visit.text("(stopped)")?;
    let first = numbers(&visit.browser.eval("window.steps")?)?[0];
    ensure!(
        kept.contains(&format!("of step {} ", first - 1.0)),
        "it went on with step {first}: {kept}"
    );
    visit.clean(&[])?;
    Ok(kept)
}
