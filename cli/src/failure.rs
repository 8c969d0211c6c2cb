//! What ends a command: one line that says what happened and what to do.

use std::fmt;
use std::io;

use tonic::{Code, Status};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Told in one line.
    Told(String),
    /// The command line makes no sense together with what is configured.
    Usage(String),
    /// Nobody answers where the hub should be.
    Unreachable {
        /// Where: `host:port`.
        server: String,
        /// What happened.
        why: String,
    },
    /// The hub refused or could not answer.
    Hub {
        /// Which hub: `host:port`.
        server: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// The reader of our output has gone (`muster clusters | head -1`): no failure of ours.
    OutputClosed,
}

impl Failure {
    /// A failure told in one line.
    pub(crate) fn told(line: impl Into<String>) -> Self {
        Self::Told(line.into())
    }

    /// The hub's refusal.
    pub(crate) fn hub(server: &str, status: Status) -> Self {
        Self::Hub {
            server: server.to_owned(),
            status: Box::new(status),
        }
    }

    /// May the same question succeed in a moment, because only the way to the hub failed?
    pub(crate) fn may_pass(&self) -> bool {
        // `Unknown` and `Cancelled` are what a connection that breaks in the middle of an answer gives.
        let passing = [
            Code::Unavailable,
            Code::Unknown,
            Code::Cancelled,
            Code::Aborted,
            Code::DeadlineExceeded,
            Code::Internal,
        ];
        match self {
            Self::Unreachable { .. } => true,
            Self::Hub { status, .. } => passing.contains(&status.code()),
            _ => false,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Told(format!("the output can't be written: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            Self::Told(line) | Self::Usage(line) => line.clone(),
            Self::Unreachable { server, why } => format!(
                "can't reach the hub at {server}: {why}; is it running, and is this the address of its API?"
            ),
            Self::Hub { server, status } => hub_line(server, status),
            Self::OutputClosed => "the output was closed".to_owned(),
        };
        f.write_str(&crate::text::clean(&line))
    }
}

fn hub_line(server: &str, status: &Status) -> String {
    let said = status.message().trim_end_matches('.');
    match status.code() {
        Code::Unauthenticated => format!(
            "the hub at {server} does not know this token: give another with MUSTER_TOKEN or `muster context add` (its first one is in the file admin-token in its data directory)"
        ),
        Code::PermissionDenied => format!("the hub at {server} does not allow this: {said}"),
        Code::Unavailable => format!("the hub at {server} can't answer now: {said}"),
        Code::DeadlineExceeded | Code::Cancelled => {
            format!("the hub at {server} did not answer in time; try again")
        }
        Code::Unimplemented => format!(
            "the hub at {server} is too old for this command; compare with `muster version`"
        ),
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists => {
            said.to_owned()
        }
        code => format!("the hub at {server} failed: {said} ({code:?}); its log says more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_the_hub_says() {
        let status = Status::invalid_argument("bad selector:\n  \"a=\"\u{1b}[31m");
        assert_eq!(
            Failure::hub("h:1", status).to_string(),
            "bad selector:   \"a=\" [31m"
        );
    }

    #[test]
    fn a_refused_token_says_what_to_do() {
        let failure = Failure::hub("h:1", Status::unauthenticated("unknown token"));
        assert!(failure.to_string().contains("MUSTER_TOKEN"));
        assert!(!failure.may_pass());
        assert!(Failure::hub("h:1", Status::unavailable("gone")).may_pass());
    }
}
