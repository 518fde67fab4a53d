"""`drill toggles` against sidecars that break what it looks for; a real one stands in `tests/runtime`."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

SOURCES = {"n": "hybrid", "c": "content", "f": "cf", "e": "popularity"}
OVERRIDES = ("normal=n", "content_only=c", "collaborative_only=f", "emergency=e")
ALL = [word for it in OVERRIDES for word in ("--override", it)]


class FakeSidecar:
    """Answers by the override alone, as a sidecar in order would; `spoil(n, document)` changes answer `n`."""

    def __init__(self):
        self.asked = []
        self.spoil = lambda n, document: document
        fake = self

        def answer(self):
            query = parse_qs(urlsplit(self.path).query)
            override, user = self.headers["X-Fusebox-Override"], self.headers["X-User-Id"]
            fake.asked.append((override, user, urlsplit(self.path).path))
            said = fake.spoil(len(fake.asked), made(SOURCES[override], user, int(query["k"][0])))
            status, content = said if isinstance(said, tuple) else (200, orjson.dumps(said))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        more = {"do_GET": answer, "log_message": lambda *_: None, "protocol_version": "HTTP/1.1"}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (BaseHTTPRequestHandler,), more))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/films"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def made(source, user, k):
    items = [
        {"id": f"f{n}", "rank": n, "title": f"F {n}", "year": 1990, "genres": ["drama"], "score": 0.5,
         "source": source}
        for n in range(1, k + 1)
    ]  # fmt: skip
    return {
        "items": items,
        "metadata": {"arm": "none", "bucket": sum(user.encode()), "policy": "p", "level": "A"},
    }


@pytest.fixture
def sidecar():
    fake = FakeSidecar()
    yield fake
    fake.stop()


@pytest.fixture
def drill(run, sidecar):
    def drill(*words, overrides=ALL):
        return run(
            *("drill", "toggles", "--url", sidecar.url, "--users", "3", "--requests", "2", "--k", "4"),
            *overrides,
            *words,
        )

    return drill


def failed(result):
    return {(it["mode"], it["name"]) for it in orjson.loads(result.stdout)["criteria"] if not it["holds"]}


def test_every_user_is_asked_for_in_every_mode_with_its_override(drill, sidecar):
    result = drill()
    assert result.exit_code == 0, result.output
    users = {"u001", "u002", "u003"}
    assert Counter(sidecar.asked) == {
        (override, user, "/films"): 4 if override == "n" else 2 for override in SOURCES for user in users
    }
    assert [override for override, _, _ in sidecar.asked] == [
        *"nnnnnn",
        *"cccccc",
        *"ffffff",
        *"eeeeee",
        *"nnnnnn",
    ]
    assert result.stdout.endswith("\nok: 22 of 22 criteria hold\n")


def test_as_json_it_is_every_criterion_and_how_each_mode_was_made(drill, sidecar):
    found = orjson.loads(drill("--json").stdout)
    assert (found["ok"], found["url"], len(found["criteria"])) == (True, sidecar.url, 22)
    assert [(it["mode"], it["answered"], it["items"]) for it in found["modes"]][1:4] == [
        ("content only", 6, {"content": 24}), ("collaborative only", 6, {"cf": 24}),
        ("emergency popularity", 6, {"popularity": 24}),
    ]  # fmt: skip


def test_some_modes_alone_can_be_drilled(drill, sidecar):
    result = drill("--json", overrides=["--override", "content_only=c"])
    assert result.exit_code == 0
    assert {override for override, _, _ in sidecar.asked} == {"c"}
    assert [it["mode"] for it in orjson.loads(result.stdout)["modes"]] == ["content only"]


def without(field):
    def spoil(n, document):
        del document["items"][1][field]
        return document

    return spoil


def changed(part, **values):
    def spoil(n, document):
        target = document["metadata"] if part == "metadata" else document["items"][0]
        target |= {name: value(n) for name, value in values.items()}
        return document

    return spoil


def short(n, document):
    return document | {"items": document["items"][:3]}


@pytest.mark.parametrize(
    ("spoil", "criteria"),
    [
        (short, {"fill", "UI fields"}),
        (without("genres"), {"UI fields"}),
        (without("source"), {"made by"}),
        (changed("items", title=lambda _: ""), {"UI fields"}),
        (changed("metadata", bucket=lambda n: n), {"assignment", "same bucket in every mode"}),
        (changed("metadata", bucket=lambda n: n > 18), {"same bucket in every mode"}),
        (changed("metadata", arm=lambda n: "a" if n < 25 else "b"), {"same arm before and after"}),
        (changed("items", source=lambda _: "popularity"), {"made by"}),
        (lambda n, document: document if n < 20 else (503, b'{"detail": "no"}'),
         {"requests answered", "request volume", "fill", "UI fields", "assignment"}),
        (lambda n, document: document if n != 3 else (500, b"oops"),
         {"requests answered", "fill", "UI fields"}),
        (lambda n, document: (200, b"<html>"), {"fill", "UI fields", "made by"}),
        (lambda n, document: (302, b"{}"),
         {"requests answered", "request volume", "fill", "UI fields", "assignment", "made by",
          "same bucket in every mode", "same arm before and after"}),
    ],
)  # fmt: skip
def test_what_is_broken_fails_and_is_named(drill, sidecar, spoil, criteria):
    sidecar.spoil = spoil
    result = drill("--json")
    assert result.exit_code == 1
    assert {name for _, name in failed(result)} == criteria


def test_what_was_said_instead_of_an_answer_is_told(drill, sidecar):
    sidecar.spoil = lambda n, document: (400, b'{"detail": "has expired"}')
    result = drill()
    assert "normal: answered 400: has expired (6 times)" in result.stdout
    assert result.stdout.endswith("\nNOT ok: 0 of 22 criteria hold\n")


def test_it_ends_when_its_time_is_over(drill, sidecar, monkeypatch):
    """A clock on which each look takes a tenth of a second."""
    now = [0.0]

    def clock():
        now[0] += 0.1
        return now[0]

    monkeypatch.setattr("proxy.cli.drill.monotonic", clock)
    result = drill("--seconds", "1")
    assert result.exit_code == 1
    assert 6 <= len(sidecar.asked) <= 10
    assert "not asked: the time was over" in result.stdout


def test_nobody_there_is_told(run):
    result = run("drill", "toggles", "--url", "http://127.0.0.1:1/films", "--users", "1", *ALL)
    assert result.exit_code == 1
    assert "normal: no answer: " in result.stdout
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("ids", "users"), [("#", "1 2 3"), ("a##b", "a01b a02b a03b"), ("@", "17 ann x-3")])
def test_users_go_by_a_pattern_or_stand_in_a_file(drill, sidecar, tmp_path, ids, users):
    file = tmp_path / "users"
    file.write_text("17\n\n ann \n17\nx-3\n4\n")
    assert drill("--ids", f"@{file}" if ids == "@" else ids).exit_code == 0
    assert {user for _, user, _ in sidecar.asked} == set(users.split())


@pytest.mark.parametrize(
    "words",
    [("--ids", "u"), ("--ids", "#u#"), ("--ids", "@/nowhere"), ("--ids", "é#"), ("--override", "x=y"),
     ("--override", "normal="), ("--override", "normal"), ("--users", "0"), ("--requests", "1"), ("--url", "ftp://h")],
)  # fmt: skip
def test_what_makes_no_sense_is_wrong_usage(drill, sidecar, words):
    assert drill(*words).exit_code == 2
    assert sidecar.asked == []


def test_with_headers_from_elsewhere_the_path_has_to_be_said(run):
    result = run("drill", "toggles", "--override", "normal=n", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "with its path" in result.stderr


class TestKillSwitch:
    @pytest.fixture
    def looked(self, drill, admin):
        def looked(**said):
            admin.answer = {"kill": False, "reason": "", "by": "", "at": "", "persisted": True} | said
            return drill("--admin", admin.url, "--token", "fbx_t", "--json")

        return looked

    def test_is_looked_at_with_a_token(self, looked, admin):
        result = looked()
        assert result.exit_code == 0
        assert [it[:3] for it in admin.asked] == [("GET", "/v1/kill", "Bearer fbx_t")]
        assert orjson.loads(result.stdout)["criteria"][-1]["name"] == "kill switch"

    def test_one_that_a_restart_would_forget_fails(self, looked):
        assert failed(looked(persisted=False)) == {("all", "kill switch")}

    def test_while_it_is_on_there_is_nothing_to_verify(self, looked, sidecar):
        result = looked(kill=True, reason="cf burns")
        assert result.exit_code == 1
        assert "the kill switch is ON (cf burns): no override lifts it" in result.stderr
        assert sidecar.asked == []
