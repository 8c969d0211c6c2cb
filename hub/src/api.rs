//! The API listener: what people, scripts and webhooks ask.
//!
//! In: gRPC (`FleetService`), and the same messages as JSON over HTTP, on one port; every call with a bearer token. Out:
//! answers made of the newest [`View`](crate::view::View), and commands to the fleet. Without a token: `/healthz`,
//! `/readyz` and the webhook.

mod answers;
mod asking;
mod json;
mod pauses;
mod planning;
mod service;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use muster_proto::wire::v1::fleet_service_server::FleetServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use crate::fleet::Fleet;
use crate::plans::Plans;
use crate::webhook::{self, Webhook};

pub(crate) use token::{AdminToken, Tokens};

/// What answering needs.
#[derive(Clone)]
pub(crate) struct Api {
    /// The owner of all state.
    pub fleet: Fleet,
    /// What is not merged.
    pub plans: Plans,
    /// What goes into a join token beside its secret.
    pub invitation: Arc<Invitation>,
    /// Ends streams.
    pub shutdown: CancellationToken,
}

/// How a new cluster finds this hub and knows it.
#[derive(Debug, Clone)]
pub(crate) struct Invitation {
    /// `host:port` of the agents listener.
    pub agents_address: String,
    /// `host:port` of the enrolment listener.
    pub enrolment_address: String,
    /// Pins the CA.
    pub ca_sha256: [u8; 32],
    /// The CA's trust domain.
    pub trust_domain: String,
}

/// Everything the API listener answers.
pub(crate) fn routes(api: Api, tokens: Tokens, webhook: Webhook) -> Routes {
    let grpc = FleetServiceServer::new(api.clone())
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd);
    let guarded = Routes::from(json::routes(api.clone()))
        .add_service(grpc)
        .into_axum_router()
        .layer(from_fn_with_state(tokens, token::check));
    let open = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(async || "ok"))
        .route("/webhook", post(webhook::receive).with_state(webhook))
        .layer(axum::extract::DefaultBodyLimit::max(webhook::LARGEST));
    Routes::from(open.merge(guarded))
}
