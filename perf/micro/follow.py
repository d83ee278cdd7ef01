"""Time of one Log.append_as_follower beside that of append_as_leader, for the same batches."""

import sys
import tempfile
import time

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.records.batch import stamp
from tailrace.core.records.record import NewRecord, build_batch


def batches(value_bytes: int, count: int, producer_id: int, now: int) -> list[bytes]:
    """As a leader of epoch 0 has them."""
    record, made = NewRecord(value=bytes(value_bytes), timestamp=now), list[bytes]()
    for number in range(count):
        epoch, sequence = (0, number) if producer_id >= 0 else (-1, -1)
        batch = bytearray(
            build_batch([record], producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
        )
        stamp(batch, number, 0)
        made.append(bytes(batch))
    return made


def measure(value_bytes: int, count: int, producer_id: int, *, follows: bool) -> tuple[int, float]:
    """(batch size, seconds an append)."""
    now = time.time_ns() // 1_000_000
    sent = batches(value_bytes, count, producer_id, now)
    with tempfile.TemporaryDirectory() as path:
        log = Log.open(RealDirectory(path), "t-0", LogConfig(), now_ms=now)
        started = time.perf_counter()
        if follows:
            for batch in sent:
                log.append_as_follower(batch, now)
        else:
            for batch in sent:
                log.append_as_leader(batch, 0, now, from_client=False)
        elapsed = time.perf_counter() - started
        log.close(clean=False)
    return len(sent[0]), elapsed / count


for value_bytes, count, producer_id in ((120, 50_000, -1), (120, 50_000, 7), (16_000, 5_000, -1)):
    leading = min(measure(value_bytes, count, producer_id, follows=False)[1] for _ in range(3))
    size, following = min(measure(value_bytes, count, producer_id, follows=True) for _ in range(3))
    kind = "idempotent" if producer_id >= 0 else "plain"
    sys.stdout.write(
        f"{size:>6} bytes {kind:>10}: leader {leading * 1e6:6.2f} us, follower {following * 1e6:6.2f} us\n"
    )
