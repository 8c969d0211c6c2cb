//! What the API server shows of the ledger's Secrets, watched by their metadata: that another agent took the cluster
//! (two appliers of one name overwrite each other without any conflict, so the older one must not go on repairing until
//! it happens to write the ledger), and that somebody's hand was in it.
//!
//! In: a client. Out: [`Shown`], anew at every change. [`super::Ledger::look`] judges it.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt as _};

use super::{INSTANCE, LABEL, ROOT, version};
use crate::live::watches::trouble;

/// The Secrets that carry the ledger's label, as they were at one moment, which may be a little while ago.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Resource versions by name.
    pub(super) versions: BTreeMap<String, u64>,
    /// The process that the root names.
    instance: Option<String>,
}

impl Shown {
    /// Another process than `instance` took the cluster; the text says what to do.
    pub(crate) fn taken(&self, instance: &str) -> Option<String> {
        let other = self
            .instance
            .as_deref()
            .filter(|other| *other != instance)?;
        Some(format!(
            "another agent took this cluster (instance {other}): run one agent only and stop the other"
        ))
    }

    fn put(&mut self, secret: &PartialObjectMeta<Secret>) {
        let name = secret.name_any();
        if name == ROOT {
            self.instance = secret.annotations().get(INSTANCE).cloned();
        }
        self.versions
            .insert(name, version(secret.resource_version()));
    }

    fn drop(&mut self, secret: &PartialObjectMeta<Secret>) {
        self.versions.remove(&secret.name_any());
    }
}

/// Never ends.
pub(crate) fn shown(client: Client, namespace: &str) -> impl Stream<Item = Shown> + use<> {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, namespace);
    let events = watcher(secrets, watcher::Config::default().labels(LABEL)).default_backoff();
    let (mut shown, mut listed) = (Shown::default(), Shown::default());
    events.filter_map(move |event| {
        let news = match event {
            Ok(Event::Init) => {
                listed = Shown::default();
                false
            }
            Ok(Event::InitApply(secret)) => {
                listed.put(&secret);
                false
            }
            Ok(Event::InitDone) => {
                shown = std::mem::take(&mut listed);
                true
            }
            Ok(Event::Apply(secret)) => {
                shown.put(&secret);
                true
            }
            Ok(Event::Delete(secret)) => {
                shown.drop(&secret);
                true
            }
            Err(error) => {
                let error = trouble(&error).error;
                tracing::debug!(error, "the watch of the ledger fails, and is tried again");
                false
            }
        };
        std::future::ready(news.then(|| shown.clone()))
    })
}
