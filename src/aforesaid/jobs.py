"""The runner: claims due jobs, runs them, backs off when they fail, sets the hopeless aside, stops when told.

Any number of runners may work on one store. One is in the server; ``aforesaid work`` is another.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from aforesaid.core import indexing
from aforesaid.core.jobs import RUNNABLE
from aforesaid.errors import Unavailable
from aforesaid.ids import now_us
from aforesaid.model import Job
from aforesaid.store import jobs as store
from aforesaid.store.database import Database

log = logging.getLogger("aforesaid.jobs")

CLAIM = 64
"""Jobs claimed at once."""
LEASE_S = 20.0
"""After this, a claimed job is due again, unless its runner lives and extended the lease: so soon after a crash."""
EXTEND_S = 5.0
"""How often a runner extends the leases of what it is running."""
ATTEMPTS = 8
"""Tries before a job is set aside as failed."""
BACKOFF_S = (0.2, 300.0)
"""The first wait after a failure, doubled each time, and the longest."""
POLL_S = 1.0
"""How often the store is looked at when nobody calls: other processes queue jobs too."""

Handler = Callable[[Database, list[Job]], Awaitable[None]]
HANDLERS: dict[str, Handler] = dict.fromkeys(RUNNABLE, indexing.run)


class Runner:
    """Runs the jobs of a store until it is stopped."""

    def __init__(self, db: Database, handlers: dict[str, Handler] | None = None) -> None:
        self._db = db
        self._handlers = handlers or HANDLERS
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._owed: list[Job] = []
        self.done = 0
        self.failed = 0

    def start(self) -> None:
        """Jobs run from now on."""
        self._stopping = False
        self._task = asyncio.create_task(self._loop(), name="jobs")

    async def stop(self) -> None:
        """No job is running. What was claimed is finished first."""
        task, self._task = self._task, None
        if task is not None:
            self._stopping = True
            self._wanted.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def wake(self) -> None:
        """There may be something to do."""
        self._wanted.set()

    async def drain(self) -> int:
        """Nothing is due any more. *Gives* how many jobs were run now."""
        count = 0
        while claimed := await self.run_once():
            count += claimed
        return count

    async def _loop(self) -> None:
        while not self._stopping:
            self._wanted.clear()
            try:
                busy = await self.run_once() > 0
            except Unavailable as error:
                log.warning("the store can't be reached: %s", error)
                busy = False
            except Exception:
                log.exception("the runner stumbled")
                busy = False
            if not busy and not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), POLL_S)

    async def run_once(self) -> int:
        """One batch of due jobs has been claimed and run. *Gives* how many."""
        if self._owed:  # the store went away: those of them that were not done wait again
            await self._db.write(store.set_jobs_again, self._owed, now_us(), None, tried=False)
            self._owed = []
        claimed = await self._db.write(store.claim_jobs, list(self._handlers), CLAIM, int(LEASE_S * 1e6), ATTEMPTS)
        if not claimed:
            return 0
        groups: dict[tuple[int, str | None, int], list[Job]] = {}
        for job in claimed:
            groups.setdefault((job.workspace, job.owner_id, id(self._handlers[job.kind])), []).append(job)
        extending = asyncio.create_task(self._extend(claimed), name="leases")
        try:
            for jobs in groups.values():
                await self._run(self._handlers[jobs[0].kind], jobs)
        except Unavailable:
            self._owed += claimed
            raise
        finally:
            extending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await extending
        return len(claimed)

    async def _extend(self, jobs: list[Job]) -> None:
        while True:
            await asyncio.sleep(EXTEND_S)
            with contextlib.suppress(Unavailable):  # then the leases run out, and the jobs are run again
                await self._db.write(store.extend_leases, jobs, now_us() + int(LEASE_S * 1e6))

    async def _run(self, handler: Handler, jobs: list[Job]) -> None:
        try:
            await handler(self._db, jobs)
            self.done += len(jobs)
        except indexing.ScopeChanged:
            await self._db.write(store.set_jobs_again, jobs, now_us(), None, tried=False)
        except Unavailable as error:  # no fault of theirs
            await self._db.write(store.set_jobs_again, jobs, now_us() + int(POLL_S * 1e6), str(error), tried=False)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job is put back or set aside
            if len(jobs) > 1:  # one of them may be the bad one: each gets a run of its own
                for job in jobs:
                    await self._run(handler, [job])
                return
            await self._put_back(jobs[0], error)

    async def _put_back(self, job: Job, error: Exception) -> None:
        told = f"{type(error).__name__}: {error}"
        log.warning("job %d (%s) failed at attempt %d: %s", job.id, job.kind, job.attempts, told)
        if job.attempts >= ATTEMPTS:
            self.failed += 1
            await self._db.write(store.set_jobs_failed, [job], told)
            return
        wait_s = min(BACKOFF_S[0] * 2 ** (job.attempts - 1), BACKOFF_S[1]) * random.uniform(0.8, 1.2)
        await self._db.write(store.set_jobs_again, [job], now_us() + int(wait_s * 1e6), told)
