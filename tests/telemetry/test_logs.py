import io
import json
import logging
import os
import select
import threading
import time

import pytest

from proxy.telemetry.counters import Counters
from proxy.telemetry.logs import JsonFormatter, LogWriter, descriptor, setup


def line_of(message, *args, extra=None, exc_info=None, name="fusebox.test"):
    logger = logging.getLogger(name)
    record = logger.makeRecord(name, logging.WARNING, "f", 1, message, args, exc_info, extra=extra)
    return JsonFormatter().format(record)


class Gate(io.BytesIO):
    """A stream whose reader can stall: `write` blocks until `open` is set."""

    def __init__(self):
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()

    def write(self, data):
        self.entered.set()
        assert self.open.wait(10)
        return super().write(data)


def test_a_line_is_json_with_the_five_names_and_the_extra_fields():
    entry = json.loads(line_of("breaker %s opened", "cf", extra={"upstream": "cf", "n": 20}))
    assert entry["message"] == "breaker cf opened"
    assert (entry["level"], entry["logger"], entry["upstream"], entry["n"]) == (
        "warning",
        "fusebox.test",
        "cf",
        20,
    )
    assert entry["time"].endswith("Z")
    assert time.strptime(entry["time"][:19], "%Y-%m-%dT%H:%M:%S")


def test_an_extra_field_never_hides_one_of_the_own_names():
    entry = json.loads(line_of("true", extra={"level": "fake", "time": "fake"}))
    assert entry["level"] == "warning"
    assert entry["level_"] == "fake"
    assert entry["time"] != "fake"


def test_an_exception_is_one_escaped_string():
    try:
        int("first\nsecond")
    except ValueError as error:
        line = line_of("broke", exc_info=(type(error), error, error.__traceback__))
    assert "\n" not in line
    assert "\nValueError: invalid literal" in json.loads(line)["exception"]


@pytest.mark.parametrize("evil", ["a\nb\r\tc", "\x00\x1b[31m", "\x7f", "\x9b31m", "\x85", "\u2028\u2029"])
def test_control_characters_are_escaped_and_come_back_when_parsed(evil):
    line = line_of("path %s", evil, extra={"path": evil})
    assert all(character.isprintable() for character in line)
    assert json.loads(line)["path"] == evil


def test_ordinary_text_beyond_ascii_stays_readable():
    assert "Amélie, 東京, ß" in line_of("Amélie, 東京, ß")


@pytest.mark.parametrize("odd", ["\udcff", 2**70, object(), {1: "a"}, b"\xff"])
def test_values_that_json_does_not_know_are_still_logged(odd):
    assert json.loads(line_of("odd", extra={"value": odd}))["message"] == "odd"


def test_tokens_are_masked_wherever_they_stand():
    token = "fbx_" + "A1b2-_" * 7
    line = line_of("token %s", token, extra={"header": f"Bearer {token}", "list": [token, "Bearer other"]})
    assert token not in line
    assert "other" not in line
    assert json.loads(line)["list"] == ["fbx_***", "Bearer ***"]


def test_setup_writes_to_the_stream_and_stop_flushes_and_undoes_it():
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    stream = io.BytesIO()
    logs = setup("info", Counters(), stream)
    for number in range(1000):
        logging.getLogger("fusebox.x").info("line %d", number)
    logging.getLogger("fusebox.x").debug("too quiet")
    logs.stop()
    lines = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert lines == [f"line {number}" for number in range(1000)]
    assert (root.level, root.handlers) == before


def test_the_level_can_change_while_running():
    stream = io.BytesIO()
    logs = setup("warning", Counters(), stream)
    log = logging.getLogger("fusebox.x")
    log.info("before")
    logs.set_level("info")
    log.info("after")
    logs.stop()
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["after"]


def test_a_stalled_reader_costs_dropped_lines_that_are_counted_and_never_blocks():
    counters, gate = Counters(), Gate()
    writer = LogWriter(counters, gate, queued_lines=10)
    record = logging.makeLogRecord({"msg": "x"})
    writer.handle(record)
    assert gate.entered.wait(10)  # the writer now hangs inside write
    for _ in range(25):
        writer.handle(record)
    assert counters.events_dropped == 15
    gate.open.set()
    writer.finish(10)
    assert len(gate.getvalue().splitlines()) == 11


def test_stop_gives_up_on_a_reader_that_never_comes_back():
    counters, gate = Counters(), Gate()
    writer = LogWriter(counters, gate, queued_lines=1)
    record = logging.makeLogRecord({"msg": "x"})
    writer.handle(record)
    assert gate.entered.wait(10)
    writer.handle(record)
    writer.finish(0.01)  # the queue is full and nobody reads
    gate.open.set()
    writer.finish(10)


def test_a_reader_that_has_gone_is_counted_not_raised():
    counters = Counters()
    reading, writing = os.pipe()
    os.close(reading)
    writer = LogWriter(counters, descriptor(writing))
    writer.handle(logging.makeLogRecord({"msg": "x"}))
    writer.finish(10)
    os.close(writing)
    assert counters.events_dropped == 1


class Counting(io.FileIO):
    """A descriptor that tells when it was full for the first time, and how often."""

    def __init__(self, number):
        super().__init__(number, "w", closefd=False)
        self.full, self.times = threading.Event(), 0

    def write(self, data):
        taken = super().write(data)
        if taken is None:
            self.times += 1
            self.full.set()
        return taken


def test_a_non_blocking_descriptor_is_waited_for_and_gets_every_line():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    stream = Counting(writing)
    writer = LogWriter(Counters(), stream)
    record = logging.makeLogRecord({"msg": "y" * 1000})
    for _ in range(200):  # more than a pipe holds
        writer.handle(record)
    assert stream.full.wait(10)
    writer._thread.join(0.05)
    assert stream.times == 1  # it waits for the reader instead of asking again and again
    received = b""
    while received.count(b"\n") < 200:
        assert select.select([reading], [], [], 10)[0]
        received += os.read(reading, 1 << 16)
    writer.finish(10)
    os.close(reading)
    os.close(writing)
    assert all(json.loads(line)["message"] == "y" * 1000 for line in received.splitlines())


def test_a_call_with_wrong_arguments_hurts_nobody(capsys):
    stream = io.BytesIO()
    writer = LogWriter(Counters(), stream)
    writer.handle(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
    writer.handle(logging.makeLogRecord({"msg": "next"}))
    writer.finish(10)
    assert json.loads(stream.getvalue())["message"] == "next"
    assert "no number" in capsys.readouterr().err


def test_fields_of_the_process_stand_on_every_line():
    stream = io.BytesIO()
    writer = LogWriter(Counters(), stream, fields={"worker": 3})
    writer.handle(logging.makeLogRecord({"msg": "x"}))
    writer.finish(10)
    entry = json.loads(stream.getvalue())
    assert (entry["message"], entry["worker"]) == ("x", 3)


class Writes(io.BytesIO):
    """Remembers each write."""

    def __init__(self):
        super().__init__()
        self.all = []

    def write(self, data):
        self.all.append(bytes(data))
        return len(data)


def test_on_a_shared_stream_every_write_is_whole_lines_that_a_pipe_takes_in_one_piece():
    stream = Writes()
    writer = LogWriter(Counters(), stream, shared=True)
    messages = [str(number) * (number % 90) for number in range(300)] + ["z" * 10_000, "end"]
    for message in messages:
        writer.handle(logging.makeLogRecord({"msg": message}))
    writer.finish(10)
    assert [json.loads(line)["message"] for line in b"".join(stream.all).splitlines()] == messages
    assert all(piece.endswith(b"\n") for piece in stream.all)
    assert [piece.count(b"\n") for piece in stream.all if len(piece) > select.PIPE_BUF] == [1]  # the long one
    assert len(stream.all) < 100
