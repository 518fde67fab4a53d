"""A spool directory with its reader and writers."""

import pytest

from proxy.storage.spool import SpoolFile, SpoolReader


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "var" / "spool"


@pytest.fixture
def reader(folder):
    return SpoolReader(folder)


@pytest.fixture
def writing(folder):
    """Makes writers, which are closed at the end."""
    made = []

    def writer(**how):
        made.append(SpoolFile(folder, **how))
        return made[-1]

    yield writer
    for it in made:
        it.close()
