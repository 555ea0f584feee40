//! A server of static files on this machine, with the headers that a host of the page should send.

use anyhow::{Context, Result};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What the page and its worker may load: nothing but files beside them.
pub const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; \
    connect-src 'self'; style-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Longest line of a request.
const MAX_LINE: u64 = 8192;

/// A running server; it ends with the program.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves folders under the paths they are mounted at (`""`: the root); the first that fits wins.
    pub fn start(mounts: &[(&str, &Path)], port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("port {port} is taken: choose another with --port"))?;
        let address = listener.local_addr()?;
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let mounts: Vec<(String, PathBuf)> = mounts
            .iter()
            .map(|(prefix, folder)| ((*prefix).to_owned(), folder.to_path_buf()))
            .collect();
        let (mounts, log) = (Arc::new(mounts), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mounts, log) = (mounts.clone(), log.clone());
                thread::spawn(move || {
                    // A visitor who leaves in the middle is no error of ours.
                    let _ = answer(stream, &mounts, &log);
                });
            }
        });
        Ok(Self { address, requests })
    }

    /// The page's address.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Paths asked for so far.
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(
    mut stream: TcpStream,
    mounts: &[(String, PathBuf)],
    log: &Mutex<Vec<String>>,
) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.by_ref().take(MAX_LINE).read_line(&mut line)?;
    let request = line.clone();
    let mut words = request.split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let target = target.split(['?', '#']).next().unwrap_or_default();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_line(&mut line)?;
        if read == 0 || line.trim().is_empty() {
            break;
        }
    }
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(target.to_owned());
    if !matches!(method, Some("GET" | "HEAD")) {
        return respond(
            &mut stream,
            "405 Method Not Allowed",
            "text/plain",
            b"",
            true,
        );
    }
    let head = method == Some("HEAD");
    match find(target, mounts).and_then(|path| Some((fs::read(&path).ok()?, path))) {
        Some((body, path)) => respond(&mut stream, "200 OK", mime(&path), &body, !head),
        None => respond(
            &mut stream,
            "404 Not Found",
            "text/plain",
            b"not found\n",
            !head,
        ),
    }
}

/// The file of a path, which cannot lead out of its folder.
fn find(target: &str, mounts: &[(String, PathBuf)]) -> Option<PathBuf> {
    let target = target.strip_prefix('/')?;
    // the first mount that matches answers alone, so that it can also lack a file
    let (rest, folder) = mounts.iter().find_map(|(prefix, folder)| {
        let rest = target.strip_prefix(prefix.as_str())?;
        let rest = if prefix.is_empty() {
            rest
        } else {
            rest.strip_prefix('/')?
        };
        Some((rest, folder))
    })?;
    let inside = |c| matches!(c, Component::Normal(_));
    if rest.contains('\\') || !Path::new(rest).components().all(inside) {
        return None;
    }
    let path = folder.join(rest);
    let path = if rest.is_empty() || rest.ends_with('/') {
        path.join("index.html")
    } else {
        path
    };
    path.is_file().then_some(path)
}

fn mime(path: &Path) -> &'static str {
    match path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
    {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

fn respond(
    stream: &mut TcpStream,
    status: &str,
    mime: &str,
    body: &[u8],
    send: bool,
) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {mime}\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {POLICY}\r\nX-Content-Type-Options: nosniff\r\n\
         Referrer-Policy: no-referrer\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         Cross-Origin-Embedder-Policy: require-corp\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if send {
        stream.write_all(body)?;
    }
    Ok(stream.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(server: &Server, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_are_served_and_nothing_beside_them() {
        let base = std::env::temp_dir().join(format!("mdlm-server-{}", std::process::id()));
        let (site, model) = (base.join("site"), base.join("model"));
        fs::create_dir_all(&site).unwrap();
        fs::create_dir_all(&model).unwrap();
        fs::write(site.join("index.html"), "<p>hello").unwrap();
        fs::write(model.join("a.json"), "{}").unwrap();
        fs::write(base.join("secret"), "s").unwrap();
        let server = Server::start(&[("model", &model), ("", &site)], 0).unwrap();
        let page = get(&server, "GET /?a=b HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(
            page.starts_with("HTTP/1.1 200 OK") && page.ends_with("<p>hello"),
            "{page}"
        );
        assert!(page.contains(POLICY));
        assert!(get(&server, "GET /model/a.json HTTP/1.1\r\n\r\n").ends_with("{}"));
        assert!(!get(&server, "HEAD / HTTP/1.1\r\n\r\n").contains("hello"));
        assert!(get(&server, "POST / HTTP/1.1\r\n\r\n").contains(" 405 "));
        for outside in [
            "/../secret",
            "/model/../../secret",
            "//etc/passwd",
            "/model",
            "/absent",
            "secret",
        ] {
            let got = get(&server, &format!("GET {outside} HTTP/1.1\r\n\r\n"));
            assert!(got.contains(" 404 "), "{outside}: {got}");
        }
        assert_eq!(server.requests()[..2], ["/", "/model/a.json"]);
        fs::remove_dir_all(&base).unwrap();
    }
}
