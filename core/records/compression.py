"""The four codecs of Kafka behind one table, with bounded output.

Rule: no input makes `decompress` allocate more than the given limit (plus what the library holds for a
window): what a frame claims about itself is checked before it is believed. Libraries are imported when the
codec is first used.
"""

import zlib
from collections.abc import Callable
from typing import Any, cast

from tailrace.core.errors import CORRUPT_MESSAGE, INVALID_RECORD, KafkaError

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")

XERIAL_HEADER = b"\x82SNAPPY\x00" + (1).to_bytes(4, "big") * 2
XERIAL_MAGIC = XERIAL_HEADER[:8]
XERIAL_BLOCK = 32 * 1024
SNAPPY_RATIO_MAX = 64  # a snappy copy turns 3 bytes into at most 64: a larger claim is a lie
ZSTD_WINDOW_MAX = 8 * 1024 * 1024
ZSTD_WINDOW_LARGEST = 128 * 1024 * 1024  # what Kafka's own decoder takes, however large the limit
GZIP_STEP = 16 * 1024
LZ4_STEP = 64 * 1024
LZ4_FAST, LZ4_STRONG_MIN, LZ4_STRONG_MAX = 9, 3, 12
ZSTD_LEVEL = 3


def _too_large(limit: int) -> KafkaError:
    return KafkaError(INVALID_RECORD, f"a record batch would decompress to more than {limit} bytes")


def _gunzip(data: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    view, position, left = memoryview(data), 0, limit
    stream = zlib.decompressobj(31)
    while position < len(data):
        if stream.eof:  # another member follows
            stream = zlib.decompressobj(31)
        # in steps: zlib copies what lies behind a member, and a batch may be made of nothing but empty ones
        step = view[position : position + GZIP_STEP]
        piece = stream.decompress(step, left + 1)
        if len(piece) > left:
            raise _too_large(limit)
        pieces.append(piece)
        left -= len(piece)
        position += len(step) - len(stream.unused_data)
    if not stream.eof:
        raise KafkaError(CORRUPT_MESSAGE, "a gzip stream ends early")
    return b"".join(pieces)


def _unsnap_block(data: bytes, limit: int) -> bytes:
    from cramjam import snappy as module  # pyright: ignore[reportMissingModuleSource]  # inside the extension

    snappy = cast("Any", module)
    size = int(snappy.decompress_raw_len(data))  # asked first: the library allocates what the header claims
    if size > limit:
        raise _too_large(limit)
    if size > len(data) * SNAPPY_RATIO_MAX:
        raise KafkaError(CORRUPT_MESSAGE, "a snappy block claims a size it cannot have")
    out = bytearray(size)
    written = int(snappy.decompress_raw_into(data, out)) if size else 0
    return bytes(out[:written])


def _unsnap(data: bytes, limit: int) -> bytes:
    if not data.startswith(XERIAL_MAGIC):
        return _unsnap_block(data, limit)
    pieces: list[bytes] = []
    left, position = limit, len(XERIAL_HEADER)
    if len(data) < position:
        raise KafkaError(CORRUPT_MESSAGE, "a snappy stream ends inside its header")
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big", signed=True)
        position += 4
        if length < 0 or length > len(data) - position:
            raise KafkaError(CORRUPT_MESSAGE, "a snappy block reaches past its batch")
        piece = _unsnap_block(data[position : position + length], left)
        pieces.append(piece)
        left -= len(piece)
        position += length
    return b"".join(pieces)


def _unlz4(data: bytes, limit: int) -> bytes:
    from lz4 import frame as module  # pyright: ignore[reportMissingTypeStubs]  # lz4 ships none

    stream = cast("Any", module).LZ4FrameDecompressor()
    pieces: list[bytes] = []
    left, step, feed = limit, max(LZ4_STEP, 4 * len(data)), data
    while not stream.eof:
        # in steps: the library allocates max_length at once, whatever the frame holds
        piece = cast("bytes", stream.decompress(feed, max_length=min(left + 1, step)))
        if len(piece) > left:
            raise _too_large(limit)
        if not piece and not stream.eof:
            raise KafkaError(CORRUPT_MESSAGE, "an lz4 frame ends early")
        pieces.append(piece)
        left -= len(piece)
        feed = b""
    return b"".join(pieces)


def _unzstd(data: bytes, limit: int) -> bytes:
    import zstandard as module

    zstandard = cast("Any", module)
    window_max = max(ZSTD_WINDOW_MAX, limit)
    if zstandard.get_frame_parameters(data).window_size > window_max:
        raise _too_large(limit)
    # the decoder's own bound holds for the frames after the first, too
    decoder = zstandard.ZstdDecompressor(max_window_size=min(window_max, ZSTD_WINDOW_LARGEST))
    reader = decoder.stream_reader(data, read_across_frames=True)
    pieces: list[bytes] = []
    left = limit
    while piece := reader.read(min(left + 1, 1024 * 1024)):  # a stream: the claimed content size buys nothing
        if len(piece) > left:
            raise _too_large(limit)
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


_DECOMPRESS: dict[int, Callable[[bytes, int], bytes]] = {
    GZIP: _gunzip,
    SNAPPY: _unsnap,
    LZ4: _unlz4,
    ZSTD: _unzstd,
}


def decompress(codec: int, data: bytes, limit: int) -> bytes:
    """The plain bytes, at most `limit` of them; KafkaError if there are more or `data` is not sound."""
    if codec == NONE:
        return data  # nothing grows
    decompressor = _DECOMPRESS.get(codec)
    if decompressor is None:
        raise KafkaError(INVALID_RECORD, f"unknown compression codec {codec}")
    try:
        return decompressor(data, limit)
    except (KafkaError, MemoryError):
        raise
    except Exception as error:  # each library has its own error class; all mean that the bytes are bad
        raise KafkaError(CORRUPT_MESSAGE, f"bad {CODEC_NAMES[codec]} data: {error}") from error


def _snap(data: bytes) -> bytes:
    from cramjam import snappy as module  # pyright: ignore[reportMissingModuleSource]  # inside the extension

    snappy = cast("Any", module)
    out = bytearray(XERIAL_HEADER)
    for start in range(0, len(data), XERIAL_BLOCK):
        block = bytes(snappy.compress_raw(data[start : start + XERIAL_BLOCK]))
        out += len(block).to_bytes(4, "big") + block
    return bytes(out)


def compress(codec: int, data: bytes, level: int | None = None) -> bytes:
    """The bytes as Kafka's clients and its broker compress them, at a level as Kafka's keys
    `compression.*.level` count them; None: the default one.
    """
    if codec == NONE:
        return data
    if codec == GZIP:
        stream = zlib.compressobj(-1 if level is None else level, wbits=31)
        return stream.compress(data) + stream.flush()
    if codec == SNAPPY:
        return _snap(data)
    if codec == LZ4:
        return _compress_lz4(data, LZ4_FAST if level is None else level)
    assert codec == ZSTD, f"no such codec: {codec}"
    import zstandard

    compressor = cast("Any", zstandard).ZstdCompressor(ZSTD_LEVEL if level is None else level)
    return cast("bytes", compressor.compress(data))


def _compress_lz4(data: bytes, level: int) -> bytes:
    from lz4 import frame  # pyright: ignore[reportMissingTypeStubs]  # lz4 ships none

    # what Kafka calls level 9 is the fast compressor; other levels are those of the strong one, 12 its last
    own_level = 0 if level == LZ4_FAST else min(max(level, LZ4_STRONG_MIN), LZ4_STRONG_MAX)
    compressed = cast("Any", frame).compress(
        data,
        compression_level=own_level,
        block_linked=False,  # Kafka's Java client reads no others
        store_size=False,
    )
    return cast("bytes", compressed)
