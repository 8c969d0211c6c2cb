//! The wire between agent and hub: pipes within this process, without TLS, that are slow, stall and break.
//!
//! In: who dials and who listens. Out: an end for each. What is on the way when a pipe breaks is lost.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster_hub::ca::{self, Ca};
use muster_hub::clock::Clock;
use muster_proto::tls::Identity;
use muster_proto::tls::acceptor::Connection;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::chance::Chance;
use super::{locked, pass};

/// What a listener gets.
pub(super) type Arrival = io::Result<Connection<DuplexStream>>;

/// As much as may be on the way.
const PIPE: usize = 64 * 1024;
/// Milliseconds that what is written takes at most.
const SLOWEST: u64 = 40;

/// What the hub listens for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    /// Agents, by their certificates.
    Agents = 0,
    /// Clusters that join; nobody shows a certificate.
    Enrolment = 1,
}

/// The wire.
pub(super) struct Wire {
    ca: Arc<Ca>,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    chance: Chance,
    up: bool,
    listeners: [Option<mpsc::UnboundedSender<Arrival>>; 2],
    pipes: Vec<AbortOnDropHandle<()>>,
    /// Whether anything arrives.
    flows: watch::Sender<bool>,
}

impl Wire {
    pub(super) fn new(seed: u64, ca: Arc<Ca>, clock: Clock) -> Arc<Self> {
        let state = State {
            chance: Chance::new(seed ^ 0x57_49_52_45),
            up: true,
            listeners: [None, None],
            pipes: Vec::new(),
            flows: watch::Sender::new(true),
        };
        Arc::new(Self {
            ca,
            clock,
            state: Mutex::new(state),
        })
    }

    /// From now on, who comes to this door gets here.
    pub(super) fn listen(&self, door: Door) -> UnboundedReceiverStream<Arrival> {
        let (listener, arrivals) = mpsc::unbounded_channel();
        locked(&self.state).listeners[door as usize] = Some(listener);
        UnboundedReceiverStream::new(arrivals)
    }

    /// Nobody listens, and all pipes break.
    pub(super) fn close(&self) {
        locked(&self.state).listeners = [None, None];
        self.cut();
    }

    /// All pipes break; they may be laid again at once.
    pub(super) fn cut(&self) {
        let mut state = locked(&self.state);
        state.pipes.clear();
        state.flows = watch::Sender::new(true);
    }

    /// Nothing arrives any more, and nobody is told: the ends have to find out.
    pub(super) fn stall(&self) {
        locked(&self.state).flows.send_replace(false);
    }

    /// Whether pipes can be laid.
    pub(super) fn is_up(&self) -> bool {
        locked(&self.state).up
    }

    /// Pipes can be laid, or not; those that are there break.
    pub(super) fn set_up(&self, up: bool) {
        locked(&self.state).up = up;
        self.cut();
    }

    /// Lays a pipe, for one who shows these certificates.
    pub(super) fn dial(
        &self,
        door: Door,
        chain: &[CertificateDer<'static>],
    ) -> io::Result<DuplexStream> {
        let identity = self.shakes_hands(chain)?;
        let mut state = locked(&self.state);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let up = state.up;
        let listener = state.listeners[door as usize].clone();
        let listener = listener.filter(|_| up).ok_or_else(refused)?;
        let (mine, near) = tokio::io::duplex(PIPE);
        let (far, theirs) = tokio::io::duplex(PIPE);
        let certificate = chain.first().cloned();
        let arrival = Connection::new(theirs, identity, certificate, None);
        listener.send(Ok(arrival)).map_err(|_| refused())?;
        let slowness = [state.chance.next(), state.chance.next()].map(Chance::new);
        let pipe = carry(near, far, slowness, state.flows.subscribe());
        state.pipes.push(AbortOnDropHandle::new(tokio::spawn(pipe)));
        Ok(mine)
    }
}

impl Wire {
    /// What the handshake would say of these certificates: nobody, whom they name, or that it fails.
    fn shakes_hands(&self, chain: &[CertificateDer<'static>]) -> io::Result<Option<Identity>> {
        let [leaf, issuer] = chain else {
            return Ok(None);
        };
        let identity = Identity::of_certificate(leaf).map_err(io::Error::other)?;
        let is_good = *issuer == self.ca.certificate
            && identity.trust_domain == self.ca.trust_domain
            && ca::ends(leaf) > (self.clock)();
        match is_good {
            true => Ok(Some(identity)),
            false => Err(io::Error::other("the hub refuses the certificate")),
        }
    }
}

/// Carries what is written at one end to the other, both ways, until one of them is closed.
async fn carry(
    near: DuplexStream,
    far: DuplexStream,
    slowness: [Chance; 2],
    flows: watch::Receiver<bool>,
) {
    let (near_read, near_write) = tokio::io::split(near);
    let (far_read, far_write) = tokio::io::split(far);
    let [out, back] = slowness;
    let out = one_way(near_read, far_write, out, flows.clone());
    let back = one_way(far_read, near_write, back, flows);
    tokio::select! {
        biased;
        _ = out => {}
        _ = back => {}
    }
}

async fn one_way(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    mut slowness: Chance,
    mut flows: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut piece = vec![0; PIPE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        pass(Duration::from_millis(slowness.below(SLOWEST))).await;
        if flows.wait_for(|flows| *flows).await.is_err() {
            return Ok(());
        }
        to.write_all(&piece[..length]).await?;
    }
}
