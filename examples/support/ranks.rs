//! Who trains together: `--ranks`, and `--device all`.

use std::sync::Arc;
use std::time::Duration;

use mdlm::Device;
use mdlm::blocking::wait;
use mdlm::ranks::{Alone, Ranks, each};

use super::{DeviceArgs, announce};

/// Several that train one model together.
#[derive(clap::Args)]
pub struct RanksArgs {
    /// Who trains together: threads:N (N shares of the CPU, or N times --device, in this process), or mpi (the processes
    /// that mpirun has started; cargo feature mpi). --batch and --accumulation are those of one. All GPUs of this machine:
    /// --device all.
    #[arg(long, value_name = "threads:N|mpi")]
    ranks: Option<String>,
    /// Seconds after which a rank that does not answer ends the run.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    rank_timeout: u64,
}

impl RanksArgs {
    /// Does `work` for every rank of this process, each on its device. Of several errors it returns one that is a cause.
    pub fn each(
        &self,
        device: &DeviceArgs,
        work: impl Fn(&Arc<dyn Ranks>, &Device) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<()> {
        let patience = Duration::from_secs(self.rank_timeout);
        let work = |ranks: Arc<dyn Ranks>, device: mdlm::Result<Device>| {
            let ended = device.map_err(anyhow::Error::from).and_then(|device| {
                announce(&device, (ranks.rank(), ranks.size()));
                work(&ranks, &device)
            });
            if let Err(error) = &ended
                && !is_lost(error)
            {
                ranks.fail(&format!("has failed: {error}"));
            }
            ended
        };
        match (self.ranks.as_deref(), &*device.device) {
            (None, "all") => {
                let all = wait(Device::all())?;
                let of = |ranks: Arc<dyn Ranks>| {
                    let device = all[ranks.rank()].clone();
                    work(ranks, Ok(device))
                };
                joined(each(all.len(), patience, of))
            }
            (None, _) => work(Arc::new(Alone), device.parsed()),
            (Some("mpi"), _) => {
                let ranks = processes(patience)?;
                let device = local(device);
                work(ranks, device)
            }
            (Some(text), _) => {
                let count = text.strip_prefix("threads:").and_then(|n| n.parse().ok());
                let Some(count @ 1..=1024) = count else {
                    let problem = "must be threads:N, with N from 1 to 1024, or mpi";
                    return Err(mdlm::Error::argument("ranks", text, problem).into());
                };
                joined(each(count, patience, |ranks| work(ranks, device.parsed())))
            }
        }
    }
}

/// Whether an error is only that of another rank.
fn is_lost(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<mdlm::Error>();
    matches!(error, Some(mdlm::Error::RankLost { .. }))
}

fn joined(all: Vec<mdlm::Result<anyhow::Result<()>>>) -> anyhow::Result<()> {
    let ended = all
        .into_iter()
        .map(|ended| ended.map_err(Into::into).and_then(|e| e));
    let mut errors: Vec<anyhow::Error> = ended.filter_map(Result::err).collect();
    let cause = errors.iter().position(|error| !is_lost(error));
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.swap_remove(cause.unwrap_or(0))),
    }
}

/// The device of a process among those of its machine: each its own GPU, in turn if there are fewer.
fn local(device: &DeviceArgs) -> mdlm::Result<Device> {
    let names = [
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "MPI_LOCALRANKID",
        "SLURM_LOCALID",
    ];
    let place = names
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse::<usize>().ok());
    match (&*device.device, place) {
        ("auto" | "all" | "", Some(place)) => match wait(Device::all()) {
            Ok(all) => Ok(all[place % all.len()].clone()),
            Err(_) => device.parsed(),
        },
        _ => device.parsed(),
    }
}

#[cfg(feature = "mpi")]
fn processes(patience: Duration) -> anyhow::Result<Arc<dyn Ranks>> {
    Ok(Arc::new(mdlm::ranks::Mpi::join(patience)?))
}

#[cfg(not(feature = "mpi"))]
fn processes(_: Duration) -> anyhow::Result<Arc<dyn Ranks>> {
    anyhow::bail!("--ranks mpi: build with --features mpi")
}
