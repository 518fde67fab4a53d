import pytest
from eventing import Rig


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path / "events")
    yield made
    made.writer.close()
