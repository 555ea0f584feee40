//! Runs a program of dispatches: everything is created once, a run only encodes and submits.

use std::ops::Range;
use std::sync::Arc;

use super::context::{Pipeline, count};
use super::limits::check_limits;
use super::memory::{STORAGE, read_buffer};
use super::readback::Pending;
use super::{Context, Dispatch, Grid, Memory, Program};
use crate::error::{Error, Result};
use crate::program::{BufferId, Element, Phase, Scalars, Slot, Step, selected};

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
    phases: Vec<(Phase, Range<usize>)>,
    scalars: Scalars,
    step_buffer: wgpu::Buffer,
    step_group: wgpu::BindGroup,
    step_words: Vec<u32>,
    /// Where runs leave what they read back, in turn.
    staging: [wgpu::Buffer; RUNS],
    outputs: Vec<Slot>,
    runs: usize,
    /// Milliseconds that encoding the last run took.
    pub host_ms: f64,
    /// Work that fits one submission where a watchdog could strike.
    flops_per_submission: u64,
}

/// Runs that may be on their way: one computes while the next is encoded.
pub const RUNS: usize = 2;
/// A watchdog kills what takes seconds; a submission should take a tenth of one.
const SECONDS_PER_SUBMISSION: f64 = 0.1;
/// Work of a submission before a run was timed, and at least.
const LEAST_FLOPS: u64 = 5_000_000_000;

/// A run that was submitted, for [`Gpu::finish`].
pub struct Running {
    begin: web_time::Instant,
    flops: u64,
    /// The words that it reads back, if any.
    words: Option<Pending>,
}

impl Gpu {
    /// Creates everything the program needs. `outputs` are read back by every run.
    ///
    /// # Errors
    /// [`Error::Unsupported`], [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn new(
        context: &Arc<Context>,
        program: &Program,
        memory: &Memory,
        outputs: &[Slot],
    ) -> Result<Self> {
        check_limits(context, program)?;
        let keys: Vec<_> = program.dispatches.iter().map(Dispatch::pipeline).collect();
        context.compile(&keys).await?;
        let bytes = program.buffers.iter().map(|b| b.element.bytes(b.len)).sum();
        let made = context.guarded(
            "allocation",
            "the plan's buffers and pipelines",
            bytes,
            || Self::create(context, program, memory, outputs),
        );
        let made = made.await?;
        context.ensure_alive("allocation")?;
        Ok(made)
    }

    fn create(
        context: &Arc<Context>,
        program: &Program,
        memory: &Memory,
        outputs: &[Slot],
    ) -> Result<Self> {
        let device = &context.device;
        let buffers: Vec<_> = program
            .buffers
            .iter()
            .map(|b| context.buffer(&b.name, b.element.bytes(b.len), STORAGE))
            .collect();
        for (buffer, spec) in buffers.iter().zip(&program.buffers) {
            if let Some(data) = &spec.constant {
                let words: Vec<u32> = match spec.element {
                    Element::U32 => data.iter().map(|&x| x as u32).collect(),
                    _ => data.iter().map(|&x| (x as f32).to_bits()).collect(),
                };
                context
                    .queue
                    .write_buffer(buffer, 0, bytemuck::cast_slice(&words));
            }
        }
        let dispatches = prepare(context, program, memory, &buffers)?;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let step_buffer = context.buffer("step", program.scalars.bytes(), usage);
        count(&context.counters.bind_groups);
        let step_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("step"),
            layout: &context.step_layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: step_buffer.as_entire_binding(),
            }],
        });
        let staged = outputs.iter().map(Slot::bytes).sum();
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = std::array::from_fn(|_| context.buffer("staging", staged, usage));
        Ok(Self {
            context: context.clone(),
            buffers,
            dispatches,
            phases: program.phases.clone(),
            scalars: program.scalars.clone(),
            step_buffer,
            step_group,
            step_words: Vec::new(),
            staging,
            outputs: outputs.to_vec(),
            runs: 0,
            host_ms: 0.0,
            flops_per_submission: LEAST_FLOPS,
        })
    }

    /// Uploads the bytes of a slot of the program's own buffers.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub fn write(&self, slot: &Slot, bytes: &[u8]) -> Result<()> {
        let BufferId::Local(i) = slot.buffer else {
            return Err(Error::Internal("an arena is no input".into()));
        };
        let (buffer, offset) = (&self.buffers[i], slot.first_byte());
        self.context.guarded_now("upload", "an input", || {
            self.context.queue.write_buffer(buffer, offset, bytes);
        })
    }

    /// Encodes and submits a run of some phases without waiting for it. At most [`RUNS`] may be on
    /// their way.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin; [`Error::Internal`] for a phase that the program does not have.
    pub async fn submit(&mut self, step: &Step, phases: &[Phase]) -> Result<Running> {
        let begin = web_time::Instant::now();
        let mut words = std::mem::take(&mut self.step_words);
        self.scalars.words(step, &mut words);
        self.step_words = words;
        let ranges = selected(&self.phases, phases)?;
        let context = &*self.context;
        let staging = &self.staging[self.runs % RUNS];
        let mut last = None;
        let run = || {
            let step_words = bytemuck::cast_slice(&self.step_words);
            context.queue.write_buffer(&self.step_buffer, 0, step_words);
            let mut todo = ranges.clone();
            while todo.iter().any(|range| !range.is_empty()) || last.is_none() {
                let now = self.take_fitting(&mut todo);
                let mut encoder = context.device.create_command_encoder(&Default::default());
                self.encode(&mut encoder, &now, step);
                if todo.iter().all(Range::is_empty) {
                    self.encode_outputs(&mut encoder, staging);
                }
                count(&context.counters.submissions);
                last = Some(context.queue.submit([encoder.finish()]));
            }
            Ok(())
        };
        context.guarded("a run", "its commands", 0, run).await?;
        let bytes: u64 = self.outputs.iter().map(Slot::bytes).sum();
        let words = (bytes > 0).then(|| Pending::new(context, staging, bytes, last));
        self.runs += 1;
        self.host_ms = begin.elapsed().as_secs_f64() * 1e3;
        let dispatches = ranges.into_iter().flat_map(|r| &self.dispatches[r]);
        Ok(Running {
            begin,
            flops: dispatches.map(|d| d.flops).sum(),
            words: words.transpose()?,
        })
    }

    /// Waits for a run and returns the program's outputs, in order.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub async fn finish(&mut self, run: Running) -> Result<Vec<u32>> {
        let Some(words) = run.words else {
            return Ok(Vec::new());
        };
        let words = words
            .wait(&self.context, bytemuck::pod_collect_to_vec)
            .await?;
        let rate = run.flops as f64 / run.begin.elapsed().as_secs_f64();
        self.flops_per_submission = ((rate * SECONDS_PER_SUBMISSION) as u64).max(LEAST_FLOPS);
        Ok(words)
    }

    /// Takes the launches that fit one submission from the front of `todo`.
    fn take_fitting(&self, todo: &mut [Range<usize>]) -> Vec<Range<usize>> {
        let (mut flops, mut taken) = (0, Vec::new());
        for range in todo {
            let over = |d: &Prepared| {
                flops += d.flops;
                self.context.watchdog && flops > self.flops_per_submission
            };
            let launches = &self.dispatches[range.clone()];
            let fitting = launches.iter().position(over);
            // a launch is never split, however long it takes
            let least = usize::from(taken.iter().all(Range::is_empty));
            let end = range.start + fitting.map_or(launches.len(), |n| n.max(least));
            taken.push(range.start..end);
            range.start = end;
            if fitting.is_some() {
                break;
            }
        }
        taken
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder, ranges: &[Range<usize>], step: &Step) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_bind_group(1, &self.step_group, &[]);
        for d in ranges.iter().flat_map(|r| &self.dispatches[r.clone()]) {
            let [x, y, z] = d.grid.folded(step);
            if x > 0 {
                pass.set_pipeline(&d.pipeline.pipeline);
                pass.set_bind_group(0, &d.bind_group, &[]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
    }

    fn encode_outputs(&self, encoder: &mut wgpu::CommandEncoder, staging: &wgpu::Buffer) {
        let mut to = 0;
        for slot in &self.outputs {
            if let BufferId::Local(i) = slot.buffer {
                let (from, bytes) = (slot.first_byte(), slot.bytes());
                encoder.copy_buffer_to_buffer(&self.buffers[i], from, staging, to, bytes);
            }
            to += slot.bytes();
        }
    }

    /// Reads the words of the first `len` elements of a slot.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and its kin.
    pub async fn read(&self, memory: &Memory, slot: &Slot, len: usize) -> Result<Vec<u32>> {
        let buffer = match slot.buffer {
            BufferId::Local(i) => &self.buffers[i],
            BufferId::Arena(arena, slab) => memory.buffer(arena, slab)?,
        };
        let bytes = slot.element.bytes(len.min(slot.len));
        read_buffer(&self.context, buffer, slot.first_byte(), bytes).await
    }
}

/// The dispatches with their bind groups; all their parameters share a buffer.
fn prepare(
    context: &Context,
    program: &Program,
    memory: &Memory,
    buffers: &[wgpu::Buffer],
) -> Result<Vec<Prepared>> {
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
        let mut entries = Vec::new();
        for (binding, operand) in (0..).zip(&d.bindings) {
            let Some(operand) = operand else { continue };
            let slot = &operand.slot;
            let buffer = match slot.buffer {
                BufferId::Local(i) => &buffers[i],
                BufferId::Arena(arena, slab) => memory.buffer(arena, slab)?,
            };
            let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer,
                offset: slot.first_byte(),
                size: wgpu::BufferSize::new(slot.bytes().max(4)),
            });
            entries.push(wgpu::BindGroupEntry { binding, resource });
        }
        let uniform = wgpu::BufferBinding {
            buffer: &params,
            offset: offset as u64,
            size: wgpu::BufferSize::new((4 * d.params.len()).max(16).next_multiple_of(16) as u64),
        };
        entries.push(wgpu::BindGroupEntry {
            binding: d.bindings.len() as u32,
            resource: wgpu::BindingResource::Buffer(uniform),
        });
        offset += strides(d);
        count(&context.counters.bind_groups);
        let bind_group = context
            .device
            .create_bind_group(&wgpu::BindGroupDescriptor {
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
    Ok(dispatches)
}
