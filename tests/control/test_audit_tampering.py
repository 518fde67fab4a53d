"""Whatever byte of the stored log changes, it is found: in any column of any row, or in the file itself."""

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing

import orjson
import pytest
from auditing import START, Rig, entry, personal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.core.audit import canonical, row
from proxy.core.merkle import Frontier
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


def older_backup(rig, sql):
    """What was saved over 30 entries, with the checkpoints of then."""
    sql("DELETE FROM audit_checkpoints WHERE size > 30")
    sql("DELETE FROM audit_segments WHERE first + size > 30")
    sql("DELETE FROM audit_entries WHERE seq >= 30")
    set_tree(sql, [it.leaf for it in rig.rows()])


def rewritten(rig, sql):
    """Another actor in entry 3 and everything made to fit, without a signature that would not."""
    leaves = []
    for it in rig.rows():
        values = orjson.loads(it.entry)
        if it.seq == 3:
            values["target"] = "mallory"
        made = row(canonical(values))
        leaves.append(made.leaf)
        sql("UPDATE audit_entries SET entry = ?, leaf = ?, target = ? WHERE seq = ?",
            (made.entry, made.leaf, made.target, made.seq))  # fmt: skip
    set_tree(sql, leaves)
    sql("DELETE FROM audit_checkpoints")
    sql("DELETE FROM audit_segments")


def emptied(rig, sql):
    for table in TABLES:
        sql(
            f"DELETE FROM {table}" if table != "audit_tree" else "UPDATE audit_tree SET size = 0, peaks = x''"
        )


def set_tree(sql, leaves):
    tree = Frontier().extend(leaves)
    sql("UPDATE audit_tree SET size = ?, peaks = ?", (tree.size, b"".join(tree.peaks)))


@pytest.mark.parametrize("attack", [older_backup, rewritten, emptied])
async def test_another_history_in_the_whole_store_is_never_signed(tmp_path, attack):
    """Whoever can write to the store alone can make it fit itself, and wait for a restart."""
    path = tmp_path / "store.db"
    rig = Rig(tmp_path, SqliteStore(path))
    for _ in range(5):
        rig.fill(10)
        await rig.upkeep.checkpoint()
    await rig.upkeep.seal()
    rig.store.close()
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
        closing(SqliteStore(path)) as rig.store,
    ):
        attack(rig, connection.execute)
    with closing(SqliteStore(path)) as rig.store:
        rig.journal.store = rig.store
        assert rig.verify().ok, "nothing in the store shows it"
        assert not rig.verify([("audit.last", rig.last.read())]).ok
        before = rig.checkpoints()
        rig.fill(20)
        upkeep = rig.fresh_upkeep()
        await upkeep.look()
        assert "is not the one that was signed over 50 (audit.last)" in upkeep.trouble
        assert rig.checkpoints() == before
        rig.last.forget()  # a person has put it in place
        upkeep = rig.fresh_upkeep()
        await upkeep.look()
        assert upkeep.trouble == ""
        assert len(rig.checkpoints()) == len(before) + 1


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
