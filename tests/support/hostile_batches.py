"""Compressed bytes that claim or hold far more than they are: bombs in each codec of Kafka's."""

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from tailrace.core.records.batch import HEADER_SIZE
from tailrace.core.records.compression import GZIP, LZ4, SNAPPY, XERIAL_HEADER, ZSTD
from tailrace.core.records.record import assemble
from tests.support.hostile import varint

lz4_frame: Any = import_module("lz4.frame")
zstandard: Any = import_module("zstandard")

GIB = 1 << 30
SKIPPABLE = struct.pack("<II", 0x184D2A50, 3) + b"abc"


def gzip(size: int, level: int = 9) -> bytes:
    """Zeros."""
    stream = zlib.compressobj(level, wbits=31)
    piece = bytes(1 << 20)
    out = b"".join(stream.compress(piece[: min(1 << 20, size - at)]) for at in range(0, size, 1 << 20))
    return out + stream.flush()


@cache
def zstd(size: int, *, states_size: bool = True) -> bytes:
    """Zeros; about 20 kB for each GiB."""
    stream = zstandard.ZstdCompressor(level=1, write_content_size=states_size).compressobj(
        size=size if states_size else -1
    )
    piece = bytes(1 << 20)
    out = b"".join(stream.compress(piece[: min(1 << 20, size - at)]) for at in range(0, size, 1 << 20))
    return out + bytes(stream.flush())


@cache
def lz4(size: int, *, linked: bool = True, states_size: bool = True) -> bytes:
    """Zeros: 255 to one."""
    context = lz4_frame.create_compression_context()
    out = bytes(
        lz4_frame.compress_begin(
            context, source_size=size if states_size else 0, block_linked=linked,
            block_size=lz4_frame.BLOCKSIZE_MAX4MB,
        )
    )  # fmt: skip
    piece = bytes(4 << 20)
    for at in range(0, size, 4 << 20):
        out += lz4_frame.compress_chunk(context, piece[: min(4 << 20, size - at)])
    return out + bytes(lz4_frame.compress_flush(context))


def snappy(size: int) -> bytes:
    """Zeros, raw: a literal and copies of 64 bytes."""
    copies = (size - 1) // 64
    rest = size - 1 - 64 * copies
    tail = bytes((rest - 1 << 2 | 2,)) + b"\x01\0" if rest else b""
    return varint(size) + b"\0\0" + b"\xfe\x01\0" * copies + tail


def xerial(*blocks: bytes) -> bytes:
    """Blocks as Kafka's Java clients frame them."""
    return XERIAL_HEADER + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


def lies() -> dict[str, tuple[int, bytes]]:
    """Bytes that claim what they do not hold, by name: codec and data."""
    frame = bytearray(lz4(1000, states_size=True))
    frame[6:14] = struct.pack("<Q", 1 << 62)
    stated = bytearray(zstd(1000))
    wide = bytes.fromhex("28b52ffd") + b"\x00" + bytes((21 << 3,)) + bytes.fromhex("010000")
    return {
        "gzip: cut short": (GZIP, gzip(1000)[:-9]),
        "gzip: wrong length at the end": (GZIP, gzip(1000)[:-4] + b"\xff\xff\xff\xff"),
        "gzip: no gzip": (GZIP, b"PK\x03\x04" + bytes(40)),
        "gzip: a header without end": (GZIP, b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 5000),
        "snappy: 4 GiB in nine bytes": (SNAPPY, varint(2**32 - 1) + b"\0\0\0\0"),
        "snappy: 2 GiB": (SNAPPY, varint(2**31 - 1) + b"\0\0"),
        "snappy: a varint without end": (SNAPPY, b"\xff" * 9),
        "snappy: copies from before the start": (SNAPPY, varint(64) + b"\xfe\xff\xff"),
        "xerial: a block of 4 GiB": (SNAPPY, xerial(varint(2**32 - 1) + b"\0\0\0\0")),
        "xerial: a negative length": (SNAPPY, XERIAL_HEADER + b"\xff\xff\xff\xff"),
        "xerial: longer than the batch": (SNAPPY, XERIAL_HEADER + b"\x7f\xff\xff\xff"),
        "xerial: header alone": (SNAPPY, XERIAL_HEADER[:12]),
        "lz4: a content size of 4 EiB": (LZ4, bytes(frame)),
        "lz4: cut short": (LZ4, lz4(1000)[:-6]),
        "lz4: no lz4": (LZ4, b"\0" * 30),
        "zstd: a window of 2 GiB": (ZSTD, wide),
        "zstd: cut short": (ZSTD, bytes(stated[:-3])),
        "zstd: a content size of 16 EiB": (
            ZSTD, bytes.fromhex("28b52ffd") + b"\xe0" + b"\xff" * 8 + bytes.fromhex("010000"),
        ),
        "zstd: no zstd": (ZSTD, b"\0" * 30),
        "zstd: skippable frames only": (ZSTD, SKIPPABLE * 3),
        "nothing: gzip": (GZIP, b""), "nothing: snappy": (SNAPPY, b""),
        "nothing: lz4": (LZ4, b""), "nothing: zstd": (ZSTD, b""),
    }  # fmt: skip


def swollen(size: int) -> dict[str, tuple[int, bytes]]:
    """Sound data that grows to `size` bytes, by name: codec and data."""
    return {
        "gzip": (GZIP, gzip(size)),
        "gzip: many members": (GZIP, gzip(1 << 20) * (size >> 20)),
        "snappy": (SNAPPY, snappy(size)),
        "xerial: many blocks": (SNAPPY, xerial(*[snappy(1 << 16)] * (size >> 16))),
        "lz4": (LZ4, lz4(size)),
        "lz4: blocks on their own, no size stated": (LZ4, lz4(size, linked=False, states_size=False)),
        "zstd": (ZSTD, zstd(size)),
        "zstd: no size stated": (ZSTD, zstd(size, states_size=False)),
        "zstd: many frames": (ZSTD, zstd(1 << 20) * (size >> 20)),
        "zstd: behind skippable frames": (ZSTD, SKIPPABLE + zstd(size)),
    }


def in_batch(codec: int, data: bytes, count: int = 1) -> bytes:
    """A batch of this codec around the bytes, with a right checksum."""
    return bytes(
        assemble(
            data, base_offset=0, leader_epoch=-1, attributes=codec, last_offset_delta=count - 1,
            base_timestamp=1_700_000_000_000, max_timestamp=1_700_000_000_000,
        )
    )  # fmt: skip


def bombs(size: int) -> Sequence[bytes]:
    """Batches of all of them; those that grow to `size`."""
    found = [in_batch(codec, data) for codec, data in (*lies().values(), *swollen(size).values())]
    assert all(len(each) >= HEADER_SIZE for each in found)
    return found
