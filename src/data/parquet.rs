//! Documents of a Parquet file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::error::{Error, Result};
use crate::io::read;

/// The texts of a column. A row group's pages are unpacked as they are needed; columns that are not asked
/// for are not read.
pub(super) fn documents(
    path: &Path,
    column: &str,
) -> Result<Box<dyn Iterator<Item = Result<String>>>> {
    let refused =
        |e: ParquetError| Error::corpus(path, format!("not Parquet that can be read: {e}"));
    let reader = SerializedFileReader::new(read::open(path)?).map_err(refused)?;
    let schema = reader.metadata().file_metadata().schema();
    let Some(field) = schema.get_fields().iter().find(|f| f.name() == column) else {
        let names: Vec<_> = schema.get_fields().iter().map(|f| f.name()).collect();
        let problem =
            format!("no column {column:?}, only {names:?}; data.field names the one to read");
        return Err(Error::corpus(path, problem));
    };
    let projection = Type::group_type_builder(schema.name())
        .with_fields(vec![Arc::clone(field)])
        .build()
        .map_err(refused)?;
    let rows = parquet::record::reader::RowIter::from_file_into(Box::new(reader))
        .project(Some(projection))
        .map_err(refused)?;
    let (path, column) = (PathBuf::from(path), column.to_owned());
    let texts = rows.enumerate().map(move |(number, row)| {
        row.map_err(|e| e.to_string())
            .and_then(|row| text(&row, &column))
            .map_err(|problem| Error::corpus(&path, format!("row {number}: {problem}")))
    });
    Ok(Box::new(texts))
}

fn text(row: &Row, column: &str) -> Result<String, String> {
    match row.get_column_iter().next() {
        Some((_, Field::Str(text))) => Ok(text.clone()),
        // Text that the file's writer has not marked as such.
        Some((_, Field::Bytes(bytes))) => String::from_utf8(bytes.data().to_vec())
            .map_err(|_| format!("column {column:?} is not UTF-8")),
        Some((_, other)) => Err(format!("column {column:?} is not text but {other}")),
        None => Err(format!("column {column:?} is missing")),
    }
}
