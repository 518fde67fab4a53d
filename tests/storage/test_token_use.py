"""When tokens were last used: written behind, seldom, and never in the way."""

import json

import pytest

from proxy.storage.token_use import EVERY_S, TokenUse, last_used


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def use(tmp_path, clock):
    return TokenUse(tmp_path / "token_use.json", monotonic=clock, wall=clock)


async def test_a_use_is_written_at_most_once_a_minute(use, clock, tmp_path):
    file = tmp_path / "token_use.json"
    for now, seen in ((0, "00:00:00"), (EVERY_S - 1, "00:00:00"), (EVERY_S, "00:01:00")):
        clock.now = now
        use.used("ann")
        await use.settled()
        assert last_used(file) == {"ann": f"1970-01-01T{seen}+00:00"}


async def test_what_others_have_written_stays(use, tmp_path):
    file = tmp_path / "token_use.json"
    file.write_text(json.dumps({"bob": "then"}))
    use.used("ann")
    use.used("eve")
    await use.settled()
    assert last_used(file).keys() == {"ann", "bob", "eve"}
    assert last_used(file)["bob"] == "then"


async def test_a_file_that_cannot_be_written_is_only_logged(use, tmp_path, caplog):
    (tmp_path / "token_use.json").mkdir()
    use.used("ann")
    await use.settled()
    assert "is not written down" in caplog.text


@pytest.mark.parametrize("content", [b"{", b"[]", b"5", b"\xff"])
def test_a_file_that_is_not_understood_tells_nothing(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    assert last_used(tmp_path / "f") == {}
    assert last_used(tmp_path / "nowhere") == {}
