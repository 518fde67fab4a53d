"""Tokens of another issuer, and the attacks of RFC 8725 on them. The issuer is a real server."""

import asyncio
import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from face import Admin

from proxy.admin.issuer_keys import DOCUMENT_BYTES, FRESH_S, KEPT_S, RETRY_S, IssuerKeys
from proxy.admin.oidc import OidcIssuer
from proxy.core.roles import Cause, Principal, Role
from proxy.settings.model import Oidc

RSA = {name: rsa.generate_private_key(65537, 2048) for name in ("one", "two")}
SHORT = rsa.generate_private_key(65537, 1024)
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())


def published(key, kid, **more):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return kind.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"} | more


class IssuerServer:
    """Serves a discovery document and keys, and counts how often it is asked."""

    def __init__(self):
        self.keys = [published(RSA["one"], "one")]
        self.status = 200
        self.raw = None
        self.asked = []
        self.discovered = {}

    async def start(self):
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self.discovery)
        app.router.add_get("/keys", self.jwks)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def discovery(self, _):
        self.asked.append("discovery")
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.discovered)

    async def jwks(self, _):
        self.asked.append("keys")
        if self.raw is not None:
            return web.Response(body=self.raw)
        return web.json_response({"keys": self.keys}, status=self.status)


class Oidcs:
    """An issuer, what verifies its tokens, and tokens as an attacker would bend them."""

    def __init__(self, server, **settings):
        self.now = 1000.0
        self.server = server
        defaults = {
            "issuer": server.url,
            "audience": "fusebox",
            "algorithms": ("RS256", "ES256"),
            "role_claim": "realm.groups",
            "roles": {"sre": "commander", "dev": "viewer"},
            "leeway_s": 5.0,
        }
        self.settings = Oidc(**defaults | settings)
        self.keys = IssuerKeys(server.url, self.settings.jwks_url, clock=lambda: self.now)
        self.issuer = OidcIssuer(self.settings, self.keys)

    def claims(self, **more):
        now = int(time.time())  # noqa: TID251 - the library looks at the clock on the wall itself
        said = {
            "iss": self.server.url,
            "aud": "fusebox",
            "sub": "ann",
            "iat": now,
            "exp": now + 300,
            "realm": {"groups": ["dev", "sre", "cooks"]},
        } | more
        return {name: value for name, value in said.items() if value is not None}

    def token(self, *, key=RSA["one"], kid="one", alg="RS256", head=None, **claims):
        headers = ({"kid": kid} if kid else {}) | (head or {})
        return jwt.encode(self.claims(**claims), key, algorithm=alg, headers=headers)

    def raw(self, head, claims, signature=b""):
        parts = [json.dumps(head).encode(), json.dumps(claims).encode()]
        return b".".join(base64.urlsafe_b64encode(it).rstrip(b"=") for it in (*parts, signature)).decode()

    async def why(self, token):
        rejected = await self.issuer.verify(token)
        assert rejected.cause == Cause.INVALID, rejected
        assert token[:40] not in rejected.detail
        return rejected.detail


@pytest.fixture
async def server():
    server = IssuerServer()
    await server.start()
    yield server
    await server.runner.cleanup()


@pytest.fixture
async def oidc(server):
    return Oidcs(server)


ANN = Principal(name="oidc:ann", role=Role.COMMANDER)


async def test_a_token_of_the_issuer_stands_for_its_subject_in_the_highest_role(oidc):
    assert await oidc.issuer.verify(oidc.token()) == ANN
    assert oidc.server.asked == ["discovery", "keys"]
    for typ in ("JWT", "at+jwt", "application/at+jwt"):
        assert await oidc.issuer.verify(oidc.token(head={"typ": typ})) == ANN
    assert oidc.server.asked == ["discovery", "keys"], "keys are remembered"


async def test_the_name_is_the_claim_in_settings(server):
    oidc = Oidcs(server, name_claim="email", role_claim="https://x.example/roles", roles={"a": "admin"})
    token = oidc.token(email="ann@example.org", **{"https://x.example/roles": "b a"})
    assert await oidc.issuer.verify(token) == Principal(name="oidc:ann@example.org", role=Role.ADMIN)


@pytest.mark.parametrize("groups", [None, {}, {"groups": []}, {"groups": ["cooks"]}, {"groups": 7}, "sre"])
async def test_a_subject_without_a_mapped_group_has_no_role(oidc, groups):
    rejected = await oidc.issuer.verify(oidc.token(realm=groups))
    assert (rejected.cause, rejected.name) == (Cause.NO_ROLE, "oidc:ann")


async def test_without_a_signature_nothing_is_believed(oidc):
    for alg in ("none", "None", "NONE", "", None):
        assert "algorithm" in await oidc.why(oidc.raw({"alg": alg, "kid": "one"}, oidc.claims()))
    header, claims, signature = oidc.token().split(".")
    await oidc.why(f"{header}.{claims}.")
    other = oidc.token(sub="eve").split(".")[1]
    assert "ignature" in await oidc.why(f"{header}.{other}.{signature}")


async def test_the_public_key_is_no_shared_secret(oidc):
    """The classic: HS256 keyed with what the issuer publishes."""
    pem = RSA["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = oidc.raw({"alg": "HS256", "kid": "one"}, oidc.claims()).rpartition(".")[0]
    signature = hmac.digest(pem, signed.encode(), hashlib.sha256)
    forged = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert "algorithm 'HS256'" in await oidc.why(forged)


@pytest.mark.parametrize("alg", ["RS512", "PS256", "HS256"])
async def test_only_the_algorithms_in_settings_count(oidc, alg):
    key = "x" * 64 if alg == "HS256" else RSA["one"]
    assert f"algorithm '{alg}'" in await oidc.why(oidc.token(alg=alg, key=key))


async def test_a_key_is_used_with_its_own_algorithm_and_curve_only(server):
    server.keys = [
        published(RSA["one"], "one", alg="PS256"),
        published(EC, "ec"),
        published(P384, "p384"),
        published(SHORT, "short"),
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "unheard-of", "kid": "odd"},
        published(RSA["two"], "enc", use="enc"),
        "no key",
    ]
    oidc = Oidcs(server)
    assert "not for RS256" in await oidc.why(oidc.token())
    assert "not for RS256" in await oidc.why(oidc.token(kid="ec"))
    assert await oidc.issuer.verify(oidc.token(kid="ec", key=EC, alg="ES256")) == ANN
    assert "curve" in await oidc.why(oidc.token(kid="p384", key=EC, alg="ES256"))
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        short = oidc.token(kid="short", key=SHORT)
    assert "below the minimum" in await oidc.why(short)
    for kid in ("secret", "odd", "enc"):
        assert "no key" in await oidc.why(oidc.token(kid=kid))


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "billing"}, "udience"),
        ({"aud": None}, "aud"),
        ({"iss": "https://evil.example"}, "ssuer"),
        ({"iss": None}, "iss"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "xpiration"),
        ({"nbf": 2**31}, "not yet valid"),
        ({"iat": 2**31}, "not yet valid"),
        ({"sub": None}, "name"),
        ({"sub": 7}, "ubject"),
        ({"sub": ""}, "name"),
        ({"sub": "a\nb"}, "name"),
        ({"sub": "x" * 201}, "name"),
    ],
)
async def test_claims_that_are_not_for_us_or_not_now(oidc, claims, said):
    assert said in await oidc.why(oidc.token(**claims))


async def test_a_clock_may_differ_by_the_leeway(oidc):
    now = int(time.time())  # noqa: TID251
    assert await oidc.issuer.verify(oidc.token(exp=now - 2, nbf=now + 2)) == ANN
    assert "expired" in await oidc.why(oidc.token(exp=now - 8))


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "JWE", 7])
async def test_a_token_made_for_something_else_opens_nothing(oidc, typ):
    token = (
        oidc.token(head={"typ": typ}) if isinstance(typ, str) else oidc.raw({"alg": "RS256", "typ": 7}, {})
    )
    await oidc.why(token)


async def test_keys_that_a_token_brings_along_are_ignored(oidc):
    """jku, x5u, jwk, x5c: signed by the attacker's key, which the head points to."""
    evil = published(RSA["two"], "one")
    for head in (
        {"jwk": evil},
        {"jku": f"{oidc.server.url}/evil"},
        {"x5u": f"{oidc.server.url}/evil"},
        {"x5c": ["MIIB"]},
    ):
        assert "ignature" in await oidc.why(oidc.token(key=RSA["two"], head=head))
    assert oidc.server.asked == ["discovery", "keys"]


async def test_critical_extensions_are_refused(oidc):
    await oidc.why(oidc.token(head={"crit": ["exp"], "exp": 1}))


@pytest.mark.parametrize("token", ["..", "a.b.c", "e30.e30.e30", "\u00e9.\u00e9.\u00e9", "W10.W10.W10"])
async def test_what_is_no_token_is_refused_without_asking_the_issuer(oidc, token):
    rejected = await oidc.issuer.verify(token)
    assert rejected.cause == Cause.INVALID
    assert oidc.server.asked == []


async def test_an_oversized_token_is_not_looked_at(oidc):
    assert "more than" in await oidc.why(oidc.token(padding="x" * 8000))
    assert oidc.server.asked == []


async def test_with_several_keys_a_token_names_its_own(server):
    server.keys.append(published(RSA["two"], "two"))
    oidc = Oidcs(server)
    assert "several keys" in await oidc.why(oidc.token(kid=None))
    assert await oidc.issuer.verify(oidc.token(kid="two", key=RSA["two"])) == ANN
    oidc = Oidcs(server)
    server.keys.pop()
    assert await oidc.issuer.verify(oidc.token(kid=None)) == ANN


async def test_a_new_key_is_found_and_unknown_ones_do_not_hammer_the_issuer(oidc):
    await oidc.issuer.verify(oidc.token())
    oidc.server.keys.append(published(RSA["two"], "two"))
    fresh = oidc.token(kid="two", key=RSA["two"])
    await oidc.why(fresh)
    oidc.now += RETRY_S
    unknown = [oidc.issuer.verify(oidc.token(kid=f"k{number}")) for number in range(20)]
    assert {it.cause for it in await asyncio.gather(*unknown)} == {Cause.INVALID}
    assert oidc.server.asked.count("keys") == 2
    assert await oidc.issuer.verify(fresh) == ANN


async def test_a_key_taken_back_counts_until_the_next_look(oidc):
    await oidc.issuer.verify(oidc.token())
    oidc.server.keys = [published(RSA["two"], "two")]
    oidc.now += FRESH_S
    assert await oidc.issuer.verify(oidc.token()) == ANN, "keys are fetched behind the requests"
    await asyncio.wait([oidc.keys._trying])
    assert "no key" in await oidc.why(oidc.token())


async def test_while_the_issuer_is_gone_its_keys_count_for_a_day(oidc, caplog):
    assert await oidc.issuer.verify(oidc.token()) == ANN
    oidc.server.status = 500
    for _ in range(5):
        oidc.now += KEPT_S / 5 - 1
        assert await oidc.issuer.verify(oidc.token()) == ANN
        await asyncio.wait([oidc.keys._trying])
    assert "answered 500" in caplog.text
    oidc.now += 5
    assert "answered 500" in await oidc.why(oidc.token())
    oidc.server.status = 200
    oidc.now += RETRY_S
    assert await oidc.issuer.verify(oidc.token()) == ANN


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"no json", "invalid literal"),
        (b"[]", "no JSON object"),
        (b"{}", "no list of keys"),
        (b'{"keys": []}', "no key"),
        (b" " * (DOCUMENT_BYTES + 1), "larger than"),
    ],
)
async def test_an_issuer_that_publishes_nonsense_is_told_about(oidc, raw, said):
    oidc.server.raw = raw
    assert said in await oidc.why(oidc.token())


@pytest.mark.parametrize(
    ("discovered", "said"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"jwks_uri": "http://evil.example/keys"}, "neither https nor on this machine"),
        ({"jwks_uri": "file:///etc/passwd"}, "neither https"),
        ({"jwks_uri": 7}, "neither https"),
    ],
)
async def test_keys_come_from_the_issuer_by_https_or_from_this_machine(oidc, discovered, said):
    oidc.server.discovered = discovered
    assert said in await oidc.why(oidc.token())


async def test_an_issuer_that_hangs_is_given_a_deadline(server, monkeypatch):
    monkeypatch.setattr("proxy.admin.issuer_keys.DEADLINE_S", 0.05)
    go = asyncio.Event()

    async def hang(reader, writer):
        await go.wait()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/keys"
    oidc = Oidcs(server, jwks_url=url)
    assert "no answer in 0.05 s" in await oidc.why(oidc.token())
    go.set()
    silent.close()
    await silent.wait_closed()


async def test_over_the_api_a_jwt_throws_the_kill_switch_and_is_named_in_the_log(server, tmp_path):
    oidc = Oidcs(server)
    admin = Admin(tmp_path, issuer=oidc.issuer)
    await admin.start()
    asked = {"json": {"reason": "drill"}}
    assert (await admin.ask("PUT", "/v1/kill", token=oidc.token(), **asked)).status == 200
    assert admin.trail.entries[-1].actor == "oidc:ann"
    nobody = await admin.ask("PUT", "/v1/kill", token=oidc.token(realm=None), **asked)
    assert (nobody.status, (await nobody.json())["code"]) == (403, "forbidden")
    viewer = await admin.ask("PUT", "/v1/kill", token=oidc.token(realm={"groups": ["dev"]}), **asked)
    assert viewer.status == 403
    expired = await admin.ask("PUT", "/v1/kill", token=oidc.token(exp=1), **asked)
    problem = await expired.json()
    assert (expired.status, "expired" in problem["detail"]) == (401, False), "the caller is not told why"
    assert admin.trail.entries[-1].reason.startswith("invalid: Signature has expired")
    server.status = 500
    assert (await admin.ask("GET", "/v1/kill", role=Role.VIEWER)).status == 200, "our own need no issuer"
    await admin.stop()
