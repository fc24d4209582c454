"""Importing messages over HTTP until they are durable and searchable, beside raw SQLite with the same rows."""

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, median, quantile, tell
from benchmarks.raw import Kind, RawStore, rows_of
from benchmarks.serving import BATCH, Measured, batches, measured_server
from benchmarks.texts import Writer

USERS = 10
RAW: tuple[Kind, ...] = ("fts5", "blocks", "none")
DATABASE = "aforesaid.db"
GROWN_USERS = 50
LARGE = 2_000
PROBE = 5_000
"""Rows whose cost is taken at each mark."""


def bodies(run: Measured, writer: Writer, users: int, size: int = BATCH) -> Iterator[bytes]:
    """Batches of several users in turn, without an end."""
    streams = [batches(run.api, writer, f"user-{i}", 1 << 40, size) for i in range(users)]
    while True:
        for stream in streams:
            yield next(stream)


def posted(run: Measured, given: list[bytes]) -> dict[str, float]:
    """What it took the server to store these batches and to make them searchable."""
    waits = []
    began = time.process_time()
    run.clock.lap()
    if run.database is not None:
        run.database.lap()
    for body in given:
        begun = time.perf_counter()
        run.api.send("POST", "/api/v1/messages", body)
        waits.append(time.perf_counter() - begun)
    stored = run.clock.total()
    run.api.settle()
    out = {"cpu_s": run.clock.lap(), "wait_ms": median(waits) * 1000, "wait_p99_ms": quantile(waits, 0.99) * 1000}
    out["after_s"] = max(0.0, run.clock.total() - stored)
    out["client_cpu_s"] = time.process_time() - began
    if run.database is not None:
        out["database_cpu_s"] = run.database.lap()
    return out


def measure(engine: str, *, quick: bool) -> Iterator[Figures]:
    """Rows per CPU-second of the server and of raw SQLite, in turn, on growing databases."""
    rounds, size = (3, 2_000) if quick else (7, 10_000)
    laps: list[dict[str, float]] = []
    raw_laps: dict[str, list[float]] = {kind: [] for kind in RAW}
    with measured_server(engine) as run, tempfile.TemporaryDirectory(prefix="aforesaid-bench-") as folder:
        given = bodies(run, Writer(), USERS)
        posted(run, list(islice(given, USERS)))  # warm: connections, caches of the analysis
        database = run.server.data / DATABASE
        raw = {kind: RawStore(Path(folder) / f"{kind}.db", database, kind) for kind in RAW} if run_raw(run) else {}
        known = USERS * BATCH
        for place in range(rounds):
            laps.append(posted(run, list(islice(given, size // BATCH))))
            if raw:
                rows = rows_of(database, known)
                known += len(rows)
                for kind, store in raw.items():
                    raw_laps[kind].append(len(rows) / store.add(rows, BATCH))
            tell(f"import, round {place + 1} of {rounds}: {size / laps[-1]['cpu_s']:,.0f} rows per CPU-second")
        for store in raw.values():
            store.close()
    yield summary(laps, raw_laps, rounds, size)


def run_raw(run: Measured) -> bool:
    """Whether raw SQLite is a measure of this engine."""
    return run.engine == "sqlite"


def summary(laps: list[dict[str, float]], raw_laps: dict[str, list[float]], rounds: int, size: int) -> Figures:
    """The medians of the rounds, and of the ratios round by round."""
    rates = [size / lap["cpu_s"] for lap in laps]
    out: dict[str, Any] = {
        "rounds": rounds,
        "rows_a_round": size,
        "batch": BATCH,
        "users": USERS,
        "rows_per_cpu_s": median(rates),
        "cpu_us_a_row": 1e6 / median(rates),
        "wait_ms": median([lap["wait_ms"] for lap in laps]),
        "wait_p99_ms": median([lap["wait_p99_ms"] for lap in laps]),
        "client_cpu_us_a_row": median([lap["client_cpu_s"] for lap in laps]) / size * 1e6,
    }
    if "database_cpu_s" in laps[0]:
        out["database_cpu_us_a_row"] = median([lap["database_cpu_s"] for lap in laps]) / size * 1e6
    for kind, raw in raw_laps.items():
        if raw:
            out[f"raw_{kind}_rows_per_cpu_s"] = median(raw)
            out[f"ratio_{kind}"] = median([rate / other for rate, other in zip(rates, raw, strict=True)])
    return out


def measure_growth(engine: str, *, quick: bool) -> Iterator[Figures]:
    """CPU a row as one database grows, in batches of the largest size and, at each mark, of 100."""
    marks = (10_000, 20_000) if quick else (10_000, 100_000, 500_000, 1_000_000)
    at: list[Figures] = []
    with measured_server(engine) as run:
        given = bodies(run, Writer(), GROWN_USERS)
        large = bodies(run, Writer(2), GROWN_USERS, LARGE)
        posted(run, list(islice(given, 10)))
        rows = 10 * BATCH
        for mark in marks:
            while rows < mark - PROBE:
                count = min(10, (mark - PROBE - rows) // LARGE)
                posted(
                    run, list(islice(large, count)) if count else list(islice(given, (mark - PROBE - rows) // BATCH))
                )
                rows += count * LARGE or (mark - PROBE - rows) // BATCH * BATCH
                tell(f"million: {rows:,} rows")
            lap = posted(run, list(islice(given, PROBE // BATCH)))
            rows += PROBE
            size_mb = sum(file.stat().st_size for file in run.server.data.glob(f"{DATABASE}*")) / 1e6
            at.append({"rows": rows, "cpu_us_a_row": lap["cpu_s"] / PROBE * 1e6, "disk_mb": size_mb} | run.memory_mb())
            tell(f"million: {at[-1]['cpu_us_a_row']:.1f} µs a row at {rows:,}")
    yield {"batch": BATCH, "probe": PROBE, "at": at, "ratio": at[-1]["cpu_us_a_row"] / at[0]["cpu_us_a_row"]}
