"""The overrides of a drill: signed with the key of the state directory, recorded before they are used."""

import uuid

from proxy.cli.recording import spooling
from proxy.clock import rfc3339, wall
from proxy.core.drill import MODES
from proxy.core.override import Override, faults, sign
from proxy.errors import FuseboxError
from proxy.runtime.signing import signing_key
from proxy.settings import Settings

_MARGIN_S = 30
"""Beyond the drill's own time: for clocks that differ, and what is asked last."""


def signed(settings: Settings, seconds: float) -> dict[str, str]:
    """A header for each mode by its key. FuseboxError when settings do not allow what a drill needs."""
    allowed = settings.overrides
    if not allowed.enabled:
        raise FuseboxError("overrides are switched off: a drill needs them (overrides.enabled)")
    if wrong := list(dict.fromkeys(it for mode in MODES for it in faults(mode.toggles, allowed))):
        raise FuseboxError("a drill needs overrides that the settings do not allow: " + "; ".join(wrong))
    key = signing_key(allowed, settings.signing_key_file)
    at = int(wall())
    until = at + min(int(seconds) + _MARGIN_S, allowed.max_ttl_s)
    name = f"drill-{uuid.uuid4().hex[:12]}"
    with spooling(settings.state_directory, "override.sign", "fusebox drill toggles") as note:
        modes = ", ".join(dict.fromkeys(mode.key for mode in MODES))
        note(name, {"by": "drill", "until": rfc3339(until), "modes": modes})
        return {
            mode.key: sign(key, Override(name, "drill", at, until, tuple(sorted(mode.toggles.items()))))
            for mode in MODES
        }
