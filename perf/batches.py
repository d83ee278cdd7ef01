"""Record batches (v2) made once before the clock starts, uncompressed, of exactly the size asked for."""

import struct
from typing import NamedTuple

import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")  # base offset ... record count: 61 bytes
TIMESTAMP_MS = 1_700_000_000_000


class Batch(NamedTuple):
    """The bytes of a batch and how many records it holds."""

    data: bytes
    records: int


def varint(value: int) -> bytes:
    """A signed integer, zigzag, seven bits a byte."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def record(offset_delta: int, value: bytes) -> bytes:
    """One record without key and headers."""
    body = b"\0\0" + varint(offset_delta) + varint(-1) + varint(len(value)) + value + b"\0"
    return varint(len(body)) + body


def record_of_size(offset_delta: int, size: int, fill: bytes) -> bytes:
    """A record that takes exactly `size` bytes."""
    for length in range(size - 6, size - 16, -1):
        value = (fill * (length // len(fill) + 1))[:length]
        made = record(offset_delta, value)
        if len(made) == size:
            return made
    raise ValueError(f"no record takes exactly {size} bytes")


def batch_of_size(
    size: int, record_size: int, fill: bytes = b"the quick brown fox jumps over the lazy dog. "
) -> Batch:
    """A batch of exactly `size` bytes: records of `record_size`, and a last one that takes what is left."""
    space = size - HEADER.size
    count = max(1, space // record_size)
    sizes = [record_size] * (count - 1) + [space - record_size * (count - 1)]
    records = b"".join(record_of_size(delta, length, fill) for delta, length in enumerate(sizes))
    after_crc = (
        struct.pack(">hiqqqhii", 0, count - 1, TIMESTAMP_MS, TIMESTAMP_MS, -1, -1, -1, count) + records
    )
    head = struct.pack(">qiibI", 0, 9 + len(after_crc), -1, 2, crc32c.crc32c(after_crc))
    data = head + after_crc
    assert len(data) == size, (len(data), size)
    return Batch(data, count)


ONE_RECORD = batch_of_size(HEADER.size + 100, 100)
