"""Batches with faults: a sound one with fields replaced, older formats, and times."""

import struct
import time
import zlib
from typing import Any

from tailrace.core.records.batch import HEADER
from tailrace.core.records.crc32c import crc32c
from tailrace.core.records.record import NewRecord, build_batch

PAST_MS = 1_700_000_000_000
NOW_MS = time.time_ns() // 1_000_000
HOUR_MS = 3_600_000
FIELDS = (
    "base_offset", "length", "leader_epoch", "magic", "crc", "attributes", "last_offset_delta",
    "base_timestamp", "max_timestamp", "producer_id", "producer_epoch", "base_sequence", "record_count",
)  # fmt: skip


def records(count: int = 3, size: int = 20, at_ms: int = PAST_MS) -> list[NewRecord]:
    """Alike records, a millisecond apart."""
    return [NewRecord(value=b"%06d" % n + b"v" * size, timestamp=at_ms + n) for n in range(count)]


def batch(count: int = 3, **more: Any) -> bytes:
    """A sound batch."""
    return bytes(build_batch(records(count), **more))


def changed(sound: bytes, *, crc: int | None = None, **fields: int) -> bytes:
    """The batch with header fields replaced; its checksum is right unless it is one of them."""
    values = dict(zip(FIELDS, HEADER.unpack_from(sound), strict=True)) | fields
    after = HEADER.pack(*values.values()) + sound[HEADER.size :]
    right = crc32c(memoryview(after)[21:]) if crc is None else crc
    return after[:17] + right.to_bytes(4, "big") + after[21:]


def by_producer(producer_id: int, epoch: int, sequence: int, count: int = 1) -> bytes:
    """A batch of an idempotent producer."""
    return batch(count, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


def message_set(magic: int, *values: bytes) -> bytes:
    """Messages of format 0 or 1, each with an entry header of its own."""
    found = b""
    for offset, value in enumerate(values):
        time_of = struct.pack(">q", PAST_MS) if magic else b""
        body = struct.pack(">bb", magic, 0) + time_of + struct.pack(">ii", -1, len(value)) + value
        body = struct.pack(">I", zlib.crc32(body)) + body
        found += struct.pack(">qi", offset, len(body)) + body
    return found
