"""What Linux says about a tree of processes: who is in it, how much memory and processor time it takes."""

import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Proportional set size in bytes: of a page shared by n processes each counts 1/n, so sums are true.

    `file` holds mapped pages of files, log segments among them: the kernel takes them back when it needs to.
    """

    total: int
    anonymous: int
    file: int
    shared: int


def tree(root: int) -> list[int]:
    """The process and all its descendants that are alive now."""
    found = [root]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in children.read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return found


def memory(root: int) -> Memory:
    """Proportional set size of the whole tree."""
    sums = {"Pss": 0, "Pss_Anon": 0, "Pss_File": 0, "Pss_Shmem": 0}
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) * 1024
    return Memory(*sums.values())


def processor_seconds(root: int) -> float:
    """User and system time that the live processes of the tree have used since they started."""
    ticks = 0
    for pid in tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_A_SECOND


def kill(pids: Iterable[int]) -> None:
    """SIGKILL to each, all at once; returns when all are dead, whoever's children they are."""
    dying: list[int] = []
    for pid in pids:
        with suppress(ProcessLookupError):
            dying.append(pidfd := os.pidfd_open(pid))
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for pidfd in dying:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll()
        os.close(pidfd)


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, as the kernel names it: ext4, tmpfs..."""
    best, kind = "", "unknown"
    place = str(path.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, fstype = line.split()[:3]
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind
