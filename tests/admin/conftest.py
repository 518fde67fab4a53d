import pytest
from face import Admin


@pytest.fixture
async def admin(tmp_path):
    admin = Admin(tmp_path)
    await admin.start()
    yield admin
    await admin.stop()
