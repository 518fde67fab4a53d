"""Verifying finds what somebody did to the log, and says where."""

from dataclasses import replace

import pytest
from auditing import Rig, entry, personal

from proxy.clock import rfc3339
from proxy.control.audit import append
from proxy.core.audit import row
from proxy.core.checkpoint import Signer
from proxy.core.merkle import Frontier


class Log(Rig):
    """40 entries, a checkpoint after every 10, segments of 8; and hands beneath the store's feet."""

    def __init__(self, directory, **settings):
        super().__init__(directory, **settings)
        for _ in range(4):
            self.fill(10, lambda number: (personal if number % 3 else entry)(number))
            self.sign()

    def sign(self, size=None, signer=None):
        """A checkpoint over all there is, or over a tree made of the first `size` rows."""
        tree = (
            self.state.tree if size is None else Frontier().extend(it.leaf for it in self.state.rows[:size])
        )
        note = (signer or self.signer).checkpoint(tree.size, tree.root(), rfc3339(self.wall()))
        self.put_checkpoint(note, tree.size, tree.root())
        return note

    def put_checkpoint(self, note, size, root):
        from proxy.ports.records import StoredCheckpoint

        kept = dict(self.state.checkpoints)
        kept[size] = StoredCheckpoint(size=size, root=root, at=rfc3339(self.wall()), note=note)
        self.set(checkpoints=kept)

    @property
    def state(self):
        return self.store._state

    def set(self, **fields):
        self.store._state = replace(self.store._state, **fields)

    def put(self, seq, **fields):
        self.state.rows[seq] = replace(self.state.rows[seq], **fields)

    def cut(self, size):
        """The last entries gone, the tree made to fit."""
        rows = self.state.rows[:size]
        self.set(rows=rows, tree=Frontier().extend(it.leaf for it in rows))

    def rewrite(self, seq):
        """Another entry, with its leaf and the tree made to fit: what an able attacker does."""
        data = self.state.rows[seq].entry.replace(b'"action":"test.done"', b'"action":"test.none"')
        self.state.rows[seq] = row(data)
        self.set(tree=Frontier().extend(it.leaf for it in self.state.rows))

    def sealed(self):
        from proxy.control.audit_segments import full_segments

        found = self.store.read(lambda it: full_segments(it.audit, 8))
        self.store.write(lambda it: [it.audit.add_segment(segment) for segment in found])
        return self

    def found(self, external=(), **options):
        return [(it.kind.value, it.first, it.end) for it in self.verify(external, **options).findings]


@pytest.fixture(params=[False, True], ids=["unsealed", "sealed"])
def log(request, tmp_path):
    made = Log(tmp_path)
    return made.sealed() if request.param else made


def test_a_sound_log_verifies(log):
    """And the report says what was looked at."""
    report = log.verify([("elsewhere", log.checkpoints()[1].note)])
    assert report.ok
    assert (report.size, report.entries, report.checkpoints, report.external) == (40, 40, 4, 1)
    assert report.signed == 40
    assert report.root == log.state.tree.root().hex()
    assert report.values()["ok"] is True


def test_an_empty_log_verifies(tmp_path):
    """Nothing is sound."""
    assert Rig(tmp_path).verify().ok


def test_an_edited_entry_is_found_at_its_number(log):
    """The entry alone, its leaf alone, or a column alone."""
    log.put(13, entry=log.state.rows[13].entry.replace(b"test", b"tost"))
    assert log.found() == [("edit", 13, 14)]


@pytest.mark.parametrize(
    "fields", [{"leaf": b"x" * 32}, {"leaf": b"short"}, {"at": "2"}, {"action": "x"}, {"outcome": "x"},
               {"actor": "x"}, {"target": "x"}, {"request_id": "x"}, {"key_id": "x"}],
)  # fmt: skip
def test_an_edited_column_is_found_at_its_number(log, fields):
    """Columns are what searches show."""
    log.put(13, **fields)
    found = log.found()
    assert ("edit", 13, 14) in found
    assert all(kind in {"edit", "bad_segment"} for kind, _, _ in found)


def test_a_rewritten_entry_is_found_between_checkpoints(log):
    """Leaf and tree fit, the signature does not."""
    log.rewrite(13)
    found = log.found()
    assert ("bad_segment", 8, 16) in found if log.segments() else ("edit", 10, 20) in found
    assert all(kind == "bad_tree" or (first >= 8 and end <= 20) for kind, first, end in found)


def test_a_garbled_entry_is_a_damaged_row(log):
    """What is no entry at all."""
    log.put(13, entry=b"garbage")
    assert log.found() == [("damaged_row", 13, 14)]


def test_entries_that_were_swapped_are_found(log):
    """Each says which it is."""
    rows = log.state.rows
    rows[13], rows[17] = replace(rows[17], seq=13), replace(rows[13], seq=17)
    assert ("swap", 13, 14) in log.found()
    assert ("swap", 17, 18) in log.found()


def test_a_deleted_entry_is_found(log):
    """With the numbers around it as they were; and with the others moved up, as swaps."""
    log.state.rows[13] = None
    assert log.found() == [("deletion", 13, 14)]
    log.state.rows[25:28] = [None] * 3
    assert log.found() == [("deletion", 13, 14), ("deletion", 25, 28)]


def test_a_cut_tail_is_found_by_the_tree(log):
    """Rows gone, nothing else done."""
    log.state.rows[35:] = [None] * 5
    assert ("cut_tail", 35, 40) in log.found()


def test_a_cut_tail_is_found_by_a_checkpoint(log):
    """Rows gone and the tree made to fit."""
    log.cut(35)
    assert ("cut_tail", 35, 40) in log.found()


def test_a_tail_cut_with_its_checkpoints_is_found_from_outside_only(log):
    """Everything behind 32 gone, without a trace: nothing here can tell, what is kept elsewhere can."""
    outside = log.checkpoints()[-1].note
    log.cut(32)
    log.set(checkpoints={it.size: it for it in log.checkpoints() if it.size <= 32})
    log.set(segments={first: it for first, it in log.state.segments.items() if first + it.size <= 32})
    assert log.found() == []
    assert log.found([("outside", outside)]) == [("cut_tail", 32, 40)]


def test_a_fork_is_found_from_outside(log):
    """Rewritten by somebody who could also sign: sound in itself, and not what was shown before."""
    outside = log.checkpoints()[2].note
    log.set(checkpoints={}, segments={})
    log.rewrite(13)
    for size in (10, 20, 30, 40):
        log.sign(size)
    assert log.found() == []
    assert log.found([("outside", outside)]) == [("fork", 0, 30)]


def test_a_forged_checkpoint_is_found(log):
    """Signed by another key; or with columns that its text does not say."""
    stranger = Signer("log.test", b"f" * 32)
    log.sign(25, stranger)
    assert log.found() == [("forged_checkpoint", 0, 0)]
    kept = dict(log.state.checkpoints)
    kept[25] = replace(kept[20], size=25)
    log.set(checkpoints=kept)
    assert log.found() == [("forged_checkpoint", 0, 0)]


def test_a_checkpoint_of_another_log_is_no_proof(log):
    """The right key over the text of another origin."""
    other = Signer("log.other", b"s" * 32)
    note = other.checkpoint(20, log.checkpoints()[1].root, rfc3339(log.wall()))
    verifiers = [log.signer.verifier]
    assert log.found([("outside", note)], verifiers=verifiers) == [("forged_checkpoint", 0, 0)]


def test_a_bad_signature_is_found(log):
    """The text altered, the signature as it was."""
    kept = dict(log.state.checkpoints)
    kept[20] = replace(kept[20], note=kept[20].note.replace("\n20\n", "\n21\n"))
    log.set(checkpoints=kept)
    assert log.found() == [("bad_signature", 0, 0)]
    assert log.found([("outside", "nonsense")]) == [("bad_signature", 0, 0)] * 2


def test_a_damaged_tree_is_found(log):
    """Peaks altered, or of the wrong number."""
    tree = log.state.tree
    log.set(tree=Frontier(tree.size, (b"x" * 32, *tree.peaks[1:])))
    assert log.found() == [("bad_tree", 0, 0)]
    log.set(tree=Frontier(tree.size, tree.peaks[1:]))
    assert log.found()[0][0] == "bad_tree"


@pytest.mark.parametrize(
    "fields", [{"root": b"x" * 32}, {"root": b"x"}, {"size": 4}, {"size": 7}, {"first": 9}, {"last_at": "9"},
               {"sealed_at": "9"}, {"dropped_at": "9"}],
)  # fmt: skip
def test_an_altered_segment_is_found(tmp_path, fields):
    """Every field of it."""
    log = Log(tmp_path).sealed()
    log.set(segments={**log.state.segments, 8: replace(log.state.segments[8], **fields)})
    found = log.found()
    assert found
    assert {kind for kind, _, _ in found} <= {"bad_segment"}


def test_after_a_fault_the_rest_is_judged_again(tmp_path):
    """Deleted in one segment, edited in another: both are told, and the checkpoints behind hold."""
    log = Log(tmp_path).sealed()
    log.state.rows[3] = None
    log.put(21, leaf=b"x" * 32)
    report = log.verify()
    assert [(it.kind.value, it.first) for it in report.findings] == [("deletion", 3), ("edit", 21)]
    assert report.checkpoints == 4  # the root of the first segment stands for what is missing in it
    assert report.signed == 40


def test_dropped_segments_stand_for_themselves(tmp_path):
    """Their roots carry the tree; altering one, or what is said about it, is found."""
    log = Log(tmp_path).sealed()
    note = log.checkpoints()[0].note
    due = log.segments()[:3]
    log.store.write(lambda it: log.upkeep._drop(it, due))
    outside = [("elsewhere", note)]
    assert log.found(outside) == []
    sound = dict(log.state.segments)
    for fields in ({"root": b"x" * 32}, {"last_at": "9"}, {"sealed_at": "9"}, {"dropped_at": "9"},
                   {"dropped_at": ""}):  # fmt: skip
        log.set(segments={**sound, 8: replace(sound[8], **fields)})
        assert log.found(outside), fields
    log.set(segments={first: it for first, it in sound.items() if first})
    assert log.found(outside)
    log.set(segments=sound)
    rows = list(log.state.rows)
    rows[0] = rows[30]
    log.set(rows=rows)
    assert log.found(outside) != []


def test_the_list_of_findings_is_bounded(tmp_path):
    """Many faults are counted, not collected."""
    log = Rig(tmp_path)
    log.fill(500)
    for number, it in enumerate(log.store._state.rows):
        log.store._state.rows[number] = replace(it, actor="x")
    report = log.verify()
    assert len(report.findings) == 100
    assert report.more == 400
    assert not report.ok


def test_long_and_odd_columns_are_no_fault(tmp_path):
    """Columns are cut and hold no NUL; entries do."""
    rig = Rig(tmp_path)
    rig.store.write(
        lambda it: append(it, [entry(actor="x\0y" * 300, target="\0", request_id="ö" * 400)], rig.sealer)
    )
    assert rig.verify().ok
