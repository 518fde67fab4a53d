"""Counting by dummies: that they serve what is meant, and that callgrind counts just that."""

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

INSTRUCTIONS = Path(__file__).parents[2] / "benchmarks" / "instructions.py"
MODES = ["killed", "forward", "orders", "own-answers", "recorded", "blended", "rules"]

COUNTING = """
class Counted:
    def __matmul__(self, work): work()
for _ in range({before}): sum(range(1000))
Counted() @ (lambda: [sum(range(1000)) for _ in range({counted})])
"""


@pytest.fixture
def dummies(load, settled):
    return load("dummies")


@pytest.fixture
def counting(load, settled):
    return load("instructions")


@pytest.mark.parametrize("name", MODES)
def test_every_mode_is_answered_as_meant(dummies, name):
    """Killed from memory, else by as many upstreams as it takes, and again after what was warmed up with."""
    mode = dummies.MODES[name]
    serving = dummies.warm(mode, 3, 5)
    steps = serving.steps(2)
    serving.check(steps)
    assert [len(of_one) for of_one in steps] == [1 + len(mode.answers)] * 2


def test_all_modes_are_tried_here(dummies):
    assert list(dummies.MODES) == MODES


@pytest.mark.parametrize("name", ["killed", "blended"])
def test_another_answer_than_meant_is_told(dummies, name):
    """Figures of a walk that served something else would be worthless."""
    with pytest.raises(dummies.Unusable, match=r"not the answer that was meant: b'HTTP/1\.1 200"):
        dummies.warm(replace(dummies.MODES[name], must_say=b"something else"), 1, 1)


def test_what_is_to_be_recorded_is(dummies):
    """One entry for each request, in a spool that goes with whoever was served."""
    serving = dummies.warm(dummies.MODES["recorded"], 3, 1)
    counted = serving._client.plane.counters.actions
    assert counted == {("user.item.read", "done"): 1 + 2 * 3}
    assert not dummies.warm(dummies.MODES["forward"], 3, 1)._client.plane.counters.actions


def test_no_answer_is_told(dummies):
    serving = dummies.warm(dummies.MODES["forward"], 1, 1)
    [(request, _)] = serving.steps(1)
    with pytest.raises(dummies.Unusable, match="meant: b''"):
        serving.check([[request]])


def test_no_request_comes_twice(dummies):
    """What remembers whole requests or answers gains nothing, round after round."""
    serving = dummies.warm(dummies.MODES["own-answers"], 20, 1)
    came = [data for _ in range(3) for of_one in serving.steps(20) for _, data in of_one]
    assert len(set(came)) == len(came) == 120


def test_each_request_is_somebody_elses(dummies):
    """Other users and traces, so that nothing is won by remembering the last request; else all alike."""
    sent = [it.split(b"\r\n") for it in dummies.requests(dummies.MODES["killed"], range(1, 101), 1)]
    for line in (0, 2, 5):  # target, user, trace
        assert len({it[line] for it in sent}) == 100
    assert len({b"".join(it[at] for at in range(len(it)) if at not in {0, 2, 5}) for it in sent}) == 1
    assert (
        sent[0][0].split()[1]
        == b"/recommendations?user_id=" + sent[0][2].removeprefix(b"X-User-Id: ") + b"&k=10"
    )


def test_clients_have_as_many_orders_as_asked_for(dummies):
    """The same nine fields, and no order among the first that comes twice."""

    def names(orders):
        sent = dummies.requests(dummies.MODES["orders"], range(200), orders)
        return [tuple(line.split(b":")[0] for line in it.split(b"\r\n")[1:-2]) for it in sent]

    assert len(set(names(200))) == 200
    assert len(set(names(7))) == 7
    assert {frozenset(it) for it in names(200)} == {frozenset(names(1)[0])}
    assert len(names(1)[0]) == 9


def test_an_upstream_may_have_answers_of_its_own(dummies):
    """No head comes twice among the first, where an upstream otherwise says the same each time."""

    def heads(mode):
        said = [dummies.answer(mode, "{}", number) for number in range(100)]
        for it in said:
            head, _, body = it.partition(b"\r\n\r\n")
            assert b"Content-Length: %d\r\n" % len(body) in head
        return {it.partition(b"\r\n\r\n")[0] for it in said}

    assert len(heads(dummies.MODES["forward"])) == 1
    assert len(heads(dummies.MODES["own-answers"])) == 100


def test_functions_are_told_with_their_bytecodes(counting):
    chosen = argparse.Namespace(requests=4, orders=1)
    found = {name: (bytecodes, calls) for name, bytecodes, calls in counting.functions("killed", chosen)}
    bytecodes, calls = found["proxy/dataplane/plane.py: DataPlane.exchange"]
    assert calls == 1.0
    assert bytecodes > 20
    assert not any("dummies" in name for name in found)


def test_time_is_taken_in_rounds(counting):
    taken = counting.microseconds(argparse.Namespace(only=["killed"], requests=4, orders=1, rounds=3))
    assert len(taken["killed"]) == 3
    assert all(0 < it < 10_000 for it in taken["killed"])


def test_what_callgrind_counted_is_read(counting):
    assert counting.total("events: Ir\n0 5\nsummary: 9\n\n\ntotals: 123456\n") == 123456
    with pytest.raises(counting.Unusable, match="counted nothing"):
        counting.total("events: Ir\n")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="callgrind is what counts")
def test_what_is_between_is_counted_and_nothing_else(dummies, counting, tmp_path):
    """The interpreter's own start is not in it, nor what came before."""

    def counted(before, number):
        code = COUNTING.format(before=before, counted=number)
        words = ["valgrind", "--tool=callgrind", f"--toggle-collect={dummies.COUNTED}"]
        words += [f"--callgrind-out-file={tmp_path / 'counts'}", sys.executable, "-S", "-c", code]
        subprocess.run(words, capture_output=True, check=True, env={"PYTHONHASHSEED": "0"})
        return counting.total((tmp_path / "counts").read_text())

    assert counted(50, 40) == pytest.approx(2 * counted(0, 20), rel=0.02)


def test_without_valgrind_it_says_how_to_get_it(tmp_path):
    run = subprocess.run(
        [sys.executable, INSTRUCTIONS, "--out", tmp_path / "x.json"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 2
    assert "valgrind is not installed: apt install valgrind" in run.stderr
    assert not (tmp_path / "x.json").exists()
