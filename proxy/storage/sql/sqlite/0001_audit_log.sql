-- The log. Everything besides entry is found in it again; it is there to be searched.
CREATE TABLE audit_entries (
    seq INTEGER PRIMARY KEY,
    entry BLOB NOT NULL,
    leaf BLOB NOT NULL,
    at TEXT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    actor TEXT NOT NULL,
    target TEXT NOT NULL,
    request_id TEXT NOT NULL
) STRICT;
-- Each index ends in the row's number, so that the newest of what it finds come without sorting.
CREATE INDEX audit_entries_at ON audit_entries (at);
CREATE INDEX audit_entries_action ON audit_entries (action);
CREATE INDEX audit_entries_actor ON audit_entries (actor) WHERE actor <> '';
CREATE INDEX audit_entries_target ON audit_entries (target) WHERE target <> '';
CREATE INDEX audit_entries_request_id ON audit_entries (request_id) WHERE request_id <> '';

-- The tree's frontier: one row. peaks holds 32 bytes for each perfect subtree, largest first.
CREATE TABLE audit_tree (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    size INTEGER NOT NULL CHECK (size >= 0),
    peaks BLOB NOT NULL
) STRICT;
INSERT INTO audit_tree (id, size, peaks) VALUES (0, 0, x'');
