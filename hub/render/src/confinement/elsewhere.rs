//! Nothing: `muster` asks hubs from machines that are no Linux, and renders there only when told to go without.

use std::path::Path;

use anyhow::bail;

/// Whether this kernel can.
pub(crate) fn kernel_confines() -> bool {
    false
}

/// Confines no process.
pub(crate) fn confine(_tool: &Path, _read: &Path, _write: &Path) -> anyhow::Result<()> {
    bail!("only Linux can")
}
