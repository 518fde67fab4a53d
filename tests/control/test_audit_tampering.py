"""Whatever byte of the stored log changes, it is found: in any column of any row, or in the file itself."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from auditing import START, Rig, entry, personal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.ports import StoreError
from proxy.storage.sqlite import SqliteStore

TABLES = {
    "audit_entries": ("seq", "entry", "leaf", "at", "action", "outcome", "actor", "target", "request_id",
                      "key_id"),
    "audit_tree": ("size", "peaks"),
    "audit_checkpoints": ("size", "root", "at", "note"),
    "audit_segments": ("first", "size", "root", "last_at", "sealed_at", "dropped_at"),
    "audit_keys": ("key_id", "tag", "wrapped"),
}  # fmt: skip
EXAMPLES = int(os.environ.get("FUSEBOX_FLIPS", "150"))
thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Made:
    """A log with everything in it: sealed and erased fields, segments, checkpoints, some of it dropped."""

    def __init__(self, directory, *, dropped):
        self.path = directory / "sound.db"
        self.rig = Rig(directory, SqliteStore(self.path))
        rig = self.rig
        for number in range(5):
            rig.fill(9, lambda it: (personal if it % 2 else entry)(it, subject=f"u{it % 4}", target="t"))
            rig.wall.now = START + number
            asyncio.run(rig.upkeep.checkpoint())
        asyncio.run(rig.upkeep.seal())
        asyncio.run(rig.log.erase_subject("u3"))
        if dropped:
            due = rig.segments()[:3]
            rig.store.write(lambda it: rig.upkeep._drop(it, due))
        asyncio.run(rig.upkeep.checkpoint())
        self.outside = [("elsewhere", rig.checkpoints()[-1].note)]
        assert rig.verify(self.outside).ok
        rig.store.close()
        self.size = self.path.stat().st_size
        self.rows = {table: self.dump(self.path, table) for table in TABLES}

    def dump(self, path, table):
        with closing(sqlite3.connect(path)) as connection:
            connection.text_factory = bytes
            return connection.execute(f"SELECT rowid, {', '.join(TABLES[table])} FROM {table}").fetchall()

    def changed(self, directory):
        """A copy to be changed."""
        for old in directory.glob("changed.db*"):
            old.unlink()
        return shutil.copy(self.path, directory / "changed.db")

    def verify(self, path, external=()):
        """The report, and what `check` says."""
        with closing(SqliteStore(path, existing=True)) as store:
            rig = self.rig
            rig.store = store
            return rig.verify(external), store.check()


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "dropped"])
def made(request, tmp_path_factory):
    return Made(tmp_path_factory.mktemp("log"), dropped=request.param)


def flipped(value, place, bit):
    """The value with one bit changed, in the type it has; None where there is no byte to change."""
    if isinstance(value, int):
        raw = bytearray(value.to_bytes(8, "big", signed=True))
        raw[place % 8] ^= bit
        return int.from_bytes(raw, "big", signed=True)
    raw = bytearray(value)
    if not raw:
        return None
    raw[place % len(raw)] ^= bit
    return bytes(raw)


@thorough
@given(data=st.data())
def test_any_byte_of_any_column_of_any_row(made, tmp_path, data):
    """Found by verifying, with the key alone; what a store refuses to hold does not count."""
    table = data.draw(st.sampled_from(sorted(TABLES)))
    row = data.draw(st.sampled_from(made.rows[table]))
    column = data.draw(st.integers(1, len(row) - 1))
    value = flipped(row[column], data.draw(st.integers(0, 10**6)), 1 << data.draw(st.integers(0, 7)))
    if value is None:
        return
    name = TABLES[table][column - 1]
    path = made.changed(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        # bytes into TEXT, also such as are no UTF-8: what a hand in the file could leave there
        text = (
            f"CAST(? AS {'TEXT' if made_of_text(table, name) else 'BLOB'})"
            if isinstance(value, bytes)
            else "?"
        )
        try:
            connection.execute(f"UPDATE {table} SET {name} = {text} WHERE rowid = ?", (value, row[0]))
            connection.commit()
        except sqlite3.IntegrityError:
            return
    report, _ = made.verify(path)
    assert not report.ok, (table, row[0], name, value)


def made_of_text(table, name):
    return name not in {"entry", "leaf", "peaks", "root", "tag", "wrapped"}


@thorough
@given(data=st.data())
def test_any_byte_of_the_file(made, tmp_path, data):
    """Found by `check` or by verifying, or the log in it is the same: the byte meant nothing."""
    path = made.changed(tmp_path)
    place = data.draw(st.integers(0, made.size - 1))
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        report, faults = made.verify(path, made.outside)
    except StoreError:
        return  # not even opened, and told why
    if report.ok and not faults:
        assert {table: made.dump(path, table) for table in TABLES} == made.rows, place
