//! How a cluster is a member of its fleet: by what it keeps, or by a join token.
//!
//! In: the store and the token of the configuration. Out: credentials that are kept. An API server or a hub that is away
//! for now is asked again; a token that does not work never takes down a cluster that is a member already.

use std::time::Duration;

use anyhow::bail;
use muster_proto::join_token::JoinToken;

use crate::backoff::Backoff;
use crate::cluster_access::cluster_uid;
use crate::config::{Join, Options};
use crate::credentials::Credentials;
use crate::enrol::{Way, enrol, token_digest};

/// How long a new token is tried by a cluster that is a member already.
const JOIN_AGAIN: Duration = Duration::from_secs(60);

/// Who this agent is.
///
/// # Errors
/// When it is nobody yet and has no token that lets it in, or when what is kept is damaged.
pub async fn credentials(
    client: &kube::Client,
    options: &Options,
    way: &Way,
) -> anyhow::Result<Credentials> {
    let place = &options.credentials;
    let held = load(client, options, way).await?;
    let joined = match (held, &options.join) {
        (Some(held), Join::Absent(_)) => return Ok(held),
        (Some(held), Join::Token(token)) if held.joined_with == token_digest(token) => {
            return Ok(held);
        }
        (Some(held), Join::Token(token)) => {
            tracing::info!(cluster = %held.cluster, "there is a new join token: joining again");
            let joining = tokio::time::timeout(JOIN_AGAIN, join(client, options, way, token));
            let why = match joining.await {
                Ok(Ok(joined)) => return keep(client, options, way, joined).await,
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "the hub could not be reached".to_owned(),
            };
            tracing::warn!(cluster = %held.cluster, reason = why, "the new join token does not work: going on with the credentials in {place}");
            return Ok(held);
        }
        (None, Join::Token(token)) => join(client, options, way, token).await?,
        (None, Join::Absent(why)) => bail!(
            "this cluster is not a member yet (nothing is kept in {place}), and {why}: get a token by `muster cluster join NAME` and pass it with --join-token"
        ),
    };
    keep(client, options, way, joined).await
}

/// What is kept, with the hub's address that the configuration prefers.
async fn load(
    client: &kube::Client,
    options: &Options,
    way: &Way,
) -> anyhow::Result<Option<Credentials>> {
    let mut backoff = Backoff::new(options.waits);
    let mut held = loop {
        match options.credentials.load(client).await {
            Ok(held) => break held,
            Err(error) if error.may_pass() => {
                let what = "the agent can't begin before it knows who it is: nothing is applied or repaired, and the hub hears nothing of it. See that the API server answers and lets the agent read that Secret; it tries again";
                retry(what, &error, &mut backoff, way).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if let (Some(held), Some(hub)) = (&mut held, &options.hub) {
        held.hub.clone_from(hub);
    }
    Ok(held)
}

async fn join(
    client: &kube::Client,
    options: &Options,
    way: &Way,
    token: &JoinToken,
) -> anyhow::Result<Credentials> {
    options.credentials.prepare().await?;
    let mut backoff = Backoff::new(options.waits);
    let uid = loop {
        match cluster_uid(client).await {
            Ok(uid) => break uid,
            Err(error) => {
                let what = "can't join yet: which cluster this is must be known first";
                retry(what, &format!("{error:#}"), &mut backoff, way).await;
            }
        }
    };
    enrol(token, options, way, &uid).await
}

/// The token is spent: what came for it is not given up.
async fn keep(
    client: &kube::Client,
    options: &Options,
    way: &Way,
    joined: Credentials,
) -> anyhow::Result<Credentials> {
    let mut backoff = Backoff::new(options.waits);
    while let Err(error) = options.credentials.save(client, &joined).await {
        let what = "the cluster has joined, and the agent begins once its credentials are kept";
        retry(what, &error, &mut backoff, way).await;
    }
    tracing::info!(cluster = %joined.cluster, place = %options.credentials, "joined the fleet");
    Ok(joined)
}

async fn retry(what: &str, error: &impl std::fmt::Display, backoff: &mut Backoff, way: &Way) {
    let wait = backoff.next((way.random)());
    tracing::warn!(%error, retry_in = ?wait, "{what}");
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use muster_proto::tls::proxy::Proxies;
    use muster_proto::wire::v1::EnrolResponse;
    use serde_json::json;
    use tonic::Status;

    use super::*;
    use crate::backoff::Waits;
    use crate::credentials::Place;
    use crate::enrol::by_tls;
    use crate::scripted::{ScriptedHub, client_that_answers};

    /// Knows which cluster it is and nothing else.
    fn client() -> kube::Client {
        client_that_answers(|(parts, _)| {
            assert_eq!(parts.uri.path(), "/api/v1/namespaces/kube-system");
            (
                200,
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "uid-1"}}),
            )
        })
    }

    async fn joined(options: &Options) -> anyhow::Result<Credentials> {
        credentials(&client(), options, &by_tls(Proxies::default())).await
    }

    fn token(hub: &ScriptedHub, secret: &str) -> Join {
        Join::Token(JoinToken {
            cluster: "eu-1".parse().unwrap(),
            agents_address: hub.agents.to_string(),
            enrolment_address: hub.enrolment.to_string(),
            ca_sha256: hub.ca.pin(),
            secret: secret.into(),
        })
    }

    fn options(join: Join, folder: &tempfile::TempDir) -> Options {
        Options {
            join,
            credentials: Place::Directory(folder.path().join("agent")),
            namespace: "muster-system".into(),
            hub: None,
            enrolment: None,
            proxies: Proxies::default(),
            waits: Waits::default(),
            clock: crate::clock::Clock::system(),
        }
    }

    /// Lets in whoever comes with that secret; counts the others too.
    fn lets_in(hub: &ScriptedHub, secret: &'static str) -> Arc<AtomicU32> {
        let (ca, tries) = (hub.ca.clone(), Arc::new(AtomicU32::new(0)));
        let counted = tries.clone();
        hub.enrols(move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            if request.secret != secret {
                return Err(Status::permission_denied("this join token has expired"));
            }
            let certificates = ca.sign(&request.csr_der, "eu-1");
            Ok(EnrolResponse {
                cluster: "eu-1".into(),
                certificates_der: certificates.into_iter().map(Into::into).collect(),
            })
        });
        tries
    }

    #[tokio::test]
    async fn a_token_is_used_once_and_not_needed_again() {
        let (hub, folder) = (ScriptedHub::start().await, tempfile::tempdir().unwrap());
        let tries = lets_in(&hub, "one");
        let with_token = options(token(&hub, "one"), &folder);
        let first = joined(&with_token).await.unwrap();
        assert_eq!(joined(&with_token).await.unwrap(), first);
        let without = options(Join::Absent("no token is given".into()), &folder);
        assert_eq!(joined(&without).await.unwrap(), first);
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn another_token_means_to_join_again() {
        let (hub, folder) = (ScriptedHub::start().await, tempfile::tempdir().unwrap());
        lets_in(&hub, "one");
        let first = joined(&options(token(&hub, "one"), &folder)).await.unwrap();
        lets_in(&hub, "two");
        let again = options(token(&hub, "two"), &folder);
        let second = joined(&again).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(joined(&again).await.unwrap(), second);
    }

    #[tokio::test]
    async fn another_token_that_does_not_work_leaves_the_cluster_a_member() {
        let (hub, folder) = (ScriptedHub::start().await, tempfile::tempdir().unwrap());
        lets_in(&hub, "one");
        let first = joined(&options(token(&hub, "one"), &folder)).await.unwrap();
        let expired = options(token(&hub, "expired"), &folder);
        assert_eq!(joined(&expired).await.unwrap(), first);
    }

    #[tokio::test]
    async fn a_newcomer_without_a_token_is_told_how_to_get_one() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(Join::Absent("no --join-token is given".into()), &folder);
        let message = joined(&options).await.unwrap_err().to_string();
        let expected = format!(
            "this cluster is not a member yet (nothing is kept in {}/agent/credentials.json), and no --join-token is given: get a token by `muster cluster join NAME` and pass it with --join-token",
            folder.path().display()
        );
        assert_eq!(message, expected);
    }

    #[tokio::test]
    async fn an_expired_token_ends_a_newcomer_with_the_hubs_words() {
        let (hub, folder) = (ScriptedHub::start().await, tempfile::tempdir().unwrap());
        lets_in(&hub, "one");
        let options = options(token(&hub, "expired"), &folder);
        let message = format!("{:#}", joined(&options).await.unwrap_err());
        assert!(
            message.ends_with("says: this join token has expired"),
            "{message}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_can_not_be_read_for_now_are_read_when_they_can() {
        let folder = tempfile::tempdir().unwrap();
        let held = crate::scripted::TestCa::new().credentials("eu-1", "h:1");
        let kept = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "muster-agent"},
            "data": {"credentials.json": k8s_openapi::ByteString(held.to_bytes())}});
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        let refusal = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403,
            "reason": "Forbidden", "message": "secrets \"muster-agent\" is forbidden"});
        let client = client_that_answers(move |(parts, _)| {
            assert_eq!(parts.method, http::Method::GET);
            match counted.fetch_add(1, Ordering::Relaxed) {
                0..20 => (403, refusal.clone()),
                _ => (200, kept.clone()),
            }
        });
        let options = Options {
            credentials: Place::Secret {
                namespace: "muster-system".into(),
                name: "muster-agent".into(),
            },
            ..options(Join::Absent("no token is given".into()), &folder)
        };
        let way = by_tls(Proxies::default());
        let read = credentials(&client, &options, &way).await.unwrap();
        assert_eq!(read, held);
        assert_eq!(tries.load(Ordering::Relaxed), 21);
    }

    #[tokio::test]
    async fn damaged_credentials_are_not_replaced_behind_a_persons_back() {
        let (hub, folder) = (ScriptedHub::start().await, tempfile::tempdir().unwrap());
        let tries = lets_in(&hub, "one");
        std::fs::create_dir(folder.path().join("agent")).unwrap();
        std::fs::write(folder.path().join("agent/credentials.json"), "{").unwrap();
        let options = options(token(&hub, "one"), &folder);
        let message = joined(&options).await.unwrap_err().to_string();
        assert!(message.contains("are damaged"), "{message}");
        assert_eq!(tries.load(Ordering::Relaxed), 0);
    }
}
