"""What belongs to whom: the run directory, the names in it, and the sweep of what the dead left.

    tailrace-{uid}-{pid}-{8 hex}/           mode 0700, in /dev/shm or the configured directory
        lock                                flock'd on a descriptor every fork inherits, nobody unlocks
        ring-{slot}.{inc}-{slot}.{inc}      from the first to the second
        large-{slot}.{inc}-{serial}         one large request

The lock is free exactly when no process of the run lives. `lock` appears under its name only once it is held,
so a directory whose lock is free is debris; one without a lock is debris once the process in its name is
gone.
"""

import fcntl
import os
import stat
from typing import Final

from tailrace.shm.region import ShmError, unlink_if_there

BASE: Final = "/dev/shm"
_PREFIX: Final = "tailrace-"
_LOCK: Final = "lock"
_NEW_LOCK: Final = "lock.new"


def ring_name(producer: int, producer_incarnation: int, consumer: int, consumer_incarnation: int) -> str:
    """File name of a ring, by slot and incarnation of both ends."""
    return f"ring-{producer}.{producer_incarnation}-{consumer}.{consumer_incarnation}"


def parse_ring_name(name: str) -> tuple[int, int, int, int] | None:
    """What `ring_name` was given, None if it is no ring's name."""
    parts = name.replace("-", ".").split(".")
    if len(parts) != 5 or parts[0] != "ring" or not all(part.isdecimal() for part in parts[1:]):
        return None
    return int(parts[1]), int(parts[2]), int(parts[3]), int(parts[4])


def large_name(slot: int, incarnation: int, serial: int) -> str:
    """File name of a large request's file."""
    return f"large-{slot}.{incarnation}-{serial}"


def unlink_large_files(run_dir: str, slot: int, incarnation: int) -> None:
    """Remove the large-request files of a dead process."""
    prefix = f"large-{slot}.{incarnation}-"
    for name in os.listdir(run_dir):
        if name.startswith(prefix):
            unlink_if_there(os.path.join(run_dir, name))


class RunDir:
    """The run directory of this run, locked until the last process that inherited the lock is gone."""

    __slots__ = ("lock_fd", "path")

    def __init__(self, path: str, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def create(cls, base: str = BASE) -> "RunDir":
        """Make and lock a new one in `base`."""
        path = os.path.join(base, f"{_PREFIX}{os.geteuid()}-{os.getpid()}-{os.urandom(4).hex()}")
        try:
            os.mkdir(path, 0o700)
            lock_fd = os.open(
                os.path.join(path, _NEW_LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise ShmError(f"cannot make a run directory in {base}: {error.strerror}") from error
        # flock and not lockf: a fork inherits it, and it is free once the last process that has it is gone.
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(os.path.join(path, _NEW_LOCK), os.path.join(path, _LOCK))
        return cls(path, lock_fd)

    def file(self, name: str) -> str:
        """Path of a file in it."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """Remove it with all it holds: at the orderly stop, when every other process of the run is gone."""
        _remove_tree(self.path)
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1


def sweep(base: str = BASE) -> list[str]:
    """Remove the run directories of this user whose run is dead. Returns their paths."""
    removed = debris(base)
    for path in removed:
        _remove_tree(path)
    return removed


def debris(base: str = BASE) -> list[str]:
    """The run directories of this user whose run is dead."""
    prefix = f"{_PREFIX}{os.geteuid()}-"
    try:
        names = os.listdir(base)
    except FileNotFoundError:
        return []
    paths = {os.path.join(base, name): name[len(prefix) :] for name in names if name.startswith(prefix)}
    return [path for path, rest in paths.items() if _is_debris(path, rest)]


def _is_debris(path: str, rest: str) -> bool:
    """Whether the run that made the directory is dead."""
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        lock_fd = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # its run is just being made, or died while making it
        pid = rest.partition("-")[0]
        return pid.isdecimal() and not os.path.exists(f"/proc/{pid}")
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock_fd)
    return True


def _remove_tree(path: str) -> None:
    """Remove a directory of ours. Another sweep may be at it too."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            try:
                os.unlink(os.path.join(folder, name))
            except FileNotFoundError:
                continue
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
