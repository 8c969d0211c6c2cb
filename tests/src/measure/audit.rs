//! Who called the API server, as the server wrote it down.
//!
//! In: the audit log of `cluster::real::start_audited`. Out: calls of one program since a mark, in order.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// The log.
pub(super) struct Audit {
    file: PathBuf,
}

/// A place in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(u64);

/// One call that was answered, or a watch that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) verb: String,
    /// Empty for what is no resource, as discovery.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
}

impl Call {
    pub(super) fn is_write(&self) -> bool {
        matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        )
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
}

impl Audit {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Everything so far is before it.
    pub(super) fn mark(&self) -> Result<Mark> {
        let size = std::fs::metadata(&self.file)
            .context("the audit log")?
            .len();
        Ok(Mark(size))
    }

    /// The calls of the programs whose user agent begins with `program`.
    pub(super) fn since(&self, mark: Mark, program: &str) -> Result<Vec<Call>> {
        let mut file = File::open(&self.file).context("the audit log")?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut calls = Vec::new();
        for line in BufReader::new(file).lines() {
            calls.extend(read(&line?, program)?);
        }
        Ok(calls)
    }
}

/// The call a line is about, if it is one of this program; a watch counts when it begins, any other when it ends.
fn read(line: &str, program: &str) -> Result<Option<Call>> {
    let event: Event =
        serde_json::from_str(line).with_context(|| format!("no audit event: {line}"))?;
    let stage = if event.verb == "watch" {
        "ResponseStarted"
    } else {
        "ResponseComplete"
    };
    if event.stage != stage || !event.user_agent.starts_with(program) {
        return Ok(None);
    }
    Ok(Some(Call {
        verb: event.verb,
        resource: event.object_ref.resource,
        namespace: event.object_ref.namespace,
        name: event.object_ref.name,
        began: event.request_received_timestamp,
        ended: event.stage_timestamp,
    }))
}

/// Seconds from the beginning of the first to the end of the last.
pub(super) fn seconds(calls: &[Call]) -> f64 {
    let began = calls.iter().map(|call| call.began).min();
    let ended = calls.iter().map(|call| call.ended).max();
    match (began, ended) {
        (Some(began), Some(ended)) => ended.duration_since(began).as_secs_f64(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call_of_one_program() {
        let line = r#"{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/x","verb":"patch",
            "user":{"username":"admin"},"userAgent":"muster-agent/0.1.0","objectRef":{"resource":"configmaps",
            "namespace":"shop","name":"settings","apiVersion":"v1"},"responseStatus":{"code":200},
            "requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.250000Z"}"#;
        let line = line.replace('\n', "");
        let call = read(&line, "muster-agent")
            .expect("an event")
            .expect("a call");
        assert_eq!(
            (call.verb.as_str(), call.name.as_str()),
            ("patch", "settings")
        );
        assert!(call.is_write());
        assert!((seconds(&[call]) - 0.25).abs() < 1e-9);
        assert_eq!(read(&line, "kubectl").expect("an event"), None);
        let discovery = line.replace("\"objectRef\":{\"resource\":\"configmaps\",", "\"x\":{");
        let call = read(&discovery, "muster")
            .expect("an event")
            .expect("a call");
        assert_eq!(call.resource, "");
    }
}
