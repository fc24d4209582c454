"""How much of the evidence recall brings back, by an evaluation program of yours on data of yours.

The program is called as ``EVAL --data DATA --url URL --key KEY --ranking FILE``. What it prints is shown, and of that
the table is kept whose heading holds ``R@10`` and the like.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Figures, tell
from benchmarks.serving import measured_server

TIMEOUT_S = 3600.0
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def measure(engine: str, program: Path, data: Path) -> Iterator[Figures]:
    """The program's own figures, with the server's CPU and memory."""
    with measured_server(engine) as run, tempfile.TemporaryDirectory(prefix="aforesaid-bench-") as folder:
        run.clock.lap()
        begun = time.monotonic()
        given = ["--data", str(data), "--url", run.server.base_url, "--key", run.server.api_key]
        done = subprocess.run(
            [sys.executable, str(program), *given, "--ranking", str(Path(folder) / "ranking.json")],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")
        tell("recall:\n" + done.stdout)
        figures: Figures = {"data": data.name, "wall_s": time.monotonic() - begun, "cpu_s": run.clock.lap()}
        figures |= run.memory_mb() | {"table": table(done.stdout)}
    yield figures


def table(printed: str) -> dict[str, dict[str, float]]:
    """The rows of the printed table: by their first word, the numbers under each heading."""
    out: dict[str, dict[str, float]] = {}
    heads: list[str] = []
    for line in printed.splitlines():
        words = line.split()
        if any(word.startswith("R@") for word in words):
            heads = words
            continue
        numbers = [float(word) for word in words if _NUMBER.fullmatch(word)]
        if heads and len(numbers) == len(words) - 1 == len(heads) - 1:
            out[words[0]] = dict(zip(heads[1:], numbers, strict=True))
    return out
