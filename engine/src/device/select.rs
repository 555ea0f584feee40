//! Choosing an adapter and asking it for what it really has.

use std::sync::Arc;

use super::handle::{Backend, Device, DeviceInfo};
use crate::error::{Error, Result};
use crate::gpu::{Context, Cooperative, DeviceClass, Tuning};

/// Which GPU to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// The best one: discrete before integrated before software.
    #[default]
    Any,
    /// By its place in [`adapters`].
    Index(usize),
    /// The best one whose description (name, backend, kind, driver) contains this text, whatever the case.
    Name(String),
}

impl Device {
    /// Hardware GPU if there is one, else the CPU twin; never fails.
    pub async fn auto() -> Self {
        auto().await
    }

    /// A GPU: the first one, by index or by part of its description; software drivers count.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] with what was found, or what the driver refused.
    pub async fn gpu(choice: &AdapterChoice) -> Result<Self> {
        gpu(choice).await
    }

    /// Every hardware GPU of this machine, once, best first.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none, or one that refuses.
    pub async fn all() -> Result<Vec<Self>> {
        all().await
    }

    /// What a `--device` flag says: `auto`, `gpu`, `cpu`, or part of an adapter's description.
    ///
    /// # Errors
    /// As [`Device::gpu`].
    pub async fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "auto" => Ok(Self::auto().await),
            "cpu" => Ok(Self::cpu()),
            "gpu" => Self::gpu(&AdapterChoice::Any).await,
            name => Self::gpu(&AdapterChoice::Name(name.to_owned())).await,
        }
    }
}

async fn enumerate() -> Vec<wgpu::Adapter> {
    // wgpu panics where there is neither a window nor a browser's worker, as in Node
    #[cfg(target_arch = "wasm32")]
    if !wgpu::util::is_browser_webgpu_supported().await {
        return Vec::new();
    }
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // validation layers are for the crate's own developers, who switch them on in their driver
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    #[cfg(not(target_arch = "wasm32"))]
    let mut found = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    #[cfg(target_arch = "wasm32")]
    let mut found: Vec<_> = instance
        .request_adapter(&Default::default())
        .await
        .into_iter()
        .collect();
    found.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

fn describe(info: &wgpu::AdapterInfo) -> String {
    format!(
        "{} ({:?}, {:?}, {} {})",
        info.name, info.backend, info.device_type, info.driver, info.driver_info
    )
}

/// Descriptions of the adapters of this machine, best first.
pub async fn adapters() -> Vec<String> {
    enumerate()
        .await
        .iter()
        .map(|a| describe(&a.get_info()))
        .collect()
}

async fn open(adapter: &wgpu::Adapter, reason: &str) -> Result<Device> {
    let info = adapter.get_info();
    let class = DeviceClass::of(&info);
    // a software driver has no units, only a slower way to say the same
    let cooperative = Cooperative::of(adapter).filter(|_| class != DeviceClass::Software);
    let mut descriptor = wgpu::DeviceDescriptor {
        label: Some("mdlm"),
        required_limits: adapter.limits(),
        required_features: adapter.features()
            & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16),
        memory_hints: wgpu::MemoryHints::Performance,
        ..Default::default()
    };
    if cooperative.is_some() {
        descriptor.required_features |= Cooperative::FEATURES;
        descriptor.experimental_features = Cooperative::experimental();
    }
    let (device, queue) =
        adapter
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::NoAdapter {
                wanted: info.name.clone(),
                found: format!("{}, which refused: {e}", describe(&info)),
            })?;
    let described = DeviceInfo::of(&info, reason);
    let tuning = Tuning {
        cooperative,
        ..Tuning::of(class)
    };
    let context = Context::new(device, queue, class, tuning, true);
    Ok(Device::new(Backend::Gpu(Arc::new(context)), described))
}

async fn gpu(choice: &AdapterChoice) -> Result<Device> {
    let found = enumerate().await;
    let names = || {
        found
            .iter()
            .map(|a| describe(&a.get_info()))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let (taken, wanted) = match choice {
        AdapterChoice::Any => (found.first(), "gpu".to_owned()),
        AdapterChoice::Index(i) => (found.get(*i), format!("adapter {i}")),
        AdapterChoice::Name(name) => {
            let wanted = name.to_lowercase();
            (
                found
                    .iter()
                    .find(|a| describe(&a.get_info()).to_lowercase().contains(&wanted)),
                name.clone(),
            )
        }
    };
    let Some(adapter) = taken else {
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            names()
        };
        return Err(Error::NoAdapter { wanted, found });
    };
    open(adapter, "asked for").await
}

async fn all() -> Result<Vec<Device>> {
    let found = enumerate().await;
    let described = || found.iter().map(|a| describe(&a.get_info())).collect();
    let hardware = |a: &&wgpu::Adapter| a.get_info().device_type != wgpu::DeviceType::Cpu;
    // one GPU may be reached through several graphics interfaces
    let backend = found.iter().find(hardware).map(|a| a.get_info().backend);
    let mut devices = Vec::new();
    let same = |a: &&wgpu::Adapter| Some(a.get_info().backend) == backend;
    for adapter in found.iter().filter(hardware).filter(same) {
        devices.push(open(adapter, "hardware GPU, one of all").await?);
    }
    match devices.is_empty() {
        false => Ok(devices),
        true => {
            let names: Vec<String> = described();
            let found = match names.is_empty() {
                true => "none".to_owned(),
                false => names.join("; "),
            };
            let wanted = "all hardware GPUs".to_owned();
            Err(Error::NoAdapter { wanted, found })
        }
    }
}

async fn auto() -> Device {
    let found = enumerate().await;
    let mut reason = "no hardware GPU found".to_owned();
    for adapter in &found {
        let info = adapter.get_info();
        if info.device_type == wgpu::DeviceType::Cpu {
            reason = match info.name.as_str() {
                // browsers give no name
                "" => "the only adapter is a software driver, slower than the twin".to_owned(),
                name => {
                    format!("the only adapter, {name}, is a software driver, slower than the twin")
                }
            };
            continue;
        }
        match open(adapter, "hardware GPU").await {
            Ok(device) => return device,
            Err(error) => reason = error.to_string(),
        }
    }
    Device::twin(Backend::CpuF32, &reason)
}
