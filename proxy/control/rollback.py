"""Taking bad changes back: the machine of `core.rollback` fed, stepped, put in force, remembered, told.

- What closes is in force first and remembered at once; what opens is remembered first. A disk that does not
  answer holds up neither: the status says `persisted: false`, and it is tried again.
- A restart goes on in the state that was saved, its clocks moved on by the wall clock, before anything
  listens. A file that nobody can understand means rolled back (stage 2): somebody may have been kept safe.
- In `watch` nothing of this touches the policy, unless a person has ordered it.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from proxy.clock import Clock, monotonic, rfc3339, wall
from proxy.control.layering import Layering
from proxy.control.rollback_keeping import RollbackKeeper
from proxy.control.rollback_memory import Memory, memorised, remembered
from proxy.control.rollback_orders import Foreseen, Order
from proxy.control.rollback_shown import MoveStatus, RollbackStatus, TriggersStatus
from proxy.core.rollback.engine import Engine, Transition, World
from proxy.core.rollback.layers import NO_LAYERS, Layers
from proxy.core.rollback.settings import RollbackSettings
from proxy.core.rollback.signals import Delta
from proxy.errors import FuseboxError
from proxy.ports import RollbackStore, StoreError
from proxy.ports.audit import AuditTrail
from proxy.tasks import spawn

_log = logging.getLogger("fusebox.rollback")
