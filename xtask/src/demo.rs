//! The page's models: trained in bursts, exported in half precision, each with its card.

use crate::shell::{cargo, run};
use anyhow::Result;

/// What both were trained on, for the cards.
const DATA: &str = "31,869 short children's stories written by language models (an excerpt of TinyStories, CDLA-Sharing-1.0)";
const LICENCE: &str = "MIT OR Apache-2.0";
const AR: &str = "--config examples/configs/demo-ar.toml --out runs/demo-ar --resume";
const MDLM: &str = "--config examples/configs/demo-mdlm.toml --out runs/demo-mdlm --resume";

/// Trains what is not trained yet (a run that was stopped goes on), then writes `web/model`.
pub fn make(device: &str) -> Result<()> {
    let train = |arguments: &str| format!("run --release --example train -- {arguments}");
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
