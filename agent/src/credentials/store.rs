//! Where credentials are kept: a file in a directory (mode 0600, replaced as a whole), or a Secret of the cluster.
//!
//! In: credentials. Out: the same after a restart, or an error that names the place and what to do about it. A crash at
//! any moment leaves the old ones or the new ones, never a mixture.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{Credentials, InvalidCredentials};
use crate::apply::said;

/// Name of the file, and of the key in a Secret.
const NAME: &str = "credentials.json";

/// Where credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A directory, made when absent; the file in it is `credentials.json`.
    Directory(PathBuf),
    /// A Secret of the cluster, made when absent; its namespace must exist.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Why credentials can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is there is not what the agent wrote.
    #[error(
        "the credentials in {place} are damaged ({why}): put back a copy, or delete {place} and join again with a new token from `muster cluster join`"
    )]
    Damaged {
        /// Which file or Secret.
        place: Place,
        /// What is wrong with it.
        why: InvalidCredentials,
    },
    /// The place can't be read.
    #[error("the credentials in {0} can't be read: {1}")]
    Unreadable(Place, String),
    /// The place can't be written.
    #[error("the credentials can't be kept in {0}: {1}")]
    Unwritable(Place, String),
}

impl StoreError {
    /// Whether another try may find it otherwise: an API server comes back, a file system does not.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreadable(Place::Secret { .. }, _))
    }
}

impl Place {
    /// What is kept there; `None` when nothing ever was.
    ///
    /// # Errors
    /// When there is something and it can't be read, or is damaged.
    pub async fn load(&self, client: &kube::Client) -> Result<Option<Credentials>, StoreError> {
        let bytes = match self {
            Self::Directory(directory) => read(&directory.join(NAME))
                .await
                .map_err(|error| StoreError::Unreadable(self.clone(), error.to_string()))?,
            Self::Secret { namespace, name } => {
                Api::<Secret>::namespaced(client.clone(), namespace)
                    .get_opt(name)
                    .await
                    .map_err(|error| StoreError::Unreadable(self.clone(), said(&error)))?
                    .map(
                        |secret| match secret.data.unwrap_or_default().remove(NAME) {
                            Some(bytes) => bytes.0,
                            None => Vec::new(),
                        },
                    )
            }
        };
        bytes
            .map(|bytes| Credentials::from_bytes(&bytes))
            .transpose()
            .map_err(|why| StoreError::Damaged {
                place: self.clone(),
                why,
            })
    }

    /// Replaces what is kept there. When this returns, it has survived a crash.
    ///
    /// # Errors
    /// When it can't be written; what was there before stays.
    pub async fn save(
        &self,
        client: &kube::Client,
        credentials: &Credentials,
    ) -> Result<(), StoreError> {
        let written = match self {
            Self::Directory(directory) => replace(directory, &credentials.to_bytes())
                .await
                .map_err(|error| error.to_string()),
            Self::Secret { namespace, name } => {
                let secret = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name, "labels": {
                        "app.kubernetes.io/name": "muster-agent",
                        "app.kubernetes.io/part-of": "muster",
                    }},
                    "type": "Opaque",
                    "data": {NAME: k8s_openapi::ByteString(credentials.to_bytes())},
                });
                Api::<Secret>::namespaced(client.clone(), namespace)
                    .patch(
                        name,
                        &PatchParams::apply("muster-agent").force(),
                        &Patch::Apply(secret),
                    )
                    .await
                    .map(|_| ())
                    .map_err(|error| said(&error))
            }
        };
        written.map_err(|error| StoreError::Unwritable(self.clone(), error))
    }

    /// Makes sure that what will be saved can be, before a one-time token is spent for it.
    ///
    /// # Errors
    /// When a directory can't be made or written to.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        let Self::Directory(directory) = self else {
            return Ok(());
        };
        let trial = async {
            make(directory).await?;
            let trial = directory.join(format!("{NAME}.new"));
            write_new(&trial, b"").await?;
            tokio::fs::remove_file(&trial).await
        };
        trial
            .await
            .map_err(|error| StoreError::Unwritable(self.clone(), error.to_string()))
    }
}

async fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn make(directory: &Path) -> io::Result<()> {
    tokio::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .await
}

async fn replace(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    make(directory).await?;
    let new = directory.join(format!("{NAME}.new"));
    write_new(&new, bytes).await?;
    tokio::fs::rename(&new, directory.join(NAME)).await?;
    // The rename itself is only safe once the directory is.
    tokio::fs::File::open(directory).await?.sync_all().await
}

async fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    // A leftover of a crash is taken over, with its mode put right by being made anew.
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .await?;
    file.write_all(bytes).await?;
    file.sync_all().await
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "{}", directory.join(NAME).display()),
            Self::Secret { namespace, name } => write!(f, "Secret {namespace}/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::scripted::{TestCa, client_that_answers};

    async fn load(place: &Place) -> Result<Option<Credentials>, StoreError> {
        place
            .load(&client_that_answers(|_| {
                unreachable!("a directory asks no API server")
            }))
            .await
    }

    async fn save(place: &Place, credentials: &Credentials) -> Result<(), StoreError> {
        let client = client_that_answers(|_| unreachable!("a directory asks no API server"));
        place.save(&client, credentials).await
    }

    #[tokio::test]
    async fn a_directory_keeps_the_newest_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Directory(folder.path().join("a/b"));
        assert!(load(&place).await.unwrap().is_none());
        let ca = TestCa::new();
        for _ in 0..2 {
            let credentials = ca.credentials("eu-1", "h:1");
            save(&place, &credentials).await.unwrap();
            assert_eq!(load(&place).await.unwrap(), Some(credentials));
        }
        let file = std::fs::metadata(folder.path().join("a/b/credentials.json")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let entries = std::fs::read_dir(folder.path().join("a/b"))
            .unwrap()
            .count();
        assert_eq!(entries, 1, "no temporary file stays");
    }

    #[tokio::test]
    async fn a_write_that_was_cut_by_a_crash_leaves_the_old_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Directory(folder.path().to_owned());
        let ca = TestCa::new();
        let old = ca.credentials("eu-1", "h:1");
        save(&place, &old).await.unwrap();
        std::fs::write(folder.path().join("credentials.json.new"), b"{\"ver").unwrap();
        assert_eq!(load(&place).await.unwrap(), Some(old));
        let new = ca.credentials("eu-1", "h:1");
        save(&place, &new).await.unwrap();
        assert_eq!(load(&place).await.unwrap(), Some(new));
    }

    #[tokio::test]
    async fn a_damaged_file_is_named_with_the_remedy_and_its_content_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::Directory(folder.path().to_owned());
        let whole = TestCa::new().credentials("eu-1", "h:1").to_bytes();
        let file = folder.path().join("credentials.json");
        for (bytes, why) in [
            (&whole[..0], "it ends in the middle"),
            (&whole[..whole.len() / 2], "it ends in the middle"),
            (
                b"key = hunter2".as_slice(),
                "it is not what the agent wrote",
            ),
        ] {
            std::fs::write(&file, bytes).unwrap();
            let message = load(&place).await.unwrap_err().to_string();
            let expected = format!(
                "the credentials in {0} are damaged (it can't be read: {why}): put back a copy, or delete {0} and join again with a new token from `muster cluster join`",
                file.display()
            );
            assert_eq!(message, expected);
        }
    }

    #[tokio::test]
    async fn a_place_that_can_not_be_written_is_told_before_a_token_is_spent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let message = Place::Directory(file.join("below"))
            .prepare()
            .await
            .unwrap_err()
            .to_string();
        assert!(message.contains("can't be kept in"), "{message}");
    }

    #[tokio::test]
    async fn a_secret_keeps_them_too() {
        let place = Place::Secret {
            namespace: "muster-system".into(),
            name: "muster-agent".into(),
        };
        let kept = std::sync::Arc::new(std::sync::Mutex::new(None::<serde_json::Value>));
        let server = kept.clone();
        let client = client_that_answers(move |request| {
            let (parts, body) = request;
            assert_eq!(
                parts.uri.path(),
                "/api/v1/namespaces/muster-system/secrets/muster-agent"
            );
            if parts.method == http::Method::PATCH {
                *server.lock().unwrap() = Some(serde_json::from_slice(&body).unwrap());
            }
            match server.lock().unwrap().clone() {
                Some(secret) => (200, secret),
                None => (
                    404,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
                ),
            }
        });
        assert!(place.load(&client).await.unwrap().is_none());
        let credentials = TestCa::new().credentials("eu-1", "h:1");
        place.save(&client, &credentials).await.unwrap();
        assert_eq!(place.load(&client).await.unwrap(), Some(credentials));

        kept.lock().unwrap().as_mut().unwrap()["data"] = json!({});
        let message = place.load(&client).await.unwrap_err().to_string();
        assert!(
            message.starts_with("the credentials in Secret muster-system/muster-agent are damaged"),
            "{message}"
        );
    }
}
