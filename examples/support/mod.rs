//! What the examples share: the device flag, files of this repository, and errors with hints.
#![allow(dead_code)]

pub mod chart;
pub mod dry_run;
pub mod lines;
pub mod ranks;
pub mod samples;
pub mod screen;
pub mod talk;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser};
use indicatif::ProgressBar;
use mdlm::blocking::wait;
use mdlm::config::DataConfig;
use mdlm::engine::program::Element;
use mdlm::io::checkpoint::resolve;
use mdlm::model::Load;
use mdlm::progress::{Event, Flow};
use mdlm::rules::{ALL, Choice, choices};
use mdlm::{Device, Model, SampleConfig, SamplerKind, TrainConfig};

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
        let device = self.parsed()?;
        announce(&device, (0, 1));
        Ok(device)
    }

    /// Opens it.
    pub fn parsed(&self) -> mdlm::Result<Device> {
        wait(Device::parse(&self.device))
    }
}

/// Says in a line what was taken and why; of several, `(rank, size)`, by whom.
fn announce(device: &Device, (rank, size): (usize, usize)) {
    match size {
        1 => eprintln!("device: {}", device.info()),
        _ => eprintln!("rank {rank} of {size}, device: {}", device.info()),
    }
    if device.context().is_some() && rank == 0 {
        eprintln!("the first run on a GPU compiles its kernels, which may take a while");
    }
}

/// Which model.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A checkpoint, a run's folder (its newest whole checkpoint; its best one if the run has
    /// training.patience), a folder in the published layout (config.json, model.safetensors, tokenizer.json), or a
    /// GGUF file.
    #[arg(long, required_unless_present = "model")]
    pub checkpoint: Option<PathBuf>,
    /// A repository on the Hugging Face hub, such as kuleshov-group/mdlm-owt (cargo feature hub).
    #[arg(long, conflicts_with = "checkpoint")]
    pub model: Option<String>,
    /// How matrices are kept: f32, f16 or bf16 (half of the memory), q8 (9 bits a number) or q4 (5); by default in f32,
    /// those of a GGUF file as the file keeps them.
    #[arg(long)]
    pub weights: Option<Element>,
    /// Id of the mask of a model whose files do not say it, or say it wrong.
    #[arg(long)]
    pub mask: Option<u32>,
    /// Whether a row's logits are about the token behind it, where the model's kind does not tell.
    #[arg(long)]
    pub shift: Option<bool>,
    /// Tokens of the blocks of a model whose tokens do not see the blocks behind theirs (block diffusion), where its
    /// files do not say it; 0: every token sees all.
    #[arg(long)]
    pub block_size: Option<usize>,
    /// What a model is, where its config.json says something else, such as a2d-qwen2.
    #[arg(long)]
    pub model_type: Option<String>,
    /// Folder of low-rank adapters on a published model, as PEFT writes it.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
}

impl ModelArgs {
    /// Where it lies, after downloading what is not there yet.
    pub fn path(&self) -> anyhow::Result<PathBuf> {
        match (&self.checkpoint, &self.model) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(id)) => fetch(id),
            (None, None) => anyhow::bail!("name a model by --checkpoint or --model"),
        }
    }

    /// What was said of loading it.
    pub fn how(&self) -> Load {
        Load {
            weights: self.weights,
            mask: self.mask,
            shift: self.shift,
            block: self.block_size,
            model_type: self.model_type.clone(),
            adapter: self.adapter.clone(),
        }
    }

    /// Loads it.
    pub fn load(&self, device: &Device) -> anyhow::Result<Model> {
        Ok(self.load_from(device)?.0)
    }

    /// Loads it, and says from where: of a run, which checkpoint.
    pub fn load_from(&self, device: &Device) -> anyhow::Result<(Model, PathBuf)> {
        let path = self.path()?;
        let model = wait(Model::load_with(device, &path, &self.how()))?;
        let published = path.is_file() || path.join("config.json").is_file();
        let dir = if published { path } else { resolve(&path)? };
        Ok((model, dir))
    }
}

/// Shows on a bar how far something is.
pub fn shown(bar: &ProgressBar, event: &Event) -> Flow {
    if let Event::Progress { what, done, total } = event {
        bar.set_message(*what);
        bar.set_length(*total);
        bar.set_position(*done);
    }
    Flow::Continue
}

#[cfg(feature = "hub")]
fn fetch(id: &str) -> anyhow::Result<PathBuf> {
    let bar = ProgressBar::new(0);
    let path = mdlm::io::hub::fetch_model(id, &mut |event: &Event| shown(&bar, event))?;
    bar.finish_and_clear();
    Ok(path)
}

#[cfg(not(feature = "hub"))]
fn fetch(id: &str) -> anyhow::Result<PathBuf> {
    anyhow::bail!("{id} lies on the hub: build with --features hub")
}

/// How to sample. The library's defaults where nothing is said.
#[derive(clap::Args)]
pub struct SampleArgs {
    /// Which positions a step fills.
    #[arg(long, value_parser = samplers())]
    sampler: Option<String>,
    /// Denoising steps.
    #[arg(long)]
    steps: Option<usize>,
    /// Seed of the first sample; the next ones count up.
    #[arg(long)]
    seed: Option<u64>,
    /// Divides the logits; 0: always the most probable token. To read text: 0.8 by default.
    #[arg(long)]
    temperature: Option<f64>,
    /// Draw among this many of the most probable tokens.
    #[arg(long)]
    top_k: Option<u32>,
    /// Draw among the most probable tokens that together have this probability.
    #[arg(long)]
    top_p: Option<f64>,
    /// Probability from which the sampler `threshold` accepts a token.
    #[arg(long)]
    threshold: Option<f64>,
    /// Positions that are filled before the next ones are begun; --steps are those of such a block.
    #[arg(long)]
    block: Option<usize>,
    /// How far logits are moved away from those without the prompt (classifier-free guidance).
    #[arg(long)]
    guidance: Option<f64>,
    /// Which keys and values are kept from call to call: exact (those that cannot change), off, prefix or dual (those
    /// outside of the block, as they were when it was begun).
    #[arg(long, value_parser = ["exact", "off", "prefix", "dual"])]
    cache: Option<String>,
    /// A regular expression that what is written must match as a whole, such as " (red|blue)"; the space before a word
    /// is a part of what is written.
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "json_schema")]
    regex: Option<String>,
    /// A file with a JSON schema under which what is written must be valid.
    #[arg(long, value_name = "FILE")]
    json_schema: Option<PathBuf>,
    /// Any sampling option, as key=value, for example gamma=0.5; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", long_help = options())]
    set: Vec<String>,
}

/// The samplers with what each does.
fn samplers() -> PossibleValuesParser {
    let value = |kind: &SamplerKind| PossibleValue::new(kind.name).help(kind.summary);
    PossibleValuesParser::new(ALL.iter().map(value))
}

/// The options of samplers with their defaults.
fn options() -> String {
    let mut text =
        "Any sampling option, as key=value; may be repeated. Those of samplers:".to_owned();
    for choice in choices() {
        let Choice {
            key, help, default, ..
        } = choice;
        text += &format!("\n  {key}={default}: {help}");
    }
    text
}

/// Settings for text to read, found by what an autoregressive model thinks of it (`docs/samplers.md`).
const TO_READ: [&str; 2] = ["temperature=0.8", "sampler=entropy-bound"];
const GAMMA: &str = "gamma=0.3";

impl SampleArgs {
    /// The settings: flag over --set over the library's defaults, which follow the model's law.
    pub fn resolve(&self) -> mdlm::Result<SampleConfig> {
        self.over(&[])
    }

    /// The settings of text to read: flag over --set over defaults that suit it.
    pub fn to_read(&self) -> mdlm::Result<SampleConfig> {
        let sampler = |set: &String| set.trim_start_matches("sampling.").starts_with("sampler=");
        match self.sampler.is_some() || self.set.iter().any(sampler) {
            true => self.over(&TO_READ[..1]),
            false => self.over(&[&TO_READ[..], &[GAMMA]].concat()),
        }
    }

    /// The settings for this model, unless a sampler was asked for: an autoregressive one has a sampler of its own, and
    /// other programs' models have settings of theirs.
    pub fn suited(&self, config: SampleConfig, model: &Model) -> mdlm::Result<SampleConfig> {
        if self.sampler.is_some() || !self.set.is_empty() {
            return Ok(config);
        }
        if model.config().is_err() {
            return self.onto(model.sampling(), &[]);
        }
        Ok(match model.autoregressive() {
            true => SampleConfig {
                sampler: SamplerKind::LEFT_TO_RIGHT,
                options: Default::default(),
                ..config
            },
            false => config,
        })
    }

    /// Whether something was said of how a canvas is filled.
    fn says_order(&self) -> bool {
        self.block.is_some() || self.sampler.is_some() || !self.set.is_empty()
    }

    fn over(&self, defaults: &[&str]) -> mdlm::Result<SampleConfig> {
        self.onto(SampleConfig::default(), defaults)
    }

    fn onto(&self, base: SampleConfig, defaults: &[&str]) -> mdlm::Result<SampleConfig> {
        fn text<T: ToString>(flag: &Option<T>) -> Option<String> {
            flag.as_ref().map(T::to_string)
        }
        let flags = [
            ("sampler", text(&self.sampler)),
            ("steps", text(&self.steps)),
            ("seed", text(&self.seed)),
            ("temperature", text(&self.temperature)),
            ("top_k", text(&self.top_k)),
            ("top_p", text(&self.top_p)),
            ("threshold", text(&self.threshold)),
            ("block", text(&self.block)),
            ("guidance", text(&self.guidance)),
            ("cache", text(&self.cache)),
        ];
        let mut all = TrainConfig {
            sampling: base,
            ..TrainConfig::default()
        };
        let given = self.set.iter().map(String::as_str);
        for assignment in defaults.iter().copied().chain(given) {
            let assignment = assignment.trim_start_matches("sampling.");
            all.set(&format!("sampling.{assignment}"))?;
        }
        for (key, value) in flags {
            if let Some(value) = value {
                all.set(&format!("sampling.{key}={value}"))?;
            }
        }
        // as they are: --set reads quotes as TOML does
        if let Some(regex) = &self.regex {
            (all.sampling.regex, all.sampling.json_schema) = (regex.clone(), String::new());
        }
        if let Some(path) = &self.json_schema {
            let text = std::fs::read_to_string(path).map_err(mdlm::Error::io(path, "read"))?;
            (all.sampling.json_schema, all.sampling.regex) = (text, String::new());
        }
        all.sampling.validate()?;
        if self.steps.is_some() && !all.sampling.sampler.has_steps {
            note_steps(all.sampling.sampler);
        }
        Ok(all.sampling)
    }

    /// An error if something was said of sampling, the seed apart, where nothing is sampled.
    pub fn check_unused(&self, without: &str) -> anyhow::Result<()> {
        let given = self.sampler.is_some()
            || self.steps.is_some()
            || self.temperature.is_some()
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.threshold.is_some()
            || self.block.is_some()
            || self.guidance.is_some()
            || self.cache.is_some()
            || self.regex.is_some()
            || self.json_schema.is_some()
            || !self.set.is_empty();
        anyhow::ensure!(
            !given,
            "nothing is sampled without {without}: leave the flags of sampling out"
        );
        Ok(())
    }

    /// Says so if a number of steps was given for an autoregressive model.
    pub fn note_unread(&self, model: &Model) {
        if self.steps.is_some() && model.autoregressive() {
            note_steps(SamplerKind::LEFT_TO_RIGHT);
        }
    }
}

fn note_steps(sampler: SamplerKind) {
    let name = sampler.name;
    eprintln!("note: {name} takes as many steps as it needs; --steps is not read");
}

/// A run's data with its files where [`find`] finds them.
pub fn found(data: &DataConfig) -> DataConfig {
    let mut data = data.clone();
    for path in [
        &mut data.train,
        &mut data.valid,
        &mut data.tokenizer,
        &mut data.chat_template,
    ] {
        *path = find(path);
    }
    for path in &mut data.sources {
        *path = find(path);
    }
    data
}

/// A file as given, or in this repository if it is not there.
pub fn find(path: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if !path.is_empty() && !Path::new(path).exists() && here.exists() {
        return here.display().to_string();
    }
    path.to_owned()
}

/// The folders `runs/NAME-1`, `runs/NAME-2`, ... : the last that exists, and the one after it.
pub fn numbered_runs(name: &str) -> (Option<PathBuf>, PathBuf) {
    let path = |n: u32| PathBuf::from(format!("runs/{name}-{n}"));
    let number = |entry: std::io::Result<std::fs::DirEntry>| {
        let file_name = entry.ok()?.file_name().into_string().ok()?;
        let number = file_name.strip_prefix(name)?.strip_prefix('-')?;
        number.parse::<u32>().ok().filter(|n| *n < u32::MAX)
    };
    let entries = std::fs::read_dir("runs").into_iter().flatten();
    let last = entries.filter_map(number).max();
    (last.map(path), path(last.unwrap_or(0) + 1))
}

/// Runs an example: errors go to stderr with their hint, the exit code is 1.
pub fn main(run: impl FnOnce() -> anyhow::Result<()>) -> std::process::ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let Err(error) = run() else {
        return std::process::ExitCode::SUCCESS;
    };
    tell(&error);
    std::process::ExitCode::FAILURE
}

/// Says what went wrong, and what to do if that is known.
pub fn tell(error: &anyhow::Error) {
    eprintln!("error: {error}");
    if let Some(hint) = error
        .downcast_ref::<mdlm::Error>()
        .and_then(mdlm::Error::hint)
    {
        eprintln!("hint: {hint}");
    }
}
