from io import StringIO

from rich.console import Console

from proxy.demo.seen import Seen
from proxy.demo.story import Phase
from proxy.demo.verdict import Promise
from proxy.demo.view import Moment, drawn, line, summary

NOW = Moment(
    elapsed_s=7.25,
    phase=Phase.CF_HANGS,
    recommends_per_s=148.5,
    writes_per_s=17,
    refused_per_s=2,
    p50_ms=4,
    p99_ms=151,
    fill="100.00%",
    levels="A 80%  D 20%",
    sources="hybrid 80%  popularity 20%",
    payments="87 of 90 confirmed",
    breakers={"cf": "open", "content": "closed", "payment": "closed"},
    ramps={"cf": 0.0, "content": 1.0, "payment": 0.4},
)


def rendered(what) -> str:
    console = Console(file=StringIO(), width=110)
    console.print(what)
    return console.file.getvalue()


def test_the_plain_line_tells_phase_rates_and_open_breakers():
    text = line(NOW)
    for part in ("7.2 s", "cf hangs", "148 rec/s", "p99  151 ms", "fill 100.00%", "breakers cf open"):
        assert part in text
    assert "content" not in text


def test_the_picture_shows_every_breaker_and_the_ramp():
    text = rendered(drawn(NOW, seconds=40.0))
    for part in ("cf hangs", "open", "closed, 40% let in", "hybrid 80%", "87 of 90 confirmed"):
        assert part in text


def test_the_summary_marks_what_was_broken():
    text = rendered(summary([Promise("first", True, "1 of 1"), Promise("second", False, "0 of 1 [odd]")]))
    assert "kept" in text
    assert "BROKEN" in text
    assert "0 of 1 [odd]" in text


def test_a_run_that_saw_nothing_yet_can_be_shown():
    from proxy.demo.story import Story
    from proxy.demo.view import moment

    now = moment(Story(None, None, Seen(), 40.0), Seen())
    assert now.fill == "-"
    assert set(now.breakers.values()) == {"?"}
    assert rendered(drawn(now, 40.0))
