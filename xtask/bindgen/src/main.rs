//! `mdlm-bindgen <library.wasm> <folder>`: writes the module, its JavaScript and its types.

use anyhow::{Context, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = |what| arguments.next().context(format!("which {what}?"));
    let (library, folder) = (next("library")?, next("folder")?);
    Bindgen::new()
        .input_path(library)
        .out_name("mdlm")
        .web(true)?
        // `mdlm_bg.wasm` beside the JavaScript where nothing else is given
        .omit_default_module_path(false)
        .typescript(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate(folder)
}
