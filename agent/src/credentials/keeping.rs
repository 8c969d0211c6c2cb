//! Renewed credentials on their way into their place. They are in use already, so nobody waits: it is tried until it is
//! done, whatever becomes of sessions and engines meanwhile. A restart before that comes back with those before, which
//! the hub takes to their end.
//!
//! In: the newest credentials. Out: why they are not kept yet. One task, [`keep`].

use tokio::sync::watch;

use super::{Credentials, Place, StoreError};
use crate::backoff::{Backoff, Waits};

/// The handle of the task.
#[derive(Debug, Clone)]
pub struct Keeping {
    newest: watch::Sender<Option<Credentials>>,
    unkept: watch::Receiver<String>,
}

impl Keeping {
    /// Keeps these from now on, and not those before.
    pub(crate) fn put(&self, credentials: Credentials) {
        self.newest.send_replace(Some(credentials));
    }

    /// Why the newest ones are not kept yet; empty when nothing is in the way.
    pub(crate) fn unkept(&self) -> watch::Receiver<String> {
        self.unkept.clone()
    }
}

/// Keeps there what is put. The future goes on until no handle is left: spawn it.
pub fn keep(
    place: Place,
    client: kube::Client,
    waits: Waits,
    random: fn() -> f64,
) -> (Keeping, impl Future<Output = ()> + Send + 'static) {
    let (newest, mut put) = watch::channel(None::<Credentials>);
    let (tell, unkept) = watch::channel(String::new());
    let task = async move {
        let mut backoff = Backoff::new(waits);
        while put.changed().await.is_ok() {
            loop {
                // What is put meanwhile replaces what could not be kept.
                let newest = put.borrow_and_update().clone();
                let Some(credentials) = newest else { break };
                let Err(error) = replace(&place, &client, &credentials).await else {
                    break;
                };
                let pause = backoff.next(random());
                tracing::error!(cluster = %credentials.cluster, %error, retry_in = ?pause, "the renewed certificate is in use and can't be kept: a restart comes with the one before, for as long as that is good");
                tell.send_replace(error.to_string());
                tokio::select! {
                    biased;
                    put = put.changed() => if put.is_err() { return },
                    () = tokio::time::sleep(pause) => {}
                }
            }
            backoff = Backoff::new(waits);
            tell.send_replace(String::new());
        }
    };
    (Keeping { newest, unkept }, task)
}

async fn replace(
    place: &Place,
    client: &kube::Client,
    credentials: &Credentials,
) -> Result<(), StoreError> {
    match place.load(client).await {
        // Its agent is the newer one, and the hub takes ours no more.
        Ok(Some(there)) if there.joined_with != credentials.joined_with => {
            tracing::warn!(cluster = %credentials.cluster, %place, "the cluster was joined again meanwhile: those credentials stay");
            return Ok(());
        }
        // Whatever it is, what is written now is whole.
        Ok(_) | Err(StoreError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    place.save(client, credentials).await?;
    tracing::info!(cluster = %credentials.cluster, %place, "the renewed certificate is kept");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use muster_proto::Digest;
    use serde_json::{Value, json};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::scripted::{DEADLINE, TestCa, client_that_answers, eventually};

    /// An API server with one Secret, whose writes are refused while it is shut.
    #[derive(Default)]
    struct Server {
        shut: bool,
        refused: u32,
        secret: Option<Value>,
    }

    struct Bed {
        ca: TestCa,
        server: Arc<Mutex<Server>>,
        place: Place,
        client: kube::Client,
        keeping: Keeping,
        _task: AbortOnDropHandle<()>,
    }

    impl Bed {
        fn new() -> Self {
            let place = Place::Secret {
                namespace: "muster-system".into(),
                name: "muster-agent".into(),
            };
            let server = Arc::new(Mutex::new(Server::default()));
            let asked = server.clone();
            let client = client_that_answers(move |(parts, body)| {
                let mut server = asked.lock().unwrap();
                if parts.method == http::Method::PATCH {
                    if server.shut {
                        server.refused += 1;
                        return (403, status(403, "Forbidden", "the vault is shut"));
                    }
                    server.secret = Some(serde_json::from_slice(&body).unwrap());
                }
                match &server.secret {
                    Some(secret) => (200, secret.clone()),
                    None => (404, status(404, "NotFound", "not found")),
                }
            });
            let waits = Waits {
                first: Duration::from_millis(1),
                longest: Duration::from_millis(5),
                ..Waits::default()
            };
            let (keeping, task) = keep(place.clone(), client.clone(), waits, || 1.0);
            Self {
                ca: TestCa::new(),
                server,
                place,
                client,
                keeping,
                _task: AbortOnDropHandle::new(tokio::spawn(task)),
            }
        }

        fn new_credentials(&self) -> Credentials {
            self.ca.credentials("eu-1", "h:1")
        }

        async fn keeps(&self, credentials: &Credentials) {
            eventually("they are kept", async || {
                let kept = self.place.load(&self.client).await.unwrap();
                (kept.as_ref() == Some(credentials)).then_some(())
            })
            .await;
        }

        async fn says(&self, is: impl Fn(&str) -> bool) -> String {
            let mut unkept = self.keeping.unkept();
            let said = unkept.wait_for(|why| is(why));
            let said = tokio::time::timeout(DEADLINE, said).await;
            said.expect("it is said").unwrap().clone()
        }
    }

    fn status(code: u16, reason: &str, message: &str) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
    }

    #[tokio::test]
    async fn what_can_not_be_kept_is_tried_again_until_the_newest_is_kept() {
        let bed = Bed::new();
        bed.server.lock().unwrap().shut = true;
        bed.keeping.put(bed.new_credentials());
        let why = bed.says(|why| !why.is_empty()).await;
        assert_eq!(
            why,
            "the credentials can't be kept in Secret muster-system/muster-agent: the vault is shut (403 Forbidden)"
        );
        let newer = bed.new_credentials();
        bed.keeping.put(newer.clone());
        eventually("it is tried again and again", async || {
            (bed.server.lock().unwrap().refused >= 5).then_some(())
        })
        .await;
        bed.server.lock().unwrap().shut = false;
        bed.says(str::is_empty).await;
        bed.keeps(&newer).await;
    }

    #[tokio::test]
    async fn credentials_of_a_later_join_are_not_replaced() {
        let bed = Bed::new();
        bed.server.lock().unwrap().shut = true;
        bed.keeping.put(bed.new_credentials());
        bed.says(|why| !why.is_empty()).await;
        let mut joined = bed.new_credentials();
        joined.joined_with = Digest::of(["another token"]);
        let bytes = k8s_openapi::ByteString(joined.to_bytes());
        {
            let mut server = bed.server.lock().unwrap();
            server.secret = Some(json!({"metadata": {}, "data": {"credentials.json": bytes}}));
            server.shut = false;
        }
        bed.says(str::is_empty).await;
        bed.keeps(&joined).await;
    }
}
