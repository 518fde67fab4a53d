"""What the sidecar writes into heads that pass, read back by the strict parser."""

from types import SimpleNamespace

import pytest
import strict
from heads import head, reader

from proxy.core.policy import Upstream
from proxy.core.trust import TrustedProxies, direct
from proxy.dataplane import rewrite
from proxy.dataplane.place import Place
from proxy.dataplane.response_head import ResponseReader

TRACE = b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00"


def hop(peer: str = "10.0.0.9", *, trusted: tuple[str, ...] = ()):
    """A connection from `peer`."""
    return SimpleNamespace(
        peer=peer,
        hop_lines=rewrite.trust_lines(direct(peer, tls=False)),
        plane=SimpleNamespace(trusted=TrustedProxies(trusted)),
    )


def read(*lines: bytes, **parts: bytes):
    """A head with the ids that the plane gives it."""
    out = reader().read(head(*lines, **parts))
    out.id_lines = b"X-Request-Id: made\r\n"
    return out


def sent(*lines: bytes, by=None, **parts: bytes) -> strict.Request:
    raw = rewrite.request(read(*lines, **parts), by or hop(), b"upstream:81") + b"\r\n"
    found = strict.request_head(raw)
    assert found is not None
    assert found[1] == len(raw)
    return found[0]


def test_a_request_goes_on_with_where_it_came_from():
    out = sent(b"Accept: a/b", line=b"PUT /p?q=%20 HTTP/1.1")
    assert (out.method, out.target, out.version) == (b"PUT", b"/p?q=%20", b"1.1")
    assert out.fields == [
        ("host", b"films.example"),
        ("accept", b"a/b"),
        ("via", b"1.1 fusebox"),
        ("x-forwarded-for", b"10.0.0.9"),
        ("x-forwarded-proto", b"http"),
        ("forwarded", b"for=10.0.0.9;proto=http"),
        ("x-forwarded-host", b"films.example"),
        ("x-request-id", b"made"),
    ]


CLAIMS = (
    b"X-Forwarded-For: 1.2.3.4",
    b"x-forwarded-proto: https",
    b"X-Forwarded-Host: shop.example",
    b"X-Forwarded-Prefix: /shop",
    b"X-Real-IP: 1.2.3.4",
)


def test_claims_of_a_peer_that_nobody_trusts_are_dropped():
    out = sent(*CLAIMS)
    assert out.get("x-forwarded-for") == b"10.0.0.9"
    assert out.get("x-forwarded-proto") == b"http"
    assert out.get("x-forwarded-host") == b"films.example"
    assert out.get("x-forwarded-prefix") is out.get("x-real-ip") is None
    assert b"1.2.3.4" not in (out.get("forwarded") or b"")


def test_claims_of_a_trusted_peer_go_on_and_are_said_once():
    out = sent(*CLAIMS, by=hop(trusted=("10.0.0.0/8",)))
    assert out.get("x-forwarded-for") == b"1.2.3.4, 10.0.0.9"
    assert out.get("x-forwarded-proto") == b"https"
    assert out.get("x-forwarded-host") == b"shop.example"
    assert (out.get("x-forwarded-prefix"), out.get("x-real-ip")) == (b"/shop", b"1.2.3.4")
    names = [name for name, _ in out.fields]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("claimed", [b"a b", b"a, b", b"a/b", b"", b"u@a"])
def test_a_claimed_host_that_is_none_is_not_passed_on(claimed):
    out = sent(b"X-Forwarded-Host: " + claimed, by=hop(trusted=("10.0.0.0/8",)))
    assert out.get("x-forwarded-host") == b"films.example"


def test_a_10_request_goes_on_as_11_with_a_host():
    """RFC 9110 §7.6.3: Via says how it came."""
    out = sent(line=b"GET /p HTTP/1.0", host=b"")
    assert out.version == b"1.1"
    assert (out.get("host"), out.get("x-forwarded-host")) == (b"upstream:81", b"upstream:81")
    assert out.get("via") == b"1.0 fusebox"


def test_via_is_added_behind_those_before():
    assert sent(b"Via: 1.1 edge").get("via") == b"1.1 edge, 1.1 fusebox"


@pytest.mark.parametrize(
    ("lines", "request_id", "trace"),
    [
        ([], b"made", b"00-made--00"),
        ([b"X-Request-Id: theirs"], b"theirs", b"00-other--00"),
        ([b"X-Request-Id: not one"], b"made", b"00-made--00"),
        (
            [b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00"],
            b"made",
            b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00",
        ),
    ],
)
def test_a_request_for_candidates_is_the_sidecars_own(lines, request_id, trace):
    """Nothing of the client's but its ids, and those once."""
    asked = reader().read(head(*lines, b"Cookie: secret", b"Accept: text/html", b"Content-Length: 3"))
    asked.made_id = not asked.request_id
    asked.request_id = asked.request_id or b"made"
    asked.identify(lambda: b"other")
    place = Place(Upstream(url="http://127.0.0.1:81"))
    pool = SimpleNamespace(place=place)
    raw = rewrite.candidates_request(pool, b"/candidates?user_id=7&k=5", rewrite.candidates_lines(asked))
    out, end = strict.request(raw)
    assert end == len(raw)
    assert (out.method, out.target) == (b"GET", b"/candidates?user_id=7&k=5")
    assert (out.get("host"), out.get("accept")) == (b"127.0.0.1:81", b"application/json")
    assert out.get("x-request-id") == request_id
    assert out.get("traceparent") == trace
    assert b"secret" not in raw
    assert b"forwarded" not in raw.lower()


def test_an_interim_head_says_nothing_of_a_body():
    """RFC 9110 §8.6, §15.2."""
    early = ResponseReader().read(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\ncontent-LENGTH: 0\r\nX-A: b\r\n\r\n"
    )
    assert rewrite.interim(early) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-A: b\r\n\r\n"


def test_only_the_length_is_taken_from_204():
    lines = b"X-Content-Length: 1\r\nContent-Length: 0\r\nContent-Length-X: 2\r\n"
    assert rewrite.without_length(lines) == b"X-Content-Length: 1\r\nContent-Length-X: 2\r\n"
