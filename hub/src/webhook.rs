//! The webhook: a forge says that somebody pushed, and the hub looks at once.
//!
//! In: any POST; with a configured secret only one that is signed with it (`X-Hub-Signature-256: sha256=HEX`, as GitHub,
//! Gitea and others send). Its content is not believed, only that there may be something new. Out: at most one fetch a
//! second, and always one after the last call.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use ring::hmac;
use tokio::sync::Notify;

use crate::config::Secret;
use crate::fleet::Fleet;

/// Bodies past this are refused.
pub(crate) const LARGEST: usize = 5 << 20;
/// Fetches that webhooks ask for are this far apart.
const APART: Duration = Duration::from_secs(1);

/// What the route needs.
#[derive(Clone)]
pub(crate) struct Webhook {
    key: Option<Arc<hmac::Key>>,
    wanted: Arc<Notify>,
}

impl Webhook {
    /// A route that wants signatures when there is a secret, and the task that fetches for it. The task never ends.
    pub(crate) fn new(
        secret: Option<&Secret>,
        fleet: Fleet,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let key = secret.map(|secret| Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret.0)));
        let wanted = Arc::new(Notify::new());
        let task = fetch_when(wanted.clone(), fleet);
        (Self { key, wanted }, task)
    }
}

async fn fetch_when(wanted: Arc<Notify>, fleet: Fleet) {
    loop {
        // Calls during a fetch are one more fetch: what they announce may have come too late for this one.
        wanted.notified().await;
        if let Err(error) = fleet.sync_now("webhook").await {
            tracing::warn!(%error, "a fetch that a webhook asked for failed");
        }
        tokio::time::sleep(APART).await;
    }
}

/// `POST /webhook`.
pub(crate) async fn receive(
    State(webhook): State<Webhook>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    if let Some(key) = &webhook.key
        && !is_signed(key, &headers, &body)
    {
        tracing::warn!("a webhook with a wrong or missing signature was refused");
        let told = "the webhook is not signed with the hub's secret (X-Hub-Signature-256): \
                    give the forge the content of --webhook-secret-file\n";
        return (StatusCode::UNAUTHORIZED, told);
    }
    webhook.wanted.notify_one();
    (StatusCode::ACCEPTED, "looking\n")
}

fn is_signed(key: &hmac::Key, headers: &HeaderMap, body: &[u8]) -> bool {
    let signature = headers
        .get("x-hub-signature-256")
        .and_then(|value| value.to_str().ok());
    let signature = signature.and_then(|value| from_hex(value.strip_prefix("sha256=")?));
    signature.is_some_and(|signature| hmac::verify(key, body, &signature).is_ok())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let pairs = digits?;
    pairs.len().is_multiple_of(2).then(|| {
        pairs
            .chunks(2)
            .map(|pair| (pair[0] * 16 + pair[1]) as u8)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_the_secret_can_sign() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        let mut headers = HeaderMap::new();
        let mut signed = |signature: &str, body: &[u8]| {
            headers.insert("x-hub-signature-256", signature.parse().unwrap());
            is_signed(&key, &headers, body)
        };
        // The example in GitHub's documentation of webhooks.
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert!(signed(good, b"Hello, World!"));
        assert!(!signed(good, b"Hello, World"));
        assert!(!signed(&good[7..], b"Hello, World!"));
        assert!(!signed("sha256=", b"Hello, World!"));
        assert!(!signed("sha256=zz", b"Hello, World!"));
        assert!(!is_signed(&key, &HeaderMap::new(), b"Hello, World!"));
    }
}
