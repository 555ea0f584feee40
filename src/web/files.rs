//! Files that the page was given, read part by part where they lie.

use std::cell::Cell;
use std::io::{Error as IoError, ErrorKind};
use std::path::PathBuf;
use std::rc::Rc;

use js_sys::{Function, Promise, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use super::types::GivenFiles;
use crate::error::{Error, Result};
use crate::io::files::{Files, Source};

#[wasm_bindgen]
extern "C" {
    #[derive(Clone)]
    type File;

    #[wasm_bindgen(method, getter)]
    fn name(this: &File) -> String;

    #[wasm_bindgen(method, getter)]
    fn size(this: &File) -> f64;

    #[wasm_bindgen(method, catch)]
    fn slice(this: &File, from: f64, to: f64) -> Result<File, JsValue>;

    #[wasm_bindgen(method, js_name = arrayBuffer, catch)]
    fn array_buffer(this: &File) -> Result<Promise, JsValue>;
}

/// The files of one folder.
pub(super) struct Given {
    files: Vec<(String, File)>,
    progress: Rc<Progress>,
}

/// Tells how much was read, and asks whether to go on.
#[derive(Default)]
struct Progress {
    read: Cell<u64>,
    tell: Option<Function>,
}

impl Progress {
    /// Counts bytes that are about to be read; an error where the page does not want them any more.
    fn count(&self, bytes: u64) -> Result<()> {
        self.read.set(self.read.get() + bytes);
        let Some(tell) = &self.tell else {
            return Ok(());
        };
        let read = JsValue::from_f64(self.read.get() as f64);
        match tell.call1(&JsValue::UNDEFINED, &read) {
            Ok(answer) if answer == JsValue::FALSE => Err(Error::Cancelled),
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Cancelled),
        }
    }
}

impl Given {
    /// `tell` is called with the bytes read so far before more are read, and returns `false` to end it.
    pub(super) fn new(files: &GivenFiles, tell: Option<Function>) -> Self {
        let all = js_sys::Array::from(files);
        let named = |file: JsValue| {
            let file: File = file.unchecked_into();
            (file.name(), file)
        };
        Self {
            files: all.iter().map(named).collect(),
            progress: Rc::new(Progress {
                tell,
                ..Progress::default()
            }),
        }
    }
}

impl Files for Given {
    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|(known, _)| known == name)
    }

    fn open(&self, name: &str) -> Result<impl Source> {
        let found = self.files.iter().find(|(known, _)| known == name);
        let Some((_, file)) = found else {
            let none = IoError::new(ErrorKind::NotFound, "it is not among the files given");
            return Err(Error::io(&self.path(name), "open")(none));
        };
        Ok(Open {
            path: self.path(name),
            file: file.clone(),
            progress: self.progress.clone(),
        })
    }
}

struct Open {
    path: PathBuf,
    file: File,
    progress: Rc<Progress>,
}

impl Source for Open {
    fn size(&self) -> u64 {
        self.file.size() as u64
    }

    async fn read_at(&mut self, at: u64, into: &mut [u8]) -> Result<()> {
        self.progress.count(into.len() as u64)?;
        let end = at + into.len() as u64;
        // a file that was moved or changed since it was given
        let refused = |problem: JsValue| {
            let problem = problem.dyn_into::<js_sys::Error>();
            let text = problem.map_or_else(|_| "it cannot be read".into(), |e| e.message());
            Error::io(&self.path, "read")(IoError::other(String::from(text)))
        };
        let part = self
            .file
            .slice(at as f64, end as f64)
            .and_then(|part| part.array_buffer());
        let read = match part {
            Ok(promise) => JsFuture::from(promise).await,
            Err(problem) => Err(problem),
        };
        let bytes = Uint8Array::new(&read.map_err(refused)?);
        if bytes.length() as usize != into.len() {
            let short = IoError::from(ErrorKind::UnexpectedEof);
            return Err(Error::io(&self.path, "read")(short));
        }
        bytes.copy_to(into);
        Ok(())
    }
}
