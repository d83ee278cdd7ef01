"""Logs in a temporary directory for the tests beside this file."""

from pathlib import Path

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.scan import scan
from tailrace.core.records.record import NewRecord, build_batch

NOW = 1_700_000_000_000
SMALL = LogConfig(segment_bytes=64 * 1024, index_interval_bytes=256, segment_index_bytes=4096)


def open_log(path: Path, config: LogConfig = SMALL, **options: int | bool) -> Log:
    """The log in that directory, made or recovered."""
    return Log.open(RealDirectory(str(path)), "t-0", config, now_ms=NOW, **options)  # type: ignore[arg-type]


def batch(
    text: str,
    *,
    producer: int = -1,
    sequence: int = -1,
    records: int = 1,
    epoch: int = 0,
    timestamp: int = NOW,
) -> bytes:
    """A batch of equal records."""
    items = [NewRecord(value=text.encode(), timestamp=timestamp + i) for i in range(records)]
    return bytes(
        build_batch(
            items, producer_id=producer, producer_epoch=epoch if producer >= 0 else -1, base_sequence=sequence
        )
    )


def fill(log: Log, count: int, *, size: int = 100, start: int = 0) -> None:
    """Batches of one record, each a millisecond younger."""
    for number in range(start, start + count):
        log.append_as_leader(batch(f"{number:06d}".ljust(size, "."), timestamp=NOW + number), 0, NOW + number)


def log_bytes(path: Path, base: int = 0) -> bytes:
    """The .log file as it is."""
    return (path / f"{base:020d}.log").read_bytes()


def offsets_on_disk(path: Path, base: int = 0) -> list[int]:
    """Base offsets of the sound batches in a .log file."""
    file = RealDirectory(str(path)).open_read(f"{base:020d}.log")
    try:
        return [header.base_offset for _, header in scan(file, 0, file.size(), check=True)]
    finally:
        file.release()
