//! The models that are bundled: trained in bursts, exported in half precision, each with its card.

use crate::shell::{cargo, run};
use anyhow::Result;

/// What the page's were trained on, for the cards.
const DATA: &str = "31,869 short children's stories written by language models (an excerpt of TinyStories, CDLA-Sharing-1.0)";
const LICENCE: &str = "MIT OR Apache-2.0";
const AR: &str = "--config examples/configs/demo-ar.toml --out runs/demo-ar --resume";
const MDLM: &str = "--config examples/configs/demo-mdlm.toml --out runs/demo-mdlm --resume";

/// Runs of the model that is told what to write, each beginning with the weights of the one before.
const INSTRUCT: [&str; 2] = [
    "--config examples/configs/instruct-copies.toml --init web/model/mdlm --out runs/instruct-copies --resume",
    "--config examples/configs/instruct.toml --init runs/instruct-copies --out runs/instruct --resume",
];
/// The folder of the model that is told what to write.
const TOLD: &str = "models/stories-instruct";

fn train(arguments: &str) -> String {
    format!("run --release --example train -- {arguments}")
}

/// Trains what is not trained yet (a run that was stopped goes on), then writes `web/model`.
pub fn make(device: &str) -> Result<()> {
    for arguments in [AR, MDLM] {
        run(cargo(&train(arguments)).args(["--device", device]))?;
    }
    for (name, arguments) in [("ar", AR), ("mdlm", MDLM)] {
        let command = format!("cargo {}", train(arguments));
        let export = format!(
            "run --release --example export -- --checkpoint runs/demo-{name} --out web/model/{name} --precision f16"
        );
        run(cargo(&export)
            // the page's settings
            .args(["--samples", "10", "--temperature", "0.8"])
            .args(match name {
                "ar" => &[][..],
                _ => &[
                    "--sampler",
                    "confidence",
                    "--steps",
                    "32",
                    "--set",
                    "order_noise=4",
                ],
            })
            .args(["--card", DATA, "--licence", LICENCE, "--command", &command])
            .args(["--device", device]))?;
    }
    Ok(())
}

/// Tunes the page's diffusion model, as `web/model` has it, on pairs of a prompt and a story (a run that was stopped goes
/// on), and writes it with how often its stories keep to held-out prompts.
pub fn instruct(device: &str) -> Result<()> {
    run(cargo("run --release --example instruct -- pairs").args(["--device", device]))?;
    for arguments in INSTRUCT {
        run(cargo(&train(arguments)).args(["--device", device]))?;
    }
    let data = format!("prompts with stories, made of {DATA}; before that the stories alone");
    let export = format!(
        "run --release --example export -- --checkpoint runs/instruct --out {TOLD} --precision f16"
    );
    run(cargo(&export)
        .args(["--card", &data, "--licence", LICENCE])
        .args(["--command", "cargo xtask instruct-model"])
        .args(["--device", device]))?;
    let score = format!(
        "run --release --example instruct -- score --checkpoint {TOLD} --beside web/model/mdlm --count 40 --card {TOLD}/card.json"
    );
    run(cargo(&score).args(["--device", device]))
}
