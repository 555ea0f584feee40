//! Compute pipelines of a driver, and what it says of them. Nothing is run.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;

use anyhow::{Context, Result, ensure};
use ash::{ext, khr, vk};

use crate::translate::{Module, translate};

/// A driver without a GPU.
pub struct Compiler {
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    /// Whether it has matrix units that kernels can use.
    pub cooperative: bool,
    /// Mesa's version.
    pub version: String,
    _instance: ash::Instance,
    _entry: ash::Entry,
}

/// A kernel as the driver has compiled it.
pub struct Compiled {
    /// Invocations of a workgroup.
    pub threads: u32,
    /// Lanes of a wave.
    pub lanes: u32,
    /// Bytes of workgroup memory that the shader declares.
    pub workgroup: u32,
    /// The driver's figures by name.
    pub statistics: BTreeMap<String, u64>,
    /// The machine code.
    pub listing: String,
}

fn text(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars
        .iter()
        .map(|&c| c as u8)
        .take_while(|&c| c != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Compiler {
    /// Opens the first device, with the features that wgpu asks for.
    pub fn open() -> Result<Self> {
        // SAFETY: every structure lives until the call that reads it has returned; the chains are built of structures
        // that the specification lets follow each other.
        unsafe {
            let entry = ash::Entry::load().context("no Vulkan loader: install libvulkan1")?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&app);
            let instance = entry.create_instance(&info, None)?;
            let physical = *instance
                .enumerate_physical_devices()?
                .first()
                .context("the driver has no device")?;
            let mut vulkan11 = vk::PhysicalDeviceVulkan11Features::default();
            let mut vulkan12 = vk::PhysicalDeviceVulkan12Features::default();
            let mut vulkan13 = vk::PhysicalDeviceVulkan13Features::default();
            let mut all = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut vulkan11)
                .push_next(&mut vulkan12)
                .push_next(&mut vulkan13);
            instance.get_physical_device_features2(physical, &mut all);
            let core = all.features;
            for next in [
                &mut vulkan11.p_next,
                &mut vulkan12.p_next,
                &mut vulkan13.p_next,
            ] {
                *next = null_mut();
            }
            let mut figures = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
                .pipeline_executable_info(true);
            let mut robust =
                vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let version = text(&driver.driver_info);
            let version = version.trim_start_matches("Mesa ").split(['-', ' ']).next();
            let version = version.unwrap_or_default().to_owned();
            let listed = instance.enumerate_device_extension_properties(physical)?;
            let name = khr::cooperative_matrix::NAME;
            let cooperative = listed
                .iter()
                .any(|extension| extension.extension_name_as_c_str() == Ok(name));
            let mut matrices =
                vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
            let mut features = vk::PhysicalDeviceFeatures2::default()
                .features(core.robust_buffer_access(true))
                .push_next(&mut vulkan11)
                .push_next(&mut vulkan12)
                .push_next(&mut vulkan13)
                .push_next(&mut figures)
                .push_next(&mut robust);
            let mut extensions = vec![
                khr::pipeline_executable_properties::NAME.as_ptr(),
                ext::robustness2::NAME.as_ptr(),
            ];
            if cooperative {
                extensions.push(name.as_ptr());
                features = features.push_next(&mut matrices);
            }
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut features);
            let device = instance.create_device(physical, &info, None)?;
            let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self {
                device,
                executables,
                cooperative,
                version,
                _instance: instance,
                _entry: entry,
            })
        }
    }

    /// Compiles an entry point of a module.
    pub fn compile(&self, wgsl: &str, entry: &str) -> Result<Compiled> {
        let module = translate(wgsl, entry)?;
        let entry = CString::new(entry)?;
        let device = &self.device;
        // SAFETY: as in `open`; the handles are this device's, and what is made here is destroyed after its last use.
        unsafe {
            let info = vk::ShaderModuleCreateInfo::default().code(&module.words);
            let shader = device.create_shader_module(&info, None)?;
            let groups = module.bindings.iter().map(|binding| binding.0 + 1).max();
            let mut sets = Vec::new();
            for group in 0..groups.unwrap_or(0) {
                let bindings: Vec<_> = module
                    .bindings
                    .iter()
                    .filter(|binding| binding.0 == group)
                    .map(|&(_, binding, uniform)| {
                        let kind = match uniform {
                            true => vk::DescriptorType::UNIFORM_BUFFER,
                            false => vk::DescriptorType::STORAGE_BUFFER,
                        };
                        vk::DescriptorSetLayoutBinding::default()
                            .binding(binding)
                            .descriptor_type(kind)
                            .descriptor_count(1)
                            .stage_flags(vk::ShaderStageFlags::COMPUTE)
                    })
                    .collect();
                let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
                sets.push(device.create_descriptor_set_layout(&info, None)?);
            }
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = device.create_pipeline_layout(&info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(shader)
                .name(&entry);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default()
                .stage(stage)
                .layout(layout)
                .flags(flags);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = made.map_err(|(_, error)| error)?[0];
            let compiled = self.describe(pipeline, &module);
            device.destroy_pipeline(pipeline, None);
            device.destroy_pipeline_layout(layout, None);
            sets.iter()
                .for_each(|&set| device.destroy_descriptor_set_layout(set, None));
            device.destroy_shader_module(shader, None);
            compiled
        }
    }

    /// # Safety
    /// The pipeline is this device's and was made with both flags that capture.
    unsafe fn describe(&self, pipeline: vk::Pipeline, module: &Module) -> Result<Compiled> {
        // SAFETY: by the function's contract; the buffers are as large as the driver has said.
        unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let found = self.executables.get_pipeline_executable_properties(&info)?;
            ensure!(found.len() == 1, "{} executables", found.len());
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let statistics = self.executables.get_pipeline_executable_statistics(&info)?;
            let value = |s: &vk::PipelineExecutableStatisticKHR<'_>| {
                // the driver's are all numbers of this kind
                (text(&s.name), s.value.u64)
            };
            let statistics = statistics.iter().map(value).collect();
            let read = self
                .executables
                .fp()
                .get_pipeline_executable_internal_representations_khr;
            let mut count = 0;
            read(self.device.handle(), &info, &mut count, null_mut()).result()?;
            let mut forms =
                vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            read(self.device.handle(), &info, &mut count, forms.as_mut_ptr()).result()?;
            let mut buffers: Vec<Vec<u8>> = forms
                .iter()
                .map(|form| vec![0; form.data_size + 1])
                .collect();
            for (form, buffer) in forms.iter_mut().zip(&mut buffers) {
                form.p_data = buffer.as_mut_ptr().cast();
            }
            read(self.device.handle(), &info, &mut count, forms.as_mut_ptr()).result()?;
            let assembly = forms
                .iter()
                .zip(&buffers)
                .find(|(form, _)| text(&form.name).ends_with("ssembly"));
            let (_, listing) = assembly.context("the driver shows no machine code")?;
            let listing = CStr::from_bytes_until_nul(listing)?
                .to_string_lossy()
                .into_owned();
            Ok(Compiled {
                threads: module.threads,
                lanes: found[0].subgroup_size,
                workgroup: module.workgroup,
                statistics,
                listing,
            })
        }
    }
}
