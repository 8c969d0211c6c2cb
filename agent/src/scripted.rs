//! For tests: a CA, a hub whose answers the test writes, and an API server that answers by a function.

mod ca;
mod hub;

pub(crate) use ca::TestCa;
pub(crate) use hub::{DEADLINE, ScriptedHub, Visit};

/// An API server in one function: a request with its whole body in, status code and JSON out.
pub(crate) fn client_that_answers(
    answer: impl Fn((http::request::Parts, bytes::Bytes)) -> (u16, serde_json::Value)
    + Send
    + Sync
    + 'static,
) -> kube::Client {
    let answer = std::sync::Arc::new(answer);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let (status, value) = answer((parts, body.collect_bytes().await?));
            let body = kube::client::Body::from(serde_json::to_vec(&value)?);
            let response = http::Response::builder().status(status).body(body)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response)
        }
    });
    kube::Client::new(service, "default")
}

/// Asks until there is an answer.
pub(crate) async fn eventually<V>(what: &str, mut ask: impl AsyncFnMut() -> Option<V>) -> V {
    let asking = async {
        loop {
            if let Some(value) = ask().await {
                return value;
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, asking).await;
    answer.unwrap_or_else(|_| panic!("it never came true that {what}"))
}
