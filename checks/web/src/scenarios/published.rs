//! Published models from the visitor's disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use mdlm::blocking::wait;
use mdlm::config::SampleConfig;
use mdlm::data::Tokenizer;
use mdlm::device::Device;
use mdlm::engine::program::Element;
use mdlm::model::{Load, Model};
use mdlm::sample::Canvas;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::spoil::{copied, edit, move_behind};
use crate::models::fixture;
use crate::site::{Bench, RUN, Visit, numbers};

/// Tokens of the canvases.
const LENGTH: usize = 40;
/// Of those that choose positions at random.
const SEED: u64 = 1;
/// Texts to begin with, of which one is taken whose choices are clear.
const PROMPTS: [&str; 4] = [
    "the [MASK:5] cat sat",
    "a [MASK:4] and a",
    "once [MASK:6] there was",
    "it is [MASK:3] to",
];

/// What a model makes of a text at temperature 0 on a device, sampled as its family is.
fn native(device: &Device, folder: &Path, how: &Load, prompt: &str) -> Result<Vec<u32>> {
    let mut model = wait(Model::load_with(device, folder, how))?;
    let tokenizer = model.tokenizer().context("no tokenizer")?;
    let begin = model.frame()[0];
    let open = LENGTH - usize::from(begin.is_some());
    let canvas = Canvas::begin(prompt, tokenizer, open)?.framed([begin, None]);
    let config = SampleConfig {
        temperature: 0.0,
        top_p: 1.0,
        seed: SEED,
        ..model.sampling()
    };
    let mask = model.mask_index();
    let mut sampler = model.sampler(canvas, &config)?;
    while wait(sampler.step())?.is_some() {}
    Ok(sampler.canvas().tokens(mask))
}

/// A text that f32 and f64 fill alike, so that other roundings do too; with the tokens.
fn clear(folder: &Path, how: &Load) -> Result<(&'static str, Vec<u32>)> {
    for prompt in PROMPTS {
        let tokens = native(&Device::cpu(), folder, how, prompt)?;
        if tokens == native(&Device::oracle(), folder, how, prompt)? {
            return Ok((prompt, tokens));
        }
    }
    anyhow::bail!("no text is filled alike in f32 and f64")
}

/// Opens what was chosen, in a precision.
fn open(visit: &mut Visit, weights: &str) -> Result<()> {
    visit.described()?;
    visit.browser.eval(&format!(
        "document.querySelector('input[name=published-weights][value={weights}]').click()"
    ))?;
    visit.click("published-load")?;
    visit.text(&format!("is open in {weights}"))?;
    visit.ready()
}

/// Fills a text at temperature 0.
fn fill(visit: &mut Visit, prompt: &str) -> Result<Vec<u32>> {
    for (field, value) in [
        ("temperature", "0"),
        ("prompt", prompt),
        ("length", &LENGTH.to_string()),
        ("seed", &SEED.to_string()),
    ] {
        visit.fill(field, value)?;
    }
    visit.generate()?;
    visit.tokens()
}

/// A tokenizer of characters whose mask has this id, behind that of the text's end.
fn characters(mask: u32) -> Tokenizer {
    let all = "abcdefghijklmnopqrstuvwxyz 0123456789.,;:!?'-()";
    let some: String = all.chars().take(mask as usize - 1).collect();
    Tokenizer::characters(&some)
}

pub(super) fn layouts(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu")?;
    visit.ready()?;
    let mut notes = Vec::new();
    for (name, family, mask, precisions) in [
        ("llada", "llada", 289, &["f32", "f16", "q8", "q4"][..]),
        ("llada_gqa", "llada", 283, &["f32"]),
        ("dream", "Dream", 284, &["f32"]),
        ("qwen3_a2d", "a2d-qwen3", 279, &["f32"]),
        ("modernbert", "modernbert", 4, &["f32"]),
        ("bert", "bert", 4, &["f32"]),
        ("smdm", "smdm", 44, &["f32"]),
    ] {
        let (_guard, folder) = copied(name)?;
        let tokenizer = folder.join("tokenizer.json");
        if !tokenizer.exists() {
            // as many characters as fit before the mask, and our own special tokens
            std::fs::write(&tokenizer, characters(mask).to_json())?;
        }
        for weights in precisions {
            let how = Load {
                weights: Some(weights.parse()?),
                ..Load::default()
            };
            let (prompt, tokens) = clear(&folder, &how)?;
            visit.choose(&folder)?;
            visit.described()?;
            let shown = visit.read("published-facts")?;
            for part in [family, &format!("token {mask}")] {
                ensure!(shown.contains(part), "{name}: {shown:?} lacks {part}");
            }
            open(&mut visit, weights)?;
            let found = fill(&mut visit, prompt)?;
            ensure!(
                found == tokens,
                "{name} in {weights} makes of {prompt:?} {found:?}, natively {tokens:?}"
            );
        }
        notes.push(name);
    }
    visit.picture("published-open")?;
    let hidden =
        "document.getElementById('ar-pane').hidden && document.getElementById('compare').disabled";
    ensure!(visit.browser.eval(hidden)? == true, "two vocabularies");
    visit.clean(&[])?;
    Ok(format!("tokens as natively: {}", notes.join(", ")))
}

pub(super) fn dropped(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.browser.size(1280, 3000, false)?;
    visit.open("?run=0&device=cpu&sampler=ancestral&steps=6&temperature=0.7")?;
    visit.ready()?;
    let folder = fixture("llada_gqa");
    visit.browser.drop_files("published", &folder)?;
    open(&mut visit, "f32")?;
    let (prompt, tokens) = clear(&folder, &Load::default())?;
    ensure!(fill(&mut visit, prompt)? == tokens, "other tokens");
    // words are masked and filled anew as those of the page's model
    let at = tokens.len() - 3;
    visit.browser.eval(&format!(
        "document.querySelector('#tokens [data-at=\"{at}\"]').focus()"
    ))?;
    visit.expect_run()?;
    visit.browser.key("Enter", "\r")?;
    visit.finished()?;
    let after = visit.tokens()?;
    let picked = visit.browser.eval(
        "(() => { const s = document.getElementById('scrub'); s.value = 0; s.dispatchEvent(new Event('input')); return [...document.querySelectorAll('#tokens .mask')].map((m) => Number(m.dataset.at)); })()",
    )?;
    let picked = numbers(&picked)?;
    ensure!(
        picked.contains(&(at as f64)) && picked.len() < 20,
        "{picked:?}"
    );
    let other = (0..LENGTH).find(|i| after[*i] != tokens[*i] && !picked.contains(&(*i as f64)));
    ensure!(other.is_none(), "{other:?} changed, {picked:?} were picked");
    // and the page's own comes back, with its settings
    visit.click("published-leave")?;
    visit.text("The page's own model is back")?;
    visit.ready()?;
    for (field, value) in [
        ("sampler", "ancestral"),
        ("steps", "6"),
        ("temperature", "0.7"),
    ] {
        let found = visit
            .browser
            .eval(&format!("document.getElementById('{field}').value"))?;
        ensure!(found == value, "{field} is {found}");
    }
    visit.fill("prompt", "the hen")?;
    visit.generate()?;
    let pane = "document.getElementById('ar-pane').hidden";
    ensure!(visit.browser.eval(pane)? == false, "no comparison");
    visit.clean(&[])?;
    Ok(String::new())
}

/// A folder that cannot be opened, and what the page says.
type Bad = (
    &'static str,
    fn(&Path) -> Result<()>,
    &'static [&'static str],
);

const BAD: [Bad; 8] = [
    (
        "llada_gqa",
        |dir| {
            Ok(std::fs::remove_file(
                dir.join("model-00002-of-00003.safetensors"),
            )?)
        },
        &[
            "Its weights are not whole",
            "model-00002-of-00003.safetensors",
            "not among the files",
            "What helps: bring the missing",
        ],
    ),
    (
        "llada_gqa",
        |dir| {
            let path = dir.join("model-00003-of-00003.safetensors");
            let bytes = std::fs::read(&path)?;
            Ok(std::fs::write(&path, &bytes[..bytes.len() - 7])?)
        },
        &["model-00003-of-00003.safetensors: truncated"],
    ),
    (
        "llada",
        |dir| {
            Ok(std::fs::write(
                dir.join("model.safetensors"),
                "version https",
            )?)
        },
        &["model.safetensors: is a pointer of Git LFS"],
    ),
    (
        "llada",
        |dir| {
            edit(&dir.join("config.json"), |c| {
                c["model_type"] = json!("llada2_moe")
            })
        },
        &["llada2_moe, a mixture of experts"],
    ),
    (
        "llada",
        |dir| Ok(std::fs::write(dir.join("config.json"), "{\"model_type\":")?),
        &["config.json", "EOF while parsing"],
    ),
    (
        "bert",
        |dir| Ok(std::fs::remove_file(dir.join("tokenizer.json"))?),
        &["which id the mask is", "What helps"],
    ),
    (
        "llada",
        |dir| Ok(std::fs::remove_file(dir.join("tokenizer.json"))?),
        &["there is no tokenizer.json, without which the page cannot write"],
    ),
    (
        "llada",
        |dir| Ok(std::fs::remove_file(dir.join("config.json"))?),
        &["There is no model to open", "no config.json among the"],
    ),
];

pub(super) fn refused(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    for (name, spoil, parts) in BAD {
        let (guard, folder) = copied(name)?;
        spoil(&folder)?;
        visit.choose(&folder)?;
        for part in parts {
            visit.text(part).with_context(|| name.to_owned())?;
        }
        let disabled = "document.getElementById('published-load').disabled";
        ensure!(visit.browser.eval(disabled)? == true, "{name}: {parts:?}");
        drop(guard);
    }
    let several = tempfile::tempdir()?;
    for name in ["one", "two"] {
        let folder = several.path().join(name);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("config.json"), "{}")?;
    }
    visit.choose(several.path())?;
    visit.text("there are several models: ")?;
    visit.picture("published-refused")?;
    // the page's own model is as it was
    visit.fill("steps", "4")?;
    visit.generate()?;
    visit.clean(&[])?;
    Ok(format!("{} folders", BAD.len() + 1))
}

/// Tensors that lie further into a file than memory of 32 bits can count.
pub(super) fn far(bench: &Bench) -> Result<String> {
    let (_guard, folder) = copied("qwen3_a2d")?;
    let path = folder.join("model.safetensors");
    move_behind(&path, "lm_head.weight", 5 << 30)?;
    let (prompt, tokens) = clear(&folder, &Load::default())?;
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    visit.choose(&folder)?;
    open(&mut visit, "f32")?;
    ensure!(fill(&mut visit, prompt)? == tokens, "other tokens");
    visit.clean(&[])?;
    Ok(format!(
        "a file of {} bytes",
        std::fs::metadata(&path)?.len()
    ))
}

/// A tokenizer of which nothing says which token is the mask: the visitor does.
pub(super) fn told(bench: &Bench) -> Result<String> {
    let (_guard, folder) = nameless()?;
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    visit.choose(&folder)?;
    visit.text("says which id the mask is")?;
    ensure!(
        visit
            .browser
            .eval("document.getElementById('published-more').open")?
            == true,
        "nowhere to say it"
    );
    visit.picture("published-mask")?;
    visit.fill("published-mask", "279")?;
    visit.text("token 279")?;
    visit.fill("published-shift", "true")?;
    visit.text("the token behind it (shifted)")?;
    visit.fill("published-block", "8")?;
    visit.text("its block of 8 and those before it")?;
    open(&mut visit, "f32")?;
    let how = Load {
        mask: Some(279),
        shift: Some(true),
        block: Some(8),
        ..Load::default()
    };
    let (prompt, tokens) = clear(&folder, &how)?;
    ensure!(fill(&mut visit, prompt)? == tokens, "other tokens");
    visit.clean(&[])?;
    Ok(String::new())
}

/// The Qwen of the fixtures with a mask of an unusual name that nothing points to.
fn nameless() -> Result<(TempDir, PathBuf)> {
    let (guard, folder) = copied("qwen3_a2d")?;
    let path = folder.join("tokenizer.json");
    let text = std::fs::read_to_string(&path)?;
    let tokenizer: Value = serde_json::from_str(&text)?;
    let added = tokenizer["added_tokens"].as_array().context("no tokens")?;
    let mask = added.iter().find(|token| token["id"] == 279);
    let name = mask.context("no mask")?["content"].clone();
    let name = name.as_str().context("no name")?;
    std::fs::write(&path, text.replace(name, "<|hole|>"))?;
    for file in ["config.json", "tokenizer_config.json"] {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path)?.replace(name, "<|hole|>");
        let mut json: Value = serde_json::from_str(&text)?;
        for key in ["mask_token_id", "mask_token"] {
            json[key] = Value::Null;
        }
        std::fs::write(&path, json.to_string())?;
    }
    Ok((guard, folder))
}

/// A lost GPU: the model is opened again from its files, and the text goes on.
pub(super) fn recovers(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(true)?;
    visit.open("?run=0&device=webgpu&compare=0")?;
    visit.ready()?;
    visit.choose(&fixture("qwen3_a2d"))?;
    open(&mut visit, Element::Q8.to_string().as_str())?;
    for (field, value) in [
        ("sampler", "ancestral"),
        ("temperature", "1"),
        ("block", "0"),
        ("steps", "300"),
        ("length", "64"),
        ("prompt", "the"),
    ] {
        visit.fill(field, value)?;
    }
    visit.expect_run()?;
    visit.click("generate")?;
    let written = "[...document.querySelectorAll('#tokens [data-at]:not(.mask)')].map((s) => `${s.dataset.at}: ${s.dataset.token}`)";
    visit.browser.wait(&format!("{written}.length > 8"), RUN)?;
    let before = visit.browser.eval(written)?;
    // the browser answers only if the process ends in order
    let _ = visit.browser.call("", "Browser.crashGpuProcess", json!({}));
    visit.text("Started again; the text went on from where it stood")?;
    visit.finished()?;
    let after = visit.browser.eval(written)?;
    let after = after.as_array().context("no tokens")?;
    let lost = before.as_array().context("no tokens")?;
    let lost = lost.iter().find(|token| !after.contains(token));
    ensure!(lost.is_none(), "the text did not go on: {lost:?}");
    visit.picture("published-recovered")?;
    visit.clean(&[])?;
    Ok(String::new())
}
