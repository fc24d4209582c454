"""Searching the messages of one user over HTTP."""

import json
import time
from collections.abc import Iterator

from benchmarks.measure import Figures, median, quantile, tell
from benchmarks.serving import Measured, filled, measured_server
from benchmarks.texts import Writer

SIZES = (1_000, 10_000, 100_000)
LIMIT = 10


def measure(engine: str, *, quick: bool) -> Iterator[Figures]:
    """CPU and waiting time of a search by the number of messages: the first of a fresh process' user, and the rest."""
    sizes, times = (SIZES[:2], 50) if quick else (SIZES, 300)
    with measured_server(engine) as run:
        for size in sizes:
            filled(run.api, user(size), size, seed=size)
            tell(f"search: {size:,} messages are there")
        firsts = {size: lap(run, size, 1) for size in sizes}
        rounds = 5
        laps: dict[int, list[Figures]] = {size: [] for size in sizes}
        for place in range(rounds):
            for size in sizes:
                laps[size].append(lap(run, size, times // rounds, seed=place))
        # Afterwards, so that the analysis is warm in both cases: only the user's index is not.
        figures = {str(size): summary(firsts[size], laps[size]) for size in sizes}
    for size in sizes:
        tell(f"search in {size:,}: {figures[str(size)]['cpu_ms']:.2f} ms CPU")
    yield {"limit": LIMIT, "searches": times, "by_messages": figures}


def user(size: int) -> str:
    """The user with so many messages."""
    return f"user-{size}"


def lap(run: Measured, size: int, times: int, seed: int = 0) -> Figures:
    """What so many searches took, each."""
    writer = Writer(seed + 99)
    bodies = [
        json.dumps({"query": writer.question(), "user_id": user(size), "limit": LIMIT}).encode() for _ in range(times)
    ]
    waits = []
    began = time.process_time()
    run.clock.lap()
    if run.database is not None:
        run.database.lap()
    for body in bodies:
        begun = time.perf_counter()
        run.api.send("POST", "/api/v1/search", body)
        waits.append(time.perf_counter() - begun)
    out: Figures = {
        "cpu_ms": run.clock.lap() / times * 1000,
        "waits": waits,
        "client_cpu_ms": (time.process_time() - began) / times * 1000,
    }
    if run.database is not None:
        out["database_cpu_ms"] = run.database.lap() / times * 1000
    return out


def summary(first: Figures, laps: list[Figures]) -> Figures:
    """The medians of the rounds; of the waits, all together."""
    waits = [wait for one in laps for wait in one["waits"]]
    names = [name for name in laps[0] if name != "waits"]
    return {name: median([one[name] for one in laps]) for name in names} | {
        "p50_ms": quantile(waits, 0.5) * 1000,
        "p99_ms": quantile(waits, 0.99) * 1000,
        "first_cpu_ms": first["cpu_ms"],
        "first_ms": first["waits"][0] * 1000,
    }
