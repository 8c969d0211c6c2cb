-- Everything a hub must remember. Times are milliseconds since 1970 (UTC), 0 for never.
-- Written for SQLite; PostgreSQL takes the same with BYTEA for BLOB.

-- One row: who this hub is.
CREATE TABLE hub (
    id           BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    trust_domain TEXT   NOT NULL,
    digest_key   BLOB   NOT NULL,
    created_ms   BIGINT NOT NULL
);

-- Clusters that a person invited. Those that only Git names have no row.
CREATE TABLE cluster (
    name                TEXT    NOT NULL PRIMARY KEY,
    state               TEXT    NOT NULL CHECK (state IN ('invited', 'member', 'removing', 'removed')),
    state_since_ms      BIGINT  NOT NULL,
    labels              TEXT    NOT NULL,
    uid                 TEXT    NOT NULL,
    generation          BIGINT  NOT NULL,
    -- Of the desired state published under `generation`, and why it held removals back.
    desired_digest      BLOB,
    removals_held       TEXT,
    accepted_generation BIGINT  NOT NULL,
    -- The agent was ahead of this store: it comes from a backup, and removals wait for a person.
    store_was_older     BOOLEAN NOT NULL,
    agent_version       TEXT    NOT NULL,
    kubernetes_version  TEXT    NOT NULL,
    last_seen_ms        BIGINT  NOT NULL
);

CREATE TABLE join_token (
    hash        BLOB   NOT NULL PRIMARY KEY,
    cluster     TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    redeemed_ms BIGINT
);

CREATE TABLE certificate (
    serial       TEXT    NOT NULL PRIMARY KEY,
    cluster      TEXT    NOT NULL,
    not_after_ms BIGINT  NOT NULL,
    revoked      BOOLEAN NOT NULL
);
CREATE INDEX certificate_cluster ON certificate (cluster);

-- The last good state: what each document said and where its application went ...
CREATE TABLE document (
    key  TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- ... and what it rendered to (zstd of JSON). Holds manifests, secrets among them.
CREATE TABLE rendering (
    application TEXT NOT NULL,
    digest      BLOB NOT NULL,
    revision    TEXT NOT NULL,
    body        BLOB NOT NULL,
    PRIMARY KEY (application, digest)
);

-- A person's word for something that waits; cluster is empty when it holds for all.
CREATE TABLE approval (
    application TEXT   NOT NULL,
    digest      BLOB   NOT NULL,
    cluster     TEXT   NOT NULL,
    approved_by TEXT   NOT NULL,
    approved_ms BIGINT NOT NULL,
    PRIMARY KEY (application, digest, cluster)
);

-- A person's word that nothing is written to an application's objects on a cluster.
CREATE TABLE pause (
    application TEXT   NOT NULL,
    cluster     TEXT   NOT NULL,
    until_ms    BIGINT NOT NULL,
    since_ms    BIGINT NOT NULL,
    paused_by   TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    PRIMARY KEY (application, cluster)
);

CREATE TABLE rollout (
    application TEXT   NOT NULL PRIMARY KEY,
    revision    TEXT   NOT NULL,
    progress    TEXT   NOT NULL,
    changed_ms  BIGINT NOT NULL
);

-- What each agent last said (zstd of JSON).
CREATE TABLE report (
    cluster     TEXT   NOT NULL PRIMARY KEY,
    generation  BIGINT NOT NULL,
    reported_ms BIGINT NOT NULL,
    body        BLOB   NOT NULL
);

-- What was decided, a row a commit that changed something.
CREATE TABLE history (
    id          TEXT    NOT NULL PRIMARY KEY,
    at_ms       BIGINT  NOT NULL,
    revision    TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    complete    BOOLEAN NOT NULL,
    clusters    BIGINT  NOT NULL
);
CREATE INDEX history_at ON history (at_ms);

-- What people did.
CREATE TABLE audit (
    id     TEXT   NOT NULL PRIMARY KEY,
    at_ms  BIGINT NOT NULL,
    who    TEXT   NOT NULL,
    action TEXT   NOT NULL,
    what   TEXT   NOT NULL
);
CREATE INDEX audit_at ON audit (at_ms);

-- Who may ask. Only the token's hash is kept.
CREATE TABLE api_token (
    name       TEXT   NOT NULL PRIMARY KEY,
    hash       BLOB   NOT NULL,
    created_ms BIGINT NOT NULL
);
