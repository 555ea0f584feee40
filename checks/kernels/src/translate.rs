//! WGSL to SPIR-V, as wgpu does it.

use anyhow::{Result, anyhow};
use naga::ShaderStage;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// A module and what it binds.
pub struct Module {
    pub words: Vec<u32>,
    /// Invocations of a workgroup.
    pub threads: u32,
    /// Bytes of workgroup memory.
    pub workgroup: u32,
    /// Group and number of each binding, and whether it is a uniform.
    pub bindings: Vec<(u32, u32, bool)>,
}

/// Translates one entry point with the checks of wgpu's own modules.
pub fn translate(wgsl: &str, entry: &str) -> Result<Module> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|e| anyhow!(e.emit_to_string(wgsl)))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator
        .validate(&module)
        .map_err(|e| anyhow!(e.emit_to_string(wgsl)))?;
    let bindings = module.global_variables.iter().filter_map(|(_, variable)| {
        let uniform = variable.space == naga::AddressSpace::Uniform;
        let place = variable.binding.as_ref()?;
        Some((place.group, place.binding, uniform))
    });
    let main = module.entry_points.iter().find(|e| e.name == entry);
    let threads = main.map(|e| e.workgroup_size.iter().product());
    let uses = module.entry_points.iter().position(|e| e.name == entry);
    let uses = uses.map(|index| info.get_entry_point(index));
    let workgroup = module.global_variables.iter().filter(|(handle, variable)| {
        variable.space == naga::AddressSpace::WorkGroup
            && uses.is_some_and(|uses| !uses[*handle].is_empty())
    });
    let size = |ty| module.types[ty].inner.size(module.to_ctx());
    let workgroup = workgroup.map(|(_, variable)| size(variable.ty)).sum();
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            // the device checks, see the feature robustBufferAccess2
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: true,
        emit_int_div_checks: true,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions {
        entry_point: entry.to_owned(),
        shader_stage: ShaderStage::Compute,
    };
    Ok(Module {
        words: spv::write_vec(&module, &info, &options, Some(&pipeline))?,
        threads: threads.ok_or_else(|| anyhow!("no entry point {entry}"))?,
        workgroup,
        bindings: bindings.collect(),
    })
}
