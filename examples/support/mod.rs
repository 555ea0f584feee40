//! What the examples share: the device flag, files of this repository, and errors with hints.
#![allow(dead_code)]

pub mod chart;

use std::path::{Path, PathBuf};

use mdlm::blocking::wait;
use mdlm::device::Device;

/// Where to compute.
#[derive(clap::Args)]
pub struct DeviceArgs {
    /// auto (a hardware GPU, else the CPU), gpu, cpu, or part of an adapter's name.
    #[arg(long, env = "MDLM_DEVICE", default_value = "auto", global = true)]
    pub device: String,
}

impl DeviceArgs {
    /// Opens the device and says in a line what was taken and why.
    pub fn open(&self) -> mdlm::Result<Device> {
        let device = wait(Device::parse(&self.device))?;
        eprintln!("device: {}", device.info());
        if device.context().is_some() {
            eprintln!("the first run on a GPU compiles its kernels, which may take a while");
        }
        Ok(device)
    }
}

/// A file as given, or in this repository if it is not there.
pub fn find(path: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if !path.is_empty() && !Path::new(path).exists() && here.exists() {
        return here.display().to_string();
    }
    path.to_owned()
}

/// The folders `runs/NAME-1`, `runs/NAME-2`, ... : the newest that exists, and the next free one.
pub fn numbered_runs(name: &str) -> (Option<PathBuf>, PathBuf) {
    let path = |n: u32| PathBuf::from(format!("runs/{name}-{n}"));
    let next = (1..).find(|&n| !path(n).exists()).unwrap_or(1);
    ((next > 1).then(|| path(next - 1)), path(next))
}

/// Runs an example: errors go to stderr with their hint, the exit code is 1.
pub fn main(run: impl FnOnce() -> anyhow::Result<()>) -> std::process::ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let Err(error) = run() else {
        return std::process::ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    if let Some(hint) = error
        .downcast_ref::<mdlm::Error>()
        .and_then(mdlm::Error::hint)
    {
        eprintln!("hint: {hint}");
    }
    std::process::ExitCode::FAILURE
}
