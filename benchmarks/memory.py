"""What the server process holds in memory: empty, and after 10,000 messages were imported and searched."""

import json
from collections.abc import Iterator

from benchmarks.measure import Figures, tell
from benchmarks.serving import BATCH, batches, measured_server
from benchmarks.texts import Writer

MESSAGES = 10_000
SEARCHES = 50


def measure(engine: str, *, quick: bool) -> Iterator[Figures]:
    """RSS and PSS, in MB of 10^6 bytes, at four moments."""
    count = MESSAGES // 10 if quick else MESSAGES
    with measured_server(engine) as run:
        moments = {"started": run.memory_mb()}
        for body in batches(run.api, Writer(), "user", count, size=BATCH):
            run.api.send("POST", "/api/v1/messages", body)
        run.api.settle()
        moments["imported"] = run.memory_mb()
        writer = Writer(99)
        for _ in range(SEARCHES):
            question = {"query": writer.question(), "user_id": "user", "limit": 10}
            run.api.send("POST", "/api/v1/search", json.dumps(question).encode())
        moments["searched"] = run.memory_mb()
        for _ in range(SEARCHES):
            asked = {"model": "any", "user": "user", "messages": [{"role": "user", "content": writer.question()}]}
            run.api.send("POST", "/api/v1/chat/completions", json.dumps(asked).encode())
        run.api.settle()
        moments["answered"] = run.memory_mb()
    tell(f"memory: {moments['searched']['rss_mb']} MB after {count:,} messages")
    yield {"messages": count, **moments}
