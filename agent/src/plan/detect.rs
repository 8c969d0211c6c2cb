//! Detect-only: what would be applied is compared instead, and nothing is changed. Pure.

use muster_proto::Digest;

use super::Step;
use crate::apply::shown;
use crate::desired::wanted::Wanted;
use crate::live::Sight;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Of what was wanted.
    pub(crate) wanted: Digest,
    /// Fields that an apply would change.
    pub(crate) fields: Vec<String>,
}

/// The step of an object whose application only detects, in place of one that would change the cluster.
pub(crate) fn detect(step: Step, wanted: &Wanted, sight: &Sight, found: Option<&Found>) -> Step {
    if !matches!(step, Step::Apply | Step::Repair(_) | Step::Leave(_)) {
        return step;
    }
    let only = "the application only detects (sync.detectOnly)";
    match (sight, found.filter(|found| found.wanted == wanted.digest)) {
        (Sight::Unknown, _) => Step::Look,
        (Sight::Absent, _) => Step::Differs(format!("it would be created: {only}")),
        (Sight::Present(_), None) => Step::Compare,
        (Sight::Present(_), Some(found)) if found.fields.is_empty() => Step::InSync,
        (Sight::Present(_), Some(found)) => {
            Step::Differs(format!("{} would change: {only}", shown(&found.fields)))
        }
    }
}
