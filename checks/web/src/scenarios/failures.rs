//! What the page says when something is missing or damaged.

use anyhow::{Context, Result, ensure};

use crate::site::{Bench, RUN};

/// Copies the models of the tests, to be spoilt.
pub(super) fn spoilt(bench: &Bench) -> Result<tempfile::TempDir> {
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

pub(super) fn corrupt_checkpoint(bench: &Bench) -> Result<String> {
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

pub(super) fn missing_model(bench: &Bench) -> Result<String> {
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
    visit.clean(&[])?;
    Ok(String::new())
}

pub(super) fn no_webgpu(bench: &Bench) -> Result<String> {
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
