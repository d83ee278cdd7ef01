"""The small text files of a log directory and of a partition's directory, in Kafka's formats.

Of a log directory (version, count, then `topic partition offset` lines): how far logs are on disk, high
watermarks, and where logs start. The housekeeper writes them from what workers publish; a worker only ever
takes something back. Both do so under a lock that dies with its holder.

Rules (R), each with a test:
- an entry is gone, on disk, before a log of its name begins anew: it would be trusted for what it never saw;
- a recovery point is lowered, on disk, before the log is cut below it, for the same reason;
- where a log starts is on disk before records are removed, or it is said that they are;
- whatever is damaged counts as not there: less is trusted, not more.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from tailrace.core.ids import parse_uuid, uuid_text
from tailrace.core.log.directory import OWNER_FILE, Directory

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
HIGH_WATERMARKS = "replication-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
LEADER_EPOCHS = "leader-epoch-checkpoint"
PARTITION_METADATA = OWNER_FILE
CHECKPOINT_LOCK = ".checkpoint.lock"
TRUST_MARK = "tailrace.trust"  # these two are not Kafka's, which ignores them
CLEAN_MARK = "tailrace.clean"

VERSION = "0"
OFFSET_FILES = (RECOVERY_POINTS, HIGH_WATERMARKS, LOG_STARTS)
_DIGITS_MAX = 19

Offsets = dict[tuple[str, int], int]


class LogDirectory(Directory, Protocol):
    """A log directory, whose checkpoints several processes write."""

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Waits for a lock among processes, and holds it. Death gives it back."""
        ...


def _lines(data: bytes | None) -> list[str] | None:
    """The counted lines of a checkpoint; None if there is no whole one."""
    try:
        lines = (data or b"").decode("utf-8").splitlines()
        if len(lines) >= 2 and lines[0] == VERSION and int(lines[1]) == len(lines) - 2:
            return lines[2:]
    except ValueError:  # undecodable or no number: as if it were not there
        return None
    return None


def _text(lines: Iterable[str]) -> bytes:
    items = list(lines)
    return "\n".join([VERSION, str(len(items)), *items, ""]).encode()


def _number(text: str) -> int | None:
    """As Kafka writes them: ASCII digits, of 64 bits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


def read_offsets(directory: Directory, name: str) -> Offsets:
    """(topic, partition) -> offset; empty if the file is missing or damaged (R): every user then trusts less,
    not more.
    """
    offsets: Offsets = {}
    for line in _lines(directory.read(name)) or ():
        fields = line.split()
        numbers = [_number(field) for field in fields[1:]]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            return {}
        if (fields[0], numbers[0]) in offsets:
            return {}
        offsets[fields[0], numbers[0]] = numbers[1]
    return offsets


def write_offsets(directory: Directory, name: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Replaces the whole file; it is on disk when this returns."""
    lines = (f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items()))
    directory.replace(name, _text(lines))


def take_back(directory: LogDirectory, topic: str, partition: int, limit: int | None = None) -> None:
    """Nothing is said of this partition, on disk when this returns (R); with `limit` only not that more than
    that is there: deleted records stay deleted.
    """
    key = (topic, partition)
    names = OFFSET_FILES if limit is None else (RECOVERY_POINTS, HIGH_WATERMARKS)
    with directory.locked(CHECKPOINT_LOCK):  # (R) or the housekeeper could write what it read before
        for name in names:
            offsets = read_offsets(directory, name)
            offset = offsets.pop(key, None)
            if offset is None or (limit is not None and offset <= limit):
                continue
            if limit is not None:
                offsets[key] = limit
            write_offsets(directory, name, offsets)


def enter(directory: LogDirectory, topic: str, partition: int, offsets: Mapping[str, int]) -> None:
    """What the files of these names say of a partition that comes from another directory, on disk when this
    returns, whatever they said before.
    """
    with directory.locked(CHECKPOINT_LOCK):
        for name, offset in offsets.items():
            known = read_offsets(directory, name)
            if known.get((topic, partition)) != offset:
                write_offsets(directory, name, known | {(topic, partition): offset})


def write_log_start(
    directory: LogDirectory, topic: str, partition: int, offset: int, publish: Callable[[], object]
) -> None:
    """The log of this partition starts at `offset`: on disk when `publish` is called, which shows it."""
    with directory.locked(CHECKPOINT_LOCK):  # (R) until it is shown, or the housekeeper writes the old one
        offsets = read_offsets(directory, LOG_STARTS)
        offsets[topic, partition] = offset
        write_offsets(directory, LOG_STARTS, offsets)
        publish()


def read_leader_epochs(directory: Directory) -> list[tuple[int, int]]:
    """(epoch, start offset) in file order."""
    entries: list[tuple[int, int]] = []
    for line in _lines(directory.read(LEADER_EPOCHS)) or ():
        fields = line.split()
        if len(fields) != 2 or not (fields[0].isdigit() and fields[1].isdigit()):
            return []
        entries.append((int(fields[0]), int(fields[1])))
    return entries


def write_leader_epochs(directory: Directory, entries: Iterable[tuple[int, int]], *, durable: bool) -> None:
    """Replaces the file."""
    directory.replace(LEADER_EPOCHS, _text(f"{epoch} {start}" for epoch, start in entries), durable=durable)


def read_partition_metadata(directory: Directory) -> bytes | None:
    """The topic id in partition.metadata, None if there is none."""
    fields: dict[str, str] = {}
    for line in (directory.read(PARTITION_METADATA) or b"").decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(": ")
        fields[key] = value
    if fields.get("version") != VERSION or "topic_id" not in fields:
        return None
    try:
        return parse_uuid(fields["topic_id"])
    except ValueError:
        return None


def write_partition_metadata(directory: Directory, topic_id: bytes) -> None:
    """As Kafka writes it: two lines, no newline at the end."""
    directory.replace(PARTITION_METADATA, f"version: {VERSION}\ntopic_id: {uuid_text(topic_id)}".encode())


class TrustMark(Struct, kw_only=True, frozen=True):
    """What must be as it was for the page cache of an active segment to be believed after its writer died."""

    boot_id: str
    device: int
    inode: int
    base_offset: int


def read_trust_mark(directory: Directory) -> TrustMark | None:
    """None if there is none."""
    fields = (directory.read(TRUST_MARK) or b"").decode("ascii", "replace").split()
    if len(fields) != 4 or not all(field.isdigit() for field in fields[1:]):
        return None
    return TrustMark(
        boot_id=fields[0], device=int(fields[1]), inode=int(fields[2]), base_offset=int(fields[3])
    )


def write_trust_mark(directory: Directory, mark: TrustMark) -> None:
    """Not synced: it is believed only while the machine has not gone down. Left alone if it says so now."""
    if read_trust_mark(directory) == mark:
        return
    text = f"{mark.boot_id} {mark.device} {mark.inode} {mark.base_offset}\n"
    directory.replace(TRUST_MARK, text.encode("ascii"), durable=False)


def write_clean_mark(directory: Directory, base_offset: int, size: int) -> None:
    """The log was closed, on disk, with an active file of `size` bytes.

    It takes itself back: whoever opens the log makes that file longer before anything is stored.
    """
    directory.replace(CLEAN_MARK, f"{base_offset} {size}\n".encode("ascii"))


def void_clean_mark(directory: Directory) -> None:
    """The log is opened. (R) At every moment one of the marks says that it is ours: where it may have holes
    depends on that.
    """
    if CLEAN_MARK in directory.names():
        directory.rename(CLEAN_MARK, TRUST_MARK)


def read_clean_mark(directory: Directory) -> tuple[int, int] | None:
    """(base offset, size) of the last segment of a log that was closed, None if it was not."""
    fields = (directory.read(CLEAN_MARK) or b"").decode("ascii", "replace").split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    return int(fields[0]), int(fields[1])
