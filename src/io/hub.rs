//! Published models from the Hugging Face hub, through its cache, which other programs share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};

use super::safetensors::{MAX_INDEX_BYTES, parse_index};
use super::{atomic, read};
use crate::error::{Error, Result};
use crate::progress::{Event, Flow, Observer};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
/// Lists the files that hold the weights where there are several.
const INDEX: &str = "model.safetensors.index.json";
/// Where the tokenizer of the published models lies, which their own folders leave out.
const GPT2: &str = "openai-community/gpt2";
/// Vocabulary of GPT-2 with a mask.
const GPT2_VOCAB: u64 = 50_258;

/// Downloads `config.json`, `model.safetensors` (or the files that its index names) and `tokenizer.json` of a
/// repository such as `kuleshov-group/mdlm-owt`, as far as the cache lacks them, and returns the folder in which they lie. A
/// repository without a tokenizer whose vocabulary is that of GPT-2 and a mask, as that one's, gets GPT-2's.
///
/// `HF_HOME` moves the cache and `HF_ENDPOINT` names a mirror. An interrupted download goes on where it
/// ended. Digests are not checked; the strict reader refuses a file that was cut short. The observer can
/// stop between files only.
///
/// # Errors
/// [`Error::Hub`], [`Error::Argument`] for a name without an owner, [`Error::Io`], [`Error::Cancelled`].
pub fn fetch_model(repo_id: &str, observer: &mut dyn Observer) -> Result<PathBuf> {
    let hub = ApiBuilder::from_env().with_retries(3);
    fetch_with(hub, Cache::from_env(), repo_id, observer)
}

fn fetch_with(
    hub: ApiBuilder,
    cache: Cache,
    repo_id: &str,
    observer: &mut dyn Observer,
) -> Result<PathBuf> {
    let parts: Vec<&str> = repo_id.split('/').collect();
    let plain = |part: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
    };
    if parts.len() != 2 || !parts.iter().all(plain) {
        let problem = "expected owner/name, such as kuleshov-group/mdlm-owt";
        return Err(Error::argument("repository", repo_id, problem));
    }
    let api = hub.build().map_err(|e| refused(repo_id, "", &e))?;
    let cached = |file: &str| {
        cache
            .repo(Repo::model(repo_id.to_owned()))
            .get(file)
            .is_some()
    };
    let mut fetch = |repo_id: &str, file: &str, what: &'static str| {
        let repo = Repo::model(repo_id.to_owned());
        if let Some(path) = cache.repo(repo.clone()).get(file) {
            return Ok(path);
        }
        let mut report = Report {
            observer: &mut *observer,
            what,
            done: 0,
            total: 0,
            flow: Flow::Continue,
        };
        let path = api
            .repo(repo)
            .download_with_progress(file, &mut report)
            .map_err(|e| refused(repo_id, file, &e))?;
        match report.flow {
            Flow::Stop => Err(Error::Cancelled),
            Flow::Continue => Ok(path),
        }
    };
    let config = fetch(repo_id, CONFIG, "downloading config.json")?;
    let whole = cached(WEIGHTS) || !cached(INDEX) && !lists(&api, repo_id, INDEX)?;
    if whole {
        fetch(repo_id, WEIGHTS, "downloading model.safetensors")?;
    } else {
        let index = fetch(repo_id, INDEX, "downloading the weights' index")?;
        let bytes = read::read(&index, MAX_INDEX_BYTES)?;
        let files: BTreeSet<String> = parse_index(&index, &bytes)?.into_values().collect();
        for file in files {
            fetch(repo_id, &file, "downloading a part of the weights")?;
        }
    }
    let folder = config.parent().unwrap_or(Path::new(".")).to_owned();
    let tokenizer = folder.join(TOKENIZER);
    if !tokenizer.exists() {
        let what = "downloading tokenizer.json";
        if lists(&api, repo_id, TOKENIZER)? {
            fetch(repo_id, TOKENIZER, what)?;
        } else if vocab_size(&config)? == Some(GPT2_VOCAB) {
            let bytes = read::read(&fetch(GPT2, TOKENIZER, what)?, 64 << 20)?;
            atomic::write_file(&tokenizer, &bytes)?;
        }
    }
    Ok(folder)
}

/// Whether the repository has a file.
fn lists(api: &Api, repo_id: &str, file: &str) -> Result<bool> {
    let info = api.model(repo_id.to_owned()).info();
    let info = info.map_err(|e| refused(repo_id, file, &e))?;
    Ok(info.siblings.iter().any(|known| known.rfilename == file))
}

fn vocab_size(config: &Path) -> Result<Option<u64>> {
    let bytes = read::read(config, 1 << 16)?;
    let json: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| Error::checkpoint(config, None, e.to_string()))?;
    Ok(json.get("vocab_size").and_then(serde_json::Value::as_u64))
}

fn refused(repo_id: &str, file: &str, error: &ApiError) -> Error {
    let problem = match error {
        ApiError::TooManyRetries(last) => return refused(repo_id, file, last),
        // The HTTP client's words for an answer that is an error.
        ApiError::RequestError(e) if e.to_string().starts_with("http status") => {
            format!("the hub answers \"{e}\": is the name right, and the repository public?")
        }
        ApiError::RequestError(e) => format!("the hub cannot be reached ({e})"),
        other => other.to_string(),
    };
    let what = format!("{repo_id}/{file}").trim_end_matches('/').to_owned();
    Error::Hub { what, problem }
}

/// Turns the download's progress into events.
struct Report<'a> {
    observer: &'a mut dyn Observer,
    what: &'static str,
    done: u64,
    total: u64,
    flow: Flow,
}

impl Progress for &mut Report<'_> {
    fn init(&mut self, size: usize, _: &str) {
        // It is also called when an interrupted download goes on.
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        let event = Event::Progress {
            what: self.what,
            done: self.done,
            total: self.total,
        };
        if self.observer.event(&event) == Flow::Stop {
            self.flow = Flow::Stop;
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// Repository files as (path in a URL, content).
    type Files = &'static [(&'static str, &'static str)];

    const PUBLISHED: Files = &[
        (
            "someone/model/resolve/main/config.json",
            "{\"vocab_size\":50258}",
        ),
        ("someone/model/resolve/main/model.safetensors", "weights"),
        (
            "api/models/someone/model",
            r#"{"sha":"c0ffee","siblings":[{"rfilename":"config.json"}]}"#,
        ),
        (
            "openai-community/gpt2/resolve/main/tokenizer.json",
            "{\"gpt2\":1}",
        ),
        (
            "someone/other/resolve/main/config.json",
            "{\"vocab_size\":9}",
        ),
        ("someone/other/resolve/main/model.safetensors", "weights"),
        (
            "api/models/someone/other",
            r#"{"sha":"c0ffee","siblings":[]}"#,
        ),
        (
            "someone/parts/resolve/main/config.json",
            "{\"vocab_size\":9}",
        ),
        (
            "someone/parts/resolve/main/model.safetensors.index.json",
            r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"one.safetensors"}}"#,
        ),
        ("someone/parts/resolve/main/one.safetensors", "weights"),
        ("someone/parts/resolve/main/two.safetensors", "more"),
        (
            "api/models/someone/parts",
            r#"{"sha":"c0ffee","siblings":[{"rfilename":"model.safetensors.index.json"}]}"#,
        ),
    ];

    fn answer(mut stream: TcpStream, files: Files) -> std::io::Result<()> {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            request.push(byte[0]);
        }
        let request = String::from_utf8_lossy(&request).to_lowercase();
        let path = request.split(' ').nth(1).unwrap_or_default();
        let found = files.iter().find(|(name, _)| {
            path.trim_start_matches('/')
                .trim_end_matches("/revision/main")
                == *name
        });
        let Some((name, content)) = found else {
            return stream.write_all(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
        };
        let (size, etag) = (content.len(), name.replace('/', "-"));
        let content = if request.contains("bytes=0-0") {
            &content[..1]
        } else {
            content
        };
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nX-Repo-Commit: c0ffee\r\nETag: \"{etag}\"\r\n\
             Content-Range: bytes 0-0/{size}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{content}",
            content.len()
        )
    }

    /// A hub at this address, on a thread that ends with the test.
    fn serve(files: Files) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, files);
            }
        });
        address
    }

    fn fetch(
        dir: &Path,
        endpoint: &str,
        repo: &str,
        observer: &mut dyn Observer,
    ) -> Result<PathBuf> {
        let cache = Cache::new(dir.to_owned());
        let hub = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.to_owned());
        fetch_with(hub, cache, repo, observer)
    }

    #[test]
    fn a_model_is_downloaded_once() {
        let dir = tempfile::tempdir().unwrap();
        let hub = serve(PUBLISHED);
        let mut seen = Vec::new();
        let folder = fetch(dir.path(), &hub, "someone/model", &mut |event: &Event| {
            if let Event::Progress { what, done, total } = event {
                seen.push((*what, *done, *total));
            }
            Flow::Continue
        })
        .unwrap();
        let content = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(content("config.json"), "{\"vocab_size\":50258}");
        assert_eq!(content("model.safetensors"), "weights");
        assert_eq!(content("tokenizer.json"), "{\"gpt2\":1}");
        assert!(
            seen.contains(&("downloading model.safetensors", 7, 7)),
            "{seen:?}"
        );
        // With everything in the cache, no hub is needed.
        let again = fetch(
            dir.path(),
            "http://127.0.0.1:1",
            "someone/model",
            &mut Silent,
        );
        assert_eq!(again.unwrap(), folder);
        // Another vocabulary gets no tokenizer that would not fit.
        let folder = fetch(dir.path(), &hub, "someone/other", &mut Silent).unwrap();
        assert!(!folder.join("tokenizer.json").exists());
        // Weights in several files.
        let folder = fetch(dir.path(), &hub, "someone/parts", &mut Silent).unwrap();
        let content = std::fs::read_to_string(folder.join("two.safetensors"));
        assert_eq!(content.unwrap(), "more");
        assert!(folder.join("one.safetensors").exists());
        // Stopping.
        let fresh = tempfile::tempdir().unwrap();
        let mut stop = |_: &Event| Flow::Stop;
        let stopped = fetch(fresh.path(), &hub, "someone/model", &mut stop);
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }

    #[test]
    fn what_went_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |endpoint: &str, repo: &str, part: &str| {
            let error = fetch(dir.path(), endpoint, repo, &mut Silent).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            error
        };
        // Nothing listens on that port: the machine is offline as far as it can tell.
        let offline = refused(
            "http://127.0.0.1:1",
            "someone/absent",
            "cannot download someone/absent/config.json: the hub cannot be reached",
        );
        assert_eq!(offline.code(), "hub");
        assert!(offline.hint().unwrap().contains("HF_ENDPOINT"));
        refused(&serve(PUBLISHED), "someone/absent", "404");
        for name in ["mdlm-owt", "a/b/c", "../x", "a/", "a/b c"] {
            let error = refused("http://127.0.0.1:1", name, "owner/name");
            assert_eq!(error.code(), "argument");
        }
    }
}
