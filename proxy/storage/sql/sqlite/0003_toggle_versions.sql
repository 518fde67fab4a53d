-- Every version of the toggles: who made it, why, how, what differs, and the whole document.
CREATE TABLE toggle_versions (
    version INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    kind TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    diff BLOB NOT NULL,
    document BLOB NOT NULL,
    returns BLOB NOT NULL
) STRICT;
