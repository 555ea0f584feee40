//! The models that ship with the page.

use anyhow::{Context, Result, ensure};
use mdlm::blocking::wait;
use mdlm::device::Device;
use mdlm::model::Model;
use serde_json::Value;

use crate::site::{Bench, RUN};

/// Most bytes of both models together.
const MAX_BYTES: u64 = 20_000_000;

pub(super) fn shipped_models(bench: &Bench) -> Result<String> {
    let (mut bytes, mut notes) = (0, Vec::new());
    for name in ["mdlm", "ar"] {
        let folder = bench.shipped().join(name);
        let card: Value = serde_json::from_slice(&std::fs::read(folder.join("card.json"))?)?;
        for (file, entry) in card["files"].as_object().context("no files")? {
            let listed = entry["bytes"].as_u64().context("no size")?;
            ensure!(
                std::fs::metadata(folder.join(file))?.len() == listed,
                "{name}/{file} has another size than the card says"
            );
            bytes += listed;
        }
        let validation = &card["validation"];
        let [perplexity, unigram] =
            ["perplexity", "unigram_perplexity"].map(|key| validation[key].as_f64());
        ensure!(
            perplexity.context("no perplexity")? < 0.5 * unigram.context("no unigram")?,
            "{name}: {validation}"
        );
        for key in ["data", "licence", "command"] {
            ensure!(card[key].is_string(), "the card of {name} has no {key}");
        }
        let parameters = wait(Model::load(&Device::cpu(), &folder))?
            .info()
            .parameters;
        notes.push(format!("{name}: {parameters} parameters, {validation}"));
    }
    ensure!(bytes <= MAX_BYTES, "{bytes} bytes of models");

    let mut visit = bench.visit_with(false, &bench.shipped())?;
    visit.open("?device=cpu&steps=12&length=48")?;
    visit.browser.wait(
        "document.querySelectorAll('#tokens [data-at]:not(.mask)').length > 1",
        RUN,
    )?;
    let first = visit.browser.eval("performance.now()")?;
    visit.finished()?;
    visit.picture("shipped")?;
    // characters of several tokens stand as they were typed, with every sampler
    for (sampler, typed) in [
        ("threshold", "The caf\u{E9} \u{1F600}!"),
        ("ancestral", "na\u{EF}ve \u{201C}"),
    ] {
        let code = format!(
            "document.getElementById('sampler').value = '{sampler}';
            document.getElementById('settings').dispatchEvent(new Event('change', {{ bubbles: true }})); 0"
        );
        visit.browser.eval(&code)?;
        visit.fill("prompt", typed)?;
        visit.generate()?;
        for pane in ["tokens", "ar-tokens"] {
            let text = visit.read(pane)?;
            ensure!(
                text.trim_start().starts_with(typed),
                "{sampler}, {pane}: {text:?}"
            );
        }
    }
    visit.clean(&[])?;
    Ok(format!(
        "{}; {bytes} bytes; first token after {:.1} s",
        notes.join("; "),
        first.as_f64().unwrap_or(f64::NAN) / 1000.0
    ))
}
