//! From messages to text: pure functions, the time is an argument.

pub(crate) mod applications;
pub(crate) mod check;
pub(crate) mod clusters;
pub(crate) mod diff;
pub(crate) mod drift;
pub(crate) mod manifests;
pub(crate) mod object;
pub(crate) mod pauses;
pub(crate) mod plan;
mod rows;
pub(crate) mod status;
mod values;
pub(crate) mod words;

use muster_proto::Timestamp;

use crate::args::{Output, ViewArgs};

/// How answers should look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// More columns.
    pub(crate) wide: bool,
    /// Header lines above tables.
    pub(crate) headers: bool,
    /// The time that ages count from.
    pub(crate) now: Timestamp,
}

impl Look {
    /// What the command line asks for.
    pub(crate) fn of(view: &ViewArgs, now: Timestamp) -> Self {
        Self {
            wide: view.output == Output::Wide,
            headers: !view.no_headers,
            now,
        }
    }
}

#[cfg(test)]
pub(crate) mod example;
