//! Validators that are programs of their own, used where they are installed.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// A validator that reads one file.
pub struct Tool {
    /// The program.
    pub name: &'static str,
    arguments: &'static [&'static str],
    extension: &'static str,
}

/// The SPIR-V project's validator; reads SPIR-V.
pub const SPIRV_VAL: Tool = Tool {
    name: "spirv-val",
    arguments: &["--target-env", "vulkan1.1"],
    extension: "spv",
};

/// The browser Chromium's compiler; reads WGSL.
pub const TINT: Tool = Tool {
    name: "tint",
    arguments: &[
        "--format",
        "wgsl",
        "-o",
        if cfg!(windows) { "NUL" } else { "/dev/null" },
    ],
    extension: "wgsl",
};

impl Tool {
    /// Whether the search path has the program.
    pub fn installed(&self) -> bool {
        let path = env::var_os("PATH").unwrap_or_default();
        let file = format!("{}{}", self.name, env::consts::EXE_SUFFIX);
        env::split_paths(&path).any(|dir| dir.join(&file).is_file())
    }

    /// Validates `input`, written to a file in `scratch`; the error is what the program says.
    pub fn check(&self, scratch: &Path, input: &[u8]) -> io::Result<Result<(), String>> {
        let file = scratch.join("shader").with_extension(self.extension);
        fs::write(&file, input)?;
        let output = Command::new(self.name)
            .args(self.arguments)
            .arg(&file)
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok(match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", self.name, String::from_utf8_lossy(&said))),
        })
    }
}

/// SPIR-V as the bytes of a file.
pub fn spirv_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
