"""A few threads for work that waits or computes. The thread that was idle last goes first: its caches are warm."""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from aforesaid.store.database import R, settle

_Work = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]
_Inbox = queue.SimpleQueue["_Work | None"]


class Threads:
    """At most ``most`` threads, started when they are needed. Work that finds none idle waits in order."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._idle: list[_Inbox] = []
        self._waiting: deque[_Work] = deque()
        self._threads: list[threading.Thread] = []
        self._inboxes: list[_Inbox] = []

    async def run(self, fn: Callable[[], R]) -> R:
        """What ``fn`` gave in one of the threads. It is not begun any more when whoever asked has left."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        work: _Work = (fn, future, loop)
        with self._lock:
            inbox = self._idle.pop() if self._idle else self._started()
            if inbox is None:
                self._waiting.append(work)
            else:
                inbox.put(work)
        return await future

    def stop(self) -> None:
        """What was asked for is done, and no thread is left. Blocks; nothing may be asked meanwhile."""
        for inbox in self._inboxes:
            inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _started(self) -> _Inbox | None:
        """The inbox of a new thread, if there may be one more."""
        if len(self._threads) == self._most:
            return None
        inbox: _Inbox = queue.SimpleQueue()
        thread = threading.Thread(target=self._work, args=(inbox,), name=f"{self._name}_{len(self._threads)}")
        thread.daemon = True
        self._threads.append(thread)
        self._inboxes.append(inbox)
        thread.start()
        return inbox

    def _work(self, inbox: _Inbox) -> None:
        while (work := inbox.get()) is not None:
            while work is not None:
                _done(*work)
                with self._lock:
                    work = self._waiting.popleft() if self._waiting else None
                    if work is None:
                        self._idle.append(inbox)


def _done(fn: Callable[[], Any], future: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> None:
    if future.cancelled():
        return
    outcome, failure = None, None
    try:
        outcome = fn()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it goes to whoever asked
        failure = error
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(settle, future, outcome, failure)
