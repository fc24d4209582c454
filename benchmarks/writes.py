"""Single messages from many clients at once: what sharing a commit is worth."""

import json
import time
from collections.abc import Iterator

import uvloop

from benchmarks.client import Timed, load, post
from benchmarks.measure import Figures, median, quantile, tell
from benchmarks.serving import Measured, measured_server
from benchmarks.texts import Writer

CLIENTS = (1, 64)
USERS = 8


def measure(engine: str, *, quick: bool) -> Iterator[Figures]:
    """Messages per CPU-second and per second, each with an answer of its own after the fsync."""
    count, rounds = (500, 3) if quick else (3_000, 5)
    with measured_server(engine) as run:
        writer = Writer()
        conversations = [run.api.conversation(f"user-{i}") for i in range(USERS)]
        lap(run, writer, conversations, CLIENTS[-1], 200)
        laps: dict[int, list[Figures]] = {clients: [] for clients in CLIENTS}
        for place in range(rounds):
            for clients in CLIENTS:
                laps[clients].append(lap(run, writer, conversations, clients, count if clients > 1 else count // 5))
            tell(f"write, round {place + 1} of {rounds}: {laps[CLIENTS[-1]][-1]['rows_per_s']:,.0f} messages a second")
        figures = {
            str(clients): {name: median([one[name] for one in some]) for name in some[0]}
            for clients, some in laps.items()
        }
    yield {"messages_a_round": count, "rounds": rounds, "by_clients": figures}


def lap(run: Measured, writer: Writer, conversations: list[str], clients: int, count: int) -> Figures:
    """What so many messages took until they were stored, and until they were searchable."""
    requests = [
        post(
            "/api/v1/messages",
            json.dumps({"conversation_id": conversations[i % len(conversations)], "content": message}).encode(),
            run.server.api_key,
        )
        for i, message in enumerate(writer.messages("someone", count))
    ]

    def following() -> bytes | None:
        return requests.pop() if requests else None

    async def work() -> list[Timed]:
        return await load(run.server.port, clients, following)

    began = time.process_time()
    run.clock.lap()
    if run.database is not None:
        run.database.lap()
    begun = time.perf_counter()
    timed = uvloop.run(work())
    wall = time.perf_counter() - begun
    run.api.settle()
    cpu = run.clock.lap()
    waits = [one.whole_s for one in timed]
    out: Figures = {
        "rows_per_cpu_s": count / cpu,
        "cpu_us_a_row": cpu / count * 1e6,
        "rows_per_s": count / wall,
        "p50_ms": quantile(waits, 0.5) * 1000,
        "p99_ms": quantile(waits, 0.99) * 1000,
        "client_cpu_us_a_row": (time.process_time() - began) / count * 1e6,
    }
    if run.database is not None:
        out["database_cpu_us_a_row"] = run.database.lap() / count * 1e6
    return out
