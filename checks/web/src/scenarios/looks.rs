//! How the page looks, on which screens, and to whom.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::models::LENGTH;
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
