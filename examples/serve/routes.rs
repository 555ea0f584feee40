//! What is answered under which address.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::App;
use crate::answer::{Answer, Job, Place, State};
use crate::api::{ChatRequest, Common, CompletionRequest, Problem};

/// Largest body that is taken.
const MAX_BODY: usize = 1 << 20;
/// Bytes that are read, and forgotten, before a larger one is refused: whoever is still sending would not see the answer.
const MAX_DRAINED: usize = 1 << 27;

pub fn of(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/health", get(|| async { Json(json!({"status": "ok"})) }))
        .route(
            "/metrics",
            get(|Shared(app): Shared<Arc<App>>| async move { app.metrics.text() }),
        )
        .fallback(|| async {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is nothing at this address",
            )
        })
        .method_not_allowed_fallback(|| async {
            let problem = "this address is not for this method";
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                problem,
            )
        })
        .with_state(app)
}

/// What a request of one kind says, and what both kinds have.
async fn parse<T: DeserializeOwned>(body: Body) -> Result<(T, Common), Problem> {
    let body = whole(body).await?;
    Ok((read(&body)?, read(&body)?))
}

/// The bytes of a body.
async fn whole(body: Body) -> Result<Vec<u8>, Problem> {
    let (mut all, mut size) = (Vec::new(), 0);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let broken = |e: axum::Error| {
            let message = format!("cannot be read: {e}");
            Problem::new(StatusCode::BAD_REQUEST, "body", message)
        };
        let part = part.map_err(broken)?;
        size += part.len();
        if size <= MAX_BODY {
            all.extend_from_slice(&part);
        } else if size > MAX_DRAINED {
            break;
        }
    }
    if size > MAX_BODY {
        let message = format!("a request has at most {MAX_BODY} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body", message));
    }
    Ok(all)
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut reader);
    let bad = |e: String| Problem::new(StatusCode::BAD_REQUEST, "invalid_json", e);
    read.map_err(|e| bad(e.to_string()))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn described(app: &App) -> Value {
    json!({"id": app.name, "object": "model", "created": 0, "owned_by": "mdlm"})
}

async fn models(Shared(app): Shared<Arc<App>>) -> Json<Value> {
    Json(json!({"object": "list", "data": [described(&app)]}))
}

async fn model(
    Shared(app): Shared<Arc<App>>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> Result<Json<Value>, Problem> {
    known(&app, Some(&name))?;
    Ok(Json(described(&app)))
}

/// An error for another model than the one that is served.
fn known(app: &App, name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(other) if other != app.name => {
            let message = format!("the model {other} is not served here, only {}", app.name);
            Err(Problem::new(
                StatusCode::NOT_FOUND,
                "model_not_found",
                message,
            ))
        }
        _ => Ok(()),
    }
}

async fn chat(Shared(app): Shared<Arc<App>>, body: Body) -> Result<Response, Problem> {
    let (request, common): (ChatRequest, _) = parse(body).await?;
    let prompt = app.speaker.prompt(&request.messages()?)?;
    serve(app, common, prompt, &CHAT).await
}

async fn complete(Shared(app): Shared<Arc<App>>, body: Body) -> Result<Response, Problem> {
    let (request, common): (CompletionRequest, _) = parse(body).await?;
    let prompt = app.speaker.plain(request.prompt()?)?;
    serve(app, common, prompt, &TEXT).await
}

/// How the two kinds of answers are written.
struct Form {
    id: &'static str,
    whole: &'static str,
    part: &'static str,
    /// A choice with a text, of a whole answer or of a part.
    choice: fn(&str, bool) -> Value,
}

const CHAT: Form = Form {
    id: "chatcmpl",
    whole: "chat.completion",
    part: "chat.completion.chunk",
    choice: |text, whole| match whole {
        true => json!({"index": 0, "message": {"role": "assistant", "content": text}}),
        false => json!({"index": 0, "delta": {"role": "assistant", "content": text}}),
    },
};
const TEXT: Form = Form {
    id: "cmpl",
    whole: "text_completion",
    part: "text_completion",
    choice: |text, _| json!({"index": 0, "text": text}),
};

/// What the parts of an answer have in common.
struct Letter {
    form: &'static Form,
    id: String,
    created: u64,
    model: String,
    prompt: usize,
}

impl Letter {
    fn with(&self, text: &str, whole: bool, reason: Option<&str>) -> Value {
        let mut choice = (self.form.choice)(text, whole);
        choice["finish_reason"] = json!(reason);
        choice["logprobs"] = Value::Null;
        let object = if whole {
            self.form.whole
        } else {
            self.form.part
        };
        json!({"id": self.id, "object": object, "created": self.created, "model": self.model, "choices": [choice]})
    }

    fn usage(&self, state: &State) -> Value {
        let (prompt, written) = (self.prompt, state.written);
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "network_calls": state.network_calls,
        })
    }
}

fn reason(state: &State) -> &'static str {
    if state.ended { "stop" } else { "length" }
}

async fn serve(
    app: Arc<App>,
    common: Common,
    prompt: Vec<u32>,
    form: &'static Form,
) -> Result<Response, Problem> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    known(&app, common.model.as_deref())?;
    let letter = Letter {
        form,
        id: format!("{}-{}", form.id, COUNT.fetch_add(1, Relaxed)),
        created: now(),
        model: app.name.clone(),
        prompt: prompt.len(),
    };
    // the automaton of a constraint may take a while, which is not the others' time
    let making = app.clone();
    let made = tokio::task::spawn_blocking(move || -> Result<_, Problem> {
        let job = Job {
            length: common.length(making.length)?,
            config: common.settings(&making.config)?,
            stop: common.stop(),
            prompt,
        };
        Ok((Answer::new(&making, job)?, common))
    });
    let gone = |e: tokio::task::JoinError| mdlm::Error::Internal(e.to_string());
    let (answer, common) = made.await.map_err(gone)??;
    let full = "all places are taken: try again in a moment";
    let place = Place::take(&app)
        .ok_or_else(|| Problem::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", full))?;
    if common.stream {
        return Ok(stream(letter, answer, place, &common));
    }
    let state = answer.finish().await;
    place.done();
    let state = state?;
    let mut whole = letter.with(&state.settled, true, Some(reason(&state)));
    whole["usage"] = letter.usage(&state);
    Ok(Json(whole).into_response())
}

/// The answer in parts: what will not change any more, as soon as that is known. With `denoising` a part for every
/// step, whose `denoising` is the canvas as it stands.
fn stream(letter: Letter, mut answer: Answer, place: Place, common: &Common) -> Response {
    let usage = common
        .stream_options
        .as_ref()
        .is_some_and(|options| options.include_usage);
    let denoising = common.denoising;
    let (parts, mut inbox) = tokio::sync::mpsc::channel::<Value>(16);
    tokio::spawn(async move {
        let (mut told, mut last) = (0, State::default());
        loop {
            let state = match answer.step().await {
                Ok(Some(state)) => state,
                Ok(None) => break,
                Err(error) => {
                    let _ = parts.send(Problem::from(error).json()).await;
                    place.done();
                    return;
                }
            };
            last = state.clone();
            let mut part = letter.with(&last.settled[told..], false, None);
            if denoising {
                part["denoising"] =
                    json!({"text": answer.text(), "step": last.step, "masked": last.masked});
            }
            let nothing = last.settled.len() == told && !denoising;
            told = last.settled.len();
            if !nothing && parts.send(part).await.is_err() || parts.is_closed() {
                // whoever asked has left
                return;
            }
        }
        let mut end = vec![letter.with("", false, Some(reason(&last)))];
        if usage {
            let mut counts = letter.with("", false, None);
            (counts["choices"], counts["usage"]) = (json!([]), letter.usage(&last));
            end.push(counts);
        }
        place.done();
        for part in end {
            let _ = parts.send(part).await;
        }
    });
    let mut over = false;
    let events = futures_util::stream::poll_fn(move |context| {
        if over {
            return std::task::Poll::Ready(None);
        }
        inbox.poll_recv(context).map(|part| {
            over = part.is_none();
            let text = part.map_or("[DONE]".to_owned(), |part| part.to_string());
            Some(Ok::<_, Infallible>(Event::default().data(text)))
        })
    });
    Sse::new(events).into_response()
}
