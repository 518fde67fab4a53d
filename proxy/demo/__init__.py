"""A run of the whole thing on real input: sidecar, example upstreams, traffic and an incident."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxy.demo.run import run_demo

__all__ = ["run_demo"]

NEEDS = ("numpy", "rich")
"""What the extra `demo` brings."""


def __getattr__(name: str) -> Any:
    """`run_demo`, loaded when asked for: each upstream process imports this package too.

    ModuleNotFoundError names what is missing here, before four processes fail for the same reason.
    """
    if name != "run_demo":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in NEEDS:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"the demo needs {module}", name=module)
    from proxy.demo.run import run_demo  # noqa: PLC0415 - see above

    return run_demo
