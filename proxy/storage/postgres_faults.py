"""What PostgreSQL's errors mean for whoever runs a sidecar: the cause in words, and the way out."""

import psycopg

from proxy.core.store_url import StorePlace
from proxy.ports import StoreError

# by the longest start of SQLSTATE (PostgreSQL documentation, appendix A)
_MEANING = {
    "": ("it does not answer as it should", "look at the server's log"),
    "08": ("the connection broke", "the next write connects again; look at the server's log if it does not"),
    "25006": ("it only lets read", "it may be a standby: storage.url has to name the primary"),
    "42501": (
        "this user may not do that",
        "at the first start it makes its schema: GRANT CREATE ON DATABASE … TO it",
    ),
    "53100": ("its disk is full", "free some space on the server; it is written again by itself then"),
    "55P03": ("another writer keeps it locked", "wait for it; pg_stat_activity tells who it is"),
    "57014": ("it took longer than it may", "look at the server's load and disk"),
    "57P": ("it is starting or stopping", "it is written again by itself when the server is up"),
    "XX": ("it is damaged", "restore a backup: fusebox store restore FILE --replace"),
}
# libpq gives no SQLSTATE for a connection that failed
_UNREACHABLE = ("it cannot be reached", "is the server up, and are host and port those of storage.url?")
_REFUSED = (
    "it refuses the connection",
    "unless it is just starting, look at user, password and database in storage.url, and at pg_hba.conf",
)


def told(place: StorePlace, error: Exception) -> StoreError:
    """What `error` of psycopg means; keeps the server's own words in parentheses, never the password."""
    state, said = "", str(error)
    if isinstance(error, psycopg.Error):
        state, said = error.sqlstate or "", error.diag.message_primary or said
    said = " ".join(said.split())
    if place.secret:
        said = said.replace(place.secret, "***")
    if not state and isinstance(error, psycopg.OperationalError):
        cause, way_out = _REFUSED if "FATAL:" in said else _UNREACHABLE
    else:
        cause, way_out = _MEANING[max((it for it in _MEANING if state.startswith(it)), key=len)]
    return StoreError(f"{place.name}: {cause} ({said}{f'; {state}' if state else ''}): {way_out}")
