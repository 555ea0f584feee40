//! The page: the library compiled for the browser, beside the files of `web/`.

use crate::chromium;
use crate::shell::{Consent, cargo, command, on_path, root, run, target_dir};
use crate::wasm::{Module, Toolchain};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use xtask::server::Server;

/// First Binaryen that is tried: older ones do not know `table.fill`, which the generated module uses.
const MIN_WASM_OPT: u32 = 117;
/// Most bytes of the gzip-packed module.
const MAX_PACKED: usize = 1_640_000;

/// Most bytes of the sample text.
const SAMPLE_BYTES: usize = 300_000;

/// What to do with the page.
#[derive(clap::Args)]
pub struct Options {
    /// Only build it
    #[arg(long)]
    no_serve: bool,
    /// Port on localhost
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Builds the page and serves it until it is interrupted.
pub fn serve(options: &Options, consent: Consent) -> Result<()> {
    let toolchain = Toolchain::set_up(consent)?;
    let site = build(&toolchain)?;
    if options.no_serve {
        return Ok(());
    }
    let server = Server::start(&[("", &site)], options.port)?;
    println!("\n{} (Ctrl-C ends it)", server.url());
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Runs the page's scenarios in a browser.
pub fn test(toolchain: &Toolchain, chromium: &Path, axe: &Path) -> Result<()> {
    let site = build(toolchain)?;
    let pictures = target_dir().join("web-screenshots");
    run(checks("test", &site, chromium, &pictures)
        .arg("--axe")
        .arg(axe))
}

/// Measures the page.
pub fn figures(consent: Consent) -> Result<()> {
    let (site, chromium) = (
        build(&Toolchain::set_up(consent)?)?,
        chromium::set_up(consent)?,
    );
    let tokenizer = root().join("corpora/tinystories-bpe2048.tokenizer.json");
    let out = target_dir().join("web-screenshots");
    run(checks("figures", &site, &chromium, &out)
        .arg("--tokenizer")
        .arg(tokenizer))
}

/// Makes the pictures of the README.
pub fn pictures(query: Option<&str>, consent: Consent) -> Result<()> {
    let (site, chromium) = (
        build(&Toolchain::set_up(consent)?)?,
        chromium::set_up(consent)?,
    );
    let mut pictures = checks("pictures", &site, &chromium, &root().join("docs"));
    if let Some(query) = query {
        pictures.args(["--query", query]);
    }
    run(&mut pictures)
}

/// A command of the page's checks.
fn checks(task: &str, site: &Path, chromium: &Path, out: &Path) -> Command {
    let mut checks = cargo("run --release --package mdlm-web-checks --");
    checks.arg(task).arg("--site").arg(site);
    checks.arg("--chromium").arg(chromium).arg("--out").arg(out);
    checks
}

/// Builds the page into a folder that any static host can serve.
pub fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    let site = target_dir().join("web");
    if site.exists() {
        fs::remove_dir_all(&site)?;
    }
    copy(&root().join("web"), &site)?;
    // the text that the page offers for training
    let text = fs::read_to_string(root().join("corpora/tinyshakespeare.txt"))?;
    let end = text.floor_char_boundary(SAMPLE_BYTES);
    fs::write(site.join("sample.txt"), &text[..end])?;
    for module in Module::ALL {
        add_module(toolchain, module, &site.join("wasm").join(module.name()))?;
    }
    Ok(site)
}

/// Compiles a module and puts it into a folder, with its JavaScript.
pub fn add_module(toolchain: &Toolchain, module: Module, out: &Path) -> Result<()> {
    let library = toolchain.build(module)?;
    // The generator is compiled with what the other stages have compiled.
    run(cargo("run --release --package mdlm-bindgen --")
        .arg(&library)
        .arg(out))?;
    let module = out.join("mdlm_bg.wasm");
    optimise(&module)?;
    let packed = packed(&module)?;
    let bytes = fs::metadata(&module)?.len();
    println!(
        "{}: {bytes} bytes, {packed} packed with gzip",
        module.display()
    );
    if packed > MAX_PACKED {
        bail!("the module has {packed} bytes packed; at most {MAX_PACKED} are accepted");
    }
    Ok(())
}

/// The version of Binaryen's optimiser, if it is installed.
fn wasm_opt() -> Option<u32> {
    if !on_path("wasm-opt") {
        return None;
    }
    let output = command("wasm-opt", ["--version"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().find_map(|word| word.parse().ok())
}

/// Makes the module smaller where a Binaryen is installed that can read it; it is good as it is.
fn optimise(module: &Path) -> Result<()> {
    if wasm_opt().is_none_or(|version| version < MIN_WASM_OPT) {
        println!(
            "No wasm-opt from version {MIN_WASM_OPT} on: the module stays as the compiler made it"
        );
        return Ok(());
    }
    let smaller = module.with_extension("opt");
    let mut optimiser = command("wasm-opt", ["-O2", "--all-features", "-o"]);
    match run(optimiser.arg(&smaller).arg(module)) {
        Ok(()) => fs::rename(&smaller, module)?,
        Err(error) => println!("warning: {error:#}; the module stays as the compiler made it"),
    }
    Ok(())
}

/// Size after `gzip -9`, which hosts apply on the way.
fn packed(module: &Path) -> Result<usize> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gzip")?;
    let bytes = fs::read(module)?;
    let mut stdin = gzip.stdin.take().context("gzip has no input")?;
    let writer = thread::spawn(move || stdin.write_all(&bytes));
    let output = gzip.wait_with_output()?;
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("gzip ended early"))??;
    Ok(output.stdout.len())
}

/// Copies the files of a folder and of those in it; notes for developers stay behind.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("no folder {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().context("a path without a name")?;
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else if path.extension().is_none_or(|extension| extension != "md") {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
