"""The raw client, the scripted upstream and the strict parser are those of `tests/wire`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
