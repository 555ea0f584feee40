//! The library for the browser: compiled with rustup's target, or where rustup cannot get that, with
//! Debian's compiler and the source of its standard library.

use crate::shell::{Consent, cache_dir, cargo, command, output, run, target_dir};
use crate::{apt, rustup};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// The library for browsers that can do more or less; the page loads the last one that its browser can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// SIMD, which every browser that has WebGPU has had for years.
    Plain,
    /// And relaxed SIMD: multiply and add in one instruction.
    Relaxed,
    /// And memory that threads share, where the page is isolated from other origins.
    Threads,
}

impl Module {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Relaxed, Self::Threads];

    /// Its folder on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Relaxed => "relaxed",
            Self::Threads => "threads",
        }
    }

    /// Flags of the compiler, in TOML.
    fn flags(self) -> String {
        let features = match self {
            Self::Plain => "+simd128",
            Self::Relaxed => "+simd128,+relaxed-simd",
            Self::Threads => "+simd128,+relaxed-simd,+atomics,+bulk-memory",
        };
        let linker: &[&str] = match self {
            Self::Plain | Self::Relaxed => &[],
            // a thread has a stack and thread-local variables of its own in the memory that it is given
            Self::Threads => &[
                "--shared-memory",
                "--import-memory",
                "--max-memory=4294967296",
                "--export=__wasm_init_tls",
                "--export=__tls_size",
                "--export=__tls_align",
                "--export=__tls_base",
            ],
        };
        let linker = linker.iter().map(|flag| format!("-Clink-arg={flag}"));
        let all: Vec<String> = [format!("-Ctarget-feature={features}")]
            .into_iter()
            .chain(linker)
            .collect();
        format!("{all:?}")
    }
}

/// A compiler that has the target's standard library, or can build it.
pub enum Toolchain {
    /// The compiler that Cargo uses anyway.
    Default,
    /// Debian's, unpacked into this folder.
    Debian(PathBuf),
}

impl Toolchain {
    /// Finds a compiler for the target, and the source of its standard library, or gets one.
    pub fn set_up(consent: Consent) -> Result<Self> {
        if has_target()? && has_source()? {
            return Ok(Self::Default);
        }
        let folder = cache_dir()?.join("rustc-web");
        if folder.exists() {
            return Ok(Self::Debian(folder));
        }
        let added = rustup::add("target", TARGET, consent)
            .and_then(|()| rustup::add("component", "rust-src", consent));
        if added.is_ok() && has_target()? && has_source()? {
            return Ok(Self::Default);
        }
        if !apt::available() {
            added?;
            bail!("the compiler that Cargo uses still lacks the target {TARGET}, or rust-src");
        }
        consent.ask(&format!(
            "To be unpacked into {} (nothing is installed): Debian's rustc-web, 850 MB",
            folder.display()
        ))?;
        unpack(&folder).context("neither rustup nor apt has a compiler for the browser")?;
        Ok(Self::Debian(folder))
    }

    /// Compiles the library for the browser and returns the module.
    pub fn build(&self, module: Module) -> Result<PathBuf> {
        let folder = target_dir().join("wasm").join(module.name());
        let mut build =
            cargo("rustc --package mdlm --lib --crate-type cdylib --profile wasm-release");
        build
            .args(["--target", TARGET, "--target-dir"])
            .arg(&folder);
        let flags = format!("target.{TARGET}.rustflags={}", module.flags());
        build.arg("--config").arg(flags);
        self.configure(&mut build, module)?;
        if let Self::Debian(_) = self {
            build.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker()?);
        }
        run(&mut build)?;
        Ok(folder.join(TARGET).join("wasm-release").join("mdlm.wasm"))
    }

    /// Type-checks the library for the browser.
    pub fn check(&self) -> Result<()> {
        // The release profile leaves build scripts and macros unoptimised; nothing built here is run.
        let mut check =
            cargo("check --package mdlm --lib --release --config profile.release.opt-level=0");
        check.args(["--target", TARGET]);
        // Another compiler must not invalidate what the other stages have built.
        check
            .arg("--target-dir")
            .arg(target_dir().join("wasm-check"));
        self.configure(&mut check, Module::Plain)?;
        run(&mut check)
    }

    fn configure(&self, cargo: &mut Command, module: Module) -> Result<()> {
        if let Self::Debian(folder) = self {
            cargo.env("RUSTC", write_wrapper(folder)?);
        }
        // The standard library that comes with a compiler knows of no threads on this target.
        if matches!(self, Self::Debian(_)) || module == Module::Threads {
            cargo.args(["-Z", "build-std=std,panic_abort"]);
            // `-Z` options on a stable compiler.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(())
    }
}

/// The linker that comes with the compiler that Cargo uses anyway.
fn linker() -> Result<PathBuf> {
    let sysroot = output(&mut command("rustc", ["--print", "sysroot"]))?;
    let host = output(&mut command("rustc", ["--print", "host-tuple"]))?;
    let folder = Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(host.trim());
    Ok(folder.join("bin/rust-lld"))
}

fn has_target() -> Result<bool> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let print = ["--print", "target-libdir", "--target", TARGET];
    let folder = output(&mut command(&rustc, print))?;
    let Ok(libraries) = fs::read_dir(folder.trim()) else {
        return Ok(false);
    };
    Ok(libraries
        .filter_map(|entry| entry.ok())
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

fn has_source() -> Result<bool> {
    let sysroot = output(&mut command("rustc", ["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std");
    Ok(source.is_dir())
}

fn unpack(folder: &Path) -> Result<()> {
    let index = apt::Index::system()?;
    let mut packages = index.dependencies("rustc-web", &["libstd-rust-web", "libllvm"])?;
    packages.extend(["rustc-web".into(), "rust-web-src".into()]);
    index.unpack(&packages, folder)
}

/// A script that starts the unpacked compiler with its own libraries.
fn write_wrapper(folder: &Path) -> Result<PathBuf> {
    let libraries = fs::read_dir(folder.join("usr/lib"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .with_context(|| format!("{} is incomplete: remove it", folder.display()))?;
    let wrapper = folder.join("rustc.sh");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        libraries.display(),
        folder.join("usr/bin/rustc").display()
    );
    // Rewritten only when it differs: Cargo takes a newer file for another compiler.
    if fs::read_to_string(&wrapper).ok().as_deref() != Some(&script) {
        fs::write(&wrapper, script)?;
        run(command("chmod", ["+x"]).arg(&wrapper))?;
    }
    Ok(wrapper)
}
