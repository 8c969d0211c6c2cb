//! What holds removals back: a commit that was not read whole, an application without a rendering, one that does not
//! prune, one that shrinks suspiciously, a damaged ledger. Pure.

use std::collections::BTreeSet;

use super::{
    ApplicationName, Approval, BTreeMap, Content, Desired, Entry, ObjectKey, Removals, Resolved,
};

/// Guards of a whole desired state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guards {
    /// Why nothing at all is removed.
    everything: Option<Stay>,
    /// Applications whose objects stay.
    applications: BTreeMap<ApplicationName, Stay>,
    /// Objects of the inventory that an object without a place may turn out to be.
    pub(crate) may_become: BTreeSet<ObjectKey>,
    /// Applications that nothing is written for.
    pub(crate) paused: super::Paused,
}

/// Why objects that left Git stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stay {
    /// It is not allowed yet.
    Blocked(String),
    /// It is more than the application may lose without a person's word.
    Unapproved(String),
    /// It is wanted so.
    Kept(String),
}

impl Guards {
    /// Why the objects of an application stay; `None` when they may go.
    pub(crate) fn stay(&self, application: &ApplicationName) -> Option<&Stay> {
        let own = self.applications.get(application);
        let kept = own.filter(|stay| matches!(stay, Stay::Kept(_)));
        kept.or(self.everything.as_ref()).or(own)
    }
}

/// Finds what holds removals back. `inventory` may leave out what is wanted; `damaged` is what is wrong with the ledger,
/// if anything.
pub(crate) fn guards<'a>(
    desired: &Desired,
    resolved: &Resolved,
    inventory: impl IntoIterator<Item = (&'a ObjectKey, &'a Entry)>,
    damaged: Option<&str>,
) -> Guards {
    let mut guards = Guards::default();
    if let Some(damage) = damaged {
        guards.everything = Some(Stay::Blocked(format!(
            "nothing is removed while the agent's ledger is damaged ({damage})"
        )));
    } else if let Removals::Held(why) = &desired.removals {
        guards.everything = Some(Stay::Blocked(why.clone()));
    }
    let mut leaving: BTreeMap<&ApplicationName, usize> = BTreeMap::new();
    for (key, entry) in inventory {
        if resolved.wanted.contains_key(key) {
            continue;
        }
        if resolved.may_become(key) {
            guards.may_become.insert(key.clone());
            continue;
        }
        *leaving.entry(&entry.application).or_default() += 1;
    }
    for application in &desired.applications {
        let name = &application.name;
        let stay = if let Some(why) = resolved.held.get(name) {
            Some(Stay::Kept(why.clone()))
        } else {
            let gone = leaving.get(name).copied().unwrap_or(0);
            let kept = application.objects().len();
            let approval = Approval {
                application: name.clone(),
                digest: application.digest(),
            };
            match &application.content {
                Content::Objects { settings, .. } if settings.detect_only => Some(Stay::Kept(
                    "it left Git and stays: the application only detects (sync.detectOnly)".into(),
                )),
                Content::Objects { settings, .. } if settings.prune => {
                    let held = settings.prune_budget.is_exceeded_by(gone, kept)
                        && !desired.approvals.contains(&approval);
                    held.then(|| {
                        Stay::Unapproved(format!(
                            "{gone} objects would be removed and {kept} stay: `muster approve {name}` lets them go \
                             (application digest {}), or put them back",
                            approval.digest.short()
                        ))
                    })
                }
                Content::Objects { .. } | Content::Keep(_) => Some(Stay::Kept(
                    "it left Git and stays: the application does not prune".into(),
                )),
            }
        };
        if let Some(stay) = stay {
            guards.applications.insert(name.clone(), stay);
        }
    }
    guards
}
