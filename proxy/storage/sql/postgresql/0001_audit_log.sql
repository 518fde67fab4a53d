-- The log. Everything besides entry is found in it again; it is there to be searched.
-- Text is compared by code point, as in SQLite.
CREATE TABLE audit_entries (
    seq bigint PRIMARY KEY,
    entry bytea NOT NULL,
    leaf bytea NOT NULL,
    at text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    outcome text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    target text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL
);
-- Each index ends in the row's number, so that the newest of what it finds come without sorting.
CREATE INDEX audit_entries_at ON audit_entries (at, seq);
CREATE INDEX audit_entries_action ON audit_entries (action, seq);
CREATE INDEX audit_entries_actor ON audit_entries (actor, seq) WHERE actor <> '';
CREATE INDEX audit_entries_target ON audit_entries (target, seq) WHERE target <> '';
CREATE INDEX audit_entries_request_id ON audit_entries (request_id, seq) WHERE request_id <> '';

-- The tree's frontier: one row. peaks holds 32 bytes for each perfect subtree, largest first.
CREATE TABLE audit_tree (
    id integer PRIMARY KEY CHECK (id = 0),
    size bigint NOT NULL CHECK (size >= 0),
    peaks bytea NOT NULL
);
INSERT INTO audit_tree (id, size, peaks) VALUES (0, 0, '');
