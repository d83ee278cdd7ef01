"""The codecs read what other encoders write, and no input makes them allocate past the limit."""

import ctypes
import gzip
import os
import resource
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.core.errors import CORRUPT_MESSAGE, INVALID_RECORD, KafkaError
from tailrace.core.errors import NONE as NO_ERROR
from tailrace.core.records.compression import CODEC_NAMES, GZIP, LZ4, NONE, SNAPPY, ZSTD, compress, decompress
from tests.support.forks import fork

MIB = 1024 * 1024
LIMIT = MIB
COMPRESSED = (GZIP, SNAPPY, LZ4, ZSTD)
XERIAL = b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"
DATA = b"the quick brown fox " * 5000 + os.urandom(3000)

lz4: Any = import_module("lz4.frame")
zstd: Any = import_module("zstandard")
snappy: Any = import_module("cramjam").snappy
kafka_codec: Any = import_module("kafka.codec")


def code_of(codec: int, data: bytes) -> int:
    """The error that `data` gives, or none and no more than the limit."""
    try:
        out = decompress(codec, data, LIMIT)
    except KafkaError as error:
        return error.code
    assert len(out) <= LIMIT
    return NO_ERROR


def framed(*blocks: bytes) -> bytes:
    """Blocks as snappy-java frames them."""
    return XERIAL + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)


def raw_snappy(data: bytes) -> bytes:
    """One block without a frame, as librdkafka writes it."""
    return bytes(snappy.compress_raw(data))


def zstd_stream(data: bytes) -> bytes:
    """A frame that does not state its size, as a Java client's."""
    stream = zstd.ZstdCompressor().compressobj()
    return bytes(stream.compress(data) + stream.flush())


ENCODERS: list[tuple[int, Callable[[bytes], bytes]]] = [
    (GZIP, gzip.compress),
    (GZIP, lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])),
    (GZIP, kafka_codec.gzip_encode),
    (SNAPPY, raw_snappy),
    (SNAPPY, lambda data: framed(raw_snappy(data[:99]), raw_snappy(data[99:]))),
    (SNAPPY, kafka_codec.snappy_encode),
    (LZ4, lz4.compress),
    (LZ4, lambda data: bytes(lz4.compress(data, store_size=False, content_checksum=True))),
    (LZ4, lambda data: bytes(lz4.compress(data, block_linked=False, block_checksum=True))),
    (LZ4, kafka_codec.lz4_encode),
    (ZSTD, lambda data: bytes(zstd.ZstdCompressor().compress(data))),
    (ZSTD, lambda data: bytes(zstd.ZstdCompressor(level=19, write_checksum=True).compress(data))),
    (ZSTD, zstd_stream),
    (ZSTD, lambda data: zstd_stream(data[:99]) + zstd_stream(data[99:])),
    (ZSTD, kafka_codec.zstd_encode),
    *((codec, lambda data, codec=codec: compress(codec, data)) for codec in COMPRESSED),
]


@pytest.mark.parametrize("number", range(len(ENCODERS)))
def test_every_encoder_is_read_up_to_the_limit_and_not_past_it(number: int) -> None:
    codec, encode = ENCODERS[number]
    for data in (DATA, b"x" * 100, DATA[:65537]):
        packed = bytes(encode(data))
        assert decompress(codec, packed, len(data)) == data
        assert decompress(codec, packed, 256 * MIB) == data
        with pytest.raises(KafkaError) as caught:
            decompress(codec, packed, len(data) - 1)
        assert caught.value.code == INVALID_RECORD


def test_our_snappy_is_framed_as_every_client_expects_it() -> None:
    packed = compress(SNAPPY, DATA)
    assert packed.startswith(XERIAL)
    assert kafka_codec.snappy_decode(packed) == DATA
    assert decompress(SNAPPY, compress(SNAPPY, b""), 0) == b""


def test_lz4_and_zstd_of_ours_are_read_by_others() -> None:
    assert kafka_codec.lz4_decode(compress(LZ4, DATA)) == DATA
    assert kafka_codec.zstd_decode(compress(ZSTD, DATA)) == DATA
    assert gzip.decompress(compress(GZIP, DATA)) == DATA


def test_none_is_none_and_other_codecs_are_refused() -> None:
    assert decompress(NONE, b"as it is", 100) == b"as it is"
    for codec in (5, 6, 7):
        with pytest.raises(KafkaError) as caught:
            decompress(codec, b"", 100)
        assert caught.value.code == INVALID_RECORD


@pytest.mark.parametrize("codec", COMPRESSED)
@given(data=st.binary(max_size=3000))
def test_round_trip(codec: int, data: bytes) -> None:
    assert decompress(codec, compress(codec, data), len(data)) == data


@pytest.mark.parametrize("codec", COMPRESSED)
@given(garbage=st.binary(max_size=300))
def test_garbage_is_a_kafka_error(codec: int, garbage: bytes) -> None:
    assert code_of(codec, garbage) in (NO_ERROR, CORRUPT_MESSAGE, INVALID_RECORD)


@pytest.mark.parametrize("codec", COMPRESSED)
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_is_a_kafka_error_or_harmless(codec: int, place: int, flip: int) -> None:
    packed = bytearray(compress(codec, b"hello " * 200 + bytes(range(256))))
    packed[place % len(packed)] ^= flip
    assert code_of(codec, bytes(packed)) in (NO_ERROR, CORRUPT_MESSAGE, INVALID_RECORD)


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4])
def test_cut_short_is_corrupt(codec: int) -> None:
    packed = compress(codec, DATA[:3000])
    for size in range(1, len(packed), 7):
        if codec == SNAPPY and size == len(XERIAL):
            continue  # a frame of no blocks
        with pytest.raises(KafkaError) as caught:
            decompress(codec, packed[:size], LIMIT)
        assert caught.value.code == CORRUPT_MESSAGE


def zstd_header(content_size: int) -> bytes:
    """A frame of one segment (its window is its size) that states `content_size`; its last block is empty."""
    return b"\x28\xb5\x2f\xfd\xe0" + content_size.to_bytes(8, "little") + b"\1\0\0"


def zstd_window(exponent: int) -> bytes:
    """A frame that states a window of 2^(10+exponent) and no size, with one byte repeated 100,000 times."""
    return b"\x28\xb5\x2f\xfd\0" + bytes([exponent << 3]) + ((100_000 << 3) | 3).to_bytes(3, "little") + b"x"


def bombs() -> Iterator[tuple[str, int, bytes]]:
    """Small inputs that claim to be, or become, 64 MiB and more."""
    zeros = bytes(64 * MIB)
    stream = zlib.compressobj(wbits=31)
    gzipped = stream.compress(zeros) + stream.flush()
    zstandard = bytes(zstd.ZstdCompressor().compress(zeros))
    yield "gzip", GZIP, gzipped
    yield "gzip, second member", GZIP, gzip.compress(b"a") + gzipped
    yield "lz4", LZ4, bytes(lz4.compress(zeros))
    yield "lz4 that hides its size", LZ4, bytes(lz4.compress(zeros, store_size=False))
    yield "zstd", ZSTD, zstandard
    yield "zstd that hides its size", ZSTD, zstd_stream(zeros)
    yield "zstd, second frame", ZSTD, zstd_stream(b"a") + zstandard
    for size in (2**27, 2**31, 2**40, 2**63 - 1, 2**64 - 1):
        yield f"zstd that claims {size}", ZSTD, zstd_header(size)
        yield f"zstd, second frame claims {size}", ZSTD, zstd_stream(b"a") + zstd_header(size)
    for exponent in (17, 21, 31):
        yield f"zstd window 2^{10 + exponent}", ZSTD, zstd_window(exponent)
        yield f"zstd, second window 2^{10 + exponent}", ZSTD, zstd_stream(b"a") + zstd_window(exponent)
    yield "snappy", SNAPPY, raw_snappy(zeros)
    yield "snappy, blocks", SNAPPY, framed(*[raw_snappy(bytes(MIB // 2))] * 128)
    yield "snappy that claims 4 GiB", SNAPPY, bytes.fromhex("ffffffff0f00000000")
    yield "snappy block that claims 4 GiB", SNAPPY, framed(bytes.fromhex("ffffffff0f00000000"))
    yield "snappy block within the limit", SNAPPY, framed(bytes.fromhex("ffff3f0000"))
    yield "snappy block of 2 GiB", SNAPPY, XERIAL + b"\x7f\xff\xff\xff" + b"abc"
    yield "snappy block of -1", SNAPPY, XERIAL + b"\xff\xff\xff\xff" + b"abc"


BOMBS = list(bombs())


def grow_by_at_most(size: int) -> None:
    """Bounds this process's address space from here on; what it has let go of is not there to be used."""
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@pytest.mark.parametrize(("codec", "bomb"), [each[1:] for each in BOMBS], ids=[each[0] for each in BOMBS])
def test_a_bomb_is_refused_before_it_is_memory(codec: int, bomb: bytes) -> None:
    """(R) in a process that may grow by 48 MiB, whoever allocates: the libraries' own memory counts, too."""
    compress(codec, b"x")  # the library is loaded before the limit counts

    def work() -> None:
        grow_by_at_most(48 * MIB)
        with pytest.raises(KafkaError) as caught:
            decompress(codec, bomb, LIMIT)
        assert "Allocation error" not in caught.value.message  # zstd tried

    assert fork(work).wait() == 0, CODEC_NAMES[codec]


def test_the_limit_of_the_bombs_bites() -> None:
    """The test above would see allocations of 64 MiB; one may fit into a hole that another test left."""

    def work() -> None:
        grow_by_at_most(48 * MIB)
        with pytest.raises(MemoryError):
            [bytearray(64 * MIB) for _ in range(16)]

    assert fork(work).wait() == 0


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_large_limit_costs_a_small_batch_nothing(codec: int) -> None:
    packed = compress(codec, b"small")
    tracemalloc.start()
    try:
        assert decompress(codec, packed, 256 * MIB) == b"small"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_gzip_members_are_not_copied_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of nothing but empty members: zlib gives back a step behind each, never the whole rest."""
    behind: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, wbits: int) -> None:
            self._stream = real(wbits)

        def decompress(self, data: memoryview, most: int) -> bytes:
            out = self._stream.decompress(data, most)
            behind.append(sys.getsizeof(self._stream.unused_data))
            return out

        def __getattr__(self, name: str) -> object:
            return getattr(self._stream, name)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    assert decompress(GZIP, gzip.compress(b"") * 5000, 10) == b""
    assert len(behind) >= 5000
    assert max(behind) < 20 * 1024


def test_lz4_blocks_stand_alone() -> None:
    """Kafka's Java client refuses a frame whose blocks need the one before, which only large ones have."""
    frame: Any = import_module("lz4.frame")
    for level in (None, 1, 9, 17):
        found = frame.get_frame_info(compress(LZ4, bytes(range(256)) * 2000, level))
        assert (found["block_linked"], found["block_size"]) == (False, 65536)
