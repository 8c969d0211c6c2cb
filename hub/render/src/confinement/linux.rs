//! Landlock: files by their folders, and no TCP.

use std::path::Path;

use anyhow::Context as _;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope, path_beneath_rules,
};

use crate::loader::loader;

/// What Landlock must know: rules for TCP came with this version.
const ENOUGH: ABI = ABI::V4;

/// Whether this kernel can.
pub(crate) fn kernel_confines() -> bool {
    confinement().is_ok()
}

/// What is forbidden unless it is allowed; an error when this kernel can't.
fn confinement() -> Result<landlock::RulesetCreated, landlock::RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ENOUGH))?
        .handle_access(AccessNet::from_all(ENOUGH))?
        // What newer kernels know besides.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()
}

/// Confines this process for good: `read` can be read, `write` written, and `tool` started.
pub(crate) fn confine(tool: &Path, read: &Path, write: &Path) -> anyhow::Result<()> {
    let loaded = loader(tool).with_context(|| tool.display().to_string())?;
    let run = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    confinement()?
        .add_rule(PathBeneath::new(
            PathFd::new(read)?,
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .add_rule(PathBeneath::new(
            PathFd::new(write)?,
            AccessFs::from_all(ENOUGH) & !AccessFs::Execute,
        ))?
        .add_rule(PathBeneath::new(
            PathFd::new("/dev/null")?,
            AccessFs::ReadFile | AccessFs::WriteFile,
        ))?
        // Those that are not there are left out.
        .add_rules(path_beneath_rules(loaded, run))?
        .restrict_self()?;
    Ok(())
}
