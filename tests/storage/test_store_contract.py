"""What every store promises, asked of each: memory, SQLite, PostgreSQL."""

import stat
import threading

import pytest
from storing import AT, adding, entries, failing, size, version

from proxy.core.audit import Outcome
from proxy.core.merkle import Frontier
from proxy.ports import StoreError
from proxy.ports.records import AuditFilter, Segment, StoredCheckpoint, SubjectKey
from proxy.storage.sqlite import SqliteStore

KEY = SubjectKey(key_id="k1", tag=b"\x00tag\xff", wrapped=b"\x00wrapped\xff")


def found(store, before=None, limit=100, **wanted):
    return [
        row.seq
        for row in store.read(lambda it: it.audit.find(AuditFilter(**wanted), before=before, limit=limit))
    ]


def test_a_new_store_is_empty_and_sound(store):
    assert store.read(lambda it: it.audit.tree()) == Frontier()
    assert store.read(lambda it: list(it.audit.walk(0, 100))) == []
    assert store.read(lambda it: it.audit.last_checkpoint()) is None
    assert store.check() == []


def test_rows_come_back_as_they_were_written(store):
    rows = entries(0, 3, target="a\x00b", actor="é\U0001f600", reason="\x00", subject="s")
    tree = Frontier().extend(row.leaf for row in rows)
    store.write(lambda it: it.audit.append(rows, tree))
    assert store.read(lambda it: list(it.audit.walk(0, 3))) == rows
    assert store.read(lambda it: it.audit.tree()) == tree
    assert tree.root() == store.read(lambda it: it.audit.tree().root())


def test_a_work_that_fails_leaves_nothing(store):
    store.write(adding(2))
    with pytest.raises(LookupError, match="given up"):
        store.write(failing)
    assert store.read(size) == 2
    assert store.read(lambda it: it.audit.spool_position("lost")) == 0
    assert store.write(adding(1)) == 3
    assert store.check() == []


def test_of_several_works_each_is_whole_or_not_at_all(store):
    first, second, third = store.write_all([adding(2), failing, adding(1)])
    assert (first, third) == (2, 3)
    assert isinstance(second, LookupError)
    assert store.read(size) == 3
    assert store.read(lambda it: it.audit.spool_position("lost")) == 0
    assert store.check() == []


def test_a_wrong_value_in_one_work_leaves_the_others(store):
    def wrong(records):
        records.audit.set_spool_position("x", "no number")  # SQLite and PostgreSQL refuse

    done = store.write_all([adding(1), lambda it: it.audit.set_spool_position("\ud800", 1), adding(1)])
    assert (done[0], done[2]) == (1, 2)
    if store.name != "memory://":
        assert isinstance(done[1], Exception)
        assert isinstance(store.write_all([wrong, adding(1)])[0], StoreError)
        assert store.read(size) == 3


@pytest.mark.parametrize("first", [0, 1, 3])
def test_rows_that_do_not_go_on_from_the_end_are_refused(store, first):
    store.write(adding(2))
    rows = entries(first, 2)
    with pytest.raises(ValueError, match="these rows"):
        store.write(lambda it: it.audit.append(rows, it.audit.tree().extend(row.leaf for row in rows)))
    with pytest.raises(ValueError, match="these rows"):
        store.write(lambda it: it.audit.append(rows, Frontier(first + 2)))
    assert store.check() == []


def test_no_rows_change_nothing(store):
    store.write(adding(3))
    store.write(lambda it: it.audit.append((), it.audit.tree()))
    assert store.read(size) == 3


def test_finding_is_newest_first_by_page(store):
    store.write(adding(5))
    assert found(store, limit=2) == [4, 3]
    assert found(store, limit=2, before=3) == [2, 1]
    assert found(store, limit=2, before=1) == [0]
    assert found(store, limit=2, before=0) == []


def test_finding_by_every_field(store):
    store.write(adding(1, action="breaker.open", actor="ann", target="cf", outcome=Outcome.REFUSED))
    store.write(adding(1, action="breaker.opened", actor="bob", request_id="r1"))
    store.write(adding(1, action="break", at="2026-02-01T00:00:00.000000Z"))
    store.write(adding(1, action="breakers", actor=""))
    assert found(store, action="breaker.") == [1, 0]
    assert found(store, action="breaker.open") == [0]
    assert found(store, action="break") == [2]
    assert found(store, actor="bob") == [1]
    assert found(store, target="cf") == [0]
    assert found(store, outcome="refused") == [0]
    assert found(store, request_id="r1") == [1]
    assert found(store, since="2026-02-01T00:00:00.000000Z") == [2]
    assert found(store, until="2026-02-01T00:00:00.000000Z") == [3, 1, 0]
    assert found(store, actor="ann", action="breaker.", outcome="refused", since=AT) == [0]
    assert found(store, actor="ann", action="breaker.", request_id="r1") == []
    assert found(store) == [3, 2, 1, 0]


@pytest.mark.parametrize(
    "odd", ["\x00", "'; DROP TABLE audit_entries; --", "%s", ":actor", "\ud800", "x" * 10_000]
)
def test_odd_text_is_found_by_itself(store, odd):
    store.write(adding(1, target=odd))
    store.write(adding(1, target="even"))
    assert found(store, target=odd) == [0]


def test_walking_long_logs_and_parts_of_them(store):
    store.write(adding(2_501))
    assert [row.seq for row in store.read(lambda it: list(it.audit.walk(0, 2_501)))] == list(range(2_501))
    assert [row.seq for row in store.read(lambda it: list(it.audit.walk(999, 2_001)))] == list(
        range(999, 2_001)
    )
    assert store.read(lambda it: it.audit.count(10, 20)) == 10
    assert store.read(lambda it: it.audit.count(2_500, 9_999)) == 1


def test_a_reader_sees_one_moment_and_stops_nobody(store):
    """Somebody walks the log while others write and drop."""
    store.write(adding(1_500))

    def work(records):
        rows = records.audit.walk(0, 10_000)
        seen = [next(rows).seq]
        store.write(adding(10))
        store.write(lambda it: it.audit.add_segment(segment(0, 1_024)))
        store.write(lambda it: it.audit.drop_segment(0, AT))
        return seen + [row.seq for row in rows], records.audit.tree().size, records.audit.segments()

    assert store.read(work) == (list(range(1_500)), 1_500, [])
    assert store.read(size) == 1_510
    assert store.check() == []


def segment(first, length, **more):
    return Segment(first=first, size=length, root=b"r" * 32, last_at=AT, sealed_at=AT, **more)


def test_segments_are_dropped_with_their_entries(store):
    store.write(adding(10))
    store.write(lambda it: it.audit.add_segment(segment(4, 4)))
    store.write(lambda it: it.audit.add_segment(segment(0, 4)))
    with pytest.raises(ValueError, match="already"):
        store.write(lambda it: it.audit.add_segment(segment(0, 4)))
    assert store.write(lambda it: it.audit.drop_segment(0, "2027")) == 4
    assert store.write(lambda it: it.audit.drop_segment(0, "2028")) == 0
    assert store.read(lambda it: it.audit.segments()) == [segment(0, 4, dropped_at="2027"), segment(4, 4)]
    assert [row.seq for row in store.read(lambda it: list(it.audit.walk(0, 10)))] == [4, 5, 6, 7, 8, 9]
    assert found(store) == [9, 8, 7, 6, 5, 4]
    with pytest.raises(ValueError, match="no segment begins with entry 5"):
        store.write(lambda it: it.audit.drop_segment(5, AT))
    assert store.check() == []


def test_a_drop_that_fails_is_undone(store):
    store.write(adding(4))
    store.write(lambda it: it.audit.add_segment(segment(0, 4)))

    def work(records):
        adding(1)(records)
        records.audit.drop_segment(0, AT)
        adding(1)(records)
        raise LookupError

    with pytest.raises(LookupError):
        store.write(work)
    assert found(store) == [3, 2, 1, 0]
    assert store.check() == []


def checkpoint(length, note="note"):
    return StoredCheckpoint(size=length, root=b"\x00" * 32, at=AT, note=note)


def test_checkpoints_by_size(store):
    for length in (5, 1, 9):
        store.write(lambda it, length=length: it.audit.add_checkpoint(checkpoint(length)))
    assert [it.size for it in store.read(lambda it: it.audit.checkpoints())] == [1, 5, 9]
    assert [it.size for it in store.read(lambda it: it.audit.checkpoints(1, 1))] == [5]
    assert store.read(lambda it: it.audit.last_checkpoint()) == checkpoint(9)
    with pytest.raises(ValueError, match="already"):
        store.write(lambda it: it.audit.add_checkpoint(checkpoint(5, "another")))
    assert store.read(lambda it: it.audit.checkpoints())[1] == checkpoint(5)


def test_keys_are_found_both_ways_and_erased(store):
    store.write(lambda it: it.audit.add_key(KEY))
    assert store.read(lambda it: it.audit.key_by_tag(KEY.tag)) == KEY
    assert store.read(lambda it: it.audit.key_by_id("k1")) == KEY
    for again in (
        SubjectKey(key_id="k1", tag=b"x", wrapped=b""),
        SubjectKey(key_id="k2", tag=KEY.tag, wrapped=b""),
    ):
        with pytest.raises(ValueError, match="already"):
            store.write(lambda it, again=again: it.audit.add_key(again))
    assert store.write(lambda it: it.audit.erase_key(KEY.tag)) is True
    assert store.write(lambda it: it.audit.erase_key(KEY.tag)) is False
    assert store.read(lambda it: it.audit.key_by_id("k1")) is None


def test_positions_of_spool_files(store):
    assert store.read(lambda it: it.audit.spool_position("a")) == 0
    store.write(lambda it: it.audit.set_spool_position("a", 2**40))
    store.write(lambda it: it.audit.set_spool_position("b", 1))
    store.write(lambda it: it.audit.set_spool_position("b", 2))
    store.write(lambda it: it.audit.forget_spool("a"))
    assert store.read(lambda it: (it.audit.spool_position("a"), it.audit.spool_position("b"))) == (0, 2)


def test_writers_in_many_threads_lose_nothing(store):
    def write():
        for _ in range(20):
            store.write(adding(1))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read(size) == 80
    assert store.check() == []


def test_a_closed_store_says_so(store):
    store.close()
    for call in (lambda: store.write(size), lambda: store.read(size), lambda: store.write_all([size])):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_a_backup_is_a_sqlite_store_with_the_same_content(store, tmp_path):
    store.write(adding(1_200))
    store.write(lambda it: it.audit.add_segment(segment(0, 4)))
    store.write(lambda it: it.audit.drop_segment(0, AT))
    store.write(lambda it: it.audit.add_checkpoint(checkpoint(7)))
    store.write(lambda it: it.audit.add_key(KEY))
    store.write(lambda it: it.audit.set_spool_position("a", 5))
    for number in (1, 5):
        store.write(lambda it, number=number: it.toggles.append(version(number, diff=b"\x00\xff")))
    target = tmp_path / "backup.db"
    store.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "backup" in path.name) == ["backup.db"]

    def everything(records):
        audit = records.audit
        return (
            audit.tree(), list(audit.walk(0, 9_999)), audit.segments(), audit.checkpoints(),
            audit.key_by_id("k1"), audit.spool_position("a"),
            records.toggles.page(before=None, limit=9), records.toggles.get(1), records.toggles.newest(),
        )  # fmt: skip

    copy = SqliteStore(target)
    try:
        assert copy.read(everything) == store.read(everything)
        assert copy.check() == []
    finally:
        copy.close()


def lines(store, before=None, limit=100):
    return [it.version for it in store.read(lambda it: it.toggles.page(before=before, limit=limit))]


def test_versions_of_the_toggles_come_back_as_they_were_written(store):
    assert store.read(lambda it: it.toggles.newest()) is None
    last = version(7, actor="é\U0001f600", reason="", expires_at=AT, diff=b"\x00\xff", returns=b"")
    for each in (version(2), last):
        store.write(lambda it, each=each: it.toggles.append(each))
    assert store.read(lambda it: it.toggles.newest()) == last
    assert store.read(lambda it: it.toggles.get(7)) == last
    assert store.read(lambda it: it.toggles.get(2)) == version(2)
    assert store.read(lambda it: it.toggles.get(3)) is None
    [line] = store.read(lambda it: it.toggles.page(before=3, limit=9))
    assert (line.version, line.at, line.actor, line.reason, line.kind) == (2, AT, "ann", "why", "patch")


def test_the_history_of_the_toggles_comes_by_page_newest_first(store):
    for number in (1, 2, 5, 9):
        store.write(lambda it, number=number: it.toggles.append(version(number)))
    assert lines(store, limit=2) == [9, 5]
    assert lines(store, limit=2, before=5) == [2, 1]
    assert lines(store, before=1) == []


@pytest.mark.parametrize("number", [4, 5])
def test_a_version_that_is_not_the_newest_is_refused(store, number):
    store.write(lambda it: it.toggles.append(version(5)))
    with pytest.raises(ValueError, match="version 5"):
        store.write(lambda it: it.toggles.append(version(number, reason="another")))
    assert lines(store) == [5]
    assert store.read(lambda it: it.toggles.get(5)).reason == "why"


def test_a_version_of_a_work_that_fails_is_not_there(store):
    def work(records):
        records.toggles.append(version(1))
        raise LookupError("given up")

    with pytest.raises(LookupError):
        store.write(work)
    assert lines(store) == []


def test_a_version_that_cannot_be_read_is_found(store):
    store.write(lambda it: it.toggles.append(version(1)))
    store.write(lambda it: it.toggles.append(version(2, document=b"{}")))
    assert [it.partition(":")[0] for it in store.check()] == ["version 2 of the toggles cannot be read"]


def test_a_backup_never_takes_the_place_of_a_file(store, tmp_path):
    target = tmp_path / "backup.db"
    target.write_text("precious")
    with pytest.raises(StoreError, match="is there already"):
        store.backup(target)
    assert target.read_text() == "precious"
    with pytest.raises(StoreError, match="cannot be written: No such file or directory"):
        store.backup(tmp_path / "nowhere" / "backup.db")


def test_a_backup_under_load_is_of_one_moment(store, tmp_path):
    """Entries, tree and positions fit each other, whenever it was made."""
    ending = threading.Event()

    def write():
        while not ending.wait(0.0005):
            store.write(lambda it: it.audit.set_spool_position("a", adding(3)(it)))

    store.write(adding(3_000))
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(3):
            store.backup(tmp_path / f"{number}.db")
    finally:
        ending.set()
        thread.join()
    for number in range(3):
        copy = SqliteStore(tmp_path / f"{number}.db")
        assert copy.check() == []
        here = copy.read(size)
        assert copy.read(lambda it: it.audit.count(0, 2**60)) == here
        assert copy.read(lambda it: it.audit.spool_position("a")) in {here, 0}
        copy.close()
    assert store.check() == []
