"""Services: each loads, decides, remembers, and changes the policy (design, One loop)."""

from proxy.control.breakers import ACTIONS, BreakerControl, BreakerReport, Change, UnknownBreaker
from proxy.control.kill import KillRefused, KillStatus, KillSwitch
from proxy.control.status import Reload, Status, StatusBoard, WorkerStatus
from proxy.control.toggle_plans import (
    Plan,
    TogglesRefused,
    TogglesStale,
    UnknownBaseline,
    UnknownVersion,
    Wanted,
)
from proxy.control.toggle_versions import Numbers
from proxy.control.toggles import ReturnStatus, ToggleControl, TogglesNow

__all__ = [
    "ACTIONS",
    "BreakerControl",
    "BreakerReport",
    "Change",
    "KillRefused",
    "KillStatus",
    "KillSwitch",
    "Numbers",
    "Plan",
    "Reload",
    "ReturnStatus",
    "Status",
    "StatusBoard",
    "ToggleControl",
    "TogglesNow",
    "TogglesRefused",
    "TogglesStale",
    "UnknownBaseline",
    "UnknownBreaker",
    "UnknownVersion",
    "Wanted",
    "WorkerStatus",
]
