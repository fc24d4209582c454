"""Later work: claimed by one, run once, put back when it fails, set aside when it is hopeless, never lost."""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import apsw
import pytest

from aforesaid import jobs as running
from aforesaid.core import overview
from aforesaid.errors import Unavailable
from aforesaid.ids import now_us
from aforesaid.jobs import ATTEMPTS, Runner
from aforesaid.model import Job
from aforesaid.store import jobs as store
from aforesaid.store import sqlite
from aforesaid.store.database import Database, Tx
from tests.support.server import clean_environment
from tests.support.stores import add_caller, in_store, opened

LEASE_US = 20_000_000


def add(tx: Tx, workspace: int, owner: str | None, count: int, kind: str = "work", state: str = "queued") -> None:
    for i in range(count):
        store.add_job(tx, workspace, owner, kind, {"n": i}, state=state)


def claim(tx: Tx, limit: int = 100, *, kinds: Iterable[str] = ("work",), lease_us: int = LEASE_US) -> list[Job]:
    return store.claim_jobs(tx, kinds, limit, lease_us, ATTEMPTS)


async def states(db: Database) -> dict[str, int]:
    counts = await db.read(store.count_jobs, None)
    return {state: count for (_, state), count in counts.items()}


async def make_due(db: Database) -> None:
    """What waits for its next attempt is due now."""
    await db.write(lambda tx: tx.run("update job set run_at_us = 0 where state = 'queued'"))


async def run_out(db: Database) -> None:
    """Every lease has run out."""
    await db.write(lambda tx: tx.run("update job set lease_until_us = 1 where state = 'running'"))


def test_jobs_are_claimed_oldest_first_and_by_one(database_url: str) -> None:
    async def run(db: Database) -> None:
        await db.write(add, 1, "ann", 3)
        await db.write(add, 1, "ben", 3)
        first = await db.write(claim, 4)
        assert [(job.owner_id, job.payload["n"]) for job in first] == [("ann", 0), ("ann", 1), ("ann", 2), ("ben", 0)]
        assert {(job.state, job.attempts) for job in first} == {("running", 1)}
        # Ben's others wait for his first: they are done in order.
        assert await db.write(claim) == []
        assert await db.write(store.remove_jobs, first[3:])
        rest = await db.write(claim)
        assert [job.payload["n"] for job in rest] == [1, 2]
        assert await states(db) == {"running": 5}

    in_store(database_url, run)


def test_only_due_jobs_of_the_asked_kinds_are_claimed(database_url: str) -> None:
    async def run(db: Database) -> None:
        await db.write(add, 1, "a", 1, "other")
        await db.write(add, 1, "b", 1, "work", "parked")
        await db.write(add, 1, "c", 1, "work", "failed")
        await db.write(store.add_job, 1, "d", "work", {}, run_at_us=now_us() + 60_000_000)
        assert await db.write(claim) == []
        assert await db.read(store.next_due, ["work"]) is not None
        await make_due(db)
        assert [job.owner_id for job in await db.write(claim)] == ["d"]
        assert await db.write(store.retry_failed) == 1
        assert [job.owner_id for job in await db.write(claim)] == ["c"]

    in_store(database_url, run)


def test_claims_at_once_never_share_a_job(database_url: str) -> None:
    async def run(db: Database) -> None:
        for i in range(40):
            await db.write(add, 1, f"user {i}", 2)
        claimed = await asyncio.gather(*(db.write(claim, 7) for _ in range(12)))
        seen = Counter(job.id for part in claimed for job in part)
        assert set(seen.values()) == {1}
        assert sum(seen.values()) >= 40  # an owner's second job waits where a claim was full after the first
        # Jobs of one owner that are claimed by different runners would be done out of order.
        owners = [{job.owner_id for job in part} for part in claimed]
        assert sum(len(part) for part in owners) == len(set().union(*owners))

    in_store(database_url, run)


def test_a_lease_that_ran_out_makes_the_job_due_and_the_late_runner_harmless(database_url: str) -> None:
    async def run(db: Database) -> None:
        await db.write(add, 1, "ann", 1)
        (lost,) = await db.write(claim)
        await run_out(db)
        (ours,) = await db.write(claim)
        assert (ours.id, ours.attempts) == (lost.id, 2)
        # The first runner was only slow. Nothing that it does counts any more.
        assert not await db.write(store.remove_jobs, [lost])
        await db.write(store.set_jobs_again, [lost], 0, "late")
        await db.write(store.set_jobs_failed, [lost], "late")
        await db.write(store.extend_leases, [lost], 5)
        (now,) = await db.read(store.list_jobs, 1)
        assert (now.state, now.attempts, now.error, now.lease_until_us) == ("running", 2, None, ours.lease_until_us)
        await db.write(store.extend_leases, [ours], 2**60)
        (now,) = await db.read(store.list_jobs, 1)
        assert now.lease_until_us == 2**60
        assert await db.write(store.remove_jobs, [ours])
        assert not await db.write(store.remove_jobs, [ours])

    in_store(database_url, run)


def test_a_job_whose_runner_always_dies_is_set_aside(database_url: str) -> None:
    async def run(db: Database) -> None:
        await db.write(add, 1, "ann", 1)
        await db.write(add, 1, "ben", 1)
        for attempt in range(1, ATTEMPTS + 1):
            claimed = {job.owner_id: job for job in await db.write(claim)}
            assert claimed["ann"].attempts == attempt
            if "ben" in claimed:
                assert await db.write(store.remove_jobs, [claimed["ben"]])
            await run_out(db)
        assert await db.write(claim) == []
        (dead,) = await db.read(store.list_jobs, 1)
        assert (dead.owner_id, dead.state, dead.error) == ("ann", "failed", store.DIED)

    in_store(database_url, run)


def test_a_failing_job_backs_off_and_is_set_aside_while_the_others_go_on(database_url: str) -> None:
    async def run(db: Database) -> None:
        done: list[tuple[str | None, int]] = []
        tries = 0

        async def handler(db: Database, jobs: list[Job]) -> None:
            nonlocal tries
            bad = [job for job in jobs if (job.owner_id, job.payload["n"]) == ("bad", 1)]
            if bad:
                tries += len(jobs) == 1
                raise ValueError("this one never works\x1b " + "x" * 2000)
            done.extend((job.owner_id, job.payload["n"]) for job in jobs)
            await db.write(store.remove_jobs, jobs)

        for owner in ("good", "bad", "fine"):
            await db.write(add, 1, owner, 3)
        runner = Runner(db, {"work": handler})
        assert await runner.run_once() == 9
        assert sorted(done) == sorted((o, n) for o in ("good", "bad", "fine") for n in range(3) if (o, n) != ("bad", 1))
        waits = []
        for attempt in range(1, ATTEMPTS):
            (waiting,) = await db.read(store.list_jobs, 1)
            assert (waiting.state, waiting.attempts) == ("queued", attempt)
            assert waiting.error is not None
            assert waiting.error.startswith("ValueError: this one never works")
            waits.append(waiting.run_at_us - waiting.updated_us)
            assert await runner.run_once() == 0  # not due yet
            await make_due(db)
            assert await runner.run_once() == 1
        assert all(second > first for first, second in itertools.pairwise(waits))
        (dead,) = await db.read(store.list_jobs, 1)
        assert (dead.state, dead.attempts, tries, runner.failed) == ("failed", ATTEMPTS, ATTEMPTS, 1)
        assert dead.error is not None
        assert len(dead.error) <= store.ERROR_MAX
        await make_due(db)
        assert await runner.drain() == 0

    in_store(database_url, run)


def test_a_store_that_does_not_answer_costs_no_attempt(database_url: str) -> None:
    async def run(db: Database) -> None:
        fail = True

        async def handler(db: Database, jobs: list[Job]) -> None:
            if fail:
                raise Unavailable("gone for a moment")
            await db.write(store.remove_jobs, jobs)

        await db.write(add, 1, "ann", 3)
        runner = Runner(db, {"work": handler})
        for _ in range(2 * ATTEMPTS):
            assert await runner.run_once() == 3
            await make_due(db)
        assert {job.attempts for job in await db.read(store.list_jobs, 1)} == {0}
        fail = False
        assert await runner.drain() == 3
        assert await states(db) == {}

    in_store(database_url, run)


def test_jobs_that_could_not_be_given_back_are_given_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the file while jobs are running, and lets go of it again."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    path = str(tmp_path / "a.db")

    async def run(db: Database) -> None:
        other = apsw.Connection(path)

        async def handler(db: Database, jobs: list[Job]) -> None:
            if not given_back:
                other.execute("begin immediate")
            await db.write(store.remove_jobs, jobs)

        given_back = False
        for owner in ("ann", "ben"):
            await db.write(add, 1, owner, 2)
        runner = Runner(db, {"work": handler})
        for _ in range(2):
            with pytest.raises(Unavailable):
                await runner.run_once()
            assert await states(db) == {"running": 4}
        other.execute("rollback")
        other.close()
        given_back = True
        assert await runner.run_once() == 4  # at once: no lease had to run out
        assert await states(db) == {}

    in_store(path, run)


def test_a_running_runner_keeps_its_leases(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "EXTEND_S", 0.02)

    async def run(db: Database) -> None:
        async def handler(db: Database, jobs: list[Job]) -> None:
            lease = jobs[0].lease_until_us
            assert lease is not None
            while True:  # until the lease has been extended under us
                (now,) = await db.read(store.list_jobs, 1)
                if (now.lease_until_us or 0) > lease:
                    break
                await asyncio.sleep(0.01)
            assert await db.write(store.remove_jobs, jobs)

        await db.write(add, 1, "ann", 1)
        assert await Runner(db, {"work": handler}).run_once() == 1
        assert await states(db) == {}

    in_store(database_url, run)


def test_a_runner_is_woken_by_the_commit_and_stops_when_it_is_done(database_url: str) -> None:
    async def run(db: Database) -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def handler(db: Database, jobs: list[Job]) -> None:
            entered.set()
            await go_on.wait()
            await db.write(store.remove_jobs, jobs)

        runner = Runner(db, {"work": handler})
        db.on_wake = runner.wake
        runner.start()
        await db.write(add, 1, "ann", 2)
        await asyncio.wait_for(entered.wait(), 30)
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0.01)
        assert not stopping.done()  # what was claimed is finished first
        go_on.set()
        await stopping
        assert await states(db) == {}
        # Stopped, it takes nothing; started again, it goes on.
        await db.write(add, 1, "ann", 1)
        assert await states(db) == {"queued": 1}
        runner.start()
        while await states(db):
            await asyncio.sleep(0.01)
        await runner.stop()
        await runner.stop()
        assert runner.done == 3

    in_store(database_url, run)


def test_two_runners_at_once_do_each_job_once(database_url: str) -> None:
    async def run(db: Database) -> None:
        done: Counter[int] = Counter()
        order: dict[str | None, list[int]] = {}

        async def handler(db: Database, jobs: list[Job]) -> None:
            await asyncio.sleep(0.001)

            def finish(tx: Tx) -> None:
                assert store.remove_jobs(tx, jobs)

            await db.write(finish)
            for job in jobs:
                done[job.id] += 1
                order.setdefault(job.owner_id, []).append(job.payload["n"])

        runners = [Runner(db, {"work": handler}) for _ in range(3)]
        for runner in runners:
            runner.start()
        for i in range(60):
            await db.write(add, 1, f"user {i % 15}", 3)
        while await states(db):
            await asyncio.sleep(0.01)
        for runner in runners:
            await runner.stop()
        assert sum(done.values()) == 180 == len(done)
        assert all(ns == [0, 1, 2] * 4 for ns in order.values())

    in_store(database_url, run)


COUNTING = """
import asyncio, sys
from aforesaid.jobs import Runner
from aforesaid.store import jobs as store
from aforesaid.store import sqlite
from tests.support.stores import opened

async def handler(db, jobs):
    def finish(tx):
        assert store.remove_jobs(tx, jobs)
        for job in jobs:
            tx.insert("meta", ("name", "value"), [(f"done {job.id}", sys.argv[2])])
    await db.write(finish)

async def main():
    async with opened(sys.argv[1]) as db:
        runner = Runner(db, {"work": handler})
        runner.start()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        while await db.read(store.count_jobs, None):
            await asyncio.sleep(0.02)
        await runner.stop()

asyncio.run(main())
"""


def test_two_processes_do_each_job_once(database_url: str) -> None:
    """A job done twice would clash with its own mark, fail, and stay."""

    async def queue() -> None:
        async with opened(database_url) as db:
            for i in range(30):
                await db.write(add, 1, f"user {i}", 3)

    asyncio.run(queue())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, database_url, name],
            cwd=Path(__file__).parents[1], env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    for process in processes:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0

    async def count(db: Database) -> int:
        rows = await db.read(lambda tx: tx.rows("select name from meta where name like 'done %'"))
        assert await states(db) == {}
        return len(rows)

    assert in_store(database_url, count) == 90


DYING = """
import asyncio, sys
from aforesaid.jobs import Runner
from tests.support.stores import opened

async def handler(db, jobs):
    print("claimed", flush=True)
    await asyncio.sleep(600)

async def main():
    async with opened(sys.argv[1]) as db:
        await Runner(db, {"work": handler}).run_once()

asyncio.run(main())
"""


@pytest.mark.chaos
def test_a_killed_runners_jobs_are_done_by_another(database_url: str) -> None:
    async def run() -> None:
        async with opened(database_url) as db:
            await db.write(add, 1, "ann", 3)
        process = subprocess.Popen(
            [sys.executable, "-c", DYING, database_url], cwd=Path(__file__).parents[1], env=clean_environment(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "claimed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        async with opened(database_url) as db:
            done: list[int] = []

            async def handler(db: Database, jobs: list[Job]) -> None:
                done.extend(job.payload["n"] for job in jobs)
                assert await db.write(store.remove_jobs, jobs)

            runner = Runner(db, {"work": handler})
            assert await runner.run_once() == 0  # still leased to the dead one
            await run_out(db)
            assert await runner.drain() == 3
            assert done == [0, 1, 2]

    asyncio.run(run())


def test_counts_by_workspace_owner_kind_and_state(database_url: str) -> None:
    async def run(db: Database) -> None:
        one, two = await add_caller(db, "one"), await add_caller(db, "two")
        await db.write(add, one.workspace, "ann", 2, "index_text")
        await db.write(add, one.workspace, "Ann", 1, "index_text")
        await db.write(add, one.workspace, "ann", 4, "extract_memories", "parked")
        await db.write(add, one.workspace, None, 1, "forget_text", "failed")
        await db.write(add, two.workspace, "ann", 8, "index_text")
        mine = await overview.get_indexing(db, one, "ann")
        assert (mine.pending, mine.running, mine.failed, mine.parked) == (2, 0, 0, 4)
        whole = await overview.get_indexing(db, one, None)
        assert (whole.pending, whole.failed, whole.parked) == (3, 1, 4)
        assert whole.kinds == {
            "index_text": {"queued": 3}, "extract_memories": {"parked": 4}, "forget_text": {"failed": 1},
        }  # fmt: skip
        assert await overview.get_health(db) == ({"queued": 11, "parked": 4, "failed": 1}, True)
        await db.write(claim, 1, kinds=["index_text"])
        mine = await overview.get_indexing(db, one, "ann")
        assert (mine.pending, mine.running) == (2, 1)

    in_store(database_url, run)
