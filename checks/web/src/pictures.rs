//! The README's pictures, from the page itself: an animation of a run, and screenshots.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::server::Server;

use crate::browser::Browser;
use crate::site::RUN;

/// Seconds that a step is shown, and the finished text.
const STEP: f64 = 0.14;
const END: f64 = 4.0;

/// Per token: what it reads, its box in the text, its colours, and the step in which it was written for good.
const TOKENS: &str = r"(() => {
    const box = document.getElementById('tokens').getBoundingClientRect();
    const all = [];
    for (const s of document.querySelectorAll('#tokens [data-at]')) {
        const style = getComputedStyle(s);
        const rects = [...s.getClientRects()].filter((r) => r.width > 0.5);
        if (s.hidden || rects.length === 0) continue;
        const r = rects[rects.length - 1];
        const step = /in step (\d+)/.exec(s.title);
        all.push({ text: s.textContent.trim(), x: r.x - box.x, y: r.y - box.y, w: r.width, h: r.height,
            lead: s.textContent.length - s.textContent.trimStart().length, chars: s.textContent.length,
            fill: style.backgroundColor, colour: style.color, size: parseFloat(style.fontSize), weight: style.fontWeight,
            step: step ? Number(step[1]) : 0 });
    }
    const root = getComputedStyle(document.documentElement);
    return { width: box.width, height: box.height, tokens: all, back: getComputedStyle(document.getElementById('tokens')).backgroundColor,
        mask: root.getPropertyValue('--mask2').trim(), soft: root.getPropertyValue('--soft').trim() };
})()";

/// Visits the page with its own models and writes what it shows.
pub fn run(site: &Path, chromium: &Path, out: &Path, query: &str) -> Result<()> {
    ensure!(
        site.join("model/mdlm/card.json").is_file(),
        "the page has no demo model"
    );
    std::fs::create_dir_all(out)?;
    let server = Server::start(&[("", site)], 0)?;
    for scheme in ["light", "dark"] {
        let mut browser = Browser::start(chromium, false)?;
        browser.size(900, 1000, false)?;
        browser.prefer(&[("prefers-color-scheme", scheme)])?;
        browser.open(&format!("{}{query}", server.url()))?;
        browser.wait(
            "!document.getElementById('generate').disabled && document.getElementById('c-masked').textContent === '0'",
            RUN * 4,
        )?;
        let shown = browser.eval(TOKENS)?;
        let svg = animation(&shown)?;
        let path = out.join(format!("unmasking-{scheme}.svg"));
        std::fs::write(&path, svg)?;
        let frames = browser
            .eval("Number(document.getElementById('scrub').max)")?
            .as_u64()
            .unwrap_or(0);
        for (name, index) in [("half", frames / 2), ("done", frames)] {
            browser.eval(&format!(
                "(() => {{ const s = document.getElementById('scrub'); s.value = {index}; s.dispatchEvent(new Event('input')); }})()"
            ))?;
            browser.screenshot(&out.join(format!("page-{name}-{scheme}.png")))?;
        }
        println!("{}", path.display());
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn animation(shown: &Value) -> Result<String> {
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let tokens = shown["tokens"].as_array().context("no tokens")?;
    ensure!(!tokens.is_empty(), "no tokens");
    let steps = tokens
        .iter()
        .map(|t| number(&t["step"]) as usize)
        .max()
        .unwrap_or(0);
    let total = steps as f64 * STEP + END;
    let (width, height) = (number(&shown["width"]), number(&shown["height"]) + 26.0);
    let colour = |key: &str| shown[key].as_str().unwrap_or("none").to_owned();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"Text emerging from masks\">\n<style>\n\
         text {{ font-family: system-ui, 'Segoe UI', Roboto, sans-serif; white-space: pre; }}\n"
    );
    for step in 1..=steps {
        let at = 100.0 * (step as f64 * STEP) / total;
        writeln!(
            svg,
            "@keyframes a{step} {{ 0%, {at:.2}% {{ opacity: 0 }} {:.2}%, 100% {{ opacity: 1 }} }}\n\
             @keyframes b{step} {{ 0%, {at:.2}% {{ opacity: 1 }} {:.2}%, 100% {{ opacity: 0 }} }}\n\
             .a{step} {{ animation: a{step} {total:.2}s linear infinite }} .b{step} {{ opacity: 0; animation: b{step} {total:.2}s linear infinite }}",
            at + 1.5,
            at + 1.5
        )?;
    }
    writeln!(
        svg,
        "@keyframes bar {{ 0% {{ transform: scaleX(0) }} {:.2}%, 100% {{ transform: scaleX(1) }} }}\n\
         .bar {{ animation: bar {total:.2}s linear infinite; transform-origin: 10px 0 }}\n\
         @media (prefers-reduced-motion: reduce) {{ * {{ animation: none !important }} }}\n</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"10\" fill=\"{}\"/>",
        100.0 * steps as f64 * STEP / total,
        colour("back")
    )?;
    for token in tokens {
        let (x, y, w, h) = (
            number(&token["x"]),
            number(&token["y"]),
            number(&token["w"]),
            number(&token["h"]),
        );
        let step = number(&token["step"]) as usize;
        let size = number(&token["size"]);
        let text = escape(token["text"].as_str().unwrap_or_default());
        let fill = token["fill"].as_str().unwrap_or("none");
        let lead = if number(&token["lead"]) > 0.0 {
            size * 0.26
        } else {
            0.0
        };
        let shown = if step > 0 {
            format!(" class=\"a{step}\"")
        } else {
            String::new()
        };
        if step > 0 {
            let (x, w) = (x + 1.0, (w - 2.0).max(2.0));
            writeln!(
                svg,
                "<rect class=\"b{step}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{w:.1}\" height=\"{:.1}\" rx=\"3\" fill=\"{}\"/>",
                y + 2.0,
                h - 4.0,
                colour("mask")
            )?;
        }
        writeln!(
            svg,
            "<g{shown}><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"3\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"{size:.1}\" font-weight=\"{}\" fill=\"{}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\">{text}</text></g>",
            x + lead,
            y + h * 0.76,
            token["weight"].as_str().unwrap_or("400"),
            token["colour"].as_str().unwrap_or("black"),
            (w - lead).max(1.0)
        )?;
    }
    writeln!(
        svg,
        "<rect class=\"bar\" x=\"10\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\" rx=\"2\" fill=\"{}\"/>\n</svg>",
        height - 14.0,
        width - 20.0,
        colour("soft")
    )?;
    Ok(svg)
}
