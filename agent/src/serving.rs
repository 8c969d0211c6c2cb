//! Which API versions this cluster serves, of those that charts of the fleet ask about.
//!
//! In: what is asked, in Helm's words. Out: [`ApiVersions`], at first and whenever an answer changes. Discovery is asked,
//! and asked again when a definition or an aggregated API comes, goes or changes: these are watched by their metadata,
//! and nothing of them is kept. Where nothing is asked, nothing runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Client;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use muster_proto::wire::v1::ApiVersions;
use tokio::time::{Instant, sleep_until};

use crate::apply::said;
use crate::live::watches::trouble;

/// Discovery follows a change by a moment; changes come in bursts.
const SOON: Duration = Duration::from_millis(300);
/// An aggregated API is served when its server is. The looks after a change are further and further apart, up to this.
const LATE: Duration = Duration::from_secs(30);
/// When to look while something can't be found out, or can't be watched.
const WHILE_BLIND: Duration = Duration::from_secs(60);

/// Answers for as long as it is polled.
pub(crate) fn answers(client: Client, asked: &[String]) -> impl Stream<Item = ApiVersions> + use<> {
    let changes = match asked.is_empty() {
        true => stream::pending().boxed(),
        false => changes(client.clone()),
    };
    let looking = Looking::new(client, asked, changes);
    stream::unfold(looking, |mut looking| async move {
        let news = looking.news().await;
        Some((news, looking))
    })
}

struct Looking {
    client: Client,
    /// What is asked, by the API version that discovery knows it by.
    of: BTreeMap<String, BTreeSet<String>>,
    changes: BoxStream<'static, Change>,
    /// When to look.
    next: Option<Instant>,
    /// Between that and the look after it; above [`LATE`] there is none.
    pause: Duration,
    told: Option<ApiVersions>,
}

/// What may make for another answer.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// A watch was opened, and may have missed something before.
    Opened,
    /// A definition or an aggregated API came, went, or became another one.
    Seen,
    /// Nothing can be watched.
    Blind,
}

impl Looking {
    fn new(client: Client, asked: &[String], changes: BoxStream<'static, Change>) -> Self {
        let mut of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for asked in asked {
            let (version, _) = split(asked);
            let of = of.entry(version.to_owned()).or_default();
            of.insert(asked.clone());
        }
        Self {
            client,
            next: (!of.is_empty()).then(Instant::now),
            of,
            changes,
            pause: LATE * 2,
            told: None,
        }
    }

    /// The next answer that is another one than the last.
    async fn news(&mut self) -> ApiVersions {
        loop {
            let next = self.next;
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(change) = self.changes.next() => self.changed(change),
                () = due => {
                    let (answer, whole) = look(&self.client, &self.of).await;
                    self.looked(whole);
                    if self.told.as_ref() != Some(&answer) {
                        self.told = Some(answer.clone());
                        return answer;
                    }
                }
            }
        }
    }

    fn changed(&mut self, change: Change) {
        let now = Instant::now();
        let soon = self.next.map_or(now + SOON, |next| next.min(now + SOON));
        match change {
            Change::Opened => self.next = Some(soon),
            Change::Seen => (self.next, self.pause) = (Some(soon), SOON * 2),
            Change::Blind => self.next = self.next.or(Some(now + WHILE_BLIND)),
        }
    }

    fn looked(&mut self, whole: bool) {
        let now = Instant::now();
        self.next = match (self.pause <= LATE, whole) {
            (true, _) => Some(now + self.pause),
            (false, true) => None,
            (false, false) => Some(now + WHILE_BLIND),
        };
        self.pause = (self.pause * 2).min(LATE * 2);
    }
}

/// What is served and what is not, and whether everything could be found out.
async fn look(client: &Client, of: &BTreeMap<String, BTreeSet<String>>) -> (ApiVersions, bool) {
    let mut answer = ApiVersions::default();
    let mut whole = true;
    for (version, asked) in of {
        match kinds(client, version).await {
            Err(error) => {
                let error = said(&error);
                tracing::debug!(%version, error, "whether an API version is served can't be found out");
                whole = false;
            }
            Ok(kinds) => {
                for asked in asked {
                    let served = match (&kinds, split(asked).1) {
                        (None, _) => false,
                        (Some(_), None) => true,
                        (Some(kinds), Some(kind)) => kinds.contains(kind),
                    };
                    let list = match served {
                        true => &mut answer.served,
                        false => &mut answer.missing,
                    };
                    list.push(asked.clone());
                }
            }
        }
    }
    (answer, whole)
}

/// `example.com/v1/Thing` as API version and kind: the core version has no group, and only versions look like `v1`.
fn split(asked: &str) -> (&str, Option<&str>) {
    match asked.rsplit_once('/') {
        Some((version, kind)) if version.contains('/') || is_version(version) => {
            (version, Some(kind))
        }
        _ => (asked, None),
    }
}

fn is_version(text: &str) -> bool {
    let mut letters = text.bytes();
    letters.next() == Some(b'v')
        && letters.next().is_some_and(|it| it.is_ascii_digit())
        && !text.contains('.')
}

/// The kinds of an API version as Helm knows them, those of subresources too; `None` when it is not served.
async fn kinds(client: &Client, version: &str) -> Result<Option<BTreeSet<String>>, kube::Error> {
    let list = match version.contains('/') {
        true => client.list_api_group_resources(version).await,
        false => client.list_core_api_resources(version).await,
    };
    let kinds = |list: APIResourceList| list.resources.into_iter().map(|it| it.kind).collect();
    match list {
        Ok(list) => Ok(Some(kinds(list))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn changes(client: Client) -> BoxStream<'static, Change> {
    let definitions: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let services: Api<PartialObjectMeta<APIService>> = Api::all(client);
    let watch = watcher::Config::default;
    stream::select(
        watcher(definitions, watch())
            .default_backoff()
            .filter_map(of),
        watcher(services, watch()).default_backoff().filter_map(of),
    )
    .boxed()
}

async fn of<T>(event: watcher::Result<Event<T>>) -> Option<Change> {
    match event {
        Ok(Event::Init | Event::InitApply(_)) => None,
        Ok(Event::InitDone) => Some(Change::Opened),
        Ok(Event::Apply(_) | Event::Delete(_)) => Some(Change::Seen),
        Err(error) => {
            let error = trouble(&error).error;
            tracing::debug!(
                error,
                "the watch of what the cluster serves fails, and is tried again"
            );
            Some(Change::Blind)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use futures::channel::mpsc;
    use serde_json::json;

    use super::*;
    use crate::scripted::client_that_answers;

    #[test]
    fn what_is_asked_is_an_api_version_or_a_kind_of_one() {
        let cases = [
            ("v1", ("v1", None)),
            ("v1/ConfigMap", ("v1", Some("ConfigMap"))),
            ("apps/v1", ("apps/v1", None)),
            ("apps/v1/Deployment", ("apps/v1", Some("Deployment"))),
            ("v1beta1.example.com/v1", ("v1beta1.example.com/v1", None)),
        ];
        for (asked, expected) in cases {
            assert_eq!(split(asked), expected, "{asked}");
        }
    }

    /// What an API server answers for `/apis/example.com/v1`: a status code and its kinds.
    type Serves = Arc<Mutex<(u16, Vec<&'static str>)>>;

    /// Looks at a cluster that serves ConfigMaps, and of `example.com/v1` what it is told to.
    fn looking(serves: &Serves) -> (Looking, mpsc::UnboundedSender<Change>, Arc<AtomicUsize>) {
        let (serves, looks) = (serves.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = looks.clone();
        let client = client_that_answers(move |(request, _)| {
            let (code, kinds) = match request.uri.path() {
                "/api/v1" => (200, vec!["ConfigMap", "Binding"]),
                "/apis/example.com/v1" => {
                    counted.fetch_add(1, Ordering::SeqCst);
                    serves.lock().unwrap().clone()
                }
                path => panic!("nobody asked for {path}"),
            };
            let resource = |kind: &&str| json!({"name": "x", "singularName": "", "namespaced": true, "kind": kind, "verbs": []});
            let resources: Vec<_> = kinds.iter().map(resource).collect();
            let answer = match code {
                200 => json!({"groupVersion": "example.com/v1", "resources": resources}),
                code => {
                    json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "no", "code": code})
                }
            };
            (code, answer)
        });
        let (changed, changes) = mpsc::unbounded();
        let asked = [
            "v1/ConfigMap",
            "v1/Thing",
            "example.com/v1",
            "example.com/v1/Thing",
        ];
        let looking = Looking::new(client, &asked.map(str::to_owned), changes.boxed());
        (looking, changed, looks)
    }

    fn answer(served: &[&str], missing: &[&str]) -> ApiVersions {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        ApiVersions {
            served: texts(served),
            missing: texts(missing),
        }
    }

    #[tokio::test]
    async fn a_definition_that_comes_is_told_when_discovery_has_it() {
        let serves = Serves::new(Mutex::new((404, Vec::new())));
        tokio::time::pause();
        let (mut looking, changed, looks) = looking(&serves);
        let news = looking.news().await;
        let absent = ["example.com/v1", "example.com/v1/Thing", "v1/Thing"];
        assert_eq!(news, answer(&["v1/ConfigMap"], &absent));
        // Without a change, nothing is asked again.
        let day = Duration::from_secs(86_400);
        assert!(tokio::time::timeout(day, looking.news()).await.is_err());
        assert_eq!(looks.load(Ordering::SeqCst), 1);

        // The definition is there before its kind is served.
        changed.unbounded_send(Change::Seen).unwrap();
        assert!(
            tokio::time::timeout(SOON * 2, looking.news())
                .await
                .is_err()
        );
        *serves.lock().unwrap() = (200, vec!["Thing"]);
        let news = tokio::time::timeout(SOON * 4, looking.news()).await;
        let served = ["example.com/v1", "example.com/v1/Thing", "v1/ConfigMap"];
        assert_eq!(news.unwrap(), answer(&served, &["v1/Thing"]));
        assert!(tokio::time::timeout(day, looking.news()).await.is_err());
        assert!(looks.load(Ordering::SeqCst) < 12, "{looks:?}");
    }

    #[tokio::test]
    async fn what_can_not_be_found_out_is_not_taken_for_missing_and_is_looked_for_again() {
        let serves = Serves::new(Mutex::new((503, Vec::new())));
        tokio::time::pause();
        let (mut looking, _changed, _) = looking(&serves);
        let news = looking.news().await;
        assert_eq!(news, answer(&["v1/ConfigMap"], &["v1/Thing"]));
        *serves.lock().unwrap() = (200, Vec::new());
        let news = tokio::time::timeout(WHILE_BLIND * 2, looking.news()).await;
        assert_eq!(
            news.unwrap(),
            answer(
                &["example.com/v1", "v1/ConfigMap"],
                &["example.com/v1/Thing", "v1/Thing"]
            )
        );
    }
}
