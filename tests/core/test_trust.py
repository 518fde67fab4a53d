"""Only trusted proxies are believed about who the client is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.trust import MAX_HOP_BYTES, MAX_HOPS, Client, TrustedProxies, direct, forwarded

TRUSTED = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "fd00::/8"])


def told(
    peer: str = "10.0.0.1",
    xff: bytes | None = None,
    forwarded_for: bytes | None = None,
    proto: bytes | None = None,
    *,
    tls: bool = False,
) -> Client:
    return forwarded(peer, xff, forwarded_for, proto, tls=tls, trusted=TRUSTED)


@pytest.mark.parametrize(
    ("host", "trusted"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("::ffff:10.0.0.1", True),
        ("fd12::1%eth0", True),
        ("2001:db8::1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_addresses_of_the_networks_are_trusted(host, trusted):
    assert TRUSTED.trusts(host) is trusted


def test_a_bad_network_is_named():
    with pytest.raises(ValueError, match="nonsense"):
        TrustedProxies(["nonsense"])


def test_a_peer_that_says_nothing_is_the_client():
    assert told("203.0.113.9") == Client("203.0.113.9", "http", b"203.0.113.9", b"for=203.0.113.9;proto=http")
    assert told("2001:db8::1", tls=True) == Client(
        "2001:db8::1", "https", b"2001:db8::1", b'for="[2001:db8::1]";proto=https'
    )
    assert told("::ffff:203.0.113.9").address == "203.0.113.9"
    assert told("fe80::1%eth0").xff_out == b"fe80::1"
    assert told("") == Client("", "http", b"unknown", b"for=unknown;proto=http")


def test_the_usual_answer_is_made_once_for_a_peer():
    assert direct("203.0.113.9", tls=False) is direct("203.0.113.9", tls=False)
    assert told("203.0.113.9") is direct("203.0.113.9", tls=False)


def test_nothing_is_believed_from_others():
    client = told("203.0.113.9", b"10.0.0.1", b"for=10.0.0.1", b"https")
    assert client is direct("203.0.113.9", tls=False)


@pytest.mark.parametrize(
    ("xff", "address", "out"),
    [
        (b"203.0.113.9", "203.0.113.9", b"203.0.113.9, 10.0.0.1"),
        (b"203.0.113.9, 10.0.0.2", "203.0.113.9", b"203.0.113.9, 10.0.0.2, 10.0.0.1"),
        (b"6.6.6.6, 203.0.113.9", "203.0.113.9", b"6.6.6.6, 203.0.113.9, 10.0.0.1"),
        (b"10.0.0.3,10.0.0.2", "10.0.0.3", b"10.0.0.3, 10.0.0.2, 10.0.0.1"),
        (b"203.0.113.9:4711", "203.0.113.9", b"203.0.113.9, 10.0.0.1"),
        (b"[2001:db8::1]:443", "2001:db8::1", b"2001:db8::1, 10.0.0.1"),
        (b"2001:DB8::0:1", "2001:db8::1", b"2001:db8::1, 10.0.0.1"),
    ],
)
def test_the_first_untrusted_hop_from_the_right_is_the_client(xff, address, out):
    client = told(xff=xff)
    assert (client.address, client.xff_out) == (address, out)


def test_hops_of_one_list_are_told_in_the_other_as_well():
    assert told(xff=b"203.0.113.9, fd00::2").forwarded_out == (
        b'for=203.0.113.9, for="[fd00::2]", for=10.0.0.1;proto=http'
    )
    assert told(forwarded_for=b'for=203.0.113.9, for="[fd00::2]:80"').xff_out == (
        b"203.0.113.9, fd00::2, 10.0.0.1"
    )


def test_a_trusted_forwarded_is_kept_and_added_to():
    given_value = b'for="[2001:db8::1]:4711";proto=https;by=_gate;host=shop.example, FOR=10.0.0.2'
    client = told(forwarded_for=given_value)
    assert client.address == "2001:db8::1"
    assert client.proto == "https"
    assert client.forwarded_out == given_value + b", for=10.0.0.1;proto=http"


@pytest.mark.parametrize(
    "bad", [b"junk", b"", b"1.2.3", b"1.2.3.4.5", b"999.1.1.1", b"1.2.3.4:", b"1.2.3.4 5.6.7.8", b"x\x00"]
)
def test_malformed_hops_are_neither_read_nor_passed_on(bad):
    assert told(xff=bad, forwarded_for=bad) == direct("10.0.0.1", tls=False)
    client = told(xff=b"6.6.6.6, " + bad + b", 203.0.113.9")
    assert (client.address, client.xff_out) == ("203.0.113.9", b"203.0.113.9, 10.0.0.1")


@pytest.mark.parametrize(
    "bad",
    [
        b"for",
        b"for=",
        b"for = 1.2.3.4",
        b"for=1.2.3.4;for=5.6.7.8",
        b"for=[::1]",
        b'for="[::1]',
        b'for="1.2.3.4\x00"',
        b'for="a\\"b"',
        b"for=name",
        b"for=1.2.3.4;;proto=http",
    ],
)
def test_malformed_elements_are_neither_read_nor_passed_on(bad):
    client = told(forwarded_for=b"for=6.6.6.6, " + bad + b", for=203.0.113.9")
    assert client.address == "203.0.113.9"
    assert client.forwarded_out == b"for=203.0.113.9, for=10.0.0.1;proto=http"


def test_a_quote_left_open_does_not_swallow_what_proxies_add():
    assert told(forwarded_for=b'for="6.6.6.6, for=203.0.113.9').address == "203.0.113.9"


@pytest.mark.parametrize("hidden", [b"unknown", b"_secret", b'"_secret:_port"'])
def test_a_hidden_hop_is_passed_on_and_ends_the_search(hidden):
    value = b"for=6.6.6.6, for=%b, for=10.0.0.2" % hidden
    client = told(forwarded_for=value)
    assert client.address == "10.0.0.2"
    assert client.xff_out == b"10.0.0.2, 10.0.0.1"
    assert client.forwarded_out == value + b", for=10.0.0.1;proto=http"


def test_where_both_lists_disagree_x_forwarded_for_holds():
    client = told(xff=b"203.0.113.9", forwarded_for=b"for=6.6.6.6;proto=https")
    assert client == Client(
        "203.0.113.9", "http", b"203.0.113.9, 10.0.0.1", b"for=203.0.113.9, for=10.0.0.1;proto=http"
    )


def test_where_both_lists_agree_both_are_kept():
    client = told(xff=b"203.0.113.9", forwarded_for=b"for=203.0.113.9;proto=https;by=_gate")
    assert client.proto == "https"
    assert client.forwarded_out == b"for=203.0.113.9;proto=https;by=_gate, for=10.0.0.1;proto=http"


@pytest.mark.parametrize(
    ("proto", "tls", "expected"),
    [
        (b"https", False, "https"),
        (b"HTTP", True, "http"),
        (b"gopher", True, "https"),
        (b"https, http", False, "http"),
        (b"", False, "http"),
    ],
)
def test_the_client_s_protocol_is_told_by_a_trusted_peer(proto, tls, expected):
    assert told(proto=proto, tls=tls).proto == expected


def test_endless_lists_are_cut_off():
    client = told(xff=b", ".join([b"10.9.9.9"] * 1000))
    assert client.xff_out.count(b",") == MAX_HOPS
    assert told(forwarded_for=b"x=" + b"y" * MAX_HOP_BYTES) == direct("10.0.0.1", tls=False)


HOPS = st.lists(
    st.sampled_from([b"10.0.0.2", b"6.6.6.6", b"junk", b"[::1]:1", b"unknown", b"", b'"']), max_size=5
)


@given(HOPS, st.sampled_from(["203.0.113.9", "2001:db8::9"]))
def test_a_client_cannot_choose_its_address(own_words, address):
    """Whatever a client sends, the trusted proxy adds the address it saw, and that is found."""
    xff = b", ".join([*own_words, address.encode()])
    assert told(xff=xff).address == address
    node = f'"[{address}]"' if ":" in address else address
    elements = b", ".join([*(b"for=" + word for word in own_words), f"for={node}".encode()])
    assert told(forwarded_for=elements).address == address
