//! Chromium, driven over its debugging protocol: one page and its workers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// How long the browser may take for an answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a read of the socket may take.
const TICK: Duration = Duration::from_millis(20);

/// A browser with one page.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    /// Removed with the browser.
    _profile: TempDir,
    next: u64,
    answers: HashMap<u64, Value>,
    page: String,
    workers: Vec<String>,
    /// Run in every worker before its own code.
    pub worker_prelude: Option<String>,
    /// What the consoles of page and workers called an error.
    pub errors: Vec<String>,
    /// Addresses that page and workers asked for.
    pub requests: Vec<String>,
    /// Breaches of the content security policy.
    pub violations: Vec<String>,
}

impl Browser {
    /// Starts Chromium; with `webgpu` it offers its software adapter.
    pub fn start(program: &Path, webgpu: bool) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(program);
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--remote-debugging-port=0",
            ])
            .args([
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
            ])
            .args([
                "--disable-component-update",
                "--window-size=1280,900",
                "--hide-scrollbars",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if webgpu {
            command.arg("--enable-unsafe-webgpu");
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut lines = BufReader::new(child.stderr.take().context("no stderr")?).lines();
        let address = loop {
            let line = lines.next().context("the browser ended at once")??;
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.to_owned();
            }
        };
        // what it says later is read, so that it never waits for a reader
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.strip_prefix("ws://").context("no address")?;
        let stream = TcpStream::connect(host.split('/').next().unwrap_or_default())?;
        let (socket, _) = tungstenite::client(&address, stream)?;
        socket.get_ref().set_read_timeout(Some(TICK))?;
        let mut browser = Self {
            child,
            socket,
            _profile: profile,
            next: 0,
            answers: HashMap::new(),
            page: String::new(),
            workers: Vec::new(),
            worker_prelude: None,
            errors: Vec::new(),
            requests: Vec::new(),
            violations: Vec::new(),
        };
        let made = browser.call("", "Target.createTarget", json!({"url": "about:blank"}))?;
        let target = made["targetId"].as_str().context("no target")?;
        let attach = json!({"targetId": target, "flatten": true});
        let attached = browser.call("", "Target.attachToTarget", attach)?;
        browser.page = attached["sessionId"]
            .as_str()
            .context("no session")?
            .to_owned();
        for domain in ["Page", "Runtime", "Network", "Log", "Audits"] {
            browser.on_page(&format!("{domain}.enable"), json!({}))?;
        }
        let attach = json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true});
        browser.on_page("Target.setAutoAttach", attach)?;
        Ok(browser)
    }

    /// A command to the page.
    pub fn on_page(&mut self, method: &str, params: Value) -> Result<Value> {
        let page = self.page.clone();
        self.call(&page, method, params)
    }

    /// A command to the browser itself (no session), the page or a worker.
    pub fn call(&mut self, session: &str, method: &str, params: Value) -> Result<Value> {
        let id = self.send(session, method, params)?;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                if let Some(error) = answer.get("error") {
                    bail!("{method}: {}", error["message"]);
                }
                return Ok(answer["result"].clone());
            }
            if Instant::now() > end {
                bail!("{method}: the browser does not answer");
            }
            self.receive()?;
        }
    }

    fn send(&mut self, session: &str, method: &str, params: Value) -> Result<u64> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": params});
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        self.socket.send(Message::text(message.to_string()))?;
        Ok(self.next)
    }

    /// Takes in what has arrived.
    fn receive(&mut self) -> Result<()> {
        let text = match self.socket.read() {
            Ok(Message::Text(text)) => text,
            Ok(_) => return Ok(()),
            Err(tungstenite::Error::Io(e))
                if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error).context("the browser went away"),
        };
        let message: Value = serde_json::from_str(&text)?;
        match message["id"].as_u64() {
            Some(id) => drop(self.answers.insert(id, message)),
            None => self.event(&message)?,
        }
        Ok(())
    }

    fn event(&mut self, message: &Value) -> Result<()> {
        let params = &message["params"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match message["method"].as_str().unwrap_or_default() {
            "Target.attachedToTarget" => {
                let session = text(&params["sessionId"]);
                for domain in ["Runtime", "Network", "Log"] {
                    self.send(&session, &format!("{domain}.enable"), json!({}))?;
                }
                if let Some(code) = self.worker_prelude.clone() {
                    self.send(&session, "Runtime.evaluate", json!({"expression": code}))?;
                }
                self.send(&session, "Runtime.runIfWaitingForDebugger", json!({}))?;
                self.workers.push(session);
            }
            "Target.detachedFromTarget" => {
                let session = text(&params["sessionId"]);
                self.workers.retain(|other| *other != session);
            }
            "Runtime.consoleAPICalled"
                if params["type"] == "error" || params["type"] == "assert" =>
            {
                self.errors.push(params["args"].to_string());
            }
            "Runtime.exceptionThrown" => self.errors.push(params["exceptionDetails"].to_string()),
            "Log.entryAdded" if params["entry"]["level"] == "error" => {
                let entry = &params["entry"];
                self.errors
                    .push(format!("{} {}", text(&entry["text"]), text(&entry["url"])));
            }
            "Network.requestWillBeSent" => self.requests.push(text(&params["request"]["url"])),
            "Audits.issueAdded" if params["issue"]["code"] == "ContentSecurityPolicyIssue" => {
                self.violations.push(params["issue"]["details"].to_string());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in events for a while.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.receive()?;
        }
        Ok(())
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let answer = self.on_page("Page.navigate", json!({"url": url}))?;
        if let Some(problem) = answer.get("errorText") {
            bail!("{url}: {problem}");
        }
        self.wait(
            "document.readyState === 'complete'",
            Duration::from_secs(60),
        )
    }

    /// Value of an expression in the page; promises are awaited.
    pub fn eval(&mut self, expression: &str) -> Result<Value> {
        let page = self.page.clone();
        self.eval_in(&page, expression)
    }

    fn eval_in(&mut self, session: &str, expression: &str) -> Result<Value> {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true});
        let answer = self.call(session, "Runtime.evaluate", params)?;
        if let Some(details) = answer.get("exceptionDetails") {
            bail!("{expression}: {}", details["exception"]["description"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, condition: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            // a navigation in between makes the evaluation fail
            if matches!(
                self.eval(&format!("Boolean({condition})")),
                Ok(Value::Bool(true))
            ) {
                return Ok(());
            }
            self.idle(Duration::from_millis(30))?;
        }
        let state = self.eval("document.body.innerText.slice(0, 1500)")?;
        bail!(
            "waited {limit:?} for {condition}; errors {:?}; the page says:\n{state}",
            self.errors
        )
    }

    /// A picture of the whole page.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let params = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.on_page("Page.captureScreenshot", params)?;
        let data = answer["data"].as_str().context("no picture")?;
        Ok(std::fs::write(path, base64(data))?)
    }

    /// Width, height and pixel density of the window.
    pub fn size(&mut self, width: u32, height: u32, mobile: bool) -> Result<()> {
        let params =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.on_page("Emulation.setDeviceMetricsOverride", params)
            .map(drop)
    }

    /// What the visitor prefers, such as `("prefers-color-scheme", "dark")`.
    pub fn prefer(&mut self, features: &[(&str, &str)]) -> Result<()> {
        let features: Vec<Value> = features
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        self.on_page("Emulation.setEmulatedMedia", json!({"features": features}))
            .map(drop)
    }

    /// Presses a key in the page.
    pub fn key(&mut self, key: &str, text: &str) -> Result<()> {
        let code = match key {
            "Enter" => 13,
            "ArrowRight" => 39,
            "Tab" => 9,
            _ => key.bytes().next().unwrap_or(0).to_ascii_uppercase().into(),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.on_page("Input.dispatchKeyEvent", params)?;
        }
        Ok(())
    }

    /// Chooses files, or a folder, in the field of that id.
    pub fn choose_files(&mut self, id: &str, path: &Path) -> Result<()> {
        let find = json!({"expression": format!("document.getElementById('{id}')")});
        let found = self.on_page("Runtime.evaluate", find)?;
        let object = &found["result"]["objectId"];
        let choose = json!({"files": [path.canonicalize()?], "objectId": object});
        self.on_page("DOM.setFileInputFiles", choose).map(drop)
    }

    /// Drops a file, or a folder, on the element of that id.
    pub fn drop_files(&mut self, id: &str, path: &Path) -> Result<()> {
        let place = format!(
            "(() => {{ const e = document.getElementById('{id}'); e.scrollIntoView({{ block: 'center' }}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        );
        let place = self.eval(&place)?;
        let data = json!({"items": [], "files": [path.canonicalize()?], "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            let params = json!({"type": kind, "x": place[0], "y": place[1], "data": data});
            self.on_page("Input.dispatchDragEvent", params)?;
        }
        Ok(())
    }

    /// Presses the mouse at one point, moves it to another, and lets go.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) -> Result<()> {
        for (kind, (x, y), buttons) in [
            ("mouseMoved", from, 0),
            ("mousePressed", from, 1),
            ("mouseMoved", to, 1),
            ("mouseReleased", to, 0),
        ] {
            let params = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1});
            self.on_page("Input.dispatchMouseEvent", params)?;
        }
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.send("", "Browser.close", json!({}));
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0, |bits, &c| bits << 6 | value(c));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("TQ==", b"M"),
            ("TWE=", b"Ma"),
            ("TWFu", b"Man"),
            ("+/8A", &[251, 255, 0]),
        ] {
            assert_eq!(super::base64(text), bytes);
        }
    }
}
