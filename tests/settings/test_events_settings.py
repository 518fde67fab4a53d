"""`[events]`."""

import pytest

from proxy.errors import SettingsError
from proxy.settings import changes_needing_restart, events


def test_without_the_section_there_is_no_event_log(folder):
    assert folder.load().events.directory == ""


def test_the_directory_is_relative_to_the_file(folder):
    folder.add('[events]\ndirectory = "log"\n')
    assert folder.load().events_directory == folder.path.parent / "log"
    assert events(folder.path, {})[1] == folder.path.parent / "log"


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("", "events.directory"),
        ('directory = "log"\nsample = 0', "events.sample"),
        ('directory = "log"\nsample = 1.1', "events.sample"),
        ('directory = "log"\nrotate_bytes = 10', "events.rotate_bytes"),
        ('directory = "log"\nrotate_s = 0', "events.rotate_s"),
        ('directory = "log"\nfsync = "always"', "events.fsync"),
        ('directory = "log"\nretention_days = 0', "events.retention_days"),
        ('directory = "log"\nfolder = "x"', "events.folder"),
    ],
)
def test_what_cannot_be_is_refused(folder, lines, place):
    folder.add(f"[events]\n{lines}\n")
    assert list(folder.problems()) == [place]


def test_asking_for_the_log_alone_tells_when_there_is_none(folder):
    folder.load()
    with pytest.raises(SettingsError, match=r"events.directory: is missing"):
        events(folder.path, {})


def test_a_change_needs_a_restart(folder):
    before = folder.load()
    folder.add('[events]\ndirectory = "log"\n')
    assert changes_needing_restart(before, folder.load()) == ["events.directory"]
