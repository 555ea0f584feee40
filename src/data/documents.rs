//! Documents of a file, one after the other, so that no more than one of them is in memory.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::split::SEPARATOR;
use crate::error::{Error, Result};
use crate::io::text;

/// Largest document; it is held in memory.
const MAX_DOCUMENT: u64 = 4 << 30;

/// Forms of a file of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Text whose documents end at a line [`SEPARATOR`]; blank ones are dropped.
    Text,
    /// A document a line, line ending included, blank lines empty: the rows that WikiText has as a Hugging
    /// Face data set.
    Rows,
    /// A document a line without the white space around it; blank lines are dropped.
    Lines,
    /// A JSON object a line.
    JsonLines,
    Parquet,
}

impl Format {
    /// Chosen by the file's name.
    pub(super) fn of(path: &Path) -> Self {
        match extension(path).as_str() {
            "raw" => Self::Rows,
            "lines" => Self::Lines,
            "jsonl" | "ndjson" | "json" => Self::JsonLines,
            "parquet" => Self::Parquet,
            _ => Self::Text,
        }
    }
}

/// Ends of names of packed files.
const PACKED: [&str; 2] = [".gz", ".zst"];

/// What a file's name ends with, without that of packed files, in small letters.
fn extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let name = PACKED
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(&name);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.unwrap_or_default().to_owned()
}

/// What to do with a file whose name says that it is no plain text.
fn unlike_text(path: &Path) -> Option<&'static str> {
    match extension(path).as_str() {
        "html" | "htm" | "xml" | "svg" | "ipynb" => {
            Some("save it as plain text, or name it .txt to have its marks read as well")
        }
        "csv" | "tsv" | "xls" | "xlsx" | "ods" => {
            Some("write its column of texts as JSON lines (.jsonl) or Parquet, or name it .txt")
        }
        "pdf" | "doc" | "docx" | "odt" | "rtf" | "epub" => Some("save it as plain text"),
        "zip" | "tar" | "tgz" | "7z" | "rar" => Some("unpack the archive first"),
        "xz" | "bz2" | "lz4" | "br" => Some("unpack it, or pack it with zstd"),
        "arrow" | "feather" | "npy" | "npz" | "pt" | "pth" | "pkl" | "h5" | "db" | "sqlite"
        | "safetensors" => Some("it holds data; convert its texts first"),
        _ => None,
    }
}

/// The documents of a file, in the form that its name says: `.jsonl`, `.ndjson` and `.json` (JSON lines; a text of
/// `null` is none), `.parquet`, `.raw` (a document a line, as WikiText's rows), `.lines` (a document a line,
/// trimmed), and of any other name text whose documents end at a line `<|endoftext|>`. All but Parquet may be
/// packed with gzip (`.gz`) or zstd (`.zst`). Text is UTF-8, or UTF-16 with a byte order mark.
pub struct Documents(Box<dyn Iterator<Item = Result<String>>>);

impl Documents {
    /// Opens a file. `field` is the one that holds the text, in JSON lines and Parquet.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corpus`] for an empty file. The iterator's items fail likewise, and name
    /// line and field.
    pub fn open(path: &Path, field: &str) -> Result<Self> {
        let format = Format::of(path);
        if format == Format::Parquet {
            if path
                .extension()
                .is_some_and(|end| !end.eq_ignore_ascii_case("parquet"))
            {
                let problem = "Parquet is packed inside, column by column: unpack the file itself";
                return Err(Error::corpus(path, problem));
            }
            return Ok(Self(parquet(path, field)?));
        }
        if let (Format::Text, Some(advice)) = (format, unlike_text(path)) {
            return Err(Error::corpus(
                path,
                format!("is not read as prose: {advice}"),
            ));
        }
        let lines = Lines {
            path: path.to_owned(),
            source: text::open(path)?,
            number: 0,
            offset: 0,
        };
        Ok(Self(match format {
            Format::Rows => Box::new(lines.map(|line| line.map(row))),
            Format::Lines => {
                let trimmed = lines.map(|line| line.map(|line| line.trim().to_owned()));
                Box::new(trimmed.filter(not_blank))
            }
            Format::JsonLines => Box::new(JsonLines {
                lines,
                field: field.to_owned(),
                lists: false,
            }),
            _ => Box::new(Separated { lines: Some(lines) }.filter(not_blank)),
        }))
    }
}

/// The lists that a field of JSON lines holds, each as JSON.
///
/// # Errors
/// As [`Documents::open`]; [`Error::Corpus`] for a file of another form.
pub(super) fn lists(path: &Path, field: &str) -> Result<impl Iterator<Item = Result<String>>> {
    if Format::of(path) != Format::JsonLines {
        let problem = "lists are read in JSON lines (.jsonl) only";
        return Err(Error::corpus(path, problem));
    }
    Ok(JsonLines {
        lines: Lines {
            path: path.to_owned(),
            source: text::open(path)?,
            number: 0,
            offset: 0,
        },
        field: field.to_owned(),
        lists: true,
    })
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.0.next()
    }
}

#[cfg(feature = "parquet")]
use super::parquet::documents as parquet;

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _: &str) -> Result<Box<dyn Iterator<Item = Result<String>>>> {
    let problem =
        "this build reads no Parquet: build with --features parquet, or convert it to .jsonl";
    Err(Error::corpus(path, problem))
}

fn row(line: String) -> String {
    if line.trim().is_empty() {
        String::new()
    } else {
        line
    }
}

fn not_blank(document: &Result<String>) -> bool {
    !matches!(document, Ok(text) if text.trim().is_empty())
}

/// Lines with their endings.
struct Lines {
    path: PathBuf,
    source: Box<dyn BufRead + Send>,
    /// Lines and bytes handed out.
    number: u64,
    offset: u64,
}

impl Lines {
    fn read(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        self.source
            .by_ref()
            .take(MAX_DOCUMENT)
            .read_until(b'\n', &mut bytes)
            .map_err(Error::io(&self.path, "read"))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if bytes.len() as u64 == MAX_DOCUMENT {
            return Err(self.at(too_long()));
        }
        let at = |position: usize, problem: &str| {
            let position = self.offset + position as u64;
            Error::corpus(&self.path, format!("{problem} at byte {position}"))
        };
        let line =
            String::from_utf8(bytes).map_err(|e| at(e.utf8_error().valid_up_to(), "not UTF-8"))?;
        if let Some(position) = line.find('\0') {
            return Err(at(position, "not text: it has a NUL"));
        }
        self.offset += line.len() as u64;
        Ok(Some(line))
    }

    /// An error in the line that was read last.
    fn at(&self, problem: String) -> Error {
        Error::corpus(&self.path, format!("line {}: {problem}", self.number))
    }
}

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.read().transpose()
    }
}

fn too_long() -> String {
    format!("a document of more than {MAX_DOCUMENT} bytes")
}

/// As [`super::split_documents`], which says what belongs to a document.
struct Separated {
    /// `None` after the last document.
    lines: Option<Lines>,
}

impl Separated {
    fn read(&mut self) -> Result<Option<String>> {
        let Some(lines) = &mut self.lines else {
            return Ok(None);
        };
        let mut document = String::new();
        while let Some(line) = lines.read()? {
            if line.trim_end_matches(['\r', '\n']) == SEPARATOR {
                for ending in ['\n', '\r'] {
                    if document.ends_with(ending) {
                        document.pop();
                    }
                }
                return Ok(Some(document));
            }
            if (document.len() + line.len()) as u64 > MAX_DOCUMENT {
                return Err(lines.at(too_long()));
            }
            document += &line;
        }
        self.lines = None;
        Ok(Some(document))
    }
}

impl Iterator for Separated {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.read().transpose()
    }
}

struct JsonLines {
    lines: Lines,
    field: String,
    /// Whether the field holds a list instead of text.
    lists: bool,
}

impl JsonLines {
    fn read(&mut self) -> Result<Option<String>> {
        while let Some(line) = self.lines.read()? {
            if line.trim().is_empty() {
                continue;
            }
            let mut object: Map<String, Value> = serde_json::from_str(&line).map_err(|e| {
                let problem = format!("not a JSON object: {e}; there must be one a line");
                self.lines.at(problem)
            })?;
            match object.remove(&self.field) {
                Some(Value::String(text)) if !self.lists => return Ok(Some(text)),
                Some(list @ Value::Array(_)) if self.lists => return Ok(Some(list.to_string())),
                // no document
                Some(Value::Null) => {}
                Some(other) => {
                    let wanted = if self.lists { "a list" } else { "text" };
                    let problem = format!("field {:?} is not {wanted} but {other}", self.field);
                    return Err(self.lines.at(problem));
                }
                None => {
                    let names: Vec<_> = object.keys().map(String::as_str).collect();
                    let problem = format!(
                        "no field {:?}, only {:?}; data.field names the one to read",
                        self.field, names
                    );
                    return Err(self.lines.at(problem));
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for JsonLines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::split_documents;
    use std::io::Write;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Documents::open(&path, "text")?.collect()
    }

    fn refused(result: Result<Vec<String>>, part: &str) {
        match result {
            Err(Error::Corpus { problem, .. }) => assert!(problem.contains(part), "{problem}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_name_says_the_form() {
        let format = |name: &str| Format::of(Path::new(name));
        assert_eq!(format("a/wiki.test.raw"), Format::Rows);
        assert_eq!(format("wiki.raw.gz"), Format::Rows);
        assert_eq!(format("x.lines"), Format::Lines);
        assert_eq!(format("c4.00.JSONL.GZ"), Format::JsonLines);
        assert_eq!(format("c4-train.00000-of-01024.json.gz"), Format::JsonLines);
        assert_eq!(format("train-0000.parquet"), Format::Parquet);
        assert_eq!(format("fineweb.jsonl.zst"), Format::JsonLines);
        for name in ["text", "a.jsonl/text.txt", "raw", "x.txt.gz", ".."] {
            assert_eq!(format(name), Format::Text, "{name}");
        }
    }

    #[test]
    fn text_streams_as_it_splits() {
        let texts = [
            "one\ntwo\n<|endoftext|>\r\nthree\r\n<|endoftext|>\n\n<|endoftext|>\n a <|endoftext|> b\n",
            "alone\n",
            "alone",
            "\n\n<|endoftext|>\na",
            "a\n<|endoftext|>",
            "<|endoftext|>\n<|endoftext|>\n",
            "a\r\r\n\n<|endoftext|>\r\r\nb",
        ];
        for text in texts {
            assert_eq!(read("t", text.as_bytes()).unwrap(), split_documents(text));
        }
        refused(read("t", b""), "the file is empty");
        refused(read("t", b"abc\nd\xFF\n"), "not UTF-8 at byte 5");
        refused(read("t", b"abc\nd\0\n"), "a NUL at byte 5");
        refused(read("t.csv", b"a,b\n"), "name it .txt");
        refused(read("t.docx.gz", b"text"), "save it as plain text");
        refused(read("t.parquet.zst", b"PAR1"), "packed inside");
    }

    #[test]
    fn a_document_a_line() {
        let text = b" = Title = \n \n\n The end . \nlast";
        let rows = [" = Title = \n", "", "", " The end . \n", "last"];
        assert_eq!(read("t.raw", text).unwrap(), rows);
        assert_eq!(
            read("t.lines", text).unwrap(),
            ["= Title =", "The end .", "last"]
        );
    }

    #[test]
    fn json_lines_plain_and_packed() {
        let text = "{\"text\":\"a\\nb\",\"id\":1}\n\n{\"text\":\"\"}\r\n{\"text\":\"é\"}";
        let expected = ["a\nb", "", "é"];
        assert_eq!(read("t.jsonl", text.as_bytes()).unwrap(), expected);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(text.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(read("t.jsonl.gz", &packed).unwrap(), expected);
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let packed = ruzstd::encoding::compress_to_vec(text.as_bytes(), level);
        assert_eq!(read("t.jsonl.zst", &packed).unwrap(), expected);

        let good = "{\"text\":\"a\"}\n\n";
        let after = |bad: &str| read("t.jsonl", format!("{good}{bad}").as_bytes());
        refused(after("{\"text\":"), "line 3: not a JSON object");
        refused(after("[1]"), "line 3: not a JSON object");
        assert_eq!(
            after("{\"text\":null}\n{\"text\":\"b\"}").unwrap(),
            ["a", "b"]
        );
        refused(after("{\"text\":5}"), "field \"text\" is not text but 5");
        refused(
            after("{\"body\":\"a\",\"id\":1}"),
            "line 3: no field \"text\", only [\"body\", \"id\"]; data.field",
        );
    }

    #[cfg(not(feature = "parquet"))]
    #[test]
    fn parquet_is_a_feature() {
        refused(read("t.parquet", b"PAR1"), "--features parquet");
    }
}
