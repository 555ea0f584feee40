//! A C interface to `mdlm`: the functions of `include/mdlm.h`, which is made of this file. They convert, call the
//! library and convert back.

#![allow(unsafe_code, unsafe_op_in_unsafe_fn)] // exported names, and pointers that are what the header asks for
#![allow(
    clippy::missing_safety_doc,
    reason = "what pointers must be is said once, at the head of the header"
)]

mod border;
mod canvas;
mod failure;
mod handle;
mod model;
mod sampler;

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::path::Path;
use std::ptr::{null, null_mut};

use border::{Room, array, guard, optional, required, write};
use handle::Handle;
use mdlm::Result;
use mdlm::blocking::wait;

pub use border::Status;
pub use canvas::Canvas;
pub use failure::Failure;
pub use model::{Device, Facts, Model};
pub use sampler::{Report, Revealed, Sampler};

/// Hears of each step of `mdlm_sampler_run`, on the thread that called it, with the pointer that was given there.
/// Anything but 0 cancels. It may call any function of this header, also with the sampler that runs, but must return:
/// no exception, no longjmp.
pub type Observer = Option<unsafe extern "C" fn(user: *mut c_void, report: *const Report) -> c_int>;

/// Version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn mdlm_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Stable short name of the kind of error, such as "checkpoint", "argument" or "device_lost". NULL for what is no
/// error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_error_code(error: *const Failure) -> *const c_char {
    guard(null_mut(), || Ok(Failure::find(error)?.code().as_ptr()))
}

/// What went wrong, in words that name the culprit. NULL for what is no error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_error_message(error: *const Failure) -> *const c_char {
    guard(null_mut(), || Ok(Failure::find(error)?.message().as_ptr()))
}

/// What to do about it; NULL where there is nothing to say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_error_hint(error: *const Failure) -> *const c_char {
    guard(null_mut(), || {
        let failure = Failure::find(error)?;
        Ok(failure.hint().map_or(null(), |hint| hint.as_ptr()))
    })
}

/// Frees an error and its texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_error_free(error: *mut Failure) -> Status {
    free(error)
}

/// Opens a device: "auto" (a hardware GPU, else the CPU), "gpu", "cpu", or part of an adapter's name. NULL is "auto".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_device_open(
    name: *const c_char,
    error: *mut *mut Failure,
) -> *mut Device {
    guard(error, || {
        let name = optional("name", name)?.unwrap_or("auto");
        Ok(Device(wait(mdlm::Device::parse(name))?).export())
    })
}

/// What the device is and why it was taken, in a line.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_device_describe(
    device: *const Device,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(buffer, capacity, length);
    guard(error, || {
        room.fill_text(&Device::find(device)?.0.info().to_string())
    })
}

/// Frees a device; models on it keep what they need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_device_free(device: *mut Device) -> Status {
    free(device)
}

/// Loads a model: a folder in the published layout (config.json, model.safetensors, tokenizer.json), a checkpoint, or a
/// run's folder. `weights` is how matrices are kept: "f32", "f16", "bf16", "q8" or "q4"; NULL is "f32".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_model_load(
    device: *const Device,
    folder: *const c_char,
    weights: *const c_char,
    error: *mut *mut Failure,
) -> *mut Model {
    guard(error, || {
        let folder = Path::new(required("folder", folder)?);
        let weights = optional("weights", weights)?;
        Ok(Model::load(&*Device::find(device)?, folder, weights)?.export())
    })
}

/// Its size, its vocabulary, the length of its window and the id of its mask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_model_facts(
    model: *const Model,
    facts: *mut Facts,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || write("facts", facts, Model::find(model)?.facts))
}

/// What it is: "mdlm" or "ar", or the model_type of another program's model, such as "llada".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_model_type(
    model: *const Model,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(buffer, capacity, length);
    guard(error, || room.fill_text(&Model::find(model)?.model_type))
}

/// The tokens of a text, in which the names of special tokens mean nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_model_encode(
    model: *const Model,
    text: *const c_char,
    tokens: *mut u32,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(tokens, capacity, length);
    guard(error, || {
        let text = required("text", text)?;
        room.fill(&Model::find(model)?.tokenizer()?.encode(text)?)
    })
}

/// The text of tokens, in which the mask reads `[MASK]`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_model_decode(
    model: *const Model,
    tokens: *const u32,
    count: usize,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(buffer, capacity, length);
    guard(error, || {
        let tokens = array("tokens", tokens, count)?;
        room.fill_text(&Model::find(model)?.tokenizer()?.decode(tokens))
    })
}

/// Frees a model; its canvases and samplers keep what they need.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_model_free(model: *mut Model) -> Status {
    free(model)
}

/// A canvas from a template: text is frozen, `[MASK]` is an open position, `[MASK:3]` are three, and `\[MASK]` is the
/// text itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_parse(
    model: *const Model,
    template: *const c_char,
    error: *mut *mut Failure,
) -> *mut Canvas {
    guard(error, || {
        let (model, template) = (Model::find(model)?, required("template", template)?);
        let canvas = mdlm::Canvas::parse(template, model.tokenizer()?)?;
        Ok(Canvas::new(model, canvas).export())
    })
}

/// A canvas of `length` positions that begins with a template and is open behind it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_begin(
    model: *const Model,
    template: *const c_char,
    length: usize,
    error: *mut *mut Failure,
) -> *mut Canvas {
    guard(error, || {
        let (model, template) = (Model::find(model)?, required("template", template)?);
        let canvas = mdlm::Canvas::begin(template, model.tokenizer()?, length)?;
        Ok(Canvas::new(model, canvas).export())
    })
}

/// A canvas of tokens. The model's mask is an open position. Where `frozen` is 0 a token may be changed by samplers that
/// write again what they wrote; NULL freezes all tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_of(
    model: *const Model,
    tokens: *const u32,
    frozen: *const u8,
    count: usize,
    error: *mut *mut Failure,
) -> *mut Canvas {
    guard(error, || {
        let tokens = array("tokens", tokens, count)?;
        let frozen = match frozen.is_null() {
            true => None,
            false => Some(array("frozen", frozen, count)?),
        };
        Ok(Canvas::of(Model::find(model)?, tokens, frozen).export())
    })
}

/// Puts the tokens before and behind it with which texts began and ended in training, where the model has them: `begin`
/// for a text from its beginning, `end` for one up to its end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_frame(
    canvas: *mut Canvas,
    begin: bool,
    end: bool,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || {
        let canvas = Canvas::find(canvas)?;
        let [before, behind] = canvas.model.frame;
        let frame = [before.filter(|_| begin), behind.filter(|_| end)];
        canvas.change(|canvas| {
            *canvas = canvas.clone().framed(frame);
            Ok(())
        })
    })
}

/// Freezes positions that hold tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_freeze(
    canvas: *mut Canvas,
    first: usize,
    count: usize,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || {
        let range = first..first.saturating_add(count);
        Canvas::find(canvas)?.change(|canvas| canvas.freeze(range))
    })
}

/// Masks positions and opens them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_reopen(
    canvas: *mut Canvas,
    first: usize,
    count: usize,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || {
        let range = first..first.saturating_add(count);
        Canvas::find(canvas)?.change(|canvas| canvas.reopen(range))
    })
}

/// Its text, in which masks read "_".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_text(
    canvas: *const Canvas,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(buffer, capacity, length);
    guard(error, || {
        let canvas = Canvas::find(canvas)?;
        room.fill_text(&canvas.copy()?.text(canvas.model.tokenizer()?))
    })
}

/// Its tokens, with the model's mask where it is masked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_tokens(
    canvas: *const Canvas,
    tokens: *mut u32,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(tokens, capacity, length);
    guard(error, || {
        let canvas = Canvas::find(canvas)?;
        room.fill(&canvas.copy()?.tokens(canvas.model.facts.mask_index))
    })
}

/// Frees a canvas.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_canvas_free(canvas: *mut Canvas) -> Status {
    free(canvas)
}

/// A sampler for the open positions of a canvas, which stays as it is: the sampler has a copy. `settings` are the
/// library's (SampleConfig), a `key=value` a line over the model's own, such as "sampler=entropy-bound\nseed=7"; NULL
/// changes none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_new(
    canvas: *const Canvas,
    settings: *const c_char,
    error: *mut *mut Failure,
) -> *mut Sampler {
    guard(error, || {
        let settings = optional("settings", settings)?.unwrap_or_default();
        Ok(Sampler::new(&*Canvas::find(canvas)?, settings)?.export())
    })
}

/// Does the next step and says what it did, unless `report` is NULL. MDLM_STATUS_DONE, and no report, when nothing is
/// left to do. After an error the canvas is as before, and the step can be tried again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_step(
    sampler: *mut Sampler,
    report: *mut Report,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || match Sampler::find(sampler)?.step()? {
        None => Ok(Status::Done),
        Some(_) if report.is_null() => Ok(Status::Ok),
        Some(done) => write("report", report, (&done).into()),
    })
}

/// Does the steps that are left and tells `observer`, unless it is NULL, of each. MDLM_STATUS_DONE when nothing is
/// left to do, MDLM_STATUS_CANCELLED when it was cancelled; another run or step goes on from there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_run(
    sampler: *mut Sampler,
    observer: Observer,
    user: *mut c_void,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || {
        Sampler::find(sampler)?.run(|report| {
            let report = Report::from(report);
            match observer.map_or(0, |observer| observer(user, &raw const report)) {
                0 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })
    })
}

/// Ends a run before its next step, from whatever thread; if there is none, the next run ends as it begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_cancel(
    sampler: *const Sampler,
    error: *mut *mut Failure,
) -> Status {
    guard(error, || {
        Sampler::find(sampler)?.cancel();
        Ok(Status::Ok)
    })
}

/// A copy of the canvas as the last step has left it. Never waits, not for a step that is under way either.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_canvas(
    sampler: *const Sampler,
    error: *mut *mut Failure,
) -> *mut Canvas {
    guard(error, || Ok(Sampler::find(sampler)?.canvas()?.export()))
}

/// What the last step has filled, by position.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_revealed(
    sampler: *const Sampler,
    revealed: *mut Revealed,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut Failure,
) -> Status {
    let room = Room::new(revealed, capacity, length);
    guard(error, || room.fill(&Sampler::find(sampler)?.revealed()?))
}

/// Frees a sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mdlm_sampler_free(sampler: *mut Sampler) -> Status {
    free(sampler)
}

/// Takes an object back from C.
fn free<T: Handle>(handle: *mut T) -> Status {
    let work = || -> Result<Status> { T::release(handle).map(|()| Status::Ok) };
    // SAFETY: nobody wants to know the error
    unsafe { guard(null_mut(), work) }
}
