//! What wgpu does with a shader on Vulkan, Metal and DX12, as far as that needs no driver.

use naga::back::{hlsl, msl, spv};
use naga::front::wgsl;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

/// A shader in the languages of the native backends.
pub struct Translation {
    /// For Vulkan 1.1.
    pub spirv: Vec<u32>,
    /// Metal 2.4.
    pub msl: String,
    /// Shader model 6.0; 6.2 with 16-bit floats.
    pub hlsl: String,
}

/// Parses, validates and translates a shader. It may use the language's core alone, and 16-bit floats if it says so: no
/// other extension is allowed.
///
/// The error is the translator's message, with the place in the text where it knows one.
pub fn translate(wgsl: &str) -> Result<Translation, String> {
    let (module, info) = parse(wgsl)?;
    Ok(Translation {
        spirv: to_spirv(&module, &info, (1, 3)).map_err(|problem| format!("SPIR-V: {problem}"))?,
        msl: to_msl(&module, &info).map_err(|problem| format!("MSL: {problem}"))?,
        hlsl: to_hlsl(&module, &info, has_f16(wgsl))
            .map_err(|problem| format!("HLSL: {problem}"))?,
    })
}

/// As [`translate`], of a shader for matrix units, which only Vulkan (1.3) and Metal reach: SPIR-V.
pub fn translate_cooperative(wgsl: &str) -> Result<Vec<u32>, String> {
    let units = Capabilities::COOPERATIVE_MATRIX | Capabilities::SUBGROUP;
    let (module, info) = parse_with(wgsl, units)?;
    to_msl(&module, &info).map_err(|problem| format!("MSL: {problem}"))?;
    to_spirv(&module, &info, (1, 6)).map_err(|problem| format!("SPIR-V: {problem}"))
}

/// Whether a shader has 16-bit floats.
fn has_f16(wgsl: &str) -> bool {
    wgsl.starts_with("enable f16;")
}

pub(crate) fn parse(wgsl: &str) -> Result<(naga::Module, ModuleInfo), String> {
    parse_with(wgsl, Capabilities::empty())
}

fn parse_with(wgsl: &str, more: Capabilities) -> Result<(naga::Module, ModuleInfo), String> {
    let module = wgsl::parse_str(wgsl).map_err(|error| error.emit_to_string(wgsl))?;
    // unpack2x16float is part of WebGPU's core; the flag is for downlevel devices without it
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32 | more;
    allowed.set(Capabilities::SHADER_FLOAT16, has_f16(wgsl));
    let info = Validator::new(ValidationFlags::all(), allowed)
        .validate(&module)
        .map_err(|error| error.emit_to_string(wgsl))?;
    if module.entry_points.is_empty() {
        return Err("no entry point".into());
    }
    Ok((module, info))
}

fn to_spirv(
    module: &naga::Module,
    info: &ModuleInfo,
    lang_version: (u8, u8),
) -> Result<Vec<u32>, String> {
    let options = spv::Options {
        lang_version,
        ..Default::default()
    };
    spv::write_vec(module, info, &options, None).map_err(|error| error.to_string())
}

fn to_msl(module: &naga::Module, info: &ModuleInfo) -> Result<String, String> {
    let options = msl::Options {
        lang_version: (2, 4),
        ..Default::default()
    };
    let (text, translation) = msl::write_string(module, info, &options, &Default::default())
        .map_err(|error| error.to_string())?;
    // An entry point that cannot be translated is left out of the text, with its reason here.
    for name in translation.entry_point_names {
        name.map_err(|error| error.to_string())?;
    }
    Ok(text)
}

fn to_hlsl(module: &naga::Module, info: &ModuleInfo, f16: bool) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model: match f16 {
            true => hlsl::ShaderModel::V6_2,
            false => hlsl::ShaderModel::V6_0,
        },
        ..Default::default()
    };
    let mut text = String::new();
    let translation = hlsl::Writer::new(&mut text, &options, &Default::default())
        .write(module, info, None)
        .map_err(|error| error.to_string())?;
    for name in translation.entry_point_names {
        name.map_err(|error| error.to_string())?;
    }
    Ok(text)
}
