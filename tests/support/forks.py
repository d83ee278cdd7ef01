"""Forked processes in tests: each ends by itself, is waited for, or is killed, by its own pid."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable


class Forked:
    """A forked child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def wait(self) -> int:
        """Its exit status, negative: the signal that ended it."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def fork(work: Callable[[], None]) -> Forked:
    """Run `work` in a child that shares nothing but inherited mappings. Exit status 1: it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # test runners have threads; the child uses none of them
        pid = os.fork()
    if pid:
        return Forked(pid)
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
