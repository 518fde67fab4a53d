"""Reading the settings file: substitution, types, every fault at once, each with its place."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.policy import Upstream
from proxy.errors import SettingsError
from proxy.settings import changes_needing_restart, load, split_address, state_directory


def test_good_files_become_a_policy(folder):
    policy = folder.load().policy()
    assert [route.name for route in policy.routes] == ["recommendations", "payment"]
    assert policy.upstreams["payment"] == Upstream(url="http://127.0.0.1:9103")
    assert [film.id for film in policy.popularity] == ["b", "a"], "best score first"
    assert policy.toggles.flags == {"billing": True}
    assert policy.toggles.kill_switch is False


def test_every_section_reaches_the_policy(folder):
    folder.swap('[listen]\naddress = "127.0.0.1:0"', '[listen]\ntrusted_proxies = ["10.0.0.0/8"]')
    folder.add(
        "[log]\naccess_sample = 1\n[limits]\nconnections = 7\n[deadlines]\nhead_s = 2\n"
        '[identity]\nuser = ["cookie:u"]\n'
    )
    policy = folder.load().policy()
    assert policy.trusted_proxies == ("10.0.0.0/8",)
    assert policy.access_log_sample == 1.0
    assert policy.limits.connections == 7
    assert policy.deadlines.head_s == 2.0
    assert policy.identity.user == ("cookie:u",)


def test_every_fault_is_told_at_once_with_its_place(folder):
    """Typing errors, unknown keys, broken references and bad documents, from all three files."""
    folder.swap(
        "[upstreams.cf]\n", '[upstreams.cf]\ntimeout_ms = "5"\nbreaker = { window_s = true, prbes = 1 }\n'
    )
    folder.swap('upstream = "payment"', 'upstream = "paymnt"\nmax_body_bytes = -1')
    folder.films[1]["score"] = "high"
    folder.toggles["flags"]["biling"] = False
    folder.add("[stroage]\nurl = ''\n")
    assert folder.problems() == {
        "stroage": "unknown section (did you mean 'storage'?)",
        "upstreams.cf.timeout_ms": "should be a valid integer (write it without quotes)",
        "upstreams.cf.breaker.window_s": "should be a valid number ()",
        "upstreams.cf.breaker.prbes": "unknown key (did you mean 'probes'?)",
        "routes[1].max_body_bytes": "should be greater than or equal to 0 ()",
        "routes[1].upstream": "there is no [upstreams.paymnt] (did you mean 'payment'?)",
        "[1].score": "should be a valid number (write it without quotes)",
        "flags.biling": "no route has this flag (did you mean 'billing'?)",
    }


def test_each_problem_names_its_file(folder):
    folder.films = []
    folder.add("[nonsense]\n")
    with pytest.raises(SettingsError) as caught:
        folder.load()
    assert {Path(it.file).name for it in caught.value.problems} == {"fusebox.toml", "popularity.json"}


def test_a_missing_name_or_path_is_told(folder):
    folder.add("[[routes]]\nupstream = 'cf'\n")
    assert folder.problems() == {"routes[2].name": "is missing ()", "routes[2].path": "is missing ()"}


def test_a_list_with_one_bad_url_is_told_at_that_url(folder):
    folder.swap('url = "http://127.0.0.1:9101"', 'url = ["http://a:1", 5]')
    assert list(folder.problems()) == ["upstreams.cf.url[1]"]


def test_fields_that_contradict_each_other_in_a_breaker_are_told(folder):
    folder.swap(
        "[upstreams.payment]", "[upstreams.cf.breaker]\nprobes = 1\ncooldown_s = 500\n[upstreams.payment]"
    )
    problem = folder.problems()["upstreams.cf.breaker"]
    assert "probe_successes" in problem
    assert "cooldown_max_s" in problem


def test_a_syntax_error_is_told_with_its_line(folder):
    folder.settings = "[listen]\naddress = \n"
    [(place, message)] = folder.problems().items()
    assert place.startswith("line 2")
    assert "no TOML" in message


def test_json_syntax_is_told_with_its_line(folder):
    folder.load()
    (folder.path.parent / "toggles.json").write_text("{\n oops", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(folder.path, {})
    [problem] = caught.value.problems
    assert problem.path.startswith("line 2")
    assert problem.file.endswith("toggles.json")


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_settings_file_that_cannot_be_read_is_a_problem_of_its_own(tmp_path, content):
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("section", ["popularity", "toggles"])
def test_files_pointed_to_must_be_readable(folder, section):
    folder.swap(f'file = "{section}.json"', 'file = "nowhere.json"')
    with pytest.raises(SettingsError) as caught:
        folder.load()
    [problem] = caught.value.problems
    assert problem.file == str(folder.path.parent / "nowhere.json")
    assert "cannot be read" in problem.message


def test_environment_fills_any_text(folder):
    folder.swap("http://127.0.0.1:9101", "http://${HOST}:${PORT}")
    folder.env = {"HOST": "cf.internal", "PORT": "81"}
    assert folder.load().upstreams["cf"].url == "http://cf.internal:81"


def test_dollars_without_a_brace_stand_for_themselves(folder):
    folder.swap("[upstreams.cf]\n", '[upstreams.cf]\ncandidates_path = "/$$x"\n')
    assert folder.load().upstreams["cf"].candidates_path == "/$$x"


def test_a_reference_is_written_literally_with_two_dollars(folder):
    folder.add('[upstreams.x]\nurl = "https://h"\nserver_name = "$${NAME}"\n')
    folder.env = {"NAME": "no"}
    assert folder.load().upstreams["x"].server_name == "${NAME}"


def test_unset_variables_are_named_and_nothing_else_is_said_of_the_value(folder):
    folder.swap("http://127.0.0.1:9101", "${CF_URL}")
    assert folder.problems() == {
        "upstreams.cf.url": "environment variable CF_URL is not set (export CF_URL before starting)"
    }


@pytest.mark.parametrize("text", ["${", "${}", "${A-B}", "x${A"])
def test_a_reference_that_is_none_is_told(folder, text):
    folder.swap("[upstreams.cf]\n", f'[upstreams.cf]\nserver_name = "{text}"\n')
    assert "${NAME}" in folder.problems()["upstreams.cf.server_name"]


@pytest.mark.parametrize("value", ["inf", "nan", "99999999999999999999", "2020-01-01"])
def test_values_that_no_setting_takes_are_told_once(folder, value):
    folder.add(f"[deadlines]\nhead_s = {value}\n")
    assert len(folder.problems()) == 1
    assert "deadlines.head_s" in folder.problems()


def test_a_secret_from_the_environment_is_never_repeated(folder):
    folder.swap("http://127.0.0.1:9101", "http://user:${SECRET}@host")
    folder.env = {"SECRET": "hunter2"}
    assert "hunter2" not in str(folder.problems())


def test_a_section_of_another_shape_is_told(folder):
    folder.settings = 'routes = 5\nlisten = "127.0.0.1:8080"\n'
    found = folder.problems()
    assert "[listen]" in found["listen"]
    assert "[[routes]]" in found["routes"]


def test_paths_are_relative_to_the_settings_file(folder):
    settings = folder.load()
    assert settings.kill_file == folder.path.parent / "var" / "kill.json"
    assert settings.tokens_file == folder.path.parent / "var" / "tokens.json"


def test_the_state_directory_is_found_in_a_file_with_other_faults(folder):
    """So that a token can be made before the rest is right."""
    folder.settings = '[listen]\naddress = "${UNSET}"\n[state]\ndirectory = "${WHERE}"\n'
    folder.path.write_text(folder.settings, encoding="utf-8")
    assert state_directory(folder.path, {"WHERE": "s"}) == folder.path.parent / "s"
    with pytest.raises(SettingsError, match="WHERE"):
        state_directory(folder.path, {})


def test_doors_and_state_need_a_restart_and_nothing_else_does(folder):
    old = folder.load()
    assert changes_needing_restart(old, replace(old, routes=(), upstreams={})) == []
    new = replace(
        old,
        listen=replace(old.listen, address="127.0.0.1:1"),
        admin=replace(old.admin, address="127.0.0.1:2"),
        state=replace(old.state, directory="elsewhere"),
    )
    assert changes_needing_restart(old, new) == ["listen.address", "admin.address", "state.directory"]


def test_addresses_are_split():
    assert split_address("0.0.0.0:0") == ("0.0.0.0", 0)
    assert split_address("[::1]:8080") == ("::1", 8080)


@pytest.mark.parametrize(
    "address", ["8080", ":8080", "h:", "h:65536", "h:-1", "::1:80", "h:\uff18\uff10", "a/b:80", "u@h:80"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match=r"\w"):
        split_address(address)
