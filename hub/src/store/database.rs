//! The store on disk: one SQLite file.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_proto::{DigestKey, Timestamp};
use ring::rand::SecureRandom;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};

use super::{ApiToken, FILE, HubIdentity, Result, StoreError};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The handle. Clones share one pool and one lock on the data directory.
#[derive(Clone)]
pub struct Database {
    pub(super) pool: SqlitePool,
    hub: Arc<HubIdentity>,
    file: Arc<PathBuf>,
    lock: Arc<Lock>,
}

/// The data directory is this hub's.
struct Lock(File);

impl Lock {
    /// Said aloud, because closing the file may not do: a child process that is just being started holds a copy of the
    /// descriptor for a moment.
    fn release(&self) {
        self.0.unlock().ok();
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

impl Database {
    /// Opens the store in a data directory, making both when absent. On the first start it takes the given trust domain,
    /// or makes one up.
    ///
    /// # Errors
    /// When the directory or file can't be used; then nothing was changed.
    pub async fn open(
        directory: &Path,
        trust_domain: Option<&str>,
        now: Timestamp,
    ) -> Result<Self> {
        let unusable = |error| StoreError::Directory(directory.to_owned(), error);
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let lock = File::create(directory.join("lock")).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked(directory.to_owned()),
            TryLockError::Error(error) => unusable(error),
        })?;
        let lock = Lock(lock);
        let file = directory.join(FILE);
        if file.exists() {
            refuse_newer(&file).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was published must still be here after a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30))
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(|error| explain(&file, error))?;
        let hub = async {
            MIGRATIONS
                .run(&pool)
                .await
                .map_err(|error| explain_migration(&file, error))?;
            identity(&pool, &file, trust_domain, now).await
        };
        let hub = match hub.await {
            Ok(hub) => hub,
            Err(error) => {
                pool.close().await;
                return Err(error);
            }
        };
        Ok(Self {
            pool,
            hub: Arc::new(hub),
            file: Arc::new(file),
            lock: Arc::new(lock),
        })
    }

    /// Who this hub is.
    pub fn hub(&self) -> &HubIdentity {
        &self.hub
    }

    /// The tokens that may ask.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>> {
        let rows = sqlx::query("SELECT name, hash FROM api_token ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.explain(error))?;
        rows.iter()
            .map(|row| {
                Ok(ApiToken {
                    name: row.get("name"),
                    hash: row
                        .get::<Vec<u8>, _>("hash")
                        .try_into()
                        .map_err(|_| self.damaged("a token's hash is not 32 bytes"))?,
                })
            })
            .collect()
    }

    /// Adds or replaces a token that may ask.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn put_api_token(&self, token: &ApiToken, now: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO api_token (name, hash, created_ms) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, created_ms = excluded.created_ms",
        )
        .bind(&token.name)
        .bind(token.hash.as_slice())
        .bind(now.0)
        .execute(&self.pool)
        .await
        .map_err(|error| self.explain(error))?;
        Ok(())
    }

    /// Writes out what is buffered, closes the file, and leaves the data directory to the next hub.
    pub async fn close(&self) {
        self.pool.close().await;
        self.lock.release();
    }

    /// A transaction that may write: taken at once, so that two never wait for each other.
    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        begun.map_err(|error| self.explain(error))
    }

    pub(super) fn explain(&self, error: sqlx::Error) -> StoreError {
        explain(&self.file, error)
    }

    pub(super) fn damaged(&self, problem: impl ToString) -> StoreError {
        StoreError::Corrupt(self.file.to_path_buf(), problem.to_string())
    }
}

/// Looks before anything is written: opening for writing already changes a file.
async fn refuse_newer(file: &Path) -> Result<()> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max();
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|error| explain(file, error))?;
    let applied = async {
        let table = "SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations'";
        if sqlx::query(table).fetch_optional(&pool).await?.is_none() {
            return Ok(None);
        }
        let newest = "SELECT MAX(version) FROM _sqlx_migrations";
        sqlx::query_scalar::<_, Option<i64>>(newest)
            .fetch_one(&pool)
            .await
    };
    let applied = applied.await.map_err(|error| explain(file, error));
    pool.close().await;
    match applied? {
        Some(version) if Some(version) > known => Err(StoreError::Newer(file.to_owned(), version)),
        _ => Ok(()),
    }
}

async fn identity(
    pool: &SqlitePool,
    file: &Path,
    trust_domain: Option<&str>,
    now: Timestamp,
) -> Result<HubIdentity> {
    let (mut key, mut made_up) = ([0; 32], [0; 8]);
    let random = ring::rand::SystemRandom::new();
    random
        .fill(&mut key)
        .expect("the system gives random bytes");
    random
        .fill(&mut made_up)
        .expect("the system gives random bytes");
    let made_up = format!("muster-{:016x}", u64::from_be_bytes(made_up));
    // Another key would make every object look changed to every agent.
    let known = "SELECT EXISTS (SELECT 1 FROM hub), EXISTS (SELECT 1 FROM cluster) OR EXISTS (SELECT 1 FROM document)";
    let known = sqlx::query(known).fetch_one(pool).await;
    let known = known.map_err(|error| explain(file, error))?;
    if let (false, true) = (known.get::<bool, _>(0), known.get::<bool, _>(1)) {
        let what = "it does not say any more who this hub is, nor its digest key".into();
        return Err(StoreError::Corrupt(file.to_owned(), what));
    }
    let stored = async {
        sqlx::query(
            "INSERT INTO hub (id, trust_domain, digest_key, created_ms) VALUES (1, $1, $2, $3)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(trust_domain.unwrap_or(&made_up))
        .bind(key.as_slice())
        .bind(now.0)
        .execute(pool)
        .await?;
        sqlx::query("SELECT trust_domain, digest_key, created_ms FROM hub")
            .fetch_one(pool)
            .await
    };
    let row = stored.await.map_err(|error| explain(file, error))?;
    let stored: String = row.get("trust_domain");
    if let Some(configured) = trust_domain.filter(|configured| *configured != stored) {
        return Err(StoreError::TrustDomain {
            path: file.to_owned(),
            stored,
            configured: configured.to_owned(),
        });
    }
    let key: [u8; 32] = row
        .get::<Vec<u8>, _>("digest_key")
        .try_into()
        .map_err(|_| {
            StoreError::Corrupt(file.to_owned(), "the digest key is not 32 bytes".into())
        })?;
    Ok(HubIdentity {
        trust_domain: stored,
        digest_key: DigestKey::new(key),
        created: Timestamp(row.get("created_ms")),
    })
}

fn explain(file: &Path, error: sqlx::Error) -> StoreError {
    // SQLITE_CORRUPT and SQLITE_NOTADB, with their extended codes in the higher bits.
    let code = error.as_database_error().and_then(|error| error.code());
    let code = code.and_then(|code| code.parse::<i32>().ok());
    match code.map(|code| code & 0xff) {
        Some(11 | 26) => StoreError::Corrupt(file.to_owned(), error.to_string()),
        _ => StoreError::Database(file.to_owned(), error),
    }
}

fn explain_migration(file: &Path, error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => StoreError::Newer(file.to_owned(), version),
        MigrateError::Execute(error) => explain(file, error),
        other => StoreError::Corrupt(file.to_owned(), other.to_string()),
    }
}
