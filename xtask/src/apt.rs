//! Debian packages: installed by the system, or unpacked into a folder of ours without touching the system.

use crate::shell::{Consent, cache_dir, command, on_path, output, run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this system has apt.
pub fn available() -> bool {
    cfg!(target_os = "linux") && on_path("apt-get") && on_path("dpkg")
}

/// The name of the system's release, such as `bookworm`.
pub fn codename() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Installs packages in the system, as root or through sudo.
pub fn install(packages: &[&str], consent: Consent) -> Result<()> {
    let list = packages.join(" ");
    consent.ask(&format!("To be installed with apt-get: {list}"))?;
    // A third-party source that is down must not stop the packages of the distribution.
    if let Err(error) = run(&mut as_root("apt-get update -q")?) {
        eprintln!("warning: {error:#}");
    }
    let arguments = "apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120";
    run(as_root(arguments)?.args(packages))
        .with_context(|| format!("install these packages yourself: {list}"))
}

fn as_root(arguments: &str) -> Result<Command> {
    let arguments = ["env", "DEBIAN_FRONTEND=noninteractive"]
        .into_iter()
        .chain(arguments.split(' '));
    if output(&mut command("id", ["-u"]))?.trim() == "0" {
        Ok(command("env", arguments.skip(1)))
    } else if on_path("sudo") {
        Ok(command("sudo", arguments))
    } else {
        bail!("apt-get needs root, and there is no sudo");
    }
}

/// A package index of our own: needs no root and leaves the system's sources, lists and cache alone.
pub struct Index {
    options: Vec<String>,
}

impl Index {
    /// The packages of the system's sources.
    pub fn system() -> Result<Self> {
        Self::open("system", &[])
    }

    /// The packages of another suite (such as `bookworm-backports`) on the mirror that the system uses.
    pub fn suite(suite: &str) -> Result<Self> {
        Self::suites(&[suite])
    }

    /// As [`Index::suite`], of several together; the last one's packages come before the others'.
    pub fn suites(suites: &[&str]) -> Result<Self> {
        let base = codename().context("/etc/os-release names no release")?;
        let mirror = Self::system()?
            .query(
                "apt-get",
                &["indextargets", "--format", "$(RELEASE) $(REPO_URI)"],
            )?
            .lines()
            .find_map(|line| Some(line.strip_prefix(&base)?.strip_prefix(' ')?.to_owned()))
            .with_context(|| format!("apt has no source for {base}"))?;
        let name = suites.join("+");
        let list = cache_dir()?.join("apt").join(format!("{name}.list"));
        let lines = suites
            .iter()
            .map(|suite| format!("deb {mirror} {suite} main\n"));
        fs::write(&list, lines.collect::<String>())?;
        Self::open(
            &name,
            &[
                format!("Dir::Etc::SourceList={}", list.display()),
                "Dir::Etc::SourceParts=-".into(),
                format!(
                    "APT::Default-Release={}",
                    suites.last().copied().unwrap_or_default()
                ),
            ],
        )
    }

    fn open(name: &str, options: &[String]) -> Result<Self> {
        let dir = cache_dir()?.join("apt").join(name);
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let mut index = Self {
            options: vec![
                format!("Dir::State::Lists={}", dir.join("lists").display()),
                format!("Dir::Cache={}", dir.join("cache").display()),
                // Run by root, apt would otherwise download as a user who cannot enter this folder.
                "APT::Sandbox::User=root".into(),
            ],
        };
        index.options.extend_from_slice(options);
        if let Err(error) = run(&mut index.command("apt-get", &["-qq", "update"])) {
            eprintln!("warning: {error:#}");
        }
        Ok(index)
    }

    /// Those packages on which `package` depends, directly or not, whose names begin with one of `prefixes`.
    pub fn dependencies(&self, package: &str, prefixes: &[&str]) -> Result<Vec<String>> {
        let tree = self.query(
            "apt-cache",
            &["depends", "--recurse", "--important", package],
        )?;
        let mut names: Vec<String> = tree
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Downloads packages and unpacks them below `folder`, which appears only when all is there.
    pub fn unpack(&self, packages: &[String], folder: &Path) -> Result<()> {
        let partial = folder.with_extension("partial");
        let archives = partial.join("archives");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir_all(&archives)?;
        run(self
            .command("apt-get", &["-qq", "download"])
            .args(packages)
            .current_dir(&archives))?;
        let downloaded = fs::read_dir(&archives)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<Vec<PathBuf>>>()?;
        for archive in downloaded {
            run(command("dpkg", ["-x"]).arg(archive).arg(&partial))?;
        }
        fs::remove_dir_all(&archives)?;
        fs::rename(&partial, folder)?;
        Ok(())
    }

    fn query(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(program, arguments))
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command(program, arguments);
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        command
    }
}
