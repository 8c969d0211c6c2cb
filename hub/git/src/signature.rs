//! Whose commits are taken: the signature of a commit, checked by the programs that make them.
//!
//! In: a commit and the public keys that are trusted. Out: who signed it, or why it is not taken. `ssh-keygen` and `gpg`
//! see these keys only, never those of the machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use gix::objs::signature::Format;
use gix::objs::signature::verify::{Options, Outcome, TrustLevel};
use muster_decide::model::repository::Verify;

/// Public keys that make a commit one that is taken; without any, every commit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trusted {
    /// In files, read at every fetch.
    Files {
        allowed_signers: Option<PathBuf>,
        gpg_keys: Option<PathBuf>,
    },
    /// As Git states them.
    Given(Verify),
}

impl Trusted {
    /// The keys of now; `None`: nobody has to sign.
    fn keys(&self) -> anyhow::Result<Option<Verify>> {
        let read = |file: &Option<PathBuf>| match file {
            None => Ok(None),
            Some(file) => std::fs::read_to_string(file)
                .map(Some)
                .with_context(|| format!("the trusted keys in {} can't be read", file.display())),
        };
        let keys = match self {
            Self::Given(keys) => keys.clone(),
            Self::Files {
                allowed_signers,
                gpg_keys,
            } => Verify {
                allowed_signers: read(allowed_signers)?,
                gpg_keys: read(gpg_keys)?,
            },
        };
        let none = keys.allowed_signers.is_none() && keys.gpg_keys.is_none();
        Ok((!none).then_some(keys))
    }

    /// Whether a commit may be taken; blocks. `scratch` is a folder that it may write in.
    ///
    /// # Errors
    /// Why it may not: a sentence about the commit.
    pub(super) fn check(&self, commit: &gix::Commit<'_>, scratch: &Path) -> Result<(), String> {
        let outcome = self.signed(commit, scratch);
        outcome.map_err(|why| {
            format!(
                "commit {} is not taken: {why:#}",
                commit.id.to_hex_with_len(7)
            )
        })
    }

    fn signed(&self, commit: &gix::Commit<'_>, scratch: &Path) -> anyhow::Result<()> {
        let Some(keys) = self.keys()? else {
            return Ok(());
        };
        let Some((signature, data)) = commit.signature()? else {
            bail!("it is not signed, and only commits of trusted keys are");
        };
        let format =
            Format::from_signature(&signature).context("its signature is of no known kind")?;
        std::fs::create_dir_all(scratch)?;
        let home = tempfile::Builder::new()
            .prefix("keys-")
            .tempdir_in(scratch)?;
        let options = match (format, &keys.allowed_signers, &keys.gpg_keys) {
            (Format::Ssh, Some(signers), _) => {
                let file = home.path().join("allowed-signers");
                std::fs::write(&file, signers)?;
                Options::Ssh {
                    program: SSH.into(),
                    program_arguments: Vec::new(),
                    environment: Vec::new(),
                    allowed_signers: file,
                    revocation_file: None,
                    verify_time: commit.time()?,
                    minimum_trust: TrustLevel::Fully,
                }
            }
            (Format::OpenPgp, _, Some(keys)) => {
                import(keys, home.path())?;
                let mut arguments: Vec<_> = gpg_arguments(home.path());
                arguments.extend(["--trust-model".into(), "always".into()]);
                Options::OpenPgp {
                    program: GPG.into(),
                    program_arguments: arguments,
                    environment: vec![("LC_ALL".into(), "C".into())],
                    minimum_trust: TrustLevel::Undefined,
                }
            }
            (Format::Ssh, ..) => bail!("it is signed with an SSH key, and none is trusted"),
            (Format::OpenPgp, ..) => bail!("it is signed with a GPG key, and none is trusted"),
            _ => bail!("its signature is neither of SSH nor of GPG"),
        };
        let outcome = data.verify(&signature, options)?;
        ensure!(outcome.is_valid(), "{}", wrong(&outcome));
        Ok(())
    }
}

const SSH: &str = "ssh-keygen";
const GPG: &str = "gpg";

/// The programs that these keys take, and that are not on the PATH.
pub fn missing(allowed_signers: bool, gpg_keys: bool) -> Option<&'static str> {
    let there = |program: &&str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let wanted = [(allowed_signers, SSH), (gpg_keys, GPG)];
    let wanted = wanted.into_iter().filter(|(wanted, _)| *wanted);
    let mut programs = wanted.map(|(_, program)| program);
    programs.find(|program| !there(program))
}

fn gpg_arguments(home: &Path) -> Vec<std::ffi::OsString> {
    let arguments = ["--homedir".into(), home.into(), "--batch".into()];
    let more = ["--no-autostart", "--no-options", "--quiet"].map(Into::into);
    arguments.into_iter().chain(more).collect()
}

/// Makes a key ring of the keys.
fn import(keys: &str, home: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700))?;
    let mut gpg = Command::new(GPG)
        .args(gpg_arguments(home))
        .arg("--import")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("the program {GPG} can't be run"))?;
    let mut input = gpg.stdin.take().expect("it is piped");
    // It may stop reading at the first that is wrong; then it says why.
    input.write_all(keys.as_bytes()).ok();
    drop(input);
    let output = gpg.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the trusted GPG keys can't be read: {}",
        said.trim()
    );
    Ok(())
}

fn wrong(outcome: &Outcome) -> String {
    use gix::objs::signature::verify::Status;
    let key = outcome.fingerprint.as_ref().or(outcome.key.as_ref());
    let key = match key {
        Some(key) => format!(" {key}"),
        None => String::new(),
    };
    match outcome.status {
        Status::Bad => "its signature is not of its content".to_owned(),
        Status::Expired => "its signature has expired".to_owned(),
        Status::ExpiredKey => format!("the key{key} that signed it has expired"),
        Status::RevokedKey => format!("the key{key} that signed it was revoked"),
        _ => format!("the key{key} that signed it is not trusted"),
    }
}
