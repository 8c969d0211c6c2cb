//! The webhook: a forge says that somebody pushed, and the hub looks at once.
//!
//! In: any POST; with a configured secret only one that shows it knows the secret, in the way of its forge. What it says
//! about commits is not believed, only where there may be something new: the URLs of the repository that it names. Out:
//! at most one fetch a second, and always one after the last call, of exactly the repositories at these URLs; of all
//! when it names none.

mod payload;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use muster_git::Which;
use ring::hmac;
use tokio::sync::watch;

use crate::config::Secret;
use crate::fleet::Fleet;

/// Bodies past this are refused.
pub(crate) const LARGEST: usize = 5 << 20;
/// Fetches that webhooks ask for are this far apart.
const APART: Duration = Duration::from_secs(1);
/// So many URLs are kept in mind between two fetches; past that, everything is fetched.
const MOST: usize = 1000;
/// Where a signature of the body stands, as HMAC SHA-256 in hex: GitHub, and who does as it does; Gitea and Forgejo;
/// anybody else.
const SIGNATURES: [&str; 5] = [
    "x-hub-signature-256",
    "x-hub-signature",
    "x-forgejo-signature",
    "x-gitea-signature",
    "x-signature",
];
/// Where GitLab shows the secret itself.
const TOKEN: &str = "x-gitlab-token";

/// What the route needs.
#[derive(Clone)]
pub(crate) struct Webhook {
    secret: Option<Arc<Secret>>,
    /// Whose fetch is wanted; `None`: nobody's.
    wanted: watch::Sender<Option<Which>>,
}

impl Webhook {
    /// A route that wants signatures when there is a secret, and the task that fetches for it. The task never ends.
    pub(crate) fn new(
        secret: Option<&Secret>,
        fleet: Fleet,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let secret = secret.map(|secret| Arc::new(secret.clone()));
        let (wanted, asked) = watch::channel(None);
        let task = fetch_when(wanted.clone(), asked, fleet);
        (Self { secret, wanted }, task)
    }
}

async fn fetch_when(
    wanted: watch::Sender<Option<Which>>,
    mut asked: watch::Receiver<Option<Which>>,
    fleet: Fleet,
) {
    // The sender is held here: it never closes.
    while asked.wait_for(Option::is_some).await.is_ok() {
        // Calls during a fetch are one more fetch: what they announce may have come too late for this one.
        let Some(which) = wanted.send_replace(None) else {
            continue;
        };
        if let Err(error) = fleet.fetch("webhook", which).await {
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
    if let Some(secret) = &webhook.secret
        && !shows(secret, &headers, &body)
    {
        tracing::warn!("a webhook with a wrong or missing signature was refused");
        let told = "the webhook does not show the hub's secret (X-Hub-Signature-256, X-Gitea-Signature, \
                    X-Forgejo-Signature, X-Gitlab-Token or X-Signature): give the forge the content of \
                    --webhook-secret-file\n";
        return (StatusCode::UNAUTHORIZED, told);
    }
    let named = payload::repositories(&body);
    webhook.wanted.send_modify(|wanted| {
        let before = wanted.take();
        *wanted = Some(match (before, named) {
            (Some(Which::All), _) | (_, None) => Which::All,
            (None, Some(named)) => Which::At(named),
            (Some(Which::At(mut before)), Some(named)) => {
                let new = named.into_iter().filter(|url| !before.contains(url));
                let new: Vec<_> = new.collect();
                before.extend(new);
                match before.len() > MOST {
                    true => Which::All,
                    false => Which::At(before),
                }
            }
        });
    });
    (StatusCode::ACCEPTED, "looking\n")
}

/// Whether a call shows that it knows the secret; compared in constant time.
fn shows(secret: &Secret, headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret.0);
    let signature = SIGNATURES.into_iter().find_map(text);
    if let Some(signature) = signature {
        let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
        let signature = from_hex(hex);
        return signature.is_some_and(|signature| hmac::verify(&key, body, &signature).is_ok());
    }
    // Compared by their signatures under a key of this moment, as two texts can't be.
    text(TOKEN).is_some_and(|token| {
        let expected = hmac::sign(&key, &secret.0);
        hmac::verify(&key, token.as_bytes(), expected.as_ref()).is_ok()
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let pairs = digits?;
    let whole = !pairs.is_empty() && pairs.len().is_multiple_of(2);
    whole.then(|| {
        pairs
            .chunks(2)
            .map(|pair| (pair[0] * 16 + pair[1]) as u8)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"It's a Secret to Everybody";
    /// The example in GitHub's documentation of webhooks.
    const GOOD: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn shown(header: &str, value: &str, body: &[u8]) -> bool {
        let mut headers = HeaderMap::new();
        let name: axum::http::HeaderName = header.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
        shows(&Secret(SECRET.to_vec()), &headers, body)
    }

    #[test]
    fn only_the_holder_of_the_secret_can_sign_in_the_way_of_its_forge() {
        for (header, value) in [
            ("X-Hub-Signature-256", format!("sha256={GOOD}")),
            ("X-Hub-Signature", format!("sha256={GOOD}")),
            ("X-Gitea-Signature", GOOD.to_owned()),
            ("X-Forgejo-Signature", GOOD.to_owned()),
            ("X-Signature", format!("sha256={GOOD}")),
        ] {
            assert!(shown(header, &value, b"Hello, World!"), "{header}");
            assert!(!shown(header, &value, b"Hello, World"), "{header}");
            let wrong = value.replace("757", "857");
            assert!(!shown(header, &wrong, b"Hello, World!"), "{header}");
            assert!(!shown(header, "sha256=", b"Hello, World!"), "{header}");
            assert!(!shown(header, "sha256=zz", b"Hello, World!"), "{header}");
        }
        let nothing = HeaderMap::new();
        assert!(!shows(&Secret(SECRET.to_vec()), &nothing, b"Hello, World!"));
    }

    #[test]
    fn gitlab_shows_the_secret_itself() {
        let good = std::str::from_utf8(SECRET).unwrap();
        assert!(shown("X-Gitlab-Token", good, b"any"));
        assert!(!shown(
            "X-Gitlab-Token",
            "It's a Secret to Everybod",
            b"any"
        ));
        assert!(!shown("X-Gitlab-Token", "", b"any"));
        // Who signs wrongly has no second try.
        let mut headers = HeaderMap::new();
        headers.insert("x-gitlab-token", good.parse().unwrap());
        headers.insert("x-hub-signature-256", "sha256=00".parse().unwrap());
        assert!(!shows(&Secret(SECRET.to_vec()), &headers, b"any"));
    }
}
