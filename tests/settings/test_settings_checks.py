"""Checks across fields, one fault at a time."""

import pytest
import trustme

ROUTE = '[[routes]]\nname = "x"\npath = "/x"\nupstream = "cf"\n'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('name = "payment"\npath = "/x"\nupstream = "cf"', "routes[2].name", "routes[1] already"),
        ('name = "a b"\npath = "/x"\nupstream = "cf"', "routes[2].name", "no name"),
        ('name = "x"\npath = "/payment/"\nupstream = "cf"', "routes[2].path", "routes[1] already"),
        ('name = "x"\npath = "x"\nupstream = "cf"', "routes[2].path", "begin with /"),
        ('name = "x"\npath = "/__fusebox/"\nupstream = "cf"', "routes[2].path", "sidecar itself"),
        ('name = "x"\npath = "/__fusebox"\nupstream = "cf"', "routes[2].path", "sidecar itself"),
        ('name = "x"\npath = "/a?b"\nupstream = "cf"', "routes[2].path", "plain path"),
        ('name = "x"\npath = "/a//b"\nupstream = "cf"', "routes[2].path", "plain path"),
        ('name = "x"\npath = "/a/../b"\nupstream = "cf"', "routes[2].path", "plain path"),
        ('name = "x"\npath = "/x"', "routes[2].upstream", "is missing"),
        ('name = "x"\npath = "/x"\nupstream = "cff"', "routes[2].upstream", "did you mean 'cf'?"),
        ('name = "x"\npath = "/x"\nupstream = "cf"\nmethods = ["get"]', "routes[2].methods[0]", "upper case"),
        (
            'name = "x"\npath = "/x"\nupstream = "cf"\nmethods = ["CONNECT"]',
            "routes[2].methods[0]",
            "CONNECT",
        ),
        ('name = "x"\npath = "/x"\nupstream = "cf"\nflag = "a b"', "routes[2].flag", "no name"),
        ('name = "x"\npath = "/x"\nupstream = "cf"\nupgrade = ["h2c"]', "routes[2].upgrade[0]", "tunnelled"),
        ('name = "x"\npath = "/x"\nupstream = "cf"\nalpha = 0.1', "routes[2].alpha", "nothing on a forward"),
        (
            'name = "x"\npath = "/x"\nupstream = "cf"\ndeadline_ms = 9',
            "routes[2].deadline_ms",
            "nothing on a forward",
        ),
        (
            'name = "x"\npath = "/x"\nkind = "recommend"\nupgrade = ["websocket"]',
            "routes[2].upgrade",
            "nothing on a recommend",
        ),
        ('name = "x"\npath = "/x"\nkind = "recommend"\nk_default = 300', "routes[2].k_default", "k_max"),
        (
            'name = "x"\npath = "/x"\nkind = "recommend"\nsources = { content = "c" }',
            "routes[2].sources.content",
            "no [upstreams.c]",
        ),
        ('name = "x"\npath = "/x"\nkind = "proxy"', "routes[2].kind", "'forward' or 'recommend'"),
        ('name = "x"\npath = "/x"\nupstream = "cf"\npriority = "high"', "routes[2].priority", "'critical'"),
    ],
)
def test_routes(folder, text, place, words):
    folder.add(f"[[routes]]\n{text}\n")
    found = folder.problems()
    assert list(found) == [place]
    assert words in found[place]


FORWARD = 'name = "x"\npath = "/x"\nupstream = "cf"\n[routes.shadow]\n'
FILMS = 'name = "x"\npath = "/x"\nkind = "recommend"\nsources = { cf = "cf" }\n[routes.shadow]\n'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (FORWARD + 'percent = 1.001\nupstream = "cf"', "percent", "finer than 0.01"),
        (FORWARD + "percent = 101.0", "percent", "less than or equal to 100"),
        (FORWARD + 'percent = 1.0\nupstream = "cff"', "upstream", "did you mean 'cf'?"),
        (FORWARD + "percent = 1.0", "upstream", "whereto should copies go? (name one)"),
        (FILMS + "percent = 1.0", "upstream", "toggles for a second plan"),
        (FORWARD + "toggles = { disable_cf = true }", "toggles", "nothing on a forward route"),
        (FILMS + 'upstream = "cf"\ntoggles = { disable_cf = true }', "toggles", "nothing beside upstream"),
        (FILMS + "toggles = { disable_cff = true }", "toggles.disable_cff", "did you mean 'disable_cf'?"),
        (FILMS + 'toggles = { disable_cf = "yes" }', "toggles.disable_cf", "true or false"),
        (FILMS + "toggles = { kill_switch = true }", "toggles.kill_switch", "for everybody"),
        (
            FILMS + 'toggles = { disable_cf = true, policy_mode = "collab_only" }',
            "toggles.policy_mode",
            "asks cf",
        ),
        (FILMS + 'toggles = { cache_mode = "cold" }', "toggles.cache_mode", "never meets the cache"),
        (FORWARD + 'headers = ["x y"]', "headers[0]", "no name of a header"),
        (FORWARD + "headroom = 0.0", "headroom", "greater than 0"),
        (FORWARD + "max_inflight = 0", "max_inflight", "greater than or equal to 1"),
        (FORWARD + "share = 1", "share", "unknown key"),
    ],
)
def test_shadows(folder, text, place, words):
    folder.add(f"[[routes]]\n{text}\n")
    found = folder.problems()
    assert list(found) == [f"routes[2].shadow.{place}"]
    assert words in found[f"routes[2].shadow.{place}"]


@pytest.mark.parametrize(
    "text",
    [
        FORWARD + 'percent = 0.01\nupstream = "payment"\nheaders = ["Cookie"]',
        FORWARD + 'upstream = "cf"',
        FILMS + 'percent = 100\ntoggles = { policy_mode = "content_only", alpha_override = 1 }',
    ],
)
def test_shadows_that_are_in_order(folder, text):
    folder.add(f"[[routes]]\n{text}\n")
    assert folder.load().routes[2].shadow


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a%20b/c.d-e_f~g", "/a;b=1"])
def test_ordinary_paths_pass(folder, path):
    folder.add(ROUTE.replace('"/x"', f'"{path}"'))
    if ";" in path:
        assert list(folder.problems()) == ["routes[2].path"], "parameters make a path ambiguous"
    else:
        assert folder.load().routes[2].path == path


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('url = "ftp://h"', "url", "http:// or https://"),
        ('url = "h:80"', "url", "http:// or https://"),
        ('url = "http://"', "url", "host"),
        ('url = "http://a b"', "url", "host"),
        ('url = "http://h\\u0001"', "url", "host"),
        ('url = "http://[::1"', "url", "is no url"),
        ('url = "http://h:0"', "url", "port"),
        ('url = "http://h:"', "url", "port"),
        ('url = "http://h:70000"', "url", "port"),
        ('url = "http://h/base"', "url", "after the port"),
        ('url = "http://h?q"', "url", "after the port"),
        ('url = "http://u:p@h"', "url", "password"),
        ('url = ["http://a", "ftp://b"]', "url[1]", "http:// or https://"),
        ('url = ["http://a", "https://b"]', "url", "mixes"),
        ("url = []", "url", "at least 1 item"),
        ('url = "http://h"\nserver_name = "x"', "server_name", "https"),
        ('url = "http://h"\nca_file = "x"', "ca_file", "https"),
        ('url = "https://h"\nca_file = "nowhere.pem"', "ca_file", "cannot be read"),
        ('url = "https://h"\nca_file = "toggles.json"', "ca_file", "holds no certificate"),
        ('url = "http://h"\ncandidates_path = "c"', "candidates_path", "begins with /"),
        ('url = "http://h"\ncandidates_path = ""', "candidates_path", "begins with /"),
        ('url = "http://h"\nneighbours_path = "/n?x=1"', "neighbours_path", "begins with /"),
        ('url = "http://h"\nfields = { id = "" }', "fields.id", "names with a '.' between"),
        ('url = "http://h"\nfields = { title = "movie..title" }', "fields.title", "names with a '.' between"),
        ('url = "http://h"\nfields = { items = "data." }', "fields.items", "names with a '.' between"),
        ('url = "http://h"\nfields = { id = 7 }', "fields.id", "string"),
        ('url = "http://h"\nfields = { titel = "x" }', "fields.titel", "unknown key"),
        ('url = "http://h"\neject_max_s = 1', "eject_max_s", "less than eject_s"),
    ],
)
def test_upstreams(folder, text, place, words):
    folder.add(f"[upstreams.x]\n{text}\n")
    found = folder.problems()
    assert list(found) == [f"upstreams.x.{place}"]
    assert words in found[f"upstreams.x.{place}"]


def test_upstream_names_go_into_headers(folder):
    folder.add('[upstreams."a b"]\nurl = "http://h"\n')
    assert list(folder.problems()) == ["upstreams.a b"]


def test_a_certificate_is_found_beside_the_settings(folder):
    ca = folder.path.parent / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(ca))
    folder.add('[upstreams.x]\nurl = ["https://h", "https://[::1]:444/"]\nca_file = "ca.pem"\n')
    assert folder.load().upstreams["x"].ca_file == str(ca)
    assert folder.load().policy().authorities == {str(ca): ca.read_text()}


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('[listen]\naddress = "127.0.0.1:0"', '[listen]\naddress = "x"', "listen.address"),
        ('[admin]\naddress = "127.0.0.1:0"', '[admin]\naddress = "x"', "admin.address"),
        (
            '[admin]\naddress = "127.0.0.1:0"',
            '[admin]\naddress = "h:1"\n[identity]\nclient = ["query:a", "headr:x"]',
            "identity.client[1]",
        ),
        (
            "[listen]\n",
            '[listen]\ntrusted_proxies = ["10.0.0.0/8", "10.0.0/8"]\n',
            "listen.trusted_proxies[1]",
        ),
        ('[popularity]\nfile = "popularity.json"', "", "popularity.file"),
    ],
)
def test_the_rest(folder, old, new, place):
    folder.swap(old, new)
    assert list(folder.problems()) == [place]


def test_the_two_doors_are_different(folder):
    folder.settings = folder.settings.replace("127.0.0.1:0", "127.0.0.1:8080")
    assert list(folder.problems()) == ["admin.address"]


def test_at_least_one_route(folder):
    folder.settings = folder.settings[: folder.settings.index("[[routes]]")]
    assert list(folder.problems()) == ["routes"]
