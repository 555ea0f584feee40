//! The limits that every WebGPU device grants without being asked.

use crate::translate::parse;
use naga::AddressSpace;

const STORAGE_BUFFERS: usize = 8;
const INVOCATIONS: u32 = 256;
const WORKGROUP_BYTES: u32 = 16 * 1024;

/// Fails with the entry point and the limit that it exceeds.
pub fn check_limits(wgsl: &str) -> Result<(), String> {
    let (module, info) = parse(wgsl)?;
    for (index, entry) in module.entry_points.iter().enumerate() {
        let uses = info.get_entry_point(index);
        let mut buffers = 0;
        let mut bytes = 0;
        for (handle, variable) in module.global_variables.iter() {
            if uses[handle].is_empty() {
                continue;
            }
            match variable.space {
                AddressSpace::Storage { .. } => buffers += 1,
                AddressSpace::WorkGroup => {
                    bytes += module.types[variable.ty].inner.size(module.to_ctx());
                }
                _ => {}
            }
        }
        let invocations = entry.workgroup_size.iter().product::<u32>();
        let name = &entry.name;
        if buffers > STORAGE_BUFFERS {
            return Err(format!(
                "{name}: {buffers} storage buffers, at most {STORAGE_BUFFERS}"
            ));
        }
        if invocations > INVOCATIONS {
            return Err(format!(
                "{name}: {invocations} invocations, at most {INVOCATIONS}"
            ));
        }
        if bytes > WORKGROUP_BYTES {
            return Err(format!(
                "{name}: {bytes} bytes of workgroup memory, at most {WORKGROUP_BYTES}"
            ));
        }
    }
    Ok(())
}
