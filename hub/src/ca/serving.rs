//! The hub's own certificate, renewed by itself.
//!
//! In: the CA and the names clients dial. Out: TLS configurations as watched values, and the task that replaces them at
//! a third of the certificate's life. Open connections stay; new ones see the new certificate.

use std::sync::Arc;
use std::time::SystemTime;

use muster_proto::tls::acceptor::{agents_config, token_config};
use rustls::ServerConfig;
use tokio::sync::watch;

use super::Ca;
use super::issue::HUB_LIFE;

/// What the listeners speak TLS with.
#[derive(Debug, Clone)]
pub struct Serving {
    /// For the agents listener: asks for a client certificate of the CA.
    pub agents: watch::Receiver<Arc<ServerConfig>>,
    /// For the enrolment and API listeners.
    pub token: watch::Receiver<Arc<ServerConfig>>,
}

/// The configurations, and the task that keeps their certificate fresh. The task never ends while anyone listens.
///
/// # Errors
/// When rustls refuses the certificate.
pub fn serving(
    ca: Arc<Ca>,
    names: Vec<String>,
) -> Result<(Serving, impl Future<Output = ()> + Send), rustls::Error> {
    let (agents, token) = configs(&ca, &names)?;
    let (agents_sender, agents) = watch::channel(agents);
    let (token_sender, token) = watch::channel(token);
    let keep_fresh = async move {
        loop {
            tokio::select! {
                biased;
                () = agents_sender.closed() => return,
                () = tokio::time::sleep(HUB_LIFE / 3) => {}
            }
            match configs(&ca, &names) {
                Ok((agents, token)) => {
                    agents_sender.send_replace(agents);
                    token_sender.send_replace(token);
                    tracing::info!("renewed the hub's own certificate");
                }
                // Two thirds of its life are left to try again, at the next turn.
                Err(error) => {
                    tracing::error!(%error, "the hub's own certificate could not be renewed")
                }
            }
        }
    };
    Ok((Serving { agents, token }, keep_fresh))
}

type Configs = (Arc<ServerConfig>, Arc<ServerConfig>);

fn configs(ca: &Ca, names: &[String]) -> Result<Configs, rustls::Error> {
    let (chain, key) = ca.certify_hub(names, SystemTime::now());
    let agents = agents_config(
        chain.clone(),
        key.clone_key(),
        ca.certificate.clone(),
        ca.trust_domain.clone(),
    )?;
    Ok((agents, token_config(chain, key)?))
}
