//! Writing: the header, then one tensor after the other.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use super::{CHUNK, Precision, TensorSpec};
use crate::error::{Error, Result};

/// Writes tensors to a new file; `data` gives the values of the tensor with that index.
///
/// # Errors
/// [`Error::Io`]; [`Error::Argument`] that names the tensor whose values are too large for the precision.
#[cfg(not(target_arch = "wasm32"))]
pub fn write_file<'a>(
    path: &Path,
    tensors: &[TensorSpec],
    precision: Precision,
    data: impl FnMut(usize) -> Result<Cow<'a, [f32]>>,
) -> Result<()> {
    let file = std::fs::File::create(path).map_err(Error::io(path, "create"))?;
    write_to(file, path, tensors, precision, data)
}

/// As `write_file`, to any writer; `name` stands in errors.
pub fn write_to<'a>(
    mut out: impl Write,
    name: &Path,
    tensors: &[TensorSpec],
    precision: Precision,
    mut data: impl FnMut(usize) -> Result<Cow<'a, [f32]>>,
) -> Result<()> {
    let header = header_of(tensors, precision)?;
    let length = (header.len() as u64).to_le_bytes();
    out.write_all(&length).map_err(Error::io(name, "write"))?;
    out.write_all(&header).map_err(Error::io(name, "write"))?;
    let mut buffer = Vec::with_capacity(CHUNK);
    for (index, spec) in tensors.iter().enumerate() {
        let values = data(index)?;
        if values.len() != spec.count() {
            let (name, got, want) = (&spec.name, values.len(), spec.count());
            return Err(Error::Internal(format!(
                "{name}: {got} values to write, not {want}"
            )));
        }
        for chunk in values.chunks(CHUNK / 4) {
            buffer.clear();
            precision
                .encode(chunk, &mut buffer)
                .map_err(|value| too_large(spec, precision, value))?;
            out.write_all(&buffer).map_err(Error::io(name, "write"))?;
        }
    }
    out.flush().map_err(Error::io(name, "write"))
}

fn too_large(spec: &TensorSpec, precision: Precision, value: f32) -> Error {
    let problem = format!(
        "tensor {} holds {value}, which it cannot; write f32{}",
        spec.name,
        if precision == Precision::F16 {
            " or bf16"
        } else {
            ""
        }
    );
    Error::argument("precision", precision, problem)
}

fn header_of(tensors: &[TensorSpec], precision: Precision) -> Result<Vec<u8>> {
    let mut end = 0;
    let entries = tensors.iter().map(|spec| {
        let start = end;
        end += spec.count() * precision.width();
        let info = TensorInfo {
            dtype: precision.dtype(),
            shape: spec.shape.clone(),
            data_offsets: (start, end),
        };
        (spec.name.clone(), info)
    });
    // Readers in Python ask for it.
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let metadata = Metadata::new(Some(format), entries.collect())
        .map_err(|e| Error::Internal(format!("tensor header: {e}")))?;
    let mut header = serde_json::to_vec(&metadata)
        .map_err(|e| Error::Internal(format!("tensor header: {e}")))?;
    // Spaces after the JSON align the data to 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
