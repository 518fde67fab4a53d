"""Reading the log: pages, filters, who sees what."""

import pytest
from auditing import Rig, entry, personal

from proxy.control.audit_reading import AuditReading, matching, moment
from proxy.ports.records import AuditFilter
from proxy.storage.memory import MemoryStore


def reading(rig):
    return AuditReading(rig.journal, rig.sealer, [rig.signer.verifier])


async def pages(rig, wanted=AuditFilter(), *, limit=3, **options):  # noqa: B008 - frozen
    """Numbers page by page."""
    found, before = [], None
    while True:
        page = await reading(rig).find(wanted, before=before, limit=limit, **{"opened": False} | options)
        found.append([it["seq"] for it in page.entries])
        if page.next is None:
            return found
        before = page.next


async def test_pages_go_back_in_time(tmp_path):
    """The newest first, nothing twice, nothing left out, also while entries are added."""
    rig = Rig(tmp_path)
    rig.fill(8)
    assert await pages(rig) == [[7, 6, 5], [4, 3, 2], [1, 0]]
    first = await reading(rig).find(AuditFilter(), limit=3, opened=False)
    rig.fill(5)
    second = await reading(rig).find(AuditFilter(), limit=3, before=first.next, opened=False)
    assert [it["seq"] for it in second.entries] == [4, 3, 2]


async def test_who_may_not_open_sees_that_something_is_sealed(tmp_path):
    """And who may sees the fields in their places; what was erased is erased for both."""
    rig = Rig(tmp_path)
    rig.fill(1, personal)
    rig.fill(1, lambda number: personal(number, subject="user-2"))
    await rig.log.erase_subject("user-2")
    closed = (await reading(rig).find(AuditFilter(), limit=9, opened=False)).entries
    opened = (await reading(rig).find(AuditFilter(), limit=9, opened=True)).entries
    assert [it.get("sealed") for it in closed] == [None, None, True]
    assert "reason" not in closed[2]
    assert (opened[2]["actor"], opened[2]["subject"], opened[2]["reason"]) == ("a0", "user-1", "r0")
    assert "sealed" not in opened[2]
    for shown in (closed[1], opened[1]):
        assert shown["erased"] is True
        assert "subject" not in shown


async def test_entries_of_a_subject(tmp_path):
    """Found by the key; only for who may open them, since finding tells as much as reading."""
    rig = Rig(tmp_path)
    for number in range(6):
        rig.fill(1, lambda _, number=number: personal(number, subject=f"user-{number % 2}"))
    assert await pages(rig, subject="user-1", opened=True) == [[5, 3, 1]]  # full, and the last
    assert await pages(rig, subject="nobody", opened=True) == [[]]
    with pytest.raises(ValueError, match="subject"):
        await pages(rig, subject="user-1")


async def test_filters_by_time_take_any_rfc_3339(tmp_path):
    """In any zone, with or without fractions, or a date alone."""
    rig = Rig(tmp_path)
    for hour in range(4):
        rig.fill(1, lambda _, hour=hour: entry(at=f"2026-01-02T0{hour}:00:00.000000Z"))
    for since, until, found in (
        ("2026-01-02T01:00:00Z", "2026-01-02T03:00:00Z", [2, 1]),
        ("2026-01-02T02:00:00+01:00", "", [3, 2, 1]),
        ("2026-01-02", "2026-01-02T01:00:00", [0]),
        ("2026-01-03", "", []),
    ):
        wanted = AuditFilter(since=since, until=until)
        assert (await pages(rig, wanted, limit=9)) == [found]
    with pytest.raises(ValueError, match="no time"):
        await pages(rig, AuditFilter(since="yesterday"))


async def test_a_damaged_row_is_shown_as_one(tmp_path):
    """Reading goes on; verifying says more."""
    rig = Rig(tmp_path)
    rig.fill(2)
    row = rig.rows()[0]
    fields = {name: getattr(row, name) for name in row.__slots__}
    rig.store._state.rows[0] = type(row)(**fields | {"entry": b"x"})
    page = await reading(rig).find(AuditFilter(), limit=9, opened=True)
    assert page.entries[1] == {"seq": 0, "at": row.at, "action": row.action, "damaged": True}


async def test_the_report_and_the_newest_checkpoint(tmp_path):
    """As the API shows them."""
    rig = Rig(tmp_path)
    assert await reading(rig).checkpoint() is None
    rig.fill(3)
    await rig.upkeep.checkpoint()
    assert (await reading(rig).checkpoint()).size == 3
    report = await reading(rig).verify()
    assert report["ok"] is True
    assert report["checkpoints"] == 1


async def test_the_report_asks_for_the_checkpoint_remembered_beside_the_store(tmp_path):
    """As the one in the store says nothing of a store that was exchanged."""
    rig = Rig(tmp_path)
    rig.fill(3)
    await rig.upkeep.checkpoint()
    rig.journal.store = MemoryStore()
    looking = AuditReading(rig.journal, rig.sealer, [rig.signer.verifier], last=rig.last)
    assert (await looking.verify())["ok"] is False
    assert (await reading(rig).verify())["ok"] is True


@pytest.mark.parametrize(
    ("wanted", "found"),
    [({}, [0, 1, 2, 3]), ({"action": "kill."}, [1, 2]), ({"action": "kill.on"}, [1]), ({"actor": "b"}, [2]),
     ({"target": "t"}, [3]), ({"outcome": "done"}, [0, 1, 2, 3]), ({"outcome": "failed"}, []),
     ({"action": "kill.", "actor": "a"}, [1]), ({"since": moment("2026-01-03")}, []),
     ({"until": moment("2026-01-03")}, [0, 1, 2, 3])],
)  # fmt: skip
async def test_walking_and_finding_agree(tmp_path, wanted, found):
    """What an export writes is what the API shows."""
    rig = Rig(tmp_path)
    for action, actor, target in (
        ("x", "a", ""),
        ("kill.on", "a", ""),
        ("kill.off", "b", ""),
        ("y", "", "t"),
    ):
        rig.fill(1, lambda _, it=(action, actor, target): entry(action=it[0], actor=it[1], target=it[2]))
    asked = AuditFilter(**wanted)
    assert rig.store.read(lambda it: [row.seq for row in matching(it.audit, asked)]) == found
    assert await pages(rig, asked, limit=9) == [found[::-1]]
