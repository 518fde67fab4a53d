"""What SQLite's errors mean for whoever runs a sidecar: the cause in words, and the way out."""

import sqlite3

from proxy.ports import StoreError

RESTORE = "restore a backup: fusebox store restore FILE --replace"

# by the longest name that the error's own begins with (sqlite.org/rescode.html)
_MEANING = {
    "SQLITE_FULL": ("its file system is full", "free some space; it is written again by itself then"),
    "SQLITE_IOERR_SHMSIZE": (
        "its file system is full",
        "free some space; it is written again by itself then",
    ),
    "SQLITE_BUSY": (
        "another process keeps it locked",
        "end that process, or wait for it: fuser tells which has the file open",
    ),
    "SQLITE_READONLY": (
        "it cannot be written",
        "its file system may be mounted read-only, or file or directory belong to another user",
    ),
    "SQLITE_CANTOPEN": (
        "it cannot be opened",
        "file and directory have to be there, and this user has to be allowed to read and write both",
    ),
    "SQLITE_PERM": ("it may not be opened", "file and directory have to belong to this user"),
    "SQLITE_CORRUPT": ("it is damaged", RESTORE),
    "SQLITE_NOTADB": ("it is no SQLite database, or damaged", RESTORE),
    "SQLITE_IOERR": (
        "its disk does not answer as it should, or a limit on the size of files is reached",
        "look at the kernel's log and at ulimit -f",
    ),
    "SQLITE_TOOBIG": ("a value is too large for it", "this is a mistake of the program"),
}


def told(name: str, error: Exception) -> StoreError:
    """What `error` of sqlite3 on the store `name` means; keeps SQLite's own words in parentheses."""
    code = getattr(error, "sqlite_errorname", "")
    known = max((it for it in _MEANING if code.startswith(it)), key=len, default="")
    if known:
        cause, way_out = _MEANING[known]
        return StoreError(f"{name}: {cause} ({error}; {code}): {way_out}")
    if isinstance(error, UnicodeDecodeError) or (
        isinstance(error, sqlite3.OperationalError) and "decode" in str(error)
    ):
        return StoreError(f"{name}: it is damaged ({error}): {RESTORE}")
    return StoreError(f"{name}: {error}" + (f" ({code})" if code else ""))
