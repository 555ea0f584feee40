//! Runs a program of dispatches: everything is created once, a run only encodes and submits.

use std::sync::Arc;

use super::context::{Pipeline, PipelineKey, count};
use super::readback::map_read;
use super::{Context, Source};
use crate::device::program::{Arena, BufferId, BufferSpec, Extent, Slot, Step};
use crate::error::{Error, Result};

/// One storage operand of a dispatch.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Where it lies.
    pub slot: Slot,
    /// Whether the kernel writes it.
    pub write: bool,
}

/// Workgroups of a dispatch; x above the device's limit is folded into y.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Work items along x, known when the step runs.
    pub extent: Extent,
    /// Items handled by one workgroup along x.
    pub per_group: usize,
    /// Workgroups per item group: x = ceil(extent / per_group) * `repeat`.
    pub repeat: usize,
}

impl Grid {
    /// `n` workgroups, whatever the step.
    pub fn groups(n: usize) -> Self {
        Self {
            extent: Extent::Fixed(n),
            per_group: 1,
            repeat: 1,
        }
    }

    /// Enough workgroups for `extent` items of `per_group` each.
    pub fn items(extent: Extent, per_group: usize) -> Self {
        Self {
            extent,
            per_group,
            repeat: 1,
        }
    }

    /// Workgroups along x, y and z; a kernel finds its number as `y * FOLD + x`.
    fn folded(&self, step: &Step) -> [u32; 3] {
        let n = self.extent.get(step).div_ceil(self.per_group) * self.repeat;
        let y = n.div_ceil(FOLD);
        [n.min(FOLD) as u32, y as u32, 1]
    }
}

/// Workgroups along x before a grid folds into y; `lib/step.wgsl` has the same number.
const FOLD: usize = 32768;

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The kernel.
    pub source: Source,
    /// Its operands by binding number, with gaps; the uniform comes after them.
    pub bindings: Vec<Option<Binding>>,
    /// Words of its uniform, padded to 16 bytes.
    pub params: Vec<u32>,
    /// Its workgroups.
    pub grid: Grid,
    /// Multiply-adds times two, for watchdogs and benchmarks.
    pub flops: u64,
}

impl Dispatch {
    /// What its pipeline is compiled from.
    fn pipeline(&self) -> PipelineKey {
        let writable = self.bindings.iter().map(|b| b.map(|b| b.write));
        (self.source.clone(), writable.collect())
    }
}

/// What the GPU executor runs.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Buffers of the program's own.
    pub buffers: Vec<BufferSpec>,
    /// Launches in order.
    pub dispatches: Vec<Dispatch>,
    /// Launches before this index belong to every run, later ones to updating runs only.
    pub update_start: usize,
}

/// Parameter arenas on the device: `[arena][slab]`.
#[derive(Debug)]
pub struct Memory {
    context: Arc<Context>,
    arenas: [Vec<wgpu::Buffer>; 5],
}

const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

impl Memory {
    /// Allocates `slabs` (elements each), zeroed, for each of `arenas`.
    pub async fn new(context: &Arc<Context>, slabs: &[usize], arenas: &[Arena]) -> Result<Self> {
        let bytes = 4 * slabs.iter().map(|&n| n as u64).sum::<u64>() * arenas.len() as u64;
        let arenas = context
            .guarded("allocation", "the parameter arenas", bytes, || {
                Ok(Arena::ALL.map(|arena| {
                    let wanted = arenas.contains(&arena);
                    let label = format!("{arena:?}");
                    let slabs = slabs.iter().filter(|_| wanted);
                    slabs
                        .map(|&n| context.buffer(&label, 4 * n as u64, STORAGE))
                        .collect()
                }))
            })
            .await?;
        context.ensure_alive("allocation")?;
        Ok(Self {
            context: context.clone(),
            arenas,
        })
    }

    /// Overwrites a slab from its beginning.
    pub fn write(&self, arena: Arena, slab: usize, data: &[f32]) -> Result<()> {
        let buffer = &self.arenas[arena as usize][slab];
        self.context.guarded_now("upload", "the arenas", || {
            self.context
                .queue
                .write_buffer(buffer, 0, bytemuck::cast_slice(data));
        })
    }

    /// Reads a slab of `len` elements.
    pub async fn read(&self, arena: Arena, slab: usize, len: usize) -> Result<Vec<f32>> {
        read_buffer(&self.context, &self.arenas[arena as usize][slab], 0, len)
            .await
            .map(|words| cast(&words))
    }
}

fn cast(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&w| f32::from_bits(w)).collect()
}

async fn read_buffer(
    context: &Context,
    buffer: &wgpu::Buffer,
    offset: usize,
    len: usize,
) -> Result<Vec<u32>> {
    let bytes = 4 * len as u64;
    let staging = context
        .guarded("readback", "a staging buffer", bytes, || {
            let staging = context.buffer(
                "staging",
                bytes,
                wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            );
            let mut encoder = context.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 4 * offset as u64, &staging, 0, bytes);
            context.queue.submit([encoder.finish()]);
            Ok(staging)
        })
        .await?;
    map_read(context, &staging, bytes, |data| {
        bytemuck::pod_collect_to_vec(data)
    })
    .await
}

struct Prepared {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    grid: Grid,
    flops: u64,
}

/// A program with its pipelines, buffers and bind groups.
pub struct Gpu {
    context: Arc<Context>,
    buffers: Vec<wgpu::Buffer>,
    dispatches: Vec<Prepared>,
    update_start: usize,
    step_buffer: wgpu::Buffer,
    step_group: wgpu::BindGroup,
    /// Staging of the words every run reads back.
    staging: wgpu::Buffer,
    staged: Vec<Slot>,
    /// Milliseconds that encoding the last run took.
    pub host_ms: f64,
    /// Work that fits one submission where a watchdog could strike.
    flops_per_submission: u64,
}

/// A watchdog kills what takes seconds; a submission should take a tenth of one.
const SECONDS_PER_SUBMISSION: f64 = 0.1;
/// Work of a submission before a run was timed, and at least.
const LEAST_FLOPS: u64 = 5_000_000_000;

impl Gpu {
    /// Creates everything the program needs. `outputs` are read back by every run.
    pub async fn new(
        context: &Arc<Context>,
        program: &Program,
        memory: &Memory,
        weights: Arena,
        outputs: &[Slot],
    ) -> Result<Self> {
        check_limits(context, program)?;
        let keys: Vec<_> = program.dispatches.iter().map(Dispatch::pipeline).collect();
        context.compile(&keys).await?;
        let bytes = program.buffers.iter().map(|b| 4 * b.len as u64).sum();
        let made = context.guarded(
            "allocation",
            "the plan's buffers and pipelines",
            bytes,
            || Self::create(context, program, memory, weights, outputs),
        );
        let made = made.await?;
        context.ensure_alive("allocation")?;
        Ok(made)
    }

    fn create(
        context: &Arc<Context>,
        program: &Program,
        memory: &Memory,
        weights: Arena,
        outputs: &[Slot],
    ) -> Result<Self> {
        let device = &context.device;
        let buffers: Vec<_> = program
            .buffers
            .iter()
            .map(|b| context.buffer(&b.name, 4 * b.len as u64, STORAGE))
            .collect();
        for (buffer, spec) in buffers.iter().zip(&program.buffers) {
            if let Some(data) = &spec.constant {
                let data: Vec<f32> = data.iter().map(|&x| x as f32).collect();
                context
                    .queue
                    .write_buffer(buffer, 0, bytemuck::cast_slice(&data));
            }
        }
        let stride = context.limits.min_uniform_buffer_offset_alignment.max(16) as usize;
        let strides = |d: &Dispatch| (4 * d.params.len()).next_multiple_of(stride).max(stride);
        let mut words = Vec::new();
        for d in &program.dispatches {
            let end = words.len() + strides(d) / 4;
            words.extend_from_slice(&d.params);
            words.resize(end, 0);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = context.buffer("params", 4 * words.len() as u64, usage);
        context
            .queue
            .write_buffer(&params, 0, bytemuck::cast_slice(&words));

        let mut dispatches = Vec::with_capacity(program.dispatches.len());
        let mut offset = 0;
        for d in &program.dispatches {
            let (source, writable) = d.pipeline();
            let pipeline = context.pipeline(&source, &writable)?;
            let operand = |binding: &Binding| {
                let slot = &binding.slot;
                let buffer = match slot.buffer {
                    BufferId::Local(i) => &buffers[i],
                    BufferId::Arena(Arena::Params, slab) => &memory.arenas[weights as usize][slab],
                    BufferId::Arena(arena, slab) => &memory.arenas[arena as usize][slab],
                };
                wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 4 * slot.offset as u64,
                    size: wgpu::BufferSize::new(4 * slot.len.max(1) as u64),
                })
            };
            let mut resources: Vec<_> =
                d.bindings.iter().map(|b| b.as_ref().map(operand)).collect();
            resources.push(Some(wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &params,
                offset: offset as u64,
                size: wgpu::BufferSize::new(
                    (4 * d.params.len()).max(16).next_multiple_of(16) as u64
                ),
            })));
            offset += strides(d);
            let entry = |(binding, r): (u32, Option<_>)| {
                r.map(|resource| wgpu::BindGroupEntry { binding, resource })
            };
            let entries: Vec<_> = (0..).zip(resources).filter_map(entry).collect();
            count(&context.counters.bind_groups);
            let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(d.source.shader.name),
                layout: &pipeline.operands,
                entries: &entries,
            });
            dispatches.push(Prepared {
                pipeline,
                bind_group,
                grid: d.grid,
                flops: d.flops,
            });
        }
        let step_buffer =
            context.buffer("step", size_of_val(&Step::default().words()) as u64, usage);
        count(&context.counters.bind_groups);
        let step_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("step"),
            layout: &context.step_layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: step_buffer.as_entire_binding(),
            }],
        });
        let staged: usize = outputs.iter().map(|s| s.len).sum();
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = context.buffer("staging", 4 * staged as u64, usage);
        Ok(Self {
            context: context.clone(),
            buffers,
            dispatches,
            update_start: program.update_start,
            step_buffer,
            step_group,
            staging,
            staged: outputs.to_vec(),
            host_ms: 0.0,
            flops_per_submission: LEAST_FLOPS,
        })
    }

    /// Uploads words to a slot of the program's own buffers.
    pub fn write(&self, slot: &Slot, words: &[u32]) -> Result<()> {
        let BufferId::Local(i) = slot.buffer else {
            return Err(Error::Internal("an arena is no input".into()));
        };
        let (buffer, offset) = (&self.buffers[i], 4 * slot.offset as u64);
        self.context.guarded_now("upload", "an input", || {
            self.context
                .queue
                .write_buffer(buffer, offset, bytemuck::cast_slice(words));
        })
    }

    /// Number of dispatches of a run.
    pub fn dispatches(&self, update: bool) -> usize {
        if update {
            self.dispatches.len()
        } else {
            self.update_start
        }
    }

    /// Encodes and submits one run and returns the program's outputs, in order.
    pub async fn run(&mut self, step: &Step, update: bool) -> Result<Vec<u32>> {
        let begin = web_time::Instant::now();
        self.submit(step, update).await?;
        self.host_ms = begin.elapsed().as_secs_f64() * 1e3;
        let flops: u64 = self.dispatches[..self.dispatches(update)]
            .iter()
            .map(|d| d.flops)
            .sum();
        let bytes = 4 * self.staged.iter().map(|s| s.len as u64).sum::<u64>();
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let words = map_read(&self.context, &self.staging, bytes, |data| {
            bytemuck::pod_collect_to_vec(data)
        })
        .await?;
        let rate = flops as f64 / begin.elapsed().as_secs_f64();
        self.flops_per_submission = ((rate * SECONDS_PER_SUBMISSION) as u64).max(LEAST_FLOPS);
        Ok(words)
    }

    /// Encodes and submits one run without waiting for it.
    async fn submit(&self, step: &Step, update: bool) -> Result<()> {
        let context = &*self.context;
        let run = || {
            context
                .queue
                .write_buffer(&self.step_buffer, 0, bytemuck::cast_slice(&step.words()));
            let mut todo = &self.dispatches[..self.dispatches(update)];
            while !todo.is_empty() {
                let now = self.fitting(todo);
                let mut encoder = context.device.create_command_encoder(&Default::default());
                self.encode(&mut encoder, &todo[..now], step);
                todo = &todo[now..];
                if todo.is_empty() {
                    self.encode_outputs(&mut encoder);
                }
                count(&context.counters.submissions);
                context.queue.submit([encoder.finish()]);
            }
            Ok(())
        };
        context.guarded("a run", "its commands", 0, run).await
    }

    /// How many of the launches fit one submission.
    fn fitting(&self, todo: &[Prepared]) -> usize {
        if !self.context.watchdog {
            return todo.len();
        }
        let mut flops = 0;
        let over = |d: &Prepared| {
            flops += d.flops;
            flops > self.flops_per_submission
        };
        todo.iter().position(over).unwrap_or(todo.len()).max(1)
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder, dispatches: &[Prepared], step: &Step) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_bind_group(1, &self.step_group, &[]);
        for d in dispatches {
            let [x, y, z] = d.grid.folded(step);
            if x > 0 {
                pass.set_pipeline(&d.pipeline.pipeline);
                pass.set_bind_group(0, &d.bind_group, &[]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
    }

    fn encode_outputs(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut to = 0;
        for slot in &self.staged {
            let bytes = 4 * slot.len as u64;
            if let BufferId::Local(i) = slot.buffer {
                encoder.copy_buffer_to_buffer(
                    &self.buffers[i],
                    4 * slot.offset as u64,
                    &self.staging,
                    to,
                    bytes,
                );
            }
            to += bytes;
        }
    }

    /// Reads the first `len` words of a slot.
    pub async fn read(&self, memory: &Memory, slot: &Slot, len: usize) -> Result<Vec<u32>> {
        let buffer = match slot.buffer {
            BufferId::Local(i) => &self.buffers[i],
            BufferId::Arena(arena, slab) => &memory.arenas[arena as usize][slab],
        };
        read_buffer(&self.context, buffer, slot.offset, len.min(slot.len)).await
    }
}

/// Refuses a program that exceeds the device's limits, with the culprit and both numbers.
fn check_limits(context: &Context, program: &Program) -> Result<()> {
    let limits = &context.limits;
    let refuse = |what: String, need: u64, have: u64| {
        if need > have {
            Err(Error::Unsupported { what, need, have })
        } else {
            Ok(())
        }
    };
    for spec in &program.buffers {
        refuse(
            format!("bytes of {} in one buffer", spec.name),
            4 * spec.len as u64,
            limits.max_buffer_size,
        )?;
    }
    for d in &program.dispatches {
        let name = d.source.label();
        let storage = limits.max_storage_buffers_per_shader_stage;
        refuse(
            format!("storage buffers of {name}"),
            d.bindings.iter().flatten().count() as u64,
            storage.into(),
        )?;
        for binding in d.bindings.iter().flatten() {
            let bytes = 4 * binding.slot.len as u64;
            let tensor = match binding.slot.buffer {
                BufferId::Local(i) => program.buffers[i].name.clone(),
                BufferId::Arena(arena, slab) => format!("{arena:?}[{slab}]"),
            };
            refuse(
                format!("bytes of {tensor} bound to {name}"),
                bytes,
                limits.max_storage_buffer_binding_size,
            )?;
        }
    }
    Ok(())
}
