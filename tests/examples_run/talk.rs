//! `chat` and `serve`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::common::examples::{example, printed};

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden_llm")
        .join(name)
}

/// What `chat` prints for lines of input.
fn chat(arguments: &[&str], lines: &str) -> (bool, String, String) {
    let mut command = example("chat");
    let command = command.args(["--device", "cpu"]).args(arguments);
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let (success, printed) = printed(child.wait_with_output().unwrap());
    (success, printed.stdout, printed.stderr)
}

#[test]
fn a_chat_goes_on_until_its_input_ends() {
    let llada = model("llada").display().to_string();
    let flags = ["--checkpoint", &llada, "--length", "16"];
    let (success, answers, notes) = chat(
        &flags,
        "the cat\n\nsat on the mat\n/new\nthe cat\n/quit\nno more\n",
    );
    assert!(success, "{notes}");
    let told = notes
        .lines()
        .filter(|line| line.contains("16 tokens, 16 network calls"));
    assert_eq!(told.count(), 3, "{notes}");
    // a new chat begins as the first one did
    let seed = [&flags[..], &["--temperature", "0"]].concat();
    let (_, again, _) = chat(&seed, "the cat\n/new\nthe cat\n");
    let half = again.len() / 2;
    assert_eq!(again[..half], again[half..], "{again}");
    assert!(!answers.is_empty());
    // a model without a template goes on with the text
    let story = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("web/model/mdlm")
        .display()
        .to_string();
    let (success, text, notes) = chat(
        &["--checkpoint", &story, "--length", "12"],
        "Once upon a time\n",
    );
    assert!(
        success && notes.contains("no chat template") && !text.trim().is_empty(),
        "{notes}"
    );
    let (success, _, notes) = chat(&flags, &"the cat ".repeat(4000));
    assert!(
        !success && notes.contains("error: ") && notes.contains("leaves no room"),
        "{notes}"
    );
}

#[test]
fn the_bundled_model_chats_and_is_served() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories-instruct");
    let path = model.display().to_string();
    let asked = "One day, a cat found a big box.";
    let flags = ["--checkpoint", &path, "--length", "24"];
    let (success, text, notes) = chat(&flags, &format!("{asked}\n"));
    assert!(success && !notes.contains("no chat template"), "{notes}");
    assert!(text.starts_with("One day"), "{text}");
    let server = Server::start(&model, &[]);
    let (status, answer) = server.post(
        "/v1/chat/completions",
        &json!({"messages": [{"role": "user", "content": asked}], "max_tokens": 24}),
    );
    let said = answer["choices"][0]["message"]["content"].as_str();
    assert_eq!((status, said.map(str::trim)), (200, Some(text.trim())));
    let (status, error) = server.post(
        "/v1/chat/completions",
        &json!({"messages": [{"role": "system", "content": asked}]}),
    );
    let message = error["error"]["message"].as_str().unwrap();
    assert!(
        status == 400 && message.contains("no message of the role user"),
        "{error}"
    );
}

/// A server of its own, which ends with the test.
struct Server {
    child: Child,
    // what it prints goes nowhere if nobody reads it
    _stdout: BufReader<ChildStdout>,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        let mut command = example("serve");
        let command = command.args(["--device", "cpu", "--port", "0"]).args(flags);
        let command = command.arg("--checkpoint").arg(dir).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap();
        Self {
            address: address.trim_end().trim_end_matches("/v1").to_owned(),
            child,
            _stdout: stdout,
        }
    }

    /// Sends a request and leaves the answer to the reader.
    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut text = String::new();
        self.send(method, path, body)
            .read_to_string(&mut text)
            .unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, body) = self.ask("POST", path, &body.to_string());
        (status, serde_json::from_str(&body).unwrap())
    }

    fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.ask("GET", "/metrics", "");
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("mdlm_{name} ")));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[test]
fn a_server_answers_and_refuses_in_openais_form() {
    let server = Server::start(&model("llada"), &["--length", "32"]);
    assert_eq!(server.ask("GET", "/health", "").0, 200);
    let (_, models) = server.ask("GET", "/v1/models", "");
    assert!(models.contains(r#""id":"llada""#), "{models}");
    let said = json!([{"role": "user", "content": "the cat"}]);
    let chat = "/v1/chat/completions";
    let greedy = json!({"messages": said, "temperature": 0, "max_tokens": 12});
    let (status, answer) = server.post(chat, &greedy);
    let choice = &answer["choices"][0];
    assert_eq!(
        (status, answer["object"].as_str()),
        (200, Some("chat.completion")),
        "{answer}"
    );
    assert_eq!(choice["message"]["role"], "assistant");
    assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    // the same in parts, and every part of it is text that stays
    let mut request = greedy.clone();
    request["stream"] = json!(true);
    request["denoising"] = json!(true);
    let (_, events) = server.ask("POST", chat, &request.to_string());
    let parts = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect::<Vec<_>>();
    assert_eq!(parts.last(), Some(&"[DONE]"));
    let parts = parts[..parts.len() - 1]
        .iter()
        .map(|part| serde_json::from_str(part).unwrap());
    let parts: Vec<Value> = parts.collect();
    let told = parts
        .iter()
        .filter_map(|part| part["choices"][0]["delta"]["content"].as_str());
    assert_eq!(
        told.collect::<String>(),
        choice["message"]["content"].as_str().unwrap()
    );
    assert!(
        parts
            .iter()
            .filter(|part| part["denoising"]["step"].is_u64())
            .count()
            >= 12
    );
    // a completion ends where it is told to
    let text = json!({"prompt": ["the cat"], "temperature": 0, "max_tokens": 16});
    let (_, whole) = server.post("/v1/completions", &text);
    let whole = whole["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop: String = whole.chars().skip(2).take(1).collect();
    let mut stopped = text.clone();
    stopped["stop"] = json!([stop]);
    let (_, stopped) = server.post("/v1/completions", &stopped);
    assert_eq!(
        stopped["choices"][0]["text"],
        whole.split(&stop).next().unwrap()
    );
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    // read to its end, so that the answer is seen
    let large = "x".repeat(20 << 20);
    for (path, body, status, part) in [
        (chat, "{", 400, "EOF"),
        (chat, &large, 413, "at most 1048576 bytes"),
        (chat, r#"{"messages": "hello"}"#, 400, "messages"),
        (
            chat,
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
            400,
            "image_url",
        ),
        (
            "/v1/completions",
            r#"{"prompt": 5}"#,
            400,
            "text, or a list",
        ),
        (
            "/v1/completions",
            r#"{"prompt": ["a", "b"]}"#,
            400,
            "one at a time",
        ),
        (
            "/v1/completions",
            r#"{"prompt": "a", "top_p": 3}"#,
            400,
            "sampling.top_p",
        ),
        (
            "/v1/completions",
            r#"{"prompt": "a", "model": "other"}"#,
            404,
            "other is not served",
        ),
        ("/v1/nothing", "{}", 404, "nothing at this address"),
        ("/health", "{}", 405, "not for this method"),
    ] {
        let (found, error) = server.ask("POST", path, body);
        let error: Value = serde_json::from_str(&error).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(
            found == status && message.contains(part),
            "{body:.100}: {found} {error}"
        );
    }
}

/// Each answer keeps to the form that its request wants, whoever shares its network calls.
#[test]
fn a_server_holds_answers_to_forms() {
    let server = Server::start(&model("llada"), &["--length", "64"]);
    let schema = r#"{"type": "object", "properties": {"z": {"enum": ["yes", "no"]}, "a": {"type": "integer"}}, "required": ["z", "a"]}"#;
    let format = format!(
        r#"{{"type": "json_schema", "json_schema": {{"name": "x", "strict": true, "schema": {schema}}}}}"#
    );
    let said = r#""messages": [{"role": "user", "content": "the cat"}], "temperature": 0, "max_tokens": 40"#;
    let forms = [
        format!(r#""response_format": {format}"#),
        r#""response_format": {"type": "json_object"}"#.to_owned(),
        r#""regex": "(yes|no)(, [a-z]{3,5})*""#.to_owned(),
        r#""response_format": {"type": "text"}"#.to_owned(),
    ];
    let answer = |form: &String| -> Value {
        let body = format!("{{{said}, {form}}}");
        let (status, answer) = server.ask("POST", "/v1/chat/completions", &body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["choices"][0].take()
    };
    let text = |choice: &Value| choice["message"]["content"].as_str().unwrap().to_owned();
    let alone: Vec<Value> = forms.iter().map(answer).collect();
    let object: Value = serde_json::from_str(&text(&alone[0])).unwrap();
    assert!(object["a"].is_i64() && ["yes", "no"].contains(&object["z"].as_str().unwrap()));
    assert!(text(&alone[0]).find("\"z\"") < text(&alone[0]).find("\"a\""));
    let object: Value = serde_json::from_str(&text(&alone[1])).unwrap();
    assert!(object.is_object());
    let words = text(&alone[2]);
    assert!(
        words.starts_with("yes") || words.starts_with("no"),
        "{words}"
    );
    for choice in &alone[..3] {
        assert_eq!(choice["finish_reason"], "stop");
    }
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..12)
            .map(|i| {
                (
                    i % 4,
                    scope.spawn({
                        let form = &forms[i % 4];
                        let answer = &answer;
                        move || answer(form)
                    }),
                )
            })
            .collect();
        for (form, waiting) in waiting {
            assert_eq!(text(&waiting.join().unwrap()), text(&alone[form]));
        }
    });
    for (form, part) in [
        (r#""response_format": {"type": "grammar"}"#, "json_schema"),
        (
            r#""response_format": {"type": "json_schema"}"#,
            "json_schema",
        ),
        (r#""regex": "a(b""#, "unclosed group"),
        (
            r#""regex": "a", "response_format": {"type": "json_object"}"#,
            "leave one of them out",
        ),
        (r#""regex": "[a-z ]{900}""#, "40 tokens"),
        (
            r#""response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "number", "minimum": 3}}}"#,
            "#/minimum",
        ),
    ] {
        let body = format!("{{{said}, {form}}}");
        let (status, error) = server.ask("POST", "/v1/chat/completions", &body);
        let error: Value = serde_json::from_str(&error).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(part), "{form}: {error}");
    }
}

#[test]
fn a_server_turns_away_what_it_has_no_place_for() {
    let server = Server::start(&model("llada"), &["--queue", "1", "--length", "2000"]);
    let long = json!({"prompt": "the cat", "stream": true, "denoising": true, "temperature": 0})
        .to_string();
    let mut first = BufReader::new(server.send("POST", "/v1/completions", &long));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        first.read_line(&mut line).unwrap();
    }
    let short = json!({"prompt": "the cat", "max_tokens": 4});
    let (status, error) = server.post("/v1/completions", &short);
    assert_eq!(
        (status, &error["error"]["type"]),
        (429, &json!("rate_limit_error")),
        "{error}"
    );
    // whoever leaves makes room
    drop(first);
    while server.metric("active") > 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(server.post("/v1/completions", &short).0, 200);
    assert_eq!(
        (
            server.metric("cancelled_total"),
            server.metric("rejected_total")
        ),
        (1, 1)
    );
}

#[test]
fn a_template_that_fails_is_the_clients_error() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model("llada")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let template = "{% if messages[0].role == 'loop' %}{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}\
                    {% endfor %}{% else %}{{ raise_exception('only tools may speak') }}{% endif %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let server = Server::start(dir.path(), &[]);
    for (role, part) in [("user", "only tools may speak"), ("loop", "takes too long")] {
        let request = json!({"messages": [{"role": role, "content": "hello"}]});
        let (status, error) = server.post("/v1/chat/completions", &request);
        let message = error["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(part), "{error}");
    }
}
