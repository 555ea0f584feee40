//! Requests and errors in OpenAI's form.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mdlm::constraint;
use mdlm::data::Message;
use mdlm::{Error, SampleConfig};
use serde::Deserialize;
use serde_json::{Value, json};

/// What both kinds of requests have; what they have besides is not read.
#[derive(Deserialize)]
pub struct Common {
    pub model: Option<String>,
    pub max_tokens: Option<usize>,
    pub max_completion_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<u64>,
    n: Option<u64>,
    stop: Option<OneOrMore>,
    #[serde(default)]
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
    /// Ours: every step is streamed, with the canvas as it stands.
    #[serde(default)]
    pub denoising: bool,
    // ours, and as in the settings of sampling
    steps: Option<usize>,
    block: Option<usize>,
    regex: Option<String>,
}

/// What an answer must be.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: Named },
}

/// A schema with a name, of which nothing is made.
#[derive(Deserialize)]
struct Named {
    schema: constraint::Json,
}

#[derive(Deserialize)]
pub struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text, or a list of texts")]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Deserialize)]
pub struct ChatRequest {
    messages: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "content: expected text, or a list of parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
pub struct CompletionRequest {
    prompt: OneOrMore,
}

impl ChatRequest {
    pub fn messages(self) -> Result<Vec<Message>, Problem> {
        let message = |said: Said| {
            let content = match said.content {
                None => String::new(),
                Some(Content::Text(text)) => text,
                Some(Content::Parts(parts)) => {
                    let text = |part: Part| {
                        let other = format!("parts of type {} are not read, only text", part.kind);
                        part.text.ok_or_else(|| Problem::bad("messages", other))
                    };
                    parts.into_iter().map(text).collect::<Result<String, _>>()?
                }
            };
            Ok(Message::new(said.role, content))
        };
        let messages: Result<Vec<Message>, Problem> =
            self.messages.into_iter().map(message).collect();
        match messages? {
            none if none.is_empty() => Err(Problem::bad("messages", "there must be at least one")),
            messages => Ok(messages),
        }
    }
}

impl CompletionRequest {
    pub fn prompt(&self) -> Result<&str, Problem> {
        match &self.prompt {
            OneOrMore::One(text) => Ok(text),
            OneOrMore::More(texts) => match &texts[..] {
                [text] => Ok(text),
                _ => Err(Problem::bad(
                    "prompt",
                    "one at a time: send a request for each",
                )),
            },
        }
    }
}

impl Common {
    /// Settings, where the request says something.
    pub fn settings(&self, base: &SampleConfig) -> Result<SampleConfig, Problem> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(Problem::bad(
                "n",
                "one answer at a time: send a request for each",
            ));
        }
        let mut config = base.clone();
        // OpenAI's temperatures go down to 0 in steps that are finer than ours
        config.temperature = self
            .temperature
            .map_or(base.temperature, |t| if t < 0.01 { t.min(0.0) } else { t });
        config.top_p = self.top_p.unwrap_or(base.top_p);
        config.seed = self.seed.unwrap_or(base.seed);
        config.steps = self.steps.unwrap_or(base.steps);
        config.block = self.block.unwrap_or(base.block);
        if config.temperature == 0.0 {
            let drawn = SampleConfig {
                temperature: 1.0,
                ..config.clone()
            };
            drawn.validate()?;
            // nothing is drawn, so there is nothing to draw among
            (config.top_p, config.top_k) = (1.0, 0);
        }
        self.constrain(&mut config)?;
        config.validate()?;
        Ok(config)
    }

    /// What the answer must be, where the request says something of it.
    fn constrain(&self, config: &mut SampleConfig) -> Result<(), Problem> {
        let (schema, regex) = match (&self.response_format, &self.regex) {
            (None, None) => return Ok(()),
            (None | Some(ResponseFormat::Text), regex) => {
                (String::new(), regex.clone().unwrap_or_default())
            }
            (Some(_), Some(_)) => {
                let problem = "is given beside a response_format; leave one of them out";
                return Err(Problem::bad("regex", problem));
            }
            (Some(ResponseFormat::JsonObject), None) => {
                (r#"{"type": "object"}"#.to_owned(), String::new())
            }
            (Some(ResponseFormat::JsonSchema { json_schema }), None) => {
                (json_schema.schema.to_string(), String::new())
            }
        };
        (config.json_schema, config.regex) = (schema, regex);
        Ok(())
    }

    pub fn stop(&self) -> Vec<String> {
        let stop = match &self.stop {
            None => Vec::new(),
            Some(OneOrMore::One(text)) => vec![text.clone()],
            Some(OneOrMore::More(texts)) => texts.clone(),
        };
        stop.into_iter().filter(|text| !text.is_empty()).collect()
    }

    pub fn length(&self, most: usize) -> Result<usize, Problem> {
        match self.max_completion_tokens.or(self.max_tokens) {
            Some(0) => Err(Problem::bad("max_tokens", "must be at least 1")),
            length => Ok(length.unwrap_or(most).min(most)),
        }
    }
}

/// An error in OpenAI's form.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
            code: Some(code),
        }
    }

    pub fn bad(param: &str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: format!("{param}: {}", message.into()),
            param: Some(param.to_owned()),
            code: None,
        }
    }

    pub fn json(&self) -> Value {
        let kind = match self.status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.code() {
            "argument" | "config" | "corpus" | "token" => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let wait = axum::http::HeaderValue::from_static("1");
            response.headers_mut().insert("retry-after", wait);
        }
        response
    }
}
