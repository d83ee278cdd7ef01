"""The files of a replica that moves from one log directory of its broker to another, and their order.

    t-0                          the log that serves
    t-0.<32 hex digits>-future   its copy in the other directory
    t-0.<32 hex digits>-delete   what the copy has taken the place of

As in Kafka. Our own are two files in the copy: how far it is, and the mark that it is complete, with what the
checkpoints of the old directory say of it. Rules (R), each with a test:

- the mark is stored when all of the copy is on the disk and nobody appends to the log any more;
- the controller commits the new directory after that, so a copy counts only if it has the mark and lies in
  the committed directory: whoever opens the log there brings the move to its end;
- the old log loses its name first, and the copy gets it then: at no time may both be appended to, and a crash
  in between leaves the copy, which still counts;
- the mark goes once the checkpoints of the new directory say what it says, and no old log has the name.
"""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct

from tailrace.core.log import checkpoints
from tailrace.core.log.directory import RealDirectory
from tailrace.workers.log_dirs import LogDirs

FUTURE, DELETED = "future", "delete"
_KINDS = (f"-{FUTURE}", f"-{DELETED}")
MARK, PROGRESS = "tailrace.moved", "tailrace.progress"
NAME_MAX = 255  # of a file
_NAME = re.compile(rf"(.+-\d+)\.[0-9a-f]{{32}}-({FUTURE}|{DELETED})")
_PROGRESS = struct.Struct("<qq")


class Moved(Struct, kw_only=True, frozen=True):
    """What the mark says: where the log comes from, by the id of that directory, and what its checkpoints
    are; -1 once those are written in the new directory, and only the old log is to be removed.
    """

    source: str
    recovery_point: int = -1
    high_watermark: int = -1
    log_start: int = -1


def future_name(log_name: str) -> str:
    """Of a copy of `t-0`; longer than NAME_MAX: it cannot be moved."""
    return f"{log_name}.{os.urandom(16).hex()}-{FUTURE}"


def _deleted_name(log_name: str) -> str:
    suffix = f".{os.urandom(16).hex()}-{DELETED}"
    topic, _, partition = log_name.rpartition("-")
    return f"{topic[: NAME_MAX - len(suffix) - len(partition) - 1]}-{partition}{suffix}"  # as Kafka cuts it


def parse_name(name: str) -> tuple[str, str] | None:
    """Log and FUTURE or DELETED, of the name of a directory; None if it is neither."""
    found = _NAME.fullmatch(name) if name.endswith(_KINDS) else None
    return None if found is None else (found[1], found[2])


def _found_in(log_dir: str) -> Iterator[tuple[str, str, str]]:
    """Of each copy there, and of what copies have taken the place of: log, FUTURE or DELETED, path."""
    for name in sorted(os.listdir(log_dir)):
        found = parse_name(name)
        if found is not None:
            yield *found, f"{log_dir}/{name}"


def _futures_of(log_dir: str, log_name: str) -> list[str]:
    return [path for *found, path in _found_in(log_dir) if found == [log_name, FUTURE]]


def copies_in(log_dirs: LogDirs) -> Iterator[tuple[str, str]]:
    """Of each copy in a directory that serves: which log it is of, and its path."""
    for log_dir in log_dirs.online():
        with suppress(OSError):
            for log_name, kind, path in _found_in(log_dir.path):
                if kind == FUTURE:
                    yield log_name, path


def leftovers(log_dirs: LogDirs, log_name: str) -> list[str]:
    """The paths of all copies of this log, and of what copies have taken the place of; of one directory alone
    none are looked for: nothing moves there, and the start has removed what was left.
    """
    dirs = log_dirs.online() if len(log_dirs.dirs) > 1 else ()
    return [
        path for log_dir in dirs for found_name, _, path in _found_in(log_dir.path) if found_name == log_name
    ]


def remove_futures(log_dir: str, log_name: str) -> None:
    """(R) On the disk when it returns: an older copy, though complete, is never taken for the next one."""
    paths = _futures_of(log_dir, log_name)
    for path in paths:
        remove(path)
    if paths:
        _sync_names(log_dir)


def remove(path: str) -> None:
    """All of a copy, or of what was moved away. (R) The mark first: half of a copy does not count."""
    directory = RealDirectory(path, make=False)
    with suppress(FileNotFoundError):
        if MARK in directory.names():
            directory.remove(MARK)
            directory.sync()
        directory.destroy()


def take_name(path: str) -> str:
    """Of a copy that nobody needs: from here on it is none, though its files are there still. Returns where
    they are; after a loss of power it may be a copy again, which is removed or begun anew.
    """
    log_dir, _, name = path.rpartition("/")
    log_name, _ = parse_name(name) or (name, "")
    aside = f"{log_dir}/{_deleted_name(log_name)}"
    with suppress(OSError):  # at the next start
        os.rename(path, aside)
        return aside
    return path


# The mark.


def write_mark(path: str, moved: Moved) -> None:
    """On the disk when it returns."""
    text = f"{moved.source} {moved.recovery_point} {moved.high_watermark} {moved.log_start}\n"
    RealDirectory(path, make=False).replace(MARK, text.encode())


def read_mark(path: str) -> Moved | None:
    """None if there is none, or it is damaged."""
    fields = (RealDirectory(path, make=False).read(MARK) or b"").decode("utf-8", "replace").split()
    with suppress(ValueError):
        source, recovery_point, high_watermark, log_start = fields
        return Moved(
            source=source,
            recovery_point=int(recovery_point),
            high_watermark=int(high_watermark),
            log_start=int(log_start),
        )
    return None


def complete_future(log_dir: str, log_name: str, topic_id: bytes) -> str | None:
    """The path of a copy there that has all of this topic's log."""
    for path in _futures_of(log_dir, log_name):
        if read_mark(path) is not None and is_log_of(path, topic_id):
            return path
    return None


def is_log_of(path: str, topic_id: bytes) -> bool:
    """Whether there is a directory there that says so."""
    return checkpoints.read_partition_metadata(RealDirectory(path, make=False)) == topic_id


# The end of a move.


def take_place(log_dirs: LogDirs, log_dir: str, log_name: str, topic_id: bytes) -> str | None:
    """If the log is not in this directory, its own by what is committed, but a complete copy is: that gets
    its name. Returns the path of the log that it replaces, under its new name; None: nothing is replaced.
    OSError: it could not be done, and nothing is lost.
    """
    path = f"{log_dir}/{log_name}"
    future = None if os.path.isdir(path) else complete_future(log_dir, log_name, topic_id)
    if future is None:
        return None
    moved = read_mark(future)
    assert moved is not None, "it is complete"
    replaced = _move_away(log_dirs, moved, log_name)
    os.rename(future, path)
    _sync_names(log_dir)
    return replaced


def _move_away(log_dirs: LogDirs, moved: Moved, log_name: str) -> str | None:
    """(R) Before the copy gets the name, or two logs would have it. If that disk fails it keeps its name
    there, and the next start sees by the mark which of the two counts.
    """
    source = log_dirs.by_id(moved.source)
    if source is None or not log_dirs.is_online(source.path):
        return None
    old, new = f"{source.path}/{log_name}", f"{source.path}/{_deleted_name(log_name)}"
    try:
        os.rename(old, new)
        _sync_names(source.path)
    except FileNotFoundError:
        return None  # a crash came after this
    except OSError as error:
        if not log_dirs.blame(source.path, error):
            raise
        return None
    return new


def settle_mark(log_dirs: LogDirs, path: str, moved: Moved) -> None:
    """The checkpoints say what the mark says; it goes, unless the old log has its name still."""
    source = log_dirs.by_id(moved.source)
    is_away = source is not None and not log_dirs.is_online(source.path)
    if is_away:
        write_mark(path, Moved(source=moved.source))
        return
    directory = RealDirectory(path, make=False)
    directory.remove(MARK)
    directory.remove(PROGRESS)
    directory.sync()


def _sync_names(path: str) -> None:
    RealDirectory(path, make=False).sync()


# How far a copy is, for DescribeLogDirs.


class Progress:
    """Written by who copies; nothing has to last."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(
            f"{path}/{PROGRESS}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )

    def write(self, size: int, end_offset: int) -> None:
        """Bytes of the copy, and where it ends."""
        os.pwrite(self._descriptor, _PROGRESS.pack(size, end_offset), 0)

    def close(self) -> None:
        """Nothing is written any more."""
        os.close(self._descriptor)


def read_progress(path: str) -> tuple[int, int] | None:
    """Bytes, and where it ends; None: nobody has begun to copy."""
    try:
        with open(f"{path}/{PROGRESS}", "rb") as file:
            data = file.read(_PROGRESS.size)
    except OSError:
        return None
    return _PROGRESS.unpack(data) if len(data) == _PROGRESS.size else None
