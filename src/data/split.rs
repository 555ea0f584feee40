//! Where a text parts: into its documents, and into what is trained on and what is held out.

/// The line between two documents.
pub const SEPARATOR: &str = "<|endoftext|>";

/// The documents between lines that read `<|endoftext|>`. The line ending before such a line
/// belongs to it; documents of white space alone are dropped.
pub fn split_documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut position) = (0, 0);
    for line in text.split_inclusive('\n') {
        let next = position + line.len();
        if line.trim_end_matches(['\r', '\n']) == SEPARATOR {
            let document = &text[start..position];
            let document = document.strip_suffix('\n').unwrap_or(document);
            documents.push(document.strip_suffix('\r').unwrap_or(document));
            start = next;
        }
        position = next;
    }
    documents.push(&text[start..]);
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// Splits the last tenth off for validation: of the documents (at least one), or of the text of
/// the only document.
pub fn split_held_out(mut documents: Vec<&str>) -> (Vec<&str>, Vec<&str>) {
    if let [only] = documents[..] {
        let (train, valid) = split_text(only);
        return (vec![train], vec![valid]);
    }
    let held_out = held_out_of(documents.len());
    let valid = documents.split_off(documents.len().saturating_sub(held_out));
    (documents, valid)
}

/// How many of `count` documents are held out.
pub(super) fn held_out_of(count: usize) -> usize {
    (count / 10).max(1)
}

/// A text and its last tenth.
pub(super) fn split_text(text: &str) -> (&str, &str) {
    // Without overflow on 32 bits.
    let mut cut = text.len() - text.len().div_ceil(10);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    text.split_at(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_end_at_separator_lines() {
        let split = split_documents(
            "one\ntwo\n<|endoftext|>\r\nthree\r\n<|endoftext|>\n\n<|endoftext|>\n a <|endoftext|> b\n",
        );
        assert_eq!(split, ["one\ntwo", "three", " a <|endoftext|> b\n"]);
        assert_eq!(split_documents("alone\n"), ["alone\n"]);
        assert!(split_documents("<|endoftext|>\n<|endoftext|>").is_empty());
    }

    #[test]
    fn a_tenth_is_held_out() {
        let documents: Vec<&str> = "abcdefghijklmnopqrstu"
            .split("")
            .filter(|d| !d.is_empty())
            .collect();
        let (train, valid) = split_held_out(documents);
        assert_eq!((train.len(), valid), (19, vec!["t", "u"]));
        assert_eq!(split_held_out(vec!["a", "b"]), (vec!["a"], vec!["b"]));
        assert_eq!(
            split_held_out(vec!["0123456789ABCDEFGHIJ"]),
            (vec!["0123456789ABCDEFGH"], vec!["IJ"])
        );
        // The cut falls inside a character.
        assert_eq!(split_held_out(vec!["ééééé"]), (vec!["éééé"], vec!["é"]));
    }
}
