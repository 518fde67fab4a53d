"""The one place where adapters meet services: composition, signals, reload, the end."""

from proxy.runtime.serve import serve

__all__ = ["serve"]
