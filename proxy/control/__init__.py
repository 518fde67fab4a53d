"""Services: each loads, decides, remembers, and changes the policy (design, One loop)."""

from proxy.control.breakers import ACTIONS, BreakerControl, BreakerReport, Change, UnknownBreaker
from proxy.control.kill import KillRefused, KillStatus, KillSwitch
from proxy.control.status import Reload, Status, StatusBoard, WorkerStatus

__all__ = [
    "ACTIONS",
    "BreakerControl",
    "BreakerReport",
    "Change",
    "KillRefused",
    "KillStatus",
    "KillSwitch",
    "Reload",
    "Status",
    "StatusBoard",
    "UnknownBreaker",
    "WorkerStatus",
]
