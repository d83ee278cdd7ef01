"""Records a second of a batch, by the plain loop and as columns: equal sizes, mixed ones, compressed."""

import sys
import time
from collections.abc import Callable
from random import Random

from tailrace.core.records.batch import HEADER_SIZE, parse_header
from tailrace.core.records.columns import decode_columns
from tailrace.core.records.compression import CODEC_NAMES, decompress
from tailrace.core.records.record import DECOMPRESSED_BYTES_MAX, NewRecord, build_batch, decode_records

VALUE_BYTES = 100
ROUND_S = 0.3


def seconds(work: Callable[[], object]) -> float:
    """The least time that one of several calls took."""
    best, until = 1e9, time.perf_counter() + ROUND_S
    while time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def equal(count: int, *, headers: bool = False) -> list[NewRecord]:
    """Records of one size with keys."""
    more = (("trace", b"0123456789abcdef"),) if headers else ()
    return [
        NewRecord(key=b"%08d" % at, value=b"v" * VALUE_BYTES, timestamp=at // 10, headers=more)
        for at in range(count)
    ]


def mixed(count: int) -> list[NewRecord]:
    """Records of which hardly two neighbours have one size, out of order of time."""
    random = Random(5)
    return [
        NewRecord(key=b"%d" % at, value=bytes(random.randint(0, 400)), timestamp=random.randint(0, 100_000))
        for at in range(count)
    ]


def measure(name: str, records: list[NewRecord], codec: int = 0) -> None:
    """One line about a batch."""
    batch = bytes(build_batch(records, codec=codec))
    header = parse_header(batch)

    def body() -> bytes:
        return decompress(header.codec, batch[HEADER_SIZE:], DECOMPRESSED_BYTES_MAX)

    def as_records() -> int:
        columns = decode_columns(body(), header)
        return sum(1 for _ in columns.records(header)) if columns is not None else 0

    plain = seconds(lambda: sum(1 for _ in decode_records(body(), header)))
    columns = seconds(lambda: decode_columns(body(), header))
    objects = seconds(as_records)
    count = len(records) / 1e6
    sys.stdout.write(
        f"{name:>32}: plain {count / plain:6.2f}, columns {count / columns:6.2f}, "
        f"records of columns {count / objects:6.2f} M records/s\n"
    )


for count in (16, 64, 128, 1000, 10_000):
    measure(f"{count} of one size", equal(count))
    measure(f"{count} of mixed sizes", mixed(count))
measure("1000 with a header", equal(1000, headers=True))
for codec in range(1, 5):
    measure(f"1000 of one size, {CODEC_NAMES[codec]}", equal(1000), codec)
