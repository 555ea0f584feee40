//! The page with the models of the tests, served; and what the scenarios ask of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mdlm::blocking::wait;
use mdlm::config::ModelKind;
use mdlm::io::safetensors::Precision;
use mdlm::model::Published;
use serde_json::Value;
use tempfile::TempDir;
use xtask::server::Server;

use crate::browser::Browser;
use crate::models;

/// After how long without an answer something hangs, on the busiest machine.
pub const RUN: Duration = Duration::from_secs(600);

/// The modules of the page, each with other instructions or more threads.
pub const MODULES: [&str; 3] = ["plain", "relaxed", "threads"];

/// Everything that the scenarios share.
pub struct Bench {
    site: PathBuf,
    chromium: PathBuf,
    /// Where pictures go.
    pub out: PathBuf,
    axe: String,
    /// Folder that holds the models `mdlm` and `ar`.
    pub models: TempDir,
    /// The diffusion model's files.
    pub mdlm: Published,
}

impl Bench {
    /// Trains the small models and writes them.
    pub fn new(site: &Path, chromium: &Path, out: &Path, axe: &Path) -> Result<Self> {
        ensure!(
            site.join("index.html").is_file(),
            "no page in {}",
            site.display()
        );
        std::fs::create_dir_all(out)?;
        let axe = std::fs::read_to_string(axe).with_context(|| axe.display().to_string())?;
        let folder = tempfile::tempdir()?;
        let mdlm = wait(models::trained(ModelKind::Dit, 150)?.publish(Precision::F16))?;
        let ar = wait(models::trained(ModelKind::Ar, 60)?.publish(Precision::F16))?;
        models::write(&mdlm, &folder.path().join("mdlm"))?;
        models::write(&ar, &folder.path().join("ar"))?;
        Ok(Self {
            site: site.to_owned(),
            chromium: chromium.to_owned(),
            out: out.to_owned(),
            axe,
            models: folder,
            mdlm,
        })
    }

    /// Folder of the models that come with the page.
    pub fn shipped(&self) -> PathBuf {
        self.site.join("model")
    }

    /// Serves the page with the models of a folder.
    pub fn serve(&self, models: &Path) -> Result<Server> {
        Server::start(&[("model", models), ("", &self.site)], 0)
    }

    /// A visit: a fresh browser and the page served with the models of the tests.
    pub fn visit(&self, webgpu: bool) -> Result<Visit> {
        self.visit_with(webgpu, self.models.path())
    }

    /// A visit with other models.
    pub fn visit_with(&self, webgpu: bool, models: &Path) -> Result<Visit> {
        Ok(Visit {
            server: self.serve(models)?,
            browser: Browser::start(&self.chromium, webgpu)?,
            out: self.out.clone(),
            axe: self.axe.clone(),
        })
    }
}

/// What axe-core has to say: rule and elements.
const AXE: &str = "(async () => {
    const { violations, passes } = await axe.run();
    return {
        violations: violations.map((v) => `${v.id} (${v.help}): ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`),
        contrasts: passes.find((p) => p.id === 'color-contrast')?.nodes.length ?? 0,
    };
})()";

/// One browser on one server.
pub struct Visit {
    /// The server.
    pub server: Server,
    /// The browser.
    pub browser: Browser,
    out: PathBuf,
    axe: String,
}

impl Visit {
    /// Opens the page with a query such as `?device=cpu`.
    pub fn open(&mut self, query: &str) -> Result<()> {
        let url = format!("{}{query}", self.server.url());
        self.browser.open(&url)
    }

    /// Waits until a text is on the page.
    pub fn text(&mut self, text: &str) -> Result<()> {
        let text = serde_json::to_string(text)?;
        let condition = format!("document.body.innerText.includes({text})");
        self.browser.wait(&condition, RUN)
    }

    /// Waits until the page can generate.
    pub fn ready(&mut self) -> Result<()> {
        self.browser
            .wait("!document.getElementById('generate').disabled", RUN)
    }

    /// Clicks an element by its id.
    pub fn click(&mut self, id: &str) -> Result<()> {
        self.browser
            .eval(&format!("document.getElementById('{id}').click()"))
            .map(drop)
    }

    /// Writes into a field.
    pub fn fill(&mut self, id: &str, value: &str) -> Result<()> {
        let value = serde_json::to_string(value)?;
        let code = format!(
            "{{ const f = document.getElementById('{id}'); f.value = {value}; f.dispatchEvent(new Event('change', {{bubbles: true}})); }}"
        );
        self.browser.eval(&code).map(drop)
    }

    /// Chooses a folder of a published model.
    pub fn choose(&mut self, folder: &Path) -> Result<()> {
        self.browser.choose_files("published-folder", folder)
    }

    /// Waits until the page says what is in it and that it can be opened.
    pub fn described(&mut self) -> Result<()> {
        self.browser.wait(
            "!document.getElementById('published-load').disabled && document.getElementById('published-status').innerText.trim() === ''",
            RUN,
        )
    }

    /// Generates and waits for the end.
    pub fn generate(&mut self) -> Result<()> {
        self.expect_run()?;
        self.click("generate")?;
        self.finished()
    }

    /// Forgets the last run, so that `finished` waits for the next one.
    pub fn expect_run(&mut self) -> Result<()> {
        let code = "document.getElementById('c-masked').textContent = 'waiting'; 0";
        self.browser.eval(code).map(drop)
    }

    /// Waits until nothing runs and no position is masked.
    pub fn finished(&mut self) -> Result<()> {
        self.browser.wait(
            "!document.getElementById('generate').disabled && document.getElementById('c-masked').textContent === '0'",
            RUN,
        )
    }

    /// Token ids that are shown.
    pub fn tokens(&mut self) -> Result<Vec<u32>> {
        let code = "[...document.querySelectorAll('#tokens [data-at]')].map((s) => Number(s.dataset.token))";
        numbers(&self.browser.eval(code)?).map(|all| all.into_iter().map(|x| x as u32).collect())
    }

    /// Text of an element.
    pub fn read(&mut self, id: &str) -> Result<String> {
        let value = self
            .browser
            .eval(&format!("document.getElementById('{id}').innerText"))?;
        Ok(value.as_str().context("no text")?.to_owned())
    }

    /// Takes a picture of the page.
    pub fn picture(&mut self, name: &str) -> Result<()> {
        let path = self.out.join(format!("{name}.png"));
        self.browser.screenshot(&path)
    }

    /// Fails if axe-core finds what keeps someone from using the page as it is now; returns the number of
    /// elements whose contrast it could judge.
    pub fn accessible(&mut self) -> Result<u64> {
        let axe = self.axe.clone();
        self.browser.eval(&format!("{axe}; 0"))?;
        let found = self.browser.eval(AXE)?;
        let violations = found["violations"].as_array().context("no violations")?;
        ensure!(violations.is_empty(), "axe-core: {}", found["violations"]);
        found["contrasts"].as_u64().context("no contrasts")
    }

    /// Fails if anything went to another origin, onto the console as an error, or against the policy;
    /// errors that contain one of `expected` are let through, and each must be there.
    pub fn clean(&mut self, expected: &[&str]) -> Result<()> {
        self.browser.idle(Duration::from_millis(200))?;
        let origin = self.server.url();
        let fine = |url: &str| {
            url.starts_with(&origin)
                || url.starts_with("data:")
                || url.starts_with("blob:")
                || url == "about:blank"
        };
        let browser = &self.browser;
        if let Some(url) = browser.requests.iter().find(|url| !fine(url)) {
            bail!("a request to another origin: {url}");
        }
        if let Some(violation) = browser.violations.first() {
            bail!("a violation of the policy: {violation}");
        }
        let errors = &browser.errors;
        if let Some(error) = errors
            .iter()
            .find(|e| !expected.iter().any(|part| e.contains(part)))
        {
            bail!("an error on the console: {error}");
        }
        for part in expected {
            ensure!(
                errors.iter().any(|e| e.contains(part)),
                "the console does not say {part}"
            );
        }
        ensure!(
            browser.requests.len() > 3,
            "the browser reported no requests"
        );
        Ok(())
    }
}

/// An array of numbers.
pub fn numbers(value: &Value) -> Result<Vec<f64>> {
    let all = value.as_array().context("not an array")?;
    all.iter()
        .map(|x| x.as_f64().context("not a number"))
        .collect()
}
