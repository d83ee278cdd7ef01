"""One thread for system calls that take long, so that the loop of its process goes on.

Jobs run one after the other. What became of them is taken by the loop when it likes, or when it is rung for.
"""

import queue
import signal
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tailrace.workers.process import STOP_SIGNALS

Token = TypeVar("Token")


class Background(Generic[Token]):
    """Runs jobs, each known by a token. An OSError of a job is its outcome, another exception is a fault of
    ours: it is raised where outcomes are taken. `ring` is called, in the thread, after each job.
    """

    def __init__(self, ring: Callable[[], object] | None = None) -> None:
        self._ring = ring
        self._jobs: queue.SimpleQueue[tuple[Token, Callable[[], object]]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Token, Exception | None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._under_way = 0

    @property
    def under_way(self) -> int:
        """Jobs whose outcome was not taken yet."""
        return self._under_way

    def submit(self, token: Token, job: Callable[[], object]) -> None:
        """Have the job run. The thread starts with the first one: most processes never have any."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._under_way += 1
        self._jobs.put((token, job))

    def take_done(self, *, wait: bool = False) -> list[tuple[Token, OSError | None]]:
        """The jobs that have ended since, and what failed; with `wait` all that were submitted."""
        outcomes: list[tuple[Token, OSError | None]] = []
        while self._under_way:
            try:
                token, error = self._done.get(block=wait)
            except queue.Empty:
                break
            self._under_way -= 1
            if error is not None and not isinstance(error, OSError):
                raise error
            outcomes.append((token, error))
        return outcomes

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # they shall end the wait of the main thread
        while True:
            token, job = self._jobs.get()
            try:
                job()
            except Exception as error:
                self._done.put((token, error))
            else:
                self._done.put((token, None))
            if self._ring is not None:
                self._ring()  # (R) after the outcome is there, or the loop looks too early and sleeps on it
