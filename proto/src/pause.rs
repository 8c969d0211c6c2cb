//! A pause: a person's word that nothing is written to an application's objects on a cluster for a while.
//!
//! The hub keeps it and sends it as part of the desired state; the agent ends it by itself when its time is over.

use serde::{Deserialize, Serialize};

use crate::{ApplicationName, Timestamp};

/// One application on one cluster, left as it is until a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Which application.
    pub application: ApplicationName,
    /// When it ends by itself.
    pub until: Timestamp,
    /// When it was asked for.
    pub since: Timestamp,
    /// Who asked for it: the name of a token.
    pub by: String,
    /// Why, in the person's words; may be empty.
    pub reason: String,
}

impl Pause {
    /// Does it hold at this time?
    pub fn holds(&self, now: Timestamp) -> bool {
        now < self.until
    }
}
