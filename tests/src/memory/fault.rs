//! Faults that a test asks for.
//!
//! In: a rule, set while the server runs. Out: for each call, whether it fails and how.

use std::sync::Arc;

/// One call, as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `get list watch create update patch apply delete deletecollection`.
    pub verb: &'a str,
    /// The path.
    pub path: &'a str,
    /// The User-Agent.
    pub agent: &'a str,
    /// The field manager: as the query says, else the first word of the User-Agent.
    pub manager: &'a str,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is answered with this HTTP status, and has no effect.
    Status(u16),
}

/// Decides which calls fail.
pub type Rule = Arc<dyn Fn(&Call<'_>) -> Option<Fault> + Send + Sync>;

impl Call<'_> {
    /// Whether the call would change anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }
}
