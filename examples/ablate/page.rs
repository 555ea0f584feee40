//! Pages of which the last part is written anew.

use std::path::PathBuf;

use mdlm::io::atomic::write_file;

/// Where that part begins.
const BEGIN: &str = "<!-- written by mdlm's ablate -->";

/// A page in the making.
pub struct Page {
    path: PathBuf,
    kept: String,
    /// What is written anew.
    pub text: String,
}

impl Page {
    /// Keeps what stands before the part; a page that is not there gets a title.
    pub fn open(path: PathBuf, title: &str) -> anyhow::Result<Self> {
        let kept = match std::fs::read_to_string(&path) {
            Ok(text) => match text.split_once(BEGIN) {
                Some((before, _)) => before.to_owned(),
                None => anyhow::bail!("{} is there and has no line {BEGIN}", path.display()),
            },
            Err(_) => format!("# {title}\n\n"),
        };
        let text = String::new();
        Ok(Self { path, kept, text })
    }

    /// Prints and writes it.
    pub fn write(&self) -> anyhow::Result<()> {
        let Self { path, kept, text } = self;
        println!("{text}");
        write_file(path, format!("{kept}{BEGIN}\n{text}").as_bytes())?;
        Ok(())
    }
}
