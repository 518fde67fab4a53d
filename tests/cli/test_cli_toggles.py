"""Toggles and flags on the command line: what is typed, what is asked for it, what is shown."""

import orjson
import pytest

from proxy.core.toggles import BASELINES, CATALOGUE

AT = "2026-01-02T03:04:05.000000Z"
SECOND = "2026-01-02T03:04:05Z"
DOCUMENT = {
    "version": 7,
    "metadata": {"version": 7, "updated_at": AT, "updated_by": "ann", "reason": "cf is\nslow"},
    "toggles": {it.name: it.default for it in CATALOGUE},
    "rules": [],
    "flags": {"billing": True},
    "baseline": None,
    "reverts": [],
    "over": "",
    "kill": False,
}
TOGGLES = ("GET", "/v1/toggles")


def document(version=8, returns=(), rules=(), flags=None, **toggles):
    return DOCUMENT | {
        "version": version,
        "toggles": DOCUMENT["toggles"] | toggles,
        "rules": list(rules),
        "flags": DOCUMENT["flags"] | (flags or {}),
        "reverts": [{"at": AT, "version": version, "names": list(returns)}] if returns else [],
    }


@pytest.fixture
def change(run, admin):
    """Run a command against toggles that are `DOCUMENT`; what it asked for last, and its result."""

    def change(*words, after=None, status=200):
        admin.scripted[TOGGLES] = 200, DOCUMENT
        admin.status, admin.answer = status, document() if after is None else after
        result = run(*words, "--admin", admin.url)
        method, path, _, body = admin.asked[-1] if admin.asked else ("", "", "", b"")
        return result, method, path, orjson.loads(body or b"null")

    return change


def rows(result):
    return [line.split() for line in result.stdout.splitlines()]


class TestGet:
    def test_tells_what_a_rollback_has_laid_over_them(self, run, admin):
        admin.answer = document() | {"over": "stage 2 for region eu: disable_cf=true"}
        told = run("toggles", "get", "--admin", admin.url).output
        assert "a rollback has laid over these: stage 2 for region eu: disable_cf=true" in told
        admin.answer = document()
        assert "laid over" not in run("toggles", "get", "--admin", admin.url).output

    def test_shows_every_toggle_what_it_may_be_and_when_it_returns(self, run, admin):
        admin.answer = document(
            returns=["exposure_percent"], exposure_percent=33.33, region_scope=["eu", "us"]
        )
        result = run("toggles", "get", "--admin", admin.url)
        assert admin.asked[0][:2] == TOGGLES
        told = rows(result)
        assert result.output.startswith(f"version 8: since {AT}, by ann, because cf is slow\n")
        assert ["exposure_percent", "33.33", AT, "a", "number", "from", "0", "to", "100"] in told
        assert next(it for it in told if it[:1] == ["region_scope"])[:3] == ["region_scope", "eu,us", "-"]
        assert next(it for it in told if it[:1] == ["policy_mode"])[:5] == [
            "policy_mode",
            "null",
            "-",
            "one",
            "of",
        ]
        assert {it.name for it in CATALOGUE} <= {it[0] for it in told if it}
        assert "RULE" not in result.output

    def test_shows_rules_the_first_ones_of_many(self, run, admin):
        rule = {"scope": {"region": ["eu"], "cohort": ["cold", "light"]}, "toggles": {"alpha_override": 0.5}}
        admin.answer = document(rules=[rule] * 23)
        result = run("toggles", "get", "--admin", admin.url)
        assert ["0", "region=eu", "cohort=cold,light", "alpha_override=0.5"] in rows(result)
        assert "and 3 more rules" in result.stderr

    def test_a_baseline_that_holds_is_named(self, run, admin):
        admin.answer = document() | {"baseline": "degraded"}
        assert "baseline degraded\n" in run("toggles", "get", "--admin", admin.url).output

    @pytest.mark.parametrize(
        ("name", "value", "shown"),
        [("policy_mode", None, "null"), ("kill_switch", True, "true"), ("cohort_scope", ["cold"], "cold"),
         ("exposure_percent", 50.0, "50"), ("candidate_fallback_level", "C", "C")],
    )  # fmt: skip
    def test_one_value_alone_is_shown_as_it_would_be_typed(self, run, admin, name, value, shown):
        admin.answer = document(**{name: value})
        assert run("toggles", "get", name, "--admin", admin.url).output == f"{shown}\n"
        told = run("toggles", "get", name, "--json", "--admin", admin.url).output
        assert orjson.loads(told) == value

    def test_as_json_it_is_the_whole_answer(self, run, admin):
        admin.answer = document()
        assert orjson.loads(run("toggles", "get", "--json", "--admin", admin.url).output) == admin.answer


class TestTyping:
    @pytest.mark.parametrize(
        ("word", "value"),
        [
            ("exposure_percent=50", 50), ("exposure_percent=0.01", 0.01), ("alpha_override=null", None),
            ("alpha_override=1e-1", 0.1), ("disable_cf=true", True), ("disable_cf=off", False),
            ("kill_switch=False", False), ("policy_mode=null", None),
            ("policy_mode=bucket_gate", "bucket_gate"),
            ("candidate_fallback_level=D", "D"), ("region_scope=", []), ("region_scope=eu, us", ["eu", "us"]),
            ("cohort_scope=cold", ["cold"]), ("client_scope=a=b", ["a=b"]), ("region_scope=null", ["null"]),
        ],
    )  # fmt: skip
    def test_a_value_is_read_by_the_catalogue(self, change, word, value):
        _, _, _, body = change("toggles", "set", word, "--reason", "r")
        assert body["toggles"] == {word.partition("=")[0]: value}

    @pytest.mark.parametrize(
        ("word", "says"),
        [
            ("exposure_percent=101", "should be a number from 0 to 100"),
            ("exposure_percent=null", "should be a number from 0 to 100"),
            ("exposure_percent=0.001", "finer than 0.01, which is one bucket: it may be a number from"),
            ("exposure_percent=1_0", "should be a number"), ("exposure_percent=", "should be a number"),
            ("exposure_percent=NaN", "should be a number"), ("exposure_percent=true", "should be a number"),
            ("alpha_override=x", "should be a number from 0 to 1 or null"),
            ("disable_cf=maybe", "should be true or false"), ("disable_cf=null", "should be true or false"),
            ("policy_mode=hybrid", "one of bucket_gate, content_only, collab_only, hybrid_default or null"),
            ("cohort_scope=cold,warm", "no cohort 'warm': it may be names of cold, light, medium, heavy"),
            ("region_scope=eu,eu", "'eu' stands there already"), ("region_scope=eu,", "1 to 256 bytes"),
            ("exposure=5", "no toggle is named 'exposure'; did you mean exposure_percent?"),
            ("zzz=5", "there are alpha_override, "), ("disable_cf", "should be like NAME=VALUE"),
        ],
    )  # fmt: skip
    def test_a_value_that_is_none_is_named_with_what_it_may_be_and_nothing_is_sent(
        self, run, admin, word, says
    ):
        result = run("toggles", "set", word, "--reason", "r", "--admin", admin.url)
        assert result.exit_code == 2
        assert word in result.stderr
        assert says in result.stderr
        assert admin.asked == []

    def test_all_faults_are_told_at_once(self, run, admin):
        words = ("disable_cf=1", "policy_mode=x", "alpha_override=2", "disable_cf=true", "disable_cf=true")
        result = run("toggles", "preview", *words, "--admin", admin.url)
        assert [line.split(":")[0] for line in result.stderr.splitlines()[-4:]] == [
            "  disable_cf=1", "  policy_mode=x", "  alpha_override=2", "  disable_cf=true",
        ]  # fmt: skip

    @pytest.mark.parametrize("words", [("set",), ("preview",), ("preview", "disable_cf=on", "--revert", "3"),
                                       ("preview", "--baseline", "normal", "--revert", "3")])  # fmt: skip
    def test_nothing_said_or_too_much_is_wrong_usage(self, run, admin, words):
        more = ("--reason", "r") if words[0] == "set" else ()
        result = run("toggles", *words, *more, "--admin", admin.url)
        assert (result.exit_code, admin.asked) == (2, [])
        assert "say what" in result.stderr


class TestChanges:
    @pytest.mark.parametrize(
        ("words", "method", "path", "body"),
        [
            (("toggles", "set", "disable_cf=on", "alpha_override=null"), "PATCH", "/v1/toggles",
             {"toggles": {"disable_cf": True, "alpha_override": None}}),
            (("toggles", "set", "disable_cf=on", "--ttl", "10m"), "PATCH", "/v1/toggles",
             {"toggles": {"disable_cf": True}, "ttl_s": 600}),
            (("toggles", "baseline", "degraded", "--ttl", "2h"), "POST", "/v1/toggles/baselines/degraded",
             {"ttl_s": 7200}),
            (("toggles", "revert", "3"), "POST", "/v1/toggles/revert/3", {}),
            (("flags", "set", "billing=off", "b=on"), "PATCH", "/v1/flags",
             {"flags": {"billing": False, "b": True}}),
        ],
    )  # fmt: skip
    def test_are_asked_for_the_version_that_was_there_before(self, change, admin, words, method, path, body):
        result, *asked = change(*words, "--reason", "so")
        assert result.exit_code == 0, result.output
        assert asked == [method, path, body | {"reason": "so"}]
        assert admin.asked[0][:2] == TOGGLES
        assert admin.headers[-1]["If-Match"] == '"7"'

    def test_a_version_can_be_insisted_on(self, change, admin):
        change("toggles", "set", "disable_cf=on", "--reason", "r", "--if-match", "5")
        assert admin.headers[-1]["If-Match"] == '"5"'

    @pytest.mark.parametrize("words", [("set", "disable_cf=on"), ("baseline", "normal"), ("revert", "3")])
    def test_without_a_reason_nothing_is_asked(self, run, admin, words):
        for more in ((), ("--reason", " ")):
            result = run("toggles", *words, *more, "--admin", admin.url)
            assert (result.exit_code, admin.asked) == (2, [])
            assert "--reason" in result.stderr

    def test_what_changed_is_shown_and_when_it_returns(self, change):
        after = document(returns=["exposure_percent"], exposure_percent=50, region_scope=["eu"],
                         rules=[{"scope": {}, "toggles": {}}], flags={"billing": False})  # fmt: skip
        result, *_ = change("toggles", "set", "exposure_percent=50", "--reason", "r", after=after)
        told = rows(result)
        assert told[0] == ["version", "8,", "after", "7"]
        assert told[2:] == [
            ["exposure_percent", "100", "50", AT], ["region_scope", "all", "eu", "-"],
            ["rules", "0", "rules", "1", "rule", "-"], ["flags.billing", "on", "OFF", "-"],
        ]  # fmt: skip

    def test_whoever_is_not_let_in_yet_is_told(self, change, admin):
        held = [{"scope": None, "low": 1000, "high": 4999, "percent": 40.0, "until": "T1"}]
        admin.scripted["GET", "/v1/status"] = 200, {"held": held}
        said = "held in control by the flap budget: buckets 1000 to 4999, 40 % of the users, until T1\n"
        words = ("toggles", "set", "exposure_percent=50", "--reason", "r")
        assert change(*words, after=document(exposure_percent=50))[0].output.endswith(said)
        assert said not in change(*words, after=document(disable_cf=True))[0].output

    def test_what_was_so_already_is_told(self, change):
        result, *_ = change("toggles", "set", "disable_cf=off", "--reason", "r", after=DOCUMENT)
        assert result.output == "all was so already (version 7)\n"

    def test_as_json_it_is_the_new_document(self, change):
        result, *_ = change("toggles", "set", "disable_cf=on", "--reason", "r", "--json")
        assert orjson.loads(result.output) == document()

    def test_a_lost_race_is_told_with_the_way_out(self, change):
        lost = {
            "title": "Not that version any more",
            "detail": "the version is 9",
            "code": "version_mismatch",
        }
        result, *_ = change("toggles", "set", "disable_cf=on", "--reason", "r", after=lost, status=412)
        assert result.exit_code == 1
        assert "the version is 9" in result.stderr
        assert "somebody was faster: look with  fusebox toggles get" in result.stderr

    def test_every_reason_of_a_refusal_is_told(self, change):
        faults = [
            {"at": "toggles.policy_mode", "detail": "collab_only asks cf alone"},
            {"at": "rules.0", "detail": "never counts"},
        ]
        refused = {"title": "Refused", "detail": "…", "code": "toggles_refused", "errors": faults}
        result, *_ = change("toggles", "set", "disable_cf=on", "--reason", "r", after=refused, status=422)
        assert result.stderr == (
            "Error: Refused:\n  toggles.policy_mode: collab_only asks cf alone\n  rules.0: never counts\n"
        )

    @pytest.mark.parametrize("content", ['[{"scope": {}}]', '{"rules": [{"scope": {}}], "toggles": {}}'])
    def test_rules_come_from_a_file(self, change, tmp_path, content):
        file = tmp_path / "rules.json"
        file.write_text(content)
        _, _, _, body = change("toggles", "set", "--rules", str(file), "--reason", "r")
        assert (body["rules"], body["toggles"]) == ([{"scope": {}}], {})

    @pytest.mark.parametrize(
        ("content", "says"), [("{", "is no JSON"), ('{"a": 1}', "list of rules"), (None, "No such file")]
    )
    def test_a_file_without_rules_is_told(self, run, admin, tmp_path, content, says):
        file = tmp_path / "rules.json"
        if content is not None:
            file.write_text(content)
        result = run("toggles", "set", "--rules", file, "--reason", "r", "--admin", admin.url)
        assert (result.exit_code, admin.asked) == (2, [])
        assert says in result.stderr

    def test_a_baseline_that_is_none_is_wrong_usage(self, run, admin):
        result = run("toggles", "baseline", "nice", "--reason", "r", "--admin", admin.url)
        assert result.exit_code == 2
        assert all(name in result.stderr for name in BASELINES)


VERSION = {
    "version": 8, "at": AT, "by": "ann", "kind": "change", "reason": "cf is\nslow", "expires_at": AT,
    "diff": {"exposure_percent": {"before": 100, "after": 50}, "policy_mode": {"before": None, "after": "x"}},
}  # fmt: skip


class TestHistory:
    def test_is_a_table_with_what_changed(self, run, admin):
        admin.answer = {"versions": [VERSION], "next": None}
        result = run("toggles", "history", "--admin", admin.url)
        assert result.exit_code == 0
        assert rows(result)[1] == [
            "8", SECOND, "ann", "change",
            "exposure_percent", "100", "→", "50;", "policy_mode", "null", "→", "x",
            SECOND, "cf", "is", "slow",
        ]  # fmt: skip

    def test_pages_are_fetched_until_there_are_enough(self, run, admin):
        admin.scripted["GET", "/v1/toggles/history?limit=3"] = (
            200,
            {"versions": [VERSION] * 2, "next": "x"},
        )
        admin.answer = {"versions": [VERSION], "next": "y"}
        result = run("toggles", "history", "--limit", "3", "--json", "--admin", admin.url)
        assert [path for _, path, _, _ in admin.asked] == [
            "/v1/toggles/history?limit=3", "/v1/toggles/history?limit=1&cursor=x",
        ]  # fmt: skip
        assert orjson.loads(result.output) == {"versions": [VERSION] * 3, "next": "y"}
        assert "--limit 6" in run("toggles", "history", "--limit", "3", "--admin", admin.url).stderr


class TestFlags:
    def test_are_shown(self, run, admin):
        reverts = [{"at": AT, "version": 6, "names": ["flags.billing"]}]
        admin.answer = {"version": 7, "flags": {"billing": False, "mail": True}, "reverts": reverts}
        result = run("flags", "get", "--admin", admin.url)
        assert admin.asked[0][:2] == ("GET", "/v1/flags")
        assert rows(result)[1:] == [["billing", "OFF", AT], ["mail", "on", "-"]]
        told = run("flags", "get", "--json", "--admin", admin.url).output
        assert orjson.loads(told) == admin.answer

    @pytest.mark.parametrize("words", [(), ("billing",), ("billing=maybe",), ("=on",), ("b=on", "b=off")])
    def test_what_is_no_flag_is_wrong_usage(self, run, admin, words):
        result = run("flags", "set", *words, "--reason", "r", "--admin", admin.url)
        assert (result.exit_code, admin.asked) == (2, [])


SERVED = {"policy": "hybrid_default", "arm": "none", "level": "A", "sources": ["cf", "content"], "alpha": 0.6,
          "exposed": True}  # fmt: skip
PREVIEW = {
    "span_s": 600.2, "requests": 1200, "replayed": 1200, "users": 40,
    "exposed_before": 40, "exposed_after": 20,
    "changed": {"users": 20, "policy": 20, "arm": 20, "level": 0, "sources": 20, "alpha": 0, "exposed": 20},
    "moves": [{"before": SERVED, "users": 20, "requests": 600, "after": SERVED | {
        "policy": "control", "arm": "control", "level": "D", "sources": []}}],
    "more_moves": 3,
    "upstreams": [{"upstream": "cf", "before_per_s": 2.0, "after_per_s": 1.0, "busiest_before_per_s": 3.0,
                   "busiest_after_per_s": 3.0, "shown_per_s": None, "limit_per_s": 5120.0,
                   "verdict": "unknown", "says": "cf …"}],
    "verdict": "unknown", "says": ["cf would get 3 calls a second"], "cache_missed": 0.125,
}  # fmt: skip


class TestPreview:
    @pytest.mark.parametrize(
        ("words", "body"),
        [
            (("disable_cf=on",), {"toggles": {"disable_cf": True}}),
            (("--baseline", "normal"), {"baseline": "normal"}), (("--revert", "3"), {"revert": 3}),
        ],
    )  # fmt: skip
    def test_asks_without_a_reason_and_without_a_version(self, run, admin, words, body):
        admin.answer = PREVIEW
        result = run("toggles", "preview", *words, "--admin", admin.url)
        assert result.exit_code == 0, result.output
        assert [it[:2] for it in admin.asked] == [("POST", "/v1/toggles/preview")]
        assert orjson.loads(admin.asked[0][3]) == body

    def test_tells_who_moves_from_what_to_what_and_the_load_of_each_upstream(self, run, admin):
        admin.answer = PREVIEW
        told = run("toggles", "preview", "disable_cf=on", "--admin", admin.url).output
        assert "1200 requests of the last 600 s decided again\n" in told
        assert "20 of 40 users would get something else: policy 20, arm 20, sources 20, exposed" in told
        assert "exposed users: 40 now, 20 then\n" in told
        moved = "600 20 hybrid_default A from cf+content at 0.6 control D from nobody, arm control"
        lines = [line.split() for line in told.splitlines()]
        assert moved.split() in lines
        assert ["cf", "2", "→", "1", "3", "-", "5120", "unknown"] in lines
        assert "and 3 more ways" in told
        assert "of reads through the cache 12.5 % went on to a source\n" in told
        assert told.endswith("\ncf would get 3 calls a second\nverdict: unknown; nothing was changed\n")

    def test_a_sample_is_called_one(self, run, admin):
        admin.answer = PREVIEW | {"replayed": 50}
        told = run("toggles", "preview", "disable_cf=on", "--admin", admin.url).output
        assert "decided again, by a sample of 50\n" in told

    def test_as_json_it_is_the_whole_answer(self, run, admin):
        admin.answer = PREVIEW
        result = run("toggles", "preview", "disable_cf=on", "--json", "--admin", admin.url)
        assert orjson.loads(result.output) == PREVIEW
