//! How the page looks, on which screens, and to whom.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::models::{LENGTH, fixture};
use crate::site::Bench;

pub(super) fn looks(bench: &Bench) -> Result<String> {
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
        // with all that it can show: the settings, a published model, a frozen word, a text to train on
        visit.choose(&fixture("llada_gqa"))?;
        visit.described()?;
        visit.browser.eval(BUSY)?;
        visit.browser.key("f", "f")?;
        let contrasts = visit.accessible().context(name)?;
        ensure!(contrasts > 50, "{name}: contrast of {contrasts} elements");
        visit.picture(name)?;
        // and with what it says of one that cannot be opened
        visit.choose(&fixture("qwen3_a2d_lora"))?;
        visit.text("There is no model to open")?;
        visit.accessible().context(name)?;
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
    let masked = visit
        .browser
        .eval("document.querySelectorAll('#tokens .mask').length")?
        .as_u64();
    ensure!(
        masked == Some(LENGTH as u64 - 1),
        "it started although less motion was asked for"
    );
    visit.generate()?;
    let animated = visit.browser.eval("document.getAnimations().length")?;
    ensure!(animated == 0, "{animated} animations");
    visit.clean(&[])?;
    Ok("axe-core finds nothing, no overflow".into())
}

/// Opens what is closed, takes a text to train on and goes to a word.
const BUSY: &str = "(() => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    document.querySelector('#train-sample').click();
    document.querySelector('#tokens [tabindex=\"0\"]').focus();
    return 0;
})()";

pub(super) fn insecure(bench: &Bench) -> Result<String> {
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
