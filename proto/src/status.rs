//! What an agent says about applications and objects. Sync and health are two axes and are never merged.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ApplicationName, Digest, ObjectKey};

/// Milliseconds since the Unix epoch, UTC. 0 means never.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub i64);

/// A value that is none of the known words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no known status")]
pub struct UnknownStatus(String);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// The word people and the wire see.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownStatus;

            fn from_str(text: &str) -> Result<Self, UnknownStatus> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(UnknownStatus(other.to_owned())),
                }
            }
        }
    };
}

words!(
    /// Does the cluster hold what Git states? Ordered from good to bad, so that the worst is the maximum.
    SyncStatus {
        /// Every object is as desired and nothing waits to be removed.
        Synced = "Synced",
        /// Left as it is on purpose: the application has no good rendering.
        Kept = "Kept",
        /// On its way: being applied, or waiting for something it depends on.
        Progressing = "Progressing",
        /// Something that left Git may not be removed yet.
        PruneBlocked = "PruneBlocked",
        /// Differs from Git and is not repaired (yet).
        Drifted = "Drifted",
        /// An apply or delete was refused; it is tried again.
        Failed = "Failed",
        /// Nobody knows: never reported.
        Unknown = "Unknown",
    }
);

words!(
    /// Does what was applied work? The words of kstatus, plus Suspended. Ordered from good to bad.
    HealthStatus {
        /// It works.
        Current = "Current",
        /// Stopped on purpose: a paused Deployment, a suspended CronJob.
        Suspended = "Suspended",
        /// Not yet.
        InProgress = "InProgress",
        /// Being deleted.
        Terminating = "Terminating",
        /// It should be there and is not.
        NotFound = "NotFound",
        /// Its conditions say nothing that can be read, or nobody has looked.
        Unknown = "Unknown",
        /// It does not work and needs a person.
        Failed = "Failed",
    }
);

words!(
    /// How an object differed from Git.
    DriftKind {
        /// Values of ours were changed or taken out.
        Changed = "changed",
        /// The object was deleted.
        Missing = "missing",
        /// Fields that Git does not state were put there by a person.
        Added = "added",
    }
);

/// One row: an application on this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationStatus {
    /// Which application.
    pub application: ApplicationName,
    /// The application digest that the row speaks of.
    pub digest: Digest,
    /// Commit of that rendering.
    pub revision: String,
    /// Does the cluster hold it?
    pub sync: SyncStatus,
    /// Does it work? The worst of its objects.
    pub health: HealthStatus,
    /// One sentence a person can act on; empty when all is well.
    pub message: String,
    /// Objects in the desired state.
    pub objects: u32,
    /// Of these, as desired.
    pub synced: u32,
    /// Of these, Current.
    pub healthy: u32,
    /// Objects that left Git and wait to be removed.
    pub waiting: u32,
    /// Of these, those that go once a person approves this application at this digest.
    #[serde(default)]
    pub unapproved: u32,
    /// When sync or health last changed.
    pub since: Timestamp,
}

/// One row: an object that needs a person's eye (not Synced, not Current, or drifted at some time).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Which object, with its namespace filled in.
    pub key: ObjectKey,
    /// Whose it is.
    pub application: ApplicationName,
    /// Is it as desired?
    pub sync: SyncStatus,
    /// Does it work?
    pub health: HealthStatus,
    /// One sentence a person can act on.
    pub message: String,
    /// When sync or health last changed.
    pub since: Timestamp,
    /// What last happened to it behind Git's back.
    pub last_drift: Option<Drift>,
}

/// Who changed what behind Git's back, and when it was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// How it differed.
    pub kind: DriftKind,
    /// Field paths such as `.spec.replicas`; empty when the whole object was missing.
    pub fields: Vec<String>,
    /// Values of the first few of these, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<FieldChange>,
    /// Field manager that holds these fields now; empty when unknown.
    pub manager: String,
    /// When the manager wrote, as the API server noted it; when it was seen, where nobody noted it.
    pub at: Timestamp,
    /// When it was put right; `None` while it stands.
    pub repaired_at: Option<Timestamp>,
    /// How many times since the agent first saw one on this object.
    pub count: u32,
}

/// A field as Git states it and as it was found. Values of Secrets are masked, long ones are cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Such as `.spec.replicas`.
    pub path: String,
    /// In Git, as JSON; `None` when Git does not state it.
    pub desired: Option<String>,
    /// In the cluster, as JSON; `None` when it was taken out.
    pub live: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for word in ["Synced", "PruneBlocked", "Unknown"] {
            assert_eq!(word.parse::<SyncStatus>().unwrap().as_str(), word);
        }
        assert!("synced".parse::<SyncStatus>().is_err());
    }

    #[test]
    fn the_worst_is_the_maximum() {
        assert_eq!(
            [
                HealthStatus::Current,
                HealthStatus::Failed,
                HealthStatus::InProgress
            ]
            .into_iter()
            .max(),
            Some(HealthStatus::Failed)
        );
    }
}
