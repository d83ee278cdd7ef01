"""Time of one Log.append_as_leader: 200-byte and 1 MiB batches, one writer, pages first touched and not."""

import sys
import tempfile
import time

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.records.record import NewRecord, build_batch


def measure(value_bytes: int, count: int) -> tuple[int, float]:
    """(batch size, seconds an append)."""
    now = time.time_ns() // 1_000_000
    batch = memoryview(bytes(build_batch([NewRecord(value=bytes(value_bytes), timestamp=now)])))
    with tempfile.TemporaryDirectory() as path:
        log = Log.open(RealDirectory(path), "t-0", LogConfig(max_message_bytes=4 << 20), now_ms=now)
        started = time.perf_counter()
        for _ in range(count):
            log.append_as_leader(batch, 0, now)
        elapsed = time.perf_counter() - started
        log.close(clean=False)
    return len(batch), elapsed / count


for value_bytes, count in ((120, 100_000), (1 << 20, 300)):
    size, seconds = measure(value_bytes, count)
    sys.stdout.write(f"{size:>8} bytes: {seconds * 1e6:8.2f} us, {size / seconds / 1e6:8.0f} MB/s\n")
