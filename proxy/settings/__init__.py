"""Settings from files: read, typed, cross-checked, and every fault told at once (design rule 10)."""

from proxy.settings.load import events, load, overrides, state_directory, storage
from proxy.settings.model import Settings, changes_needing_restart, split_address

__all__ = [
    "Settings",
    "changes_needing_restart",
    "events",
    "load",
    "overrides",
    "split_address",
    "state_directory",
    "storage",
]
