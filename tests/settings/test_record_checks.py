"""Storage, audit, actions and foreign tokens: one fault at a time, and all of them at once."""

from dataclasses import replace

import pytest

from proxy.core.audit_settings import Action, Audit
from proxy.settings import changes_needing_restart

RULE = '[[audit.actions]]\naction = "login"\npath = "/payment/login"\n'


def rule(**fields):
    lines = {"action": '"login"', "path": '"/payment/login"'} | fields
    return "[[audit.actions]]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///var/fusebox.db",
        "sqlite:////var/lib/fusebox.db",
        "postgresql://u:p@[::1]:5432/fusebox?sslmode=require",
        "postgresql:///fusebox",
        "memory://",
    ],
)
def test_stores_that_there_are(folder, url):
    folder.add(f'[storage]\nurl = "{url}"\n')
    assert folder.load().storage.url == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "should begin with"),
        ("var/fusebox.db", "should begin with"),
        ("mysql://root:hunter2@db/x", "should begin with"),
        ("sqlite://fusebox.db", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///var/", "names no file"),
        ("sqlite:///a.db?mode=ro", "no options"),
        ("postgresql://u:hunter2@db", "names no database"),
        ("postgresql://u:hunter2@db:99999/x", "names no database"),
        ("memory://x", "alone"),
    ],
)
def test_a_url_that_is_no_store_is_told_without_its_password(folder, url, words):
    folder.add(f'[storage]\nurl = "{url}"\n')
    found = folder.problems()
    assert list(found) == ["storage.url"]
    assert words in found["storage.url"]
    assert "hunter2" not in found["storage.url"]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('origin = ""', "audit.origin", "no name"),
        ('origin = "my log"', "audit.origin", "no name"),
        ('origin = "a+b"', "audit.origin", "no name"),
        ("segment_entries = 1000", "audit.segment_entries", "512 or 1024"),
        ("spool_bytes = 1000", "audit.spool_bytes", "1048576"),
        ('when_full = "drop"', "audit.when_full", "'refuse' or 'count'"),
        ("retention_days = -1", "audit.retention_days", "greater"),
        ('checkpoint_to = ["stdout", "stderr"]', "audit.checkpoint_to[1]", "nowhere"),
        ('checkpoint_to = ["file:"]', "audit.checkpoint_to[0]", "nowhere"),
        ('checkpoint_to = ["https://u:p@log"]', "audit.checkpoint_to[0]", "password"),
        ('checkpoint_to = ["https://"]', "audit.checkpoint_to[0]", "no https"),
        ("actions = 3", "audit.actions", "[[audit.actions]]"),
        ("signed = true", "audit.signed", "unknown key"),
    ],
)
def test_the_log(folder, text, place, words):
    folder.add(f"[audit]\n{text}\n")
    found = folder.problems()
    assert list(found) == [place]
    assert words in found[place]


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"action": '"Log In"'}, "action", "no name"),
        ({"action": '""'}, "action", "no name"),
        ({"path": '"login"'}, "path", "begin with /"),
        ({"path": '"/payment/{a}-{b}"'}, "path", "plain segments"),
        ({"path": '"/payment//x"'}, "path", "plain segments"),
        ({"path": '"/payment/*/x"'}, "path", "plain segments"),
        ({"path": '"/payment/%41"'}, "path", "plain segments"),
        ({"path": '"/payment/../x"'}, "path", "plain segments"),
        ({"path": '"/payment/{a}/{a}"'}, "path", "twice"),
        ({"path": '"/nowhere/{a}"'}, "path", "do nothing"),
        ({"path": '"/recommendations/x"'}, "path", "do nothing"),
        ({"route": '"recommendations"', "path": '"/recommendations"'}, "route", "has no actions"),
        ({"route": '"paiment"'}, "route", "did you mean 'payment'?"),
        ({"methods": '["POST", "get"]'}, "methods[1]", "upper case"),
        ({"status": '["2xx", "6xx"]'}, "status[1]", "no status"),
        ({"status": '["20x"]'}, "status[0]", "no status"),
        ({"target": '["path:account"]'}, "target[0]", "no {account}"),
        ({"actor": '["user:x"]'}, "actor[0]", "is not header:NAME"),
        ({"reason": '["header:Authorization"]'}, "reason[0]", "credentials"),
        ({"after": '["query:a", "answer:Set-Cookie"]'}, "after[1]", "credentials"),
        ({"sample": "0"}, "sample", "greater than 0"),
        ({"sample": "1.5"}, "sample", "less than or equal to 1"),
        ({"when_full": '"drop"'}, "when_full", "'refuse' or 'count'"),
        ({"methd": '["POST"]'}, "methd", "did you mean 'methods'?"),
    ],
)
def test_actions(folder, fields, place, words):
    folder.add(RULE + rule(**fields))
    found = folder.problems()
    assert list(found) == [f"audit.actions[1].{place}"]
    assert words in found[f"audit.actions[1].{place}"]


def test_a_faulty_action_does_not_hide_the_next(folder):
    folder.add('[[audit.actions]]\naction = "a"\n' + rule(status='["x"]') + rule(action='"-"'))
    assert list(folder.problems()) == [
        "audit.actions[0].path",
        "audit.actions[1].status[0]",
        "audit.actions[2].action",
    ]


def test_actions_reach_the_policy_each_knowing_what_becomes_of_it_when_the_spool_is_full(folder):
    folder.add('[audit]\nwhen_full = "count"\n' + RULE + rule(when_full='"refuse"'))
    policy = folder.load().policy()
    assert policy.actions == (
        Action(action="login", path="/payment/login", when_full="count"),
        Action(action="login", path="/payment/login", when_full="refuse"),
    )


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ('audience = "x"\nleeway_s = 1', ["oidc.audience", "oidc.leeway_s"]),
        ('issuer = "https://id"', ["oidc.audience", "oidc.roles"]),
        ('issuer = "http://id"\naudience = "x"\nroles = {a = "admin"}', ["oidc.issuer"]),
        ('issuer = "ftp://id"\naudience = "x"\nroles = {a = "admin"}', ["oidc.issuer"]),
        ('issuer = "https://id"\naudience = "x"\nroles = {a = "root"}', ["oidc.roles.a"]),
        (
            'algorithms = ["HS256", "ES256", "none"]\nissuer = "https://i"\naudience = "x"\nroles.a="admin"',
            ["oidc.algorithms[0]", "oidc.algorithms[2]"],
        ),
        (
            'issuer = "https://id"\naudience = "x"\nroles = {a = "admin"}\njwks_url = "http://id/keys"',
            ["oidc.jwks_url"],
        ),
    ],
)
def test_foreign_tokens(folder, text, places):
    folder.add(f"[oidc]\n{text}\n")
    found = folder.problems()
    # a role that cannot be read is left out, and then there is none
    assert [place for place in found if place != "oidc.roles" or place in places] == places


@pytest.mark.parametrize("issuer", ["https://id.example/realms/x", "http://127.0.0.1:9/", "http://[::1]:9"])
def test_an_issuer_that_can_be_used(folder, issuer):
    folder.add(f'[oidc]\nissuer = "{issuer}"\naudience = "fusebox"\nroles = {{ "sre" = "commander" }}\n')
    assert folder.load().oidc.roles == {"sre": "commander"}


def test_only_actions_can_change_without_a_restart(folder):
    old = folder.load()
    actions = Audit(actions=(Action(action="a", path="/payment/a"),), when_full="count")
    assert changes_needing_restart(old, replace(old, audit=actions)) == []
    new = replace(
        old,
        audit=replace(actions, origin="x", segment_entries=8),
        storage=replace(old.storage, url="memory://"),
        oidc=replace(old.oidc, name_claim="email"),
    )
    assert changes_needing_restart(old, new) == [
        "storage.url",
        "audit.origin",
        "audit.segment_entries",
        "oidc.name_claim",
    ]
