//! Pairs of what a story is asked for and the story: its first sentence, its last one, or both.

use std::path::Path;

use mdlm::Tokenizer;
use mdlm::data::Documents;
use serde_json::{Value, json};

/// What stands between the first sentence and the last one in a prompt, and before a last one that is alone.
const GAP: &str = "...";
/// Words of a sentence that is asked for.
const WORDS: std::ops::RangeInclusive<usize> = 3..=25;
/// Sentences of a story, at least.
const FEWEST: usize = 4;
/// Sentences of the longest beginning, or end, that is asked for in training: what is to be copied has to be much for
/// copying to be learnt in so few steps.
pub const MOST: usize = 8;
/// Tokens of a pair that are no text: where the prompt begins, where it ends, where the story ends.
const MARKS: usize = 3;
/// What a full stop behind it does not end a sentence.
const TITLES: [&str; 5] = ["Mr.", "Mrs.", "Ms.", "Dr.", "St."];

/// What is asked for: the sentences that a story begins with, and those that it ends with.
#[derive(Clone)]
pub struct Asked {
    pub first: Option<String>,
    pub last: Option<String>,
}

/// A prompt with its story.
pub struct Pair {
    pub asked: Asked,
    pub story: String,
}

impl Asked {
    /// As somebody would type it.
    pub fn prompt(&self) -> String {
        let first = self.first.iter().map(String::as_str);
        let last = self.last.iter().flat_map(|last| [GAP, last]);
        first.chain(last).collect::<Vec<_>>().join(" ")
    }
}

impl Pair {
    /// As a line of the file that `train` reads.
    pub fn line(&self) -> Value {
        json!({"prompt": self.asked.prompt(), "response": self.story})
    }
}

/// The sentences of a text: each ends at a stop outside of quotation marks, or with its line.
pub fn sentences(text: &str) -> Vec<&str> {
    text.lines().flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<&str> {
    let (mut found, mut begin, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in line.char_indices() {
        quoted ^= c == '"';
        let (said, rest) = line.split_at(at + c.len_utf8());
        let said = &said[begin..];
        let stop = said.trim_end_matches('"').ends_with(['.', '!', '?']);
        let title = said.split([' ', '"']).next_back();
        let title = title.is_some_and(|word| TITLES.contains(&word));
        // "Why?" asked Tim. is one sentence
        let on = !rest.starts_with(' ') || rest.trim_start().starts_with(char::is_lowercase);
        if stop && !quoted && !title && !on {
            found.push(said.trim());
            begin = at + c.len_utf8();
        }
    }
    found.push(line[begin..].trim());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// What the story with this number is asked for, in up to `most` sentences: half of them both, a quarter the first ones,
/// a quarter the last ones. `None` for a story that is too short, or whose sentences are no prompts.
fn asked(story: &str, number: usize, most: usize) -> Option<Asked> {
    let all = sentences(story);
    let (first, last) = (number % 4 != 3, number % 4 != 2);
    // some of the story is left to be written
    let room = match first && last {
        true => all.len() / 2,
        false => all.len(),
    };
    let count = (1 + number / 4 % MOST)
        .min(most)
        .min(room.saturating_sub(1));
    let fits = |sentence: &&str| WORDS.contains(&sentence.split_whitespace().count());
    let fits = all.first().is_some_and(fits) && all.last().is_some_and(fits);
    let some = all.len() >= FEWEST && fits && !story.contains(GAP);
    some.then(|| Asked {
        first: first.then(|| all[..count].join(" ")),
        last: last.then(|| all[all.len() - count..].join(" ")),
    })
}

/// The pairs of a file of stories, of at most `length` tokens, so that each story ends. A prompt has up to `most`
/// sentences of the beginning and as many of the end.
pub fn pairs(
    stories: &str,
    most: usize,
    tokenizer: &Tokenizer,
    length: usize,
) -> mdlm::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for story in Documents::open(Path::new(&crate::support::find(stories)), "text")? {
        let story = story?.trim().to_owned();
        let room = length.saturating_sub(tokenizer.encode(&story)?.len() + MARKS);
        for most in (1..=most).rev() {
            let Some(asked) = asked(&story, pairs.len(), most) else {
                break;
            };
            if tokenizer.encode(&asked.prompt())?.len() <= room {
                pairs.push(Pair { asked, story });
                break;
            }
        }
    }
    Ok(pairs)
}

/// Pairs of at most `length` tokens that ask for nothing else than the response: a sentence, or two with a gap between
/// them. To write what is given is learnt from them in a few hundred steps; among stories it takes thousands.
pub fn copies(pairs: &[Pair], tokenizer: &Tokenizer, length: usize) -> mdlm::Result<Vec<Pair>> {
    let mut copies = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        let all = sentences(&pair.story);
        let place = number % all.len();
        let mut given = all[place..].iter().map(|sentence| (*sentence).to_owned());
        let (first, last) = (given.next(), given.next().filter(|_| number % 2 == 1));
        let story = [&first, &last].into_iter().flatten().cloned();
        let story = story.collect::<Vec<_>>().join(" ");
        let asked = Asked { first, last };
        let tokens = tokenizer.encode(&asked.prompt())?.len() + tokenizer.encode(&story)?.len();
        if tokens + MARKS <= length {
            copies.push(Pair { asked, story });
        }
    }
    Ok(copies)
}
