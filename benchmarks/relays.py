"""Streamed completions through the server, beside nginx and LiteLLM's proxy, all before one scripted model server.

Through the server means: the key is checked, a user's 20,000 messages are searched, what is found is put before the
question, and the turn is stored. ``bare`` is the server with memory and storing switched off by the request's headers.
"""

import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks import rivals
from benchmarks.client import Timed, load, post
from benchmarks.measure import CpuClock, Figures, median, quantile, tell
from benchmarks.serving import Measured, filled, measured_server
from benchmarks.texts import Writer
from benchmarks.upstream import name_of

MESSAGES = 20_000
CLIENTS = (1, 16, 64)
AT_ONCE = 16
SHORT = (2, 0)
"""Events and milliseconds between them of the streams whose cost is that of a request."""
LONG = (200, 10)
"""The same of those whose cost is that of events."""
PACED = (40, 25)
"""The same of those whose first event is waited for: a stream takes a second, as a model would."""
USER = "remembered"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Something that relays."""

    name: str
    port: int
    path: str
    key: str
    headers: dict[str, str]
    clock: CpuClock
    settle: Callable[[], None] | None = None


def measure(engine: str, *, quick: bool, only: str | None = None) -> Iterator[Figures]:
    """CPU a request and an event, and the wait for the first event, through each of the targets in turn."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aforesaid-bench-")))
        models = stack.enter_context(rivals.upstream(folder))
        env = {"AFORESAID_UPSTREAM_BENCH_BASE_URL": f"http://127.0.0.1:{models.port}/v1"}
        run = stack.enter_context(measured_server(engine, env))
        filled(run.api, USER, 1_000 if quick else MESSAGES)
        tell("relay: the user's messages are there")
        targets = [_direct(models), *_ours(run)]
        versions = {}
        for rival in (_nginx, _litellm):
            try:
                process = rival(stack, folder, models.port)
            except rivals.Absent as why:
                tell(f"relay: left out: {why}")
                continue
            versions[process.name] = process.version
            targets.append(_rival(process))
        if only:
            targets = [target for target in targets if target.name in ("direct", *only.split(","))]
        laps: dict[str, list[Figures]] = {target.name: [] for target in targets}
        writer = Writer(7)
        for target in targets:
            _lap(target, writer, SHORT, AT_ONCE, 32)  # warm
        rounds = 1 if quick else 5
        for place in range(rounds):
            for target in targets:
                laps[target.name].append(_round(target, models.clock, writer, quick=quick))
            tell(f"relay, round {place + 1} of {rounds}")
        figures = {name: _summary(some) for name, some in laps.items()}
    for figure in figures.values():
        for clients in CLIENTS:
            for name in ("p50", "p95"):
                key = f"first_{name}_ms_{clients}"
                figure[f"added_{key}"] = figure[key] - figures["direct"][key]
    for name, figure in figures.items():
        tell(f"relay, {name}: {figure['request_cpu_us']:,.0f} µs a request, {figure['event_cpu_us']:.1f} µs an event")
    yield {
        "messages": MESSAGES,
        "rounds": rounds,
        "versions": versions,
        "by_target": figures,
        "ratios": _ratios(figures),
    }


def _direct(models: rivals.Process) -> Target:
    """The model server itself, with nothing between."""
    clock = CpuClock()
    return Target(name="direct", port=models.port, path="/v1/chat/completions", key="none", headers={}, clock=clock)


def _ours(run: Measured) -> list[Target]:
    pids = [run.server.process.pid]
    given: dict[str, Any] = {
        "port": run.server.port,
        "path": "/api/v1/chat/completions",
        "key": run.server.api_key,
        "clock": CpuClock(*pids),
        "settle": run.api.settle,
    }
    bare = {"x-memories-enabled": "false", "x-aforesaid-store": "false"}
    return [
        Target(name="aforesaid", headers={"x-user-id": USER}, **given),
        Target(name="aforesaid_bare", headers={"x-user-id": USER, **bare}, **given),
    ]


def _nginx(stack: contextlib.ExitStack, folder: Path, models: int) -> rivals.Process:
    return stack.enter_context(rivals.nginx(folder, models))


def _litellm(stack: contextlib.ExitStack, folder: Path, models: int) -> rivals.Process:
    names = [name_of(*shape) for shape in (SHORT, LONG, PACED)]
    return stack.enter_context(rivals.litellm(folder, models, names))


def _rival(process: rivals.Process) -> Target:
    return Target(
        name=process.name,
        port=process.port,
        path="/v1/chat/completions",
        key=rivals.KEY,
        headers={},
        clock=process.clock,
    )


def _round(target: Target, models: CpuClock, writer: Writer, *, quick: bool) -> Figures:
    short = _lap(target, writer, SHORT, AT_ONCE, 64 if quick else 200)
    alone = _lap(target, writer, SHORT, 1, 32 if quick else 100)
    models.lap()
    long = _lap(target, writer, LONG, AT_ONCE, AT_ONCE * (1 if quick else 2))
    events = long["count"] * (LONG[0] + 1)
    out = {
        "request_cpu_us": short["cpu_s"] / short["count"] * 1e6,
        "request_cpu_us_alone": alone["cpu_s"] / alone["count"] * 1e6,
        "event_cpu_us": (long["cpu_s"] - long["count"] * short["cpu_s"] / short["count"])
        / (long["count"] * (LONG[0] - SHORT[0]))
        * 1e6,
        "requests_per_s": short["count"] / short["wall_s"],
        "client_cpu_us_a_request": short["client_cpu_s"] / short["count"] * 1e6,
        "upstream_cpu_us_an_event": models.lap() / events * 1e6,
    }
    for clients in CLIENTS:
        some = _lap(target, writer, PACED, clients, clients * (2 if quick else 4) if clients > 1 else 8, spread=True)
        out |= {f"firsts_{clients}": some["firsts"]}
    return out


def _lap(
    target: Target, writer: Writer, shape: tuple[int, int], clients: int, count: int, *, spread: bool = False
) -> Figures:
    """So many streams. ``spread``: clients begin at moments of their own."""
    length_s = shape[0] * shape[1] / 1000
    asked = [
        {"model": name_of(*shape), "stream": True, "messages": [{"role": "user", "content": writer.question()}]}
        for _ in range(count)
    ]
    requests = [post(target.path, json.dumps(body).encode(), target.key, target.headers) for body in asked]
    rng = random.Random(count)

    def following() -> bytes | None:
        return requests.pop() if requests else None

    async def begin(place: int) -> None:
        await asyncio.sleep(rng.random() * length_s)

    async def work() -> list[Timed]:
        return await load(target.port, clients, following, begin=begin if spread else None)

    began = time.process_time()
    target.clock.lap()
    begun = time.perf_counter()
    timed = uvloop.run(work())
    wall = time.perf_counter() - begun
    client = time.process_time() - began
    if target.settle is not None:
        target.settle()
    wrong = [one.events for one in timed if one.events != shape[0] + 1]
    if wrong and target.name != "litellm":
        raise RuntimeError(f"{target.name} gave {wrong[0]} events instead of {shape[0] + 1}")
    return {
        "count": count,
        "cpu_s": target.clock.lap(),
        "wall_s": wall,
        "client_cpu_s": client,
        "firsts": [one.first_s for one in timed],
    }


def _summary(laps: list[Figures]) -> Figures:
    out: Figures = {}
    for name in laps[0]:
        if name.startswith("firsts_"):
            waits = [wait for lap in laps for wait in lap[name]]
            clients = name.removeprefix("firsts_")
            out[f"first_p50_ms_{clients}"] = quantile(waits, 0.5) * 1000
            out[f"first_p95_ms_{clients}"] = quantile(waits, 0.95) * 1000
        else:
            out[name] = median([lap[name] for lap in laps])
    return out


def _ratios(figures: dict[str, Figures]) -> Figures:
    """How many times this server's CPU each rival takes."""
    ours = figures.get("aforesaid")
    if ours is None:
        return {}
    return {
        f"{name}_{what}": figures[name][f"{what}_cpu_us"] / ours[f"{what}_cpu_us"]
        for name in ("nginx", "litellm")
        if name in figures
        for what in ("request", "event")
    } | {
        f"{name}_request_alone": figures[name]["request_cpu_us_alone"] / ours["request_cpu_us_alone"]
        for name in ("nginx", "litellm")
        if name in figures
    }
