//! Documents of a Parquet file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;

use crate::error::{Error, Result};
use crate::io::read;

/// The texts of a column; a null is none. A row group's pages are unpacked as they are needed; columns that are not asked
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
    let texts = rows.enumerate().filter_map(move |(number, row)| {
        row.map_err(|e| e.to_string())
            .and_then(|row| text(&row, &column))
            .map_err(|problem| Error::corpus(&path, format!("row {number}: {problem}")))
            .transpose()
    });
    Ok(Box::new(texts))
}

fn text(row: &Row, column: &str) -> Result<Option<String>, String> {
    match row.get_column_iter().next() {
        Some((_, Field::Str(text))) => Ok(Some(text.clone())),
        Some((_, Field::Null)) => Ok(None),
        // Text that the file's writer has not marked as such.
        Some((_, Field::Bytes(bytes))) => String::from_utf8(bytes.data().to_vec())
            .map(Some)
            .map_err(|_| format!("column {column:?} is not UTF-8")),
        Some((_, other)) => Err(format!("column {column:?} is not text but {other}")),
        None => Err(format!("column {column:?} is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Documents;
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    /// Two row groups with a number and a text in each row.
    fn written(path: &Path, compression: Compression, texts: &[Vec<u8>], kind: &str) {
        let schema = format!("message schema {{ required int64 id; required binary text{kind}; }}");
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let properties = WriterProperties::builder().set_compression(compression);
        let file = std::fs::File::create(path).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
        for texts in texts.chunks(texts.len().div_ceil(2)) {
            let mut group = writer.next_row_group().unwrap();
            let ids: Vec<i64> = (0..texts.len() as i64).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<Int64Type>()
                .write_batch(&ids, None, None)
                .unwrap();
            column.close().unwrap();
            let texts: Vec<_> = texts
                .iter()
                .map(|text| ByteArray::from(text.clone()))
                .collect();
            let mut column = group.next_column().unwrap().unwrap();
            column
                .typed::<ByteArrayType>()
                .write_batch(&texts, None, None)
                .unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }

    fn refused(result: Result<Documents>, part: &str) {
        let first = result.map(|documents| documents.collect::<Result<Vec<_>>>());
        match first {
            Err(Error::Corpus { problem, .. }) | Ok(Err(Error::Corpus { problem, .. })) => {
                assert!(problem.contains(part), "{problem}");
            }
            Ok(other) => panic!("{other:?}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_column_of_texts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let texts: Vec<String> = (0..5000).map(|i| format!("é text {i}\n")).collect();
        let bytes: Vec<Vec<u8>> = texts.iter().map(|text| text.clone().into_bytes()).collect();
        for kind in [" (UTF8)", ""] {
            for compression in [
                Compression::UNCOMPRESSED,
                Compression::SNAPPY,
                Compression::GZIP(Default::default()),
                Compression::BROTLI(Default::default()),
                Compression::ZSTD(Default::default()),
                Compression::LZ4,
                Compression::LZ4_RAW,
            ] {
                written(&path, compression, &bytes, kind);
                let read: Vec<String> = Documents::open(&path, "text")
                    .unwrap()
                    .collect::<Result<_>>()
                    .unwrap();
                assert!(read == texts);
            }
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        written(&path, Compression::SNAPPY, &[b"a".to_vec(), vec![0xFF]], "");
        refused(
            Documents::open(&path, "body"),
            "no column \"body\", only [\"id\", \"text\"]; data.field",
        );
        refused(
            Documents::open(&path, "id"),
            "row 0: column \"id\" is not text but 0",
        );
        refused(
            Documents::open(&path, "text"),
            "row 1: column \"text\" is not UTF-8",
        );
        std::fs::write(&path, b"PAR1 and nothing else").unwrap();
        refused(
            Documents::open(&path, "text"),
            "not Parquet that can be read",
        );
    }
}
