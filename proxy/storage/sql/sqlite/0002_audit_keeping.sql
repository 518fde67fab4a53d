-- Sealed fields: which key an entry needs, empty for none.
ALTER TABLE audit_entries ADD COLUMN key_id TEXT NOT NULL DEFAULT '';
CREATE INDEX audit_entries_key_id ON audit_entries (key_id) WHERE key_id <> '';

CREATE TABLE audit_keys (
    key_id TEXT PRIMARY KEY,
    tag BLOB NOT NULL UNIQUE,
    wrapped BLOB NOT NULL
) STRICT;

-- Signed checkpoints as they were given out.
CREATE TABLE audit_checkpoints (
    size INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    at TEXT NOT NULL,
    note TEXT NOT NULL
) STRICT;

-- Sealed segments, kept after their entries were dropped.
CREATE TABLE audit_segments (
    first INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    last_at TEXT NOT NULL,
    sealed_at TEXT NOT NULL,
    dropped_at TEXT NOT NULL
) STRICT;

-- How far each spool file is in the log.
CREATE TABLE spool_positions (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;
