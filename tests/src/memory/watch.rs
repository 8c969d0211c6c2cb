//! Watches: the changes of a kind as they happen, one JSON line each.
//!
//! In: what is watched, and from where. Out: a stream that holds a place in the log of the kind and reads on
//! each time the kind changes; it ends by its timeout, or with an ERROR when its place was forgotten.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::kinds::Kind;
use super::list::{metadata_only, revision_of};
use super::select::Selector;
use super::status::Refusal;
use super::store::{Change, Forgotten};
use super::write::in_version;
use super::{Server, locked};

/// How often a quiet watch hears where the server is.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lasts that does not say.
const LONGEST: u64 = 3600;

/// What a watch asks for.
pub struct Asked {
    /// The kind.
    pub kind: Arc<Kind>,
    /// The namespace; empty for all.
    pub namespace: String,
    /// Which objects.
    pub selector: Selector,
    /// Whether only metadata is wanted.
    pub metadata_only: bool,
    /// After which revision; without one, or with `0`, what is there now comes first.
    pub revision: Option<String>,
    /// Whether what is there now comes first, closed by a bookmark.
    pub initial: bool,
    /// Whether bookmarks are welcome.
    pub bookmarks: bool,
    /// How long it lasts.
    pub seconds: Option<u64>,
}

struct Watch {
    server: Arc<Server>,
    asked: Asked,
    revision: u64,
    changed: tokio::sync::watch::Receiver<u64>,
    ready: VecDeque<Bytes>,
    end: Instant,
    bookmark: Instant,
    ended: bool,
}

/// Starts a watch.
pub(super) fn watch(
    server: &Arc<Server>,
    asked: Asked,
) -> Result<impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + use<>, Refusal> {
    let mut state = locked(server);
    let resource = asked.kind.store();
    let changed = state.store.subscribe(&resource);
    let mut ready = VecDeque::new();
    let given = revision_of(asked.revision.as_deref())?;
    let mut revision = given;
    if given == 0 || asked.initial {
        revision = state.store.revision();
        for (_, object) in state.store.list(&resource, &asked.namespace) {
            if asked.selector.matches(object) {
                ready.push_back(asked.event("ADDED", object));
            }
        }
        if asked.initial && asked.bookmarks {
            ready.push_back(asked.bookmark(revision, true));
        }
    }
    drop(state);
    let now = Instant::now();
    let watch = Watch {
        server: server.clone(),
        end: now + Duration::from_secs(asked.seconds.unwrap_or(LONGEST)),
        bookmark: now + BOOKMARK,
        asked,
        revision,
        changed,
        ready,
        ended: false,
    };
    Ok(futures::stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok(line), watch))
    }))
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.changed.borrow_and_update();
            self.read();
            if !self.ready.is_empty() {
                continue;
            }
            let until = if self.asked.bookmarks {
                self.end.min(self.bookmark)
            } else {
                self.end
            };
            match timeout_at(until, self.changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) if Instant::now() >= self.end => return None,
                Err(_) => {
                    self.bookmark = Instant::now() + BOOKMARK;
                    self.ready
                        .push_back(self.asked.bookmark(self.revision, false));
                }
            }
        }
    }

    /// Takes what the log has after our place.
    fn read(&mut self) {
        let state = locked(&self.server);
        match state.store.since(&self.asked.kind.store(), self.revision) {
            Ok(changes) => {
                for change in &changes {
                    self.ready.extend(self.asked.line(change));
                }
                // Nothing of this kind lies between here and now.
                self.revision = self.revision.max(state.store.revision());
            }
            Err(Forgotten { oldest }) => {
                let message = format!("too old resource version: {} ({oldest})", self.revision);
                let event = json!({"type": "ERROR", "object": Refusal::expired(message).to_json()});
                self.ready.push_back(Bytes::from(format!("{event}\n")));
                self.ended = true;
            }
        }
    }
}

impl Asked {
    /// What a change is to somebody who sees only what the selector means.
    fn line(&self, change: &Change) -> Option<Bytes> {
        let in_namespace = |object: &Value| {
            self.namespace.is_empty() || object["metadata"]["namespace"] == self.namespace.as_str()
        };
        if !in_namespace(&change.object) {
            return None;
        }
        let before = change
            .before
            .as_deref()
            .filter(|b| self.selector.matches(b));
        let matches = self.selector.matches(&change.object);
        match (before, matches && !change.deleted) {
            (None, true) => Some(self.event("ADDED", &change.object)),
            (Some(_), true) => Some(self.event("MODIFIED", &change.object)),
            (Some(before), false) => {
                let mut last = before.clone();
                last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                Some(self.event("DELETED", &last))
            }
            (None, false) => None,
        }
    }

    fn event(&self, kind: &str, object: &Value) -> Bytes {
        let object = in_version(&self.kind, object);
        let object = if self.metadata_only {
            metadata_only(&object)
        } else {
            object
        };
        Bytes::from(format!("{}\n", json!({"type": kind, "object": object})))
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.metadata_only {
            true => (
                "PartialObjectMetadata".to_owned(),
                "meta.k8s.io/v1".to_owned(),
            ),
            false => (self.kind.kind.clone(), self.kind.api_version()),
        };
        let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        Bytes::from(format!(
            "{}\n",
            json!({"type": "BOOKMARK", "object": object})
        ))
    }
}
