"""The real Log on a simulated disk, as the simulation of replication wants one."""

from collections.abc import Callable
from random import Random

from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.scan import scan
from tailrace.core.log.segment import LOG_SUFFIX, file_name
from tests.support.simulated_directory import SECTOR, SimulatedDirectory

CONFIG = LogConfig(
    segment_bytes=8 * 1024, index_interval_bytes=512, segment_index_bytes=1024, snapshot_interval_bytes=8192
)
NOW = 1
NAME = "t-0"


class DiskLog(Log):
    """See SimulatedLog. `checkpoint`: the high watermark that was last written down."""

    truncations = checkpoint = 0
    files: SimulatedDirectory

    def produce(self, batch: bytes, leader_epoch: int) -> int:
        """As leader; returns the new end."""
        self.append_as_leader(batch, leader_epoch, NOW)
        return self.log_end_offset

    def truncate_to(self, offset: int, now_ms: int) -> None:
        """See Log."""
        self.truncations += 1
        super().truncate_to(offset, now_ms)

    def truncate_fully_and_start_at(self, offset: int, now_ms: int) -> None:
        """See Log."""
        self.truncations += 1
        super().truncate_fully_and_start_at(offset, now_ms)

    def read(self, segment: int, position: int, length: int) -> bytes:
        """Bytes of a file, none if it is not there."""
        name = file_name(segment, LOG_SUFFIX)
        if name not in self.directory.names():
            return b""
        return self.directory.open_read(name).read(position, length)

    def sync(self) -> None:
        """All is on the disk."""
        self.flush()
        self.checkpoint = self.high_watermark

    def held(self, start: int = 0) -> list[tuple[int, int, bytes]]:
        """Batches at and above an offset."""
        if start >= self.log_end_offset:
            return []
        base, position = self.place_of(max(start, self.log_start_offset))
        found: list[tuple[int, int, bytes]] = []
        for segment in self.segments:
            if segment.base_offset < base:
                continue
            file = self.directory.open_read(segment.log_name)
            begin = position if segment.base_offset == base else 0
            for at, header in scan(file, begin, segment.size, check=False):
                end = header.last_offset + 1
                if header.base_offset >= start:
                    found.append((header.base_offset, end, file.read(at, header.size)))
        return found

    def after_kill(self) -> "DiskLog":
        """All is in the page cache; its high watermark is in its row."""
        return self._again(self.files.killed(), self.high_watermark)

    def after_power_loss(self, keep: Callable[[int, int], int]) -> "DiskLog":
        """Of what was not synced anything may be gone."""
        return self._again(self.files.crash(Random(keep(0, 1 << 30)), SECTOR), self.checkpoint)

    def _again(self, directory: SimulatedDirectory, high_watermark: int) -> "DiskLog":
        log = open_log(
            directory, high_watermark=high_watermark, recovery_point=self.recovery_point,
            log_start_offset=self.log_start_offset,
        )  # fmt: skip
        log.truncations, log.checkpoint = self.truncations + 1, min(self.checkpoint, log.log_end_offset)
        return log


def open_log(
    directory: SimulatedDirectory | None = None, *, high_watermark: int = 0, recovery_point: int = 0,
    log_start_offset: int = 0,
) -> DiskLog:  # fmt: skip
    """On an empty disk, or on what another has left there."""
    files = directory or SimulatedDirectory()
    log = DiskLog.open(
        files, NAME, CONFIG, now_ms=NOW, high_watermark=high_watermark, recovery_point=recovery_point,
        log_start_offset=log_start_offset,
    )  # fmt: skip
    assert isinstance(log, DiskLog)
    log.files = files
    return log
