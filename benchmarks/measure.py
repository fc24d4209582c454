"""Clocks of other processes, and what a result says about the machine that it was taken on.

CPU time, not wall time: it holds when others use the machine too.
"""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Figures = dict[str, Any]


def cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, in seconds.

    *Source*: clock_getcpuclockid(3): the clock of a process is its inverted id above three bits of kind.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def descendants(pid: int) -> list[int]:
    """The processes below a process that live now."""
    out: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            out += [child, *descendants(child)]
    return out


def ended_cpu_s(pid: int) -> float:
    """User and system time of the children that a process has waited for, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class CpuClock:
    """The CPU time of processes and their children. ``lap`` gives what was used since the last lap."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._last = self.total()

    def total(self) -> float:
        """Seconds so far, of those that live now and of children that were waited for."""
        return sum(ended_cpu_s(pid) + sum(map(cpu_s, [pid, *descendants(pid)])) for pid in self._pids)

    def lap(self) -> float:
        """Seconds since the clock was made or lapped."""
        now = self.total()
        used, self._last = now - self._last, now
        return used


def memory_mb(pid: int) -> dict[str, float]:
    """Resident (RSS) and proportional (PSS) memory of a process and its children, in MB of 10^6 bytes."""
    found = {"rss_mb": 0.0, "pss_mb": 0.0}
    for process in [pid, *descendants(pid)]:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("Rss", "Pss"):
                found[f"{name.lower()}_mb"] += int(rest.split()[0]) * 1024 / 1e6
    return {name: round(value, 1) for name, value in found.items()}


def machine() -> Figures:
    """What ran the benchmark."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def commit() -> str:
    """The commit that is measured, with a plus sign when the package differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    named = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return named + ("+" if git("status", "--porcelain", "--", "src") else "")


def result(name: str, engine: str, figures: Figures) -> Figures:
    """A line of a results file."""
    head = {
        "name": name,
        "commit": commit(),
        "engine": engine,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return head | figures


def rounded(value: Any, digits: int = 4) -> Any:
    """The figures with so many significant digits."""
    if isinstance(value, dict):
        return {name: rounded(item, digits) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def median(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return statistics.median(values) if values else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


_begun = time.monotonic()


def tell(text: str) -> None:
    """A line of progress for whoever waits: on standard error, results are on standard output."""
    print(f"[{time.monotonic() - _begun:6.1f} s] {text}", file=sys.stderr, flush=True)
