"""`[rollback]` and its triggers."""

import pytest

from proxy.core.rollback.settings import DEFAULT_TRIGGERS, RollbackSettings

TRIGGER = '[[rollback.triggers]]\nname = "{}"\nmetric = "{}"\npriority = "{}"\nshare = 0.01\n'


def test_without_the_section_it_watches_by_the_thresholds_of_the_source(folder):
    found = folder.load().policy().rollback
    assert (found, found.mode, found.triggers) == (RollbackSettings(), "watch", DEFAULT_TRIGGERS)


def test_what_is_set_reaches_the_policy(folder):
    folder.add('[rollback]\nmode = "act"\nhold_s = 60\nrecovery_steps = [10, 100]\n')
    folder.add('critical_upstreams = ["cf"]\n')
    folder.add(TRIGGER.format("errors", "error", "P1"))
    found = folder.load().policy().rollback
    assert (found.mode, found.hold_s, found.recovery_steps) == ("act", 60, (10, 100))
    assert [(it.name, it.share) for it in found.triggers] == [("errors", 0.01)]


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ("mode = 'on'", "rollback.mode", "'act', 'watch' or 'off'"),
        ("holds_s = 3", "rollback.holds_s", "did you mean 'hold_s'?"),
        ("hold_s = 7200", "rollback.hold_max_s", "is less than hold_s"),
        ("window_s = 5", "rollback.window_s", "greater than or equal to 60"),
        ("critical_upstreams = ['paymnt']", "rollback.critical_upstreams[0]", "did you mean 'payment'?"),
        ("recovery_steps = []", "rollback.recovery_steps", "should end at 100"),
        ("recovery_steps = [1, 50]", "rollback.recovery_steps", "should end at 100"),
        ("recovery_steps = [50, 50, 100]", "rollback.recovery_steps", "should rise"),
        ("recovery_steps = [0.001, 100]", "rollback.recovery_steps[0]", "finer than 0.01"),
        ("triggers = []", "rollback.triggers", "none of priority P1"),
        (TRIGGER.format("p2", "error", "P2"), "rollback.triggers", "none of priority P1"),
        (TRIGGER.format("late", "latency", "P1"), "rollback.triggers[0].target_ms", "later than what?"),
        (
            TRIGGER.format("errors", "error", "P1") + "target_ms = 5",
            "rollback.triggers[0].target_ms",
            "latency triggers only",
        ),
        (TRIGGER.format("a b", "error", "P1"), "rollback.triggers[0].name", "is no name"),
        (TRIGGER.format("a", "error", "P1") * 2, "rollback.triggers[1].name", "triggers[0] already"),
        (TRIGGER.format("a", "errors", "P1"), "rollback.triggers[0].metric", "'coverage'"),
        (
            "".join(
                TRIGGER.format(f"l{ms}", "latency", "P1") + f"target_ms = {ms}\n" for ms in (1, 2, 3, 4, 5)
            ),
            "rollback.triggers[4].target_ms",
            "one target too many",
        ),
    ],
)
def test_faults_are_told_by_their_place(folder, lines, place, words):
    folder.add(f"[rollback]\n{lines}\n")
    found = folder.problems()
    assert words in found[place]


def test_all_faults_are_told_at_once(folder):
    folder.add("[rollback]\nhold_s = 7200\nrecovery_steps = [1]\ncritical_upstreams = ['x']\nflaps = 0\n")
    places = {"hold_max_s", "recovery_steps", "critical_upstreams[0]", "flaps"}
    assert set(folder.problems()) == {f"rollback.{it}" for it in places}


def test_mistakes_within_a_trigger_are_told_with_their_place(folder):
    folder.add('[[rollback.triggers]]\nnme = "x"\nmetric = "error"\n')
    found = folder.problems()
    assert set(found) == {f"rollback.triggers[0].{name}" for name in ("nme", "name", "priority", "share")}
    assert "did you mean 'name'?" in found["rollback.triggers[0].nme"]
