"""CPU and memory of a program and its children, as the kernel counted them (proc(5))."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU that a program and its children have used so far, in seconds."""

    total_s: float
    user_s: float
    system_s: float

    def __sub__(self, earlier: "Usage") -> "Usage":
        return Usage(
            self.total_s - earlier.total_s, self.user_s - earlier.user_s, self.system_s - earlier.system_s
        )


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def usage(pid: int) -> Usage:
    """CPU of a process and its descendants, all threads.

    The sum comes from schedstat (nanoseconds), the split from stat, which counts in 10 ms ticks.
    """
    total_ns = user = system = 0
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
        after_name = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(after_name[11])
        system += int(after_name[12])
    total = total_ns / 1e9
    share = user / (user + system) if user + system else 0.0
    return Usage(total, total * share, total * (1 - share))


def memory_kib(pid: int, name: str) -> int:
    """Memory of a process and its descendants: `Pss`, or `VmRSS` or `VmHWM` (the peak of VmRSS)."""
    file = "smaps_rollup" if name == "Pss" else "status"
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/{file}").read_text().splitlines():
            if line.startswith(f"{name}:"):
                total += int(line.split()[1])
    return total


def forget_peak(pid: int) -> None:
    """Let VmHWM start again from what is resident now (proc(5), clear_refs)."""
    for member in family(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")
