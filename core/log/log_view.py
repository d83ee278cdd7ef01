"""What a log knows of itself, and what may be asked of it without changing it; `Log` adds the changes."""

from collections.abc import Callable

from tailrace.core.log import log_config, places, time_search
from tailrace.core.log.directory import Directory, storage_error
from tailrace.core.log.leader_epochs import LeaderEpochs
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.producer_recovery import restore_producers
from tailrace.core.log.producer_state import ProducerState
from tailrace.core.log.recovery import Recovered
from tailrace.core.log.segment import RELATIVE_OFFSET_MAX, ActiveSegment, Segment
from tailrace.core.records.crc32c import crc32c

FOREVER = 1 << 62


class LogView:
    """Attributes are read by the owner and published in its row; it alone moves `high_watermark` up."""

    def __init__(self, directory: Directory, name: str, config: LogConfig) -> None:
        self.directory, self.name = directory, name
        self.log_start_offset = self.log_end_offset = self.high_watermark = self.recovery_point = 0
        self.segment_generation: int = 0
        self.cut_bytes = 0
        self._segments: list[Segment] = []  # the inactive ones
        self._unsynced: list[str] = []  # .log files of rolled segments, to be synced since their roll
        self._name_changes: int = 0  # times that files were made or replaced which have to last
        self._name_changes_synced: int = 0  # of them, on the disk
        self._cut_count: int = 0  # truncations
        self._flushed_ms: int = 0
        self._closed = False
        self.on_prefault: Callable[[str, int, int], object] | None = (
            None  # file, position, length stored to next
        )
        self.on_lowered: Callable[[int], object] | None = None  # takes back what was written down as synced
        self.on_start_moved: Callable[[int], object] | None = (
            None  # writes down, on disk when it returns, where the log starts
        )
        self._active: ActiveSegment
        self._producers: ProducerState | None = ProducerState()  # None: not read yet
        self._epochs = LeaderEpochs(directory)
        self._epoch = -1
        self._next_expiry_ms = 0
        self._snapshot_due = 0
        self._boot_id = directory.boot_id()
        self.config = config

    def _set_limits(self) -> None:
        active, config = self._active, self._config
        self._last_offset_max = active.base_offset + RELATIVE_OFFSET_MAX
        if self._goes_the_long_way:
            active.limit = 0
        active.limit = min(active.limit, config.segment_bytes)  # may be less than its segment was made for
        self._roll_at = (
            active.first_timestamp + config.segment_ms - self._jitter_ms()
            if active.end and active.first_timestamp >= 0
            else FOREVER
        )

    def _jitter_ms(self) -> int:
        """How much earlier than others this segment is given up: other logs and segments have other parts of
        segment.jitter.ms, and this one the same after a restart.
        """
        longest = min(self._config.segment_jitter_ms, self._config.segment_ms)
        return crc32c(f"{self.name} {self._active.base_offset}".encode()) % longest if longest else 0

    @property
    def config(self) -> LogConfig:
        """May be replaced between appends. What a segment was made with (a larger segment.bytes, another
        segment.index.bytes) counts from the next roll; all else at once.
        """
        return self._config

    @config.setter
    def config(self, config: LogConfig) -> None:
        self._config = config
        self._max_message_bytes = config.max_message_bytes
        # each append takes the long way: to be counted at its end, or to be compressed anew
        self._goes_the_long_way = (
            config.flush_messages < log_config.FOREVER or config.compression_type != log_config.PRODUCER
        )
        self._interval = config.index_interval_bytes
        self._after_max_ms = min(config.message_timestamp_after_max_ms, FOREVER)
        self._rare = (
            config.message_timestamp_type == "LogAppendTime"
            or config.message_timestamp_before_max_ms < FOREVER
        )
        if hasattr(self, "_active"):
            self._set_limits()

    @property
    def active_base_offset(self) -> int:
        """Base offset of the active segment."""
        return self._active.base_offset

    @property
    def active_position(self) -> int:
        """Bytes in the active segment."""
        return self._active.end

    @property
    def last_stable_offset(self) -> int:
        """Where read_committed ends: the high watermark, or the first open transaction below it."""
        first = self.producers.first_unstable_offset()
        return self.high_watermark if first is None else min(first, self.high_watermark)

    @property
    def leader_epochs(self) -> LeaderEpochs:
        """Epochs and where they began."""
        return self._epochs

    @property
    def producers(self) -> ProducerState:
        """Idempotent producers; KafkaError if they cannot be read.

        Those of a log that was opened as its owner left it are read when somebody asks: else the start of a
        thousand logs would read headers of gigabytes.
        """
        if self._producers is None:
            found = Recovered(segments=self.segments, end_offset=self.log_end_offset, is_trusted=True)
            try:
                self._producers = restore_producers(self.directory, found)
            except OSError as error:
                raise storage_error(error, f"cannot read the producers of {self.name}") from error
            self._snapshot_due = self._next_expiry_ms = 0  # the next tick: or as much were read again
        return self._producers

    def take_producers(self, other: "LogView") -> None:
        """Those of a log with the same batches, which is used no more: it also knows producers whose batches
        were deleted. KafkaError if they cannot be read.
        """
        self._producers = other.producers

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be appended any more, also because its files are not what it thinks."""
        return self._closed

    @property
    def cut_count(self) -> int:
        """How often something was taken back since it was opened."""
        return self._cut_count

    @property
    def segments(self) -> list[Segment]:
        """All segments, the active one last."""
        return [*self._segments, self._active.as_segment()]

    def stored(self, start: int, end: int) -> memoryview:
        """The bytes of the active segment between two positions below its end; until the next append."""
        return self._active.view[start:end]

    def place_of(self, offset: int) -> tuple[int, int]:
        """(base offset of the segment, position in it) of the first batch that ends at or above `offset`, the
        end of the log if none does. KafkaError: OFFSET_OUT_OF_RANGE if that is no offset of this log, or the
        disk's.
        """
        if offset == self.log_end_offset:
            return self._active.base_offset, self._active.end
        try:
            return places.place_of(self.directory, self.segments, offset)
        except OSError as error:
            raise storage_error(error, f"cannot find offset {offset} of {self.name}") from error

    def offset_for_timestamp(self, timestamp: int) -> time_search.Found | None:
        """(offset, timestamp, leader epoch) of the first record that is not older; None if all are."""
        return time_search.first_at_or_after(self.directory, self.segments, timestamp, self.log_start_offset)

    def max_timestamp(self) -> time_search.Found | None:
        """(offset, timestamp, leader epoch) of the first record with the largest timestamp; None in an empty
        log.
        """
        return time_search.largest(self.directory, self.segments)

    def epoch_end_offset(self, epoch: int, leader_epoch: int = -1) -> tuple[int, int]:
        """(epoch, end offset), as OffsetForLeaderEpoch answers; leader_epoch: in which nothing may have been
        written yet.
        """
        return self._epochs.end_offset_for(epoch, self.log_end_offset, leader_epoch)
