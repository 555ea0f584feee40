//! The device, as JavaScript opens and describes it.

use std::sync::atomic::Ordering;

use serde::Serialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;

use super::convert::object;
use super::error::{JsResult, thrown};
use super::types::{Compilation, DeviceInfo};
use crate::device::{AdapterChoice, Device as Inner};
use crate::error::Error;

/// A device to compute on: WebGPU, or the CPU twin.
#[wasm_bindgen]
pub struct Device(pub(super) Inner);

#[derive(Serialize)]
struct Info<'a> {
    kind: &'static str,
    name: &'a str,
    detail: &'a str,
    hardware: bool,
    reason: &'a str,
}

#[derive(Default, Serialize)]
struct Compiled {
    done: u64,
    total: u64,
}

#[wasm_bindgen]
impl Device {
    /// `auto`: a hardware GPU if there is one, else the CPU twin; `webgpu`: any adapter, also a software
    /// one, or an error; `cpu`: the twin.
    pub async fn open(
        #[wasm_bindgen(unchecked_param_type = "DeviceKind")] kind: &str,
    ) -> JsResult<Device> {
        let device = match kind {
            "auto" => Inner::auto().await,
            "webgpu" => Inner::gpu(&AdapterChoice::Any).await.map_err(thrown)?,
            "cpu" => Inner::cpu(),
            other => {
                let problem = "must be auto, webgpu or cpu";
                return Err(thrown(Error::argument("device", other, problem)));
            }
        };
        Ok(Self(device))
    }

    /// What it is and why it was taken.
    pub fn info(&self) -> JsResult<DeviceInfo> {
        let info = self.0.info();
        let made = object(&Info {
            kind: match self.0.context() {
                Some(_) => "webgpu",
                None => "cpu",
            },
            name: &info.name,
            detail: &info.detail,
            hardware: info.hardware_gpu,
            reason: &info.reason,
        })?;
        Ok(made.unchecked_into())
    }

    /// How far the pipelines of the plan in the making are.
    pub fn compilation(&self) -> JsResult<Compilation> {
        let compiled = self.0.context().map(|context| {
            let [done, total] = [&context.counters.pipelines, &context.counters.wanted];
            let done = done.load(Ordering::Relaxed);
            Compiled {
                done,
                total: total.load(Ordering::Relaxed).max(done),
            }
        });
        Ok(object(&compiled.unwrap_or_default())?.unchecked_into())
    }
}
