-- Every version of the toggles: who made it, why, how, what differs, and the whole document.
CREATE TABLE toggle_versions (
    version bigint PRIMARY KEY,
    at text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    reason text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    expires_at text COLLATE "C" NOT NULL,
    diff bytea NOT NULL,
    document bytea NOT NULL,
    returns bytea NOT NULL
);
