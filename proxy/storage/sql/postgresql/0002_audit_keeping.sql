-- Sealed fields: which key an entry needs, empty for none.
ALTER TABLE audit_entries ADD COLUMN key_id text COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX audit_entries_key_id ON audit_entries (key_id, seq) WHERE key_id <> '';

CREATE TABLE audit_keys (
    key_id text COLLATE "C" PRIMARY KEY,
    tag bytea NOT NULL UNIQUE,
    wrapped bytea NOT NULL
);

-- Signed checkpoints as they were given out.
CREATE TABLE audit_checkpoints (
    size bigint PRIMARY KEY,
    root bytea NOT NULL,
    at text COLLATE "C" NOT NULL,
    note text COLLATE "C" NOT NULL
);

-- Sealed segments, kept after their entries were dropped.
CREATE TABLE audit_segments (
    first bigint PRIMARY KEY,
    size bigint NOT NULL,
    root bytea NOT NULL,
    last_at text COLLATE "C" NOT NULL,
    sealed_at text COLLATE "C" NOT NULL,
    dropped_at text COLLATE "C" NOT NULL
);

-- How far each spool file is in the log.
CREATE TABLE spool_positions (
    name text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL
);
