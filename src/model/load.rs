//! Models from folders.

use crate::data::Tokenizer;
use crate::device::Device;
use crate::error::Result;
use crate::io::checkpoint::resolve;
use crate::io::settings;
use crate::model::{Description, Model, describe, fitting, read_weights};

impl Model {
    /// Loads a model from disk: one of our checkpoints (its moving average), a run's folder (the checkpoint
    /// that [`crate::io::checkpoint::resolve`] takes), or a folder in the published layout.
    ///
    /// # Errors
    /// [`crate::Error::Checkpoint`] that names file and tensor, [`crate::Error::Io`], or what the device refuses.
    pub async fn load(device: &Device, path: &std::path::Path) -> Result<Self> {
        if path.join("config.json").is_file() {
            let (described, names) = describe(path)?;
            let (backbone, storage) = described.build_from(device, path).await?;
            let path = path.join("tokenizer.json");
            let tokenizer = match path.is_file() {
                true => Some(Tokenizer::from_file_named(&path, &names)?),
                false => None,
            };
            let fits = |tokenizer| fitting(&path, tokenizer, &backbone.config);
            return Ok(Self {
                tokenizer: tokenizer.map(fits).transpose()?,
                noise: described.noise,
                objective: described.objective,
                ..Self::from_parts(device, backbone, storage)
            });
        }
        let dir = resolve(path)?;
        let config = settings::read(&dir.join("config.toml"))?;
        let path = dir.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file_named(&path, &(&config.data).into())?;
        let tokenizer = fitting(&path, tokenizer, &config.model)?;
        let described = Description {
            model: config.model,
            noise: config.noise,
            objective: config.objective,
        };
        let weights = dir.join("ema.safetensors");
        let (backbone, storage) = described
            .build(device, |layout| read_weights(&weights, layout))
            .await?;
        Ok(Self {
            tokenizer: Some(tokenizer),
            noise: described.noise,
            objective: described.objective,
            ..Self::from_parts(device, backbone, storage)
        })
    }
}
