//! Sampling in the page.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::{canvas, difference, native, settings};
use crate::models::LENGTH;
use crate::race;
use crate::site::{Bench, MODULES, RUN, numbers};

pub(super) fn twin_equals_native(bench: &Bench) -> Result<String> {
    let mut model = native(&bench.mdlm)?;
    let prompt = "once upon";
    let open = canvas(&model, prompt)?;
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&device=cpu&compare=0")?;
    visit.ready()?;
    let mask = model.mask_index();
    let mut rounding: f64 = 0.0;
    for module in MODULES {
        let found = difference(&mut visit, &mut model, "cpu", module, &open.tokens(mask))?;
        rounding = rounding.max(found.0);
    }
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
    for module in MODULES {
        visit.open(&format!(
            "?run=0&module={module}&sampler=ancestral&temperature=1&device=cpu&compare=0&top_p=1&steps=24&length={LENGTH}&seed={seed}&prompt=once+upon"
        ))?;
        visit.ready()?;
        visit.picture(&format!("ready-{module}"))?;
        visit.generate()?;
        let tokens = visit.tokens()?;
        ensure!(
            tokens == run.tokens,
            "{module}: other tokens: {tokens:?}, natively {:?}",
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
    }
    visit.picture("finished-cpu")?;
    visit.clean(&[])?;
    Ok(format!(
        "seed {seed}: smallest race margin {:.2e}, largest difference of logits {rounding:.2e}, tokens of all modules equal",
        run.margin
    ))
}

pub(super) fn frozen_words_stay(bench: &Bench) -> Result<String> {
    let model = native(&bench.mdlm)?;
    let template = "the hen [MASK:8] the cat";
    let expected = canvas(&model, template)?;
    let mut visit = bench.visit(false)?;
    visit.open("?run=0&sampler=ancestral&temperature=1&device=cpu&steps=8&top_p=1")?;
    visit.ready()?;
    visit.fill("prompt", template)?;
    visit.generate()?;
    let tokens = visit.tokens()?;
    ensure!(tokens.len() == LENGTH, "{} tokens", tokens.len());
    let mut frozen = 0;
    for (i, &found) in tokens.iter().enumerate() {
        if let Some(token) = expected.token(i) {
            ensure!(found == token, "frozen position {i} became {}", found);
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

pub(super) fn mask_and_fill_anew(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit.browser.size(1280, 1600, false)?;
    // a sampler that masks again must leave alone what was not picked
    visit.open("?run=0&device=cpu&steps=8&top_p=1&compare=0&seed=5&sampler=remdm-rescale")?;
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
    visit.expect_run()?;
    visit.browser.drag(from, to)?;
    visit.finished()?;
    let after = visit.tokens()?;
    let changed: Vec<usize> = (0..LENGTH).filter(|&i| before[i] != after[i]).collect();
    ensure!(!changed.is_empty(), "nothing was filled anew");
    let show = |step: &str| {
        format!(
            "(() => {{ const s = document.getElementById('scrub'); s.value = {step}; s.dispatchEvent(new Event('input')); return [...document.querySelectorAll('#tokens .mask')].map((m) => Number(m.dataset.at)); }})()"
        )
    };
    let picked = numbers(&visit.browser.eval(&show("0"))?)?;
    visit.browser.eval(&show("s.max"))?;
    ensure!(
        changed.iter().all(|i| picked.contains(&(*i as f64))) && picked.len() < 30,
        "picked {picked:?}, changed {changed:?}"
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
    visit.expect_run()?;
    visit.browser.key("Enter", "\r")?;
    visit.finished()?;
    visit.picture("filled-anew")?;
    visit.clean(&[])?;
    Ok(format!(
        "{} tokens changed, {} frozen ones did not",
        changed.len(),
        kept.len()
    ))
}

pub(super) fn scrub_and_share(bench: &Bench) -> Result<String> {
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
    let address = visit.browser.eval("location.search + location.hash")?;
    let address = address.as_str().context("no address")?.to_owned();
    for part in [
        "sampler=confidence",
        "seed=9",
        "length=40",
        "top_p=0.9",
        "temperature=0.8",
        "device=cpu",
        "#prompt=the+hen",
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

pub(super) fn cancel(bench: &Bench) -> Result<String> {
    let mut visit = bench.visit(false)?;
    visit
        .open("?run=0&sampler=ancestral&temperature=1&device=cpu&steps=1000&length=48&compare=0")?;
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
