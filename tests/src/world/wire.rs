//! The network between an agent and its hub, as a TCP proxy on loopback that falls silent when a test wants it to:
//! connections stay open and nothing passes, as when a cable is pulled.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A way to `target`; gone, with its connections, when dropped.
pub struct Wire {
    /// What to dial instead of the target.
    pub address: SocketAddr,
    silent: watch::Sender<bool>,
    cut: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Listens, and passes on.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (silent, hears) = watch::channel(false);
        let (cut, ends) = watch::channel(());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                // A target that is not there closes the connection, as it would without us.
                if let Ok(far) = TcpStream::connect(target).await {
                    let mut ends = ends.clone();
                    // Cuts before it was there are not its own.
                    ends.mark_unchanged();
                    let passes = pass(near, far, hears.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = passes => {}
                            _ = ends.changed() => {}
                        }
                    });
                }
            }
        });
        Ok(Self {
            address,
            silent,
            cut,
            task,
        })
    }

    /// From now on nothing passes, or everything again: what was sent meanwhile, too.
    pub fn set_silent(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    /// Ends every connection there is; new ones are taken.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(near: TcpStream, far: TcpStream, silent: watch::Receiver<bool>) {
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    let there = one_way(near_reads, far_writes, silent.clone());
    let back = one_way(far_reads, near_writes, silent);
    // One end that closes, closes both.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut silent: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        // No sender: the wire is gone, and this with it.
        if silent.wait_for(|silent| !silent).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    silent.wait_for(|silent| !silent).await.ok();
}
