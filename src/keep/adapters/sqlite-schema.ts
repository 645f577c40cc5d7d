/**
 * Steps of the two schemas; `PRAGMA user_version` counts those that were done. A step is never
 * changed once it was released: add one.
 */

/** What can be made again from packs and manifests. */
export const INDEX_STEPS = [
  `
  CREATE TABLE packs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size_bytes INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    pack_id INTEGER NOT NULL,
    offset_bytes INTEGER NOT NULL,
    coded_bytes INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    plain_crc INTEGER NOT NULL,
    coded_crc INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX chunks_of_pack ON chunks (pack_id);
  CREATE INDEX chunks_not_live ON chunks (state) WHERE state <> 0;
  CREATE TABLE pages (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    entries INTEGER NOT NULL,
    plain_bytes INTEGER NOT NULL,
    coded_bytes INTEGER,
    plain_crc INTEGER,
    coded_tag BLOB
  ) STRICT;
  CREATE TABLE page_chunks (
    chunk_id INTEGER NOT NULL,
    page_id INTEGER NOT NULL,
    PRIMARY KEY (chunk_id, page_id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE image_pages (
    image_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    page_id INTEGER NOT NULL,
    PRIMARY KEY (image_id, number)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX images_of_page ON image_pages (page_id);
  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO facts VALUES ('incomplete', 'yes');
  `,
] as const;

/** What nobody can make again, but for images: their manifests and records have most of it. */
export const STATE_STEPS = [
  `
  CREATE TABLE state.images (
    id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL,
    status TEXT NOT NULL,
    is_public INTEGER NOT NULL,
    is_official INTEGER NOT NULL,
    is_locked INTEGER NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    kind TEXT NOT NULL,
    arch TEXT NOT NULL,
    ancestor_id TEXT,
    compatibility_mode INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    virtual_size_bytes INTEGER NOT NULL,
    gzip_size_bytes INTEGER NOT NULL,
    added_bytes INTEGER NOT NULL,
    plain_digest TEXT,
    claimed_digest TEXT,
    chunk_rule TEXT NOT NULL,
    page_count INTEGER NOT NULL,
    capture TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX state.images_of_owner ON images (owner_id, status);
  CREATE INDEX state.public_images ON images (status) WHERE is_public = 1;
  CREATE TABLE state.accounts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE state.clients (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    is_revoked INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE state.jobs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    account_id TEXT,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    lease_until INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    done_bytes INTEGER NOT NULL,
    total_bytes INTEGER,
    stage TEXT NOT NULL,
    checkpoint TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
  ) STRICT;
  CREATE UNIQUE INDEX state.one_open_job ON jobs (kind, subject)
    WHERE state IN ('queued', 'running');
  `,
  `
  ALTER TABLE state.images ADD COLUMN failure TEXT;
  CREATE TABLE state.imports (
    image_id TEXT PRIMARY KEY,
    document TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE INDEX state.jobs_of_kind ON jobs (kind, subject, number);
  `,
] as const;

/** What ends with the process: sessions and what they were given. */
export const SESSION_TABLES = `
  CREATE TABLE temp.sessions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
  CREATE TABLE temp.session_chunks (
    session_id INTEGER NOT NULL,
    chunk_id INTEGER NOT NULL,
    PRIMARY KEY (session_id, chunk_id)
  ) WITHOUT ROWID;
  CREATE INDEX temp.sessions_of_chunk ON session_chunks (chunk_id);
  CREATE TABLE temp.session_pages (
    session_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    page_id INTEGER NOT NULL,
    PRIMARY KEY (session_id, number)
  ) WITHOUT ROWID;
  CREATE INDEX temp.sessions_of_page ON session_pages (page_id);
`;
