//! What a process costs, as Linux tells it.

use anyhow::{Context, Result};

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: f64,
    /// Of that its own: the rest is the program's file, which the kernel may drop and read again.
    pub(super) own: f64,
    /// The most that ever was.
    pub(super) peak: f64,
}

pub(super) fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is not there"))?;
    let mebibytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next());
        let kibibytes: f64 = kibibytes
            .with_context(|| format!("no {field} of process {pid}"))?
            .parse()?;
        anyhow::Ok(kibibytes / 1024.0)
    };
    Ok(Memory {
        resident: mebibytes("VmRSS:")?,
        own: mebibytes("RssAnon:")?,
        peak: mebibytes("VmHWM:")?,
    })
}

/// Seconds of processor time that a process used so far.
pub(super) fn processor(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is not there"))?;
    // After the name, which may hold anything: user and system time are fields 14 and 15 of all, in ticks.
    let (_, fields) = stat.rsplit_once(')').context("a line without a name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().context("a time that is no number"))
        .sum::<Result<u64>>()?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}
