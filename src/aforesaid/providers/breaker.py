"""A circuit breaker: a model server that keeps failing is left alone for a while, then tried with one request."""

import time
from collections.abc import Callable

FAILURES_TO_OPEN = 5
OPEN_S = 10.0


class Breaker:
    """Closed until ``failures`` calls in a row fail; open for ``open_s``; then one probe decides.

    Not thread-safe: one event loop uses it. *Source*: Nygard, Release It!, "Circuit Breaker".
    """

    def __init__(
        self, failures: int = FAILURES_TO_OPEN, open_s: float = OPEN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused, but for a probe."""
        return self._opened is not None

    def wait_s(self) -> float:
        """How long to wait before a call may be made; 0 when it may be made now."""
        if self._opened is None:
            return 0.0
        left = self._opened + self._open_s - self._clock()
        if left > 0:
            return left
        return 1.0 if self._probing else 0.0

    def enter(self) -> None:
        """A call begins. Of those after the pause, the first is the probe. Ask ``wait_s`` before."""
        if self._opened is not None:
            self._probing = True

    def succeeded(self) -> None:
        """The server answered as it should: the circuit is closed."""
        self._failures = 0
        self._opened = None
        self._probing = False

    def failed(self) -> None:
        """The server did not: one step nearer to open, or open again after a probe."""
        self._failures += 1
        if self._probing or self._failures >= self._limit:
            self._opened = self._clock()
        self._probing = False

    def left(self) -> None:
        """A call ended that says nothing about the server: the caller left, or the server asked for patience."""
        self._probing = False
