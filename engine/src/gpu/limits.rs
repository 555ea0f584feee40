//! What a device can hold, checked before anything is created.

use super::{Context, Program};
use crate::error::{Error, Result};
use crate::program::BufferId;

/// Refuses a program that exceeds the device's limits, with the culprit and both numbers.
pub(super) fn check_limits(context: &Context, program: &Program) -> Result<()> {
    let limits = &context.limits;
    let refuse = |what: String, need: u64, have: u64| {
        if need > have {
            Err(Error::Unsupported { what, need, have })
        } else {
            Ok(())
        }
    };
    for spec in &program.buffers {
        refuse(
            format!("bytes of {} in one buffer", spec.name),
            spec.element.bytes(spec.len),
            limits.max_buffer_size,
        )?;
    }
    for d in &program.dispatches {
        let name = d.source.label();
        let storage = limits.max_storage_buffers_per_shader_stage;
        refuse(
            format!("storage buffers of {name}"),
            d.bindings.iter().flatten().count() as u64,
            storage.into(),
        )?;
        for binding in d.bindings.iter().flatten() {
            let tensor = match binding.slot.buffer {
                BufferId::Local(i) => program.buffers[i].name.clone(),
                BufferId::Arena(arena, slab) => format!("{}[{slab}]", arena.name),
            };
            refuse(
                format!("bytes of {tensor} bound to {name}"),
                binding.slot.bytes(),
                limits.max_storage_buffer_binding_size,
            )?;
        }
    }
    Ok(())
}
