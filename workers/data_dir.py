"""The data directories: whose they are, and that nobody else writes to them.

    .lock             flock'd while any process of a broker lives; JSON for `stop` and `status`:
                      {"pid", "run_dir", "bootstrap", "unix", ...}, empty while it is starting or stopped
    meta.properties   as Kafka's, with a line that says it is ours
    topic-0/ ...      one directory a partition

Of several brokers each has such a directory in one that is given for all, which has a lock and a
meta.properties of its own, without node.id but with the number of brokers:

    .lock  meta.properties  broker-0/  broker-1/  broker-2/

The lock is `flock` on one open file that every forked process inherits and nobody unlocks (R): it is free
exactly when the last of them is gone, so whoever gets it knows that no old writer lives. `fcntl.lockf` would
not do: a fork does not inherit it, and closing any descriptor of the file drops it.
"""

import errno
import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from tailrace.core.ids import uuid_text
from tailrace.core.log.directory import DERIVED_RESERVE

LOCK = ".lock"
META = "meta.properties"
METADATA_LOG = "__cluster_metadata-0"
FORMAT = "tailrace.format="
FORMAT_LINE = f"{FORMAT}2"  # (R) 1 is refused: its metadata log has no voters, so nobody would ever lead
BROKERS = "tailrace.brokers"  # only of a directory that holds those of several
LOCK_WAIT_S = 10.0  # for the processes of a killed supervisor to be gone
LOCK_RETRY_S = 0.02


class DataDirError(Exception):
    """The directory cannot be used: one line that says what to do."""


class DirUnusableError(DataDirError):
    """The disk, or who may use it, is in the way: others may do without this directory."""

    def __init__(self, path: str, number: int, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.number = number  # errno


class BrokerInfo(msgspec.Struct, kw_only=True, frozen=True):
    """One broker of a run."""

    node_id: int
    bootstrap: str
    unix: str
    log_dirs: tuple[str, ...] = ()  # in the order of its LogDirTable


class RunInfo(msgspec.Struct, kw_only=True, frozen=True):
    """Where the brokers whose processes hold the lock can be found."""

    pid: int
    run_dir: str
    bootstrap: str  # of all, with commas between
    unix: str
    brokers: tuple[BrokerInfo, ...] = ()
    flush_policy: str = "page"
    disk_reserve_bytes: int = DERIVED_RESERVE


class Root:
    """A locked directory: of a broker, or one that holds those of several."""

    def __init__(self, path: str, lock_fd: int, cluster_id: str) -> None:
        self.path = path
        self.lock_fd = lock_fd
        self.cluster_id = cluster_id

    def write_info(self, info: RunInfo) -> None:
        """Tell `stop` and `status` where we are; they can be told by another directory if this one fails."""
        payload = msgspec.json.encode(info)
        with suppress(OSError):
            os.ftruncate(self.lock_fd, 0)
            os.pwrite(self.lock_fd, payload, 0)

    def clear_info(self) -> None:
        """Nobody serves any more."""
        with suppress(OSError):  # its disk has failed: the next start clears it
            os.ftruncate(self.lock_fd, 0)


class DataDir(Root):
    """A locked data directory of a broker."""

    def __init__(self, path: str, lock_fd: int, cluster_id: str, node_id: int, directory_id: str) -> None:
        super().__init__(path, lock_fd, cluster_id)
        self.node_id = node_id
        self.directory_id = directory_id


class _Locked(msgspec.Struct):
    """A directory whose lock is held, and what it says of itself."""

    path: str
    lock_fd: int
    meta: dict[str, str] | None


def open_data_dir(path: str, *, node_id: int, cluster_id: str | None, wait_s: float = LOCK_WAIT_S) -> DataDir:
    """Make the directory if need be, lock it, and read or make its meta.properties. Raises DataDirError."""
    opened, _ = open_data_dirs([path], path, node_id=node_id, cluster_id=cluster_id, wait_s=wait_s)
    return opened[0]


def open_data_dirs(
    paths: Sequence[str],
    metadata_dir: str,
    *,
    node_id: int,
    cluster_id: str | None,
    wait_s: float = LOCK_WAIT_S,
) -> tuple[list[DataDir], list[DirUnusableError]]:
    """All directories of a broker, `metadata_dir` being one of them: those that can be used, in order, and
    why others cannot. DataDirError when one belongs to somebody else, the metadata log's cannot be used, or
    they do not belong together.
    """
    locked: list[_Locked] = []
    unusable: list[DirUnusableError] = []
    opened: dict[str, DataDir] = {}
    try:
        for path in paths:
            try:
                locked.append(_lock_dir(path, wait_s))
            except DirUnusableError as error:
                unusable.append(error)
        locked.sort(key=lambda found: found.path != metadata_dir)  # stays in order otherwise
        if not locked or locked[0].path != metadata_dir:
            raise next(error for error in unusable if error.path == metadata_dir)
        _check_metadata_dir(locked)
        cluster_id = cluster_id or next((found.meta["cluster.id"] for found in locked if found.meta), None)
        for found in locked:  # the metadata log's first (R): without it the others are refused
            cluster_id = cluster_id or random_uuid()
            try:
                opened[found.path] = _identify(found, node_id, cluster_id)
            except OSError as error:
                unusable.append(_unusable(found.path, error))
        _check_ids(list(opened.values()))
        if metadata_dir not in opened:
            raise next(error for error in unusable if error.path == metadata_dir)
    except BaseException:
        for found in locked:
            os.close(found.lock_fd)
        raise
    return [opened[path] for path in paths if path in opened], unusable


def open_root(path: str, brokers: int, cluster_id: str | None, wait_s: float = LOCK_WAIT_S) -> Root:
    """Make and lock the directory that holds those of so many brokers. Raises DataDirError, also when it was
    made for one broker, or for another number of them.
    """
    found = _lock_dir(path, wait_s, is_root=True)
    try:
        meta = found.meta
        if meta is None:
            meta = {"cluster.id": cluster_id or random_uuid(), BROKERS: str(brokers)}
            _write_meta(path, meta)
        elif BROKERS not in meta:
            raise DataDirError(
                f"{path} is the data directory of one broker: start it without --brokers, "
                "or name another directory"
            )
        elif meta[BROKERS] != str(brokers):
            raise DataDirError(
                f"{path} is the data directory of {meta[BROKERS]} brokers: start it with "
                f"--brokers {meta[BROKERS]}, or name another directory"
            )
        if cluster_id not in (None, meta["cluster.id"]):
            raise DataDirError(f"{path} belongs to cluster {meta['cluster.id']}, not {cluster_id}")
    except BaseException as error:
        os.close(found.lock_fd)
        if isinstance(error, OSError):
            raise _unusable(path, error) from error
        raise
    return Root(path, found.lock_fd, meta["cluster.id"])


def was_used(path: str) -> bool:
    """Whether a broker has had this directory before."""
    return os.path.exists(os.path.join(path, META))


def _lock_dir(path: str, wait_s: float, *, is_root: bool = False) -> _Locked:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        lock_fd = _lock(path, wait_s)
        try:
            os.ftruncate(lock_fd, 0)  # what a killed broker left
            meta = _read_meta(path)
            if meta is None:
                _refuse_foreign(path)
            elif not is_root:
                _check_own(path, meta)
        except BaseException:
            os.close(lock_fd)
            raise
    except OSError as error:
        raise _unusable(path, error) from error
    return _Locked(path, lock_fd, meta)


def _unusable(path: str, error: OSError) -> DirUnusableError:
    text = f"data directory {path} cannot be used: {error.strerror}"
    if isinstance(error, FileExistsError | NotADirectoryError):
        text = f"{path} is not a directory: name another one with --data"
    elif isinstance(error, PermissionError):
        text = (
            f"data directory {path} is not writable by this user: change its owner "
            "or name another one with --data"
        )
    elif error.errno == errno.EROFS:
        text = f"data directory {path} cannot be used: its file system is read-only"
    return DirUnusableError(path, error.errno or errno.EIO, text)


def _check_metadata_dir(locked: Sequence[_Locked]) -> None:
    """(R) Without its metadata log a broker would take the partitions in the other directories for strays."""
    first, *others = locked
    if os.path.isdir(os.path.join(first.path, METADATA_LOG)):
        return
    owner = next((found for found in others if os.path.isdir(os.path.join(found.path, METADATA_LOG))), None)
    if owner is not None:
        raise DataDirError(
            f"the metadata log lies in {owner.path}, not in {first.path}: set metadata.log.dir={owner.path}"
        )
    owner = next((found for found in others if found.meta is not None), None)
    if first.meta is None and owner is not None:
        raise DataDirError(
            f"{first.path} is new and {owner.path} is not: mount the directory that held the metadata log, "
            "or name it with metadata.log.dir"
        )


def _check_ids(opened: Sequence[DataDir]) -> None:
    paths: dict[str, str] = {}
    for data_dir in opened:
        other = paths.setdefault(data_dir.directory_id, data_dir.path)
        if other != data_dir.path:
            raise DataDirError(
                f"{other} and {data_dir.path} have the same directory.id: take the copy out of log.dirs"
            )


def read_info(path: str) -> RunInfo | None:
    """The broker that has this directory, or None when none does (or it is still starting)."""
    try:
        lock_fd = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(lock_fd):
            return None
        payload = os.pread(lock_fd, 65536, 0)
    finally:
        os.close(lock_fd)
    try:
        return msgspec.json.decode(payload, type=RunInfo)
    except msgspec.DecodeError:
        return None


def _lock(path: str, wait_s: float) -> int:
    lock_fd = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_s
    while not _try_lock(lock_fd):
        if time.monotonic() >= deadline:
            holder = os.pread(lock_fd, 65536, 0)
            os.close(lock_fd)
            raise DataDirError(
                f"data directory {path} is in use by {_describe(holder)}: stop it or name another one"
            )
        time.sleep(LOCK_RETRY_S)
    return lock_fd


def _try_lock(lock_fd: int) -> bool:
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(holder: bytes) -> str:
    try:
        info = msgspec.json.decode(holder, type=RunInfo)
    except msgspec.DecodeError:
        return "another process"
    return f"process {info.pid} ({info.bootstrap})"


def _identify(found: _Locked, node_id: int, cluster_id: str) -> DataDir:
    path, meta = found.path, found.meta
    if meta is None:
        meta = {"cluster.id": cluster_id, "node.id": str(node_id), "directory.id": random_uuid()}
        _write_meta(path, meta)
    if meta.get("node.id") != str(node_id):
        raise DataDirError(
            f"data directory {path} belongs to node.id {meta.get('node.id')}, not {node_id}: "
            "set node.id to that or name another directory"
        )
    if meta.get("cluster.id") != cluster_id:
        raise DataDirError(
            f"data directory {path} belongs to cluster {meta.get('cluster.id')}, not {cluster_id}"
        )
    return DataDir(path, found.lock_fd, cluster_id, node_id, meta["directory.id"])


def _refuse_foreign(path: str) -> None:
    """A directory with files but without meta.properties is not ours to write into."""
    visible = sorted(
        name for name in os.listdir(path) if not name.startswith((".", META)) and name != "lost+found"
    )
    if visible:
        raise DataDirError(
            f"{path} holds {visible[0]!r} and is no data directory of tailrace: "
            "name an empty or new one with --data"
        )


def _read_meta(path: str) -> dict[str, str] | None:
    try:
        with open(os.path.join(path, META), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    if FORMAT_LINE not in lines:
        is_ours = any(line.startswith(FORMAT) for line in lines)
        maker = "another version of tailrace" if is_ours else "Apache Kafka"
        raise DataDirError(f"{path} is a data directory of {maker}: name another one")
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def _check_own(path: str, meta: dict[str, str]) -> None:
    if BROKERS in meta:
        raise DataDirError(
            f"{path} is the data directory of {meta[BROKERS]} brokers: start it with "
            f"--brokers {meta[BROKERS]}, or name another directory"
        )
    missing = {"cluster.id", "node.id", "directory.id"} - meta.keys()
    if missing:
        raise DataDirError(f"{path}/{META} lacks {min(missing)}: restore the file or name another directory")


def _write_meta(path: str, meta: dict[str, str]) -> None:
    """Whole or not at all: written beside, synced, renamed, and the directory synced."""
    final = os.path.join(path, META)
    lines = ["#", "version=1", FORMAT_LINE, *(f"{key}={value}" for key, value in meta.items())]
    with open(final + ".tmp", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(final + ".tmp", final)
    directory_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory_fd)  # (R) the identity lasts before anything is stored under it
    finally:
        os.close(directory_fd)


def random_uuid() -> str:
    """A new id in Kafka's text form that may start a command line argument."""
    while True:
        text = uuid_text(os.urandom(16))
        if not text.startswith("-"):
            return text
