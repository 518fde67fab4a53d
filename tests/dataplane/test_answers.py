"""Answers that the sidecar makes itself, read back by the strict parser."""

import orjson
import pytest
import strict

from proxy.dataplane import answers
from proxy.dataplane.failures import Failure
from proxy.errors import Fault, Refusal


def parsed(raw: bytes, method: bytes = b"GET") -> strict.Response:
    found = strict.response(raw, method=method)
    assert found is not None
    assert found[1] == len(raw)
    return found[0]


def test_a_problem_says_what_the_contract_promises():
    refusal = Refusal(
        "breaker_open", 503, "Service Unavailable", 'a "quoted"\r\nreason', fault=Fault.SIDECAR,
        retry_after_s=7, proxy_error="destination_unavailable",
    )  # fmt: skip
    answer = parsed(answers.problem(refusal, b"id-1", b"X-Request-Id: id-1\r\n", bodiless=False))
    assert (answer.status, answer.reason) == (503, b"Service Unavailable")
    assert answer.get("content-type") == b"application/problem+json"
    assert answer.get("cache-control") == b"no-store"
    assert answer.get("retry-after") == b"7"
    assert answer.get("x-request-id") == b"id-1"
    assert answer.get("proxy-status") == b'fusebox; error=destination_unavailable; details="breaker_open"'
    assert orjson.loads(answer.body) == {
        "type": "urn:fusebox:problem:breaker_open",
        "title": "Service Unavailable",
        "status": 503,
        "detail": 'a "quoted"\r\nreason',
        "code": "breaker_open",
        "request_id": "id-1",
    }


def test_what_a_refusal_does_not_say_is_not_said():
    answer = parsed(answers.problem(Refusal("no_route", 404, "Not Found"), b"", b"", bodiless=False))
    assert (answer.get("retry-after"), answer.get("allow")) == (None, None)
    assert answer.get("proxy-status") == b'fusebox; details="no_route"'


def test_allowed_methods_are_named():
    refusal = Refusal("bad_request", 405, "Method Not Allowed", allow="GET, HEAD")
    assert parsed(answers.problem(refusal, b"", b"", bodiless=False)).get("allow") == b"GET, HEAD"


def test_a_head_request_gets_the_head_of_the_same_answer():
    """RFC 9110 §9.3.2: the same fields, the length among them, and no body."""
    refusal = Refusal("no_route", 404, "Not Found")
    whole = answers.problem(refusal, b"i", b"", bodiless=False)
    assert answers.problem(refusal, b"i", b"", bodiless=True) == whole[: whole.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure is not Failure.ABORTED])
def test_every_failure_makes_a_sound_answer(failure):
    """A status, a code, an RFC 9209 error type; only shedding asks to come again."""
    refusal = failure.refusal("why")
    answer = parsed(answers.problem(refusal, b"i", b"", bodiless=False))
    assert answer.status == refusal.status == orjson.loads(answer.body)["status"]
    assert (answer.get("retry-after") is not None) == (failure is Failure.OVERLOADED)
    assert b"error=" in (answer.get("proxy-status") or b"")
    if failure.name in ("UNREACHABLE", "TLS", "DNS", "RESET", "TRUNCATED", "TIMEOUT", "INVALID"):
        assert refusal.fault is Fault.UPSTREAM
    else:
        assert refusal.fault is not Fault.UPSTREAM


def test_204_has_no_length_and_others_do():
    """RFC 9110 §8.6."""
    assert parsed(answers.empty(204, b"")).get("content-length") is None
    assert parsed(answers.empty(200, b"X-A: b\r\n")).get("content-length") == b"0"


@pytest.mark.parametrize("tenths", [0, 1, 9, 10, 999, 1000, 1001, 54_321])
def test_durations_are_told_in_milliseconds_to_a_tenth(tenths):
    assert answers.milliseconds(tenths / 10_000 + 0.000_04) == b"%.1f" % (tenths / 10)
    assert answers.milliseconds(max(0.0, tenths / 10_000 - 0.000_04)) == b"%.1f" % (tenths / 10)


def test_the_date_follows_the_clock(monkeypatch):
    """RFC 9110 §5.6.7; one line a second."""
    now = [784_111_777.2]
    monkeypatch.setattr(answers, "wall", lambda: now[0])
    assert answers.date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    now[0] += 0.7
    assert answers.date_line() == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    now[0] += 0.2
    assert answers.date_line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"
