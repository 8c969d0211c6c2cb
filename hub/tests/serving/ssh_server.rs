//! The real `sshd`, run by the current user on a port of its own, with a host key and a key that gets in, both made on
//! the spot.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::bed::until;

/// Lets in who has the key, until it is dropped.
pub(crate) struct SshServer {
    folder: TempDir,
    process: Child,
    port: u16,
}

impl SshServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_key(&folder.path().join("host"));
        make_key(&folder.path().join("user"));
        std::fs::copy(
            folder.path().join("user.pub"),
            folder.path().join("allowed"),
        )
        .unwrap();
        // Root's needs it, and dies without; nobody else's does.
        std::fs::create_dir_all("/run/sshd").ok();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = folder.path().join("config");
        let text = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/allowed\nPidFile none\n\
             UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\n",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .expect("the package openssh-server is installed");
        until("sshd listens", async || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })
        .await;
        Self {
            folder,
            process,
            port,
        }
    }

    /// URL of a folder of this machine.
    pub(crate) fn url(&self, folder: &Path) -> String {
        let name = Command::new("id").arg("-un").output().unwrap().stdout;
        let name = String::from_utf8(name).unwrap();
        format!(
            "ssh://{}@127.0.0.1:{}{}",
            name.trim(),
            self.port,
            folder.display()
        )
    }

    /// The private key that gets in.
    pub(crate) fn identity(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    /// A private key that does not.
    pub(crate) fn wrong_identity(&self) -> PathBuf {
        let key = self.folder.path().join("stranger");
        if !key.exists() {
            make_key(&key);
        }
        key
    }

    /// What a `known_hosts` says of this server.
    pub(crate) fn known_hosts(&self) -> String {
        self.known_as("host")
    }

    /// What it would say if the server had another key.
    pub(crate) fn wrong_hosts(&self) -> String {
        self.known_as("user")
    }

    fn known_as(&self, key: &str) -> String {
        let public = self.folder.path().join(format!("{key}.pub"));
        let public = std::fs::read_to_string(public).unwrap();
        format!("[127.0.0.1]:{} {public}", self.port)
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn make_key(file: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file)
        .status()
        .unwrap();
    assert!(made.success());
}
