"""What replication asks of a log: `core.log.log.Log`, or a smaller one in simulations."""

from collections.abc import Sequence
from typing import Protocol

from tailrace.core.records.batch import Buffer


class StoredSegment(Protocol):
    """One segment of it."""

    base_offset: int
    size: int


class Epochs(Protocol):
    """Its leader epochs."""

    @property
    def latest(self) -> int:
        """-1 if there is none."""
        ...


class ReplicatedLog(Protocol):
    """See core.log.log_view and core.log.followed, whose words these are."""

    log_start_offset: int
    log_end_offset: int
    high_watermark: int
    recovery_point: int

    @property
    def active_base_offset(self) -> int: ...

    @property
    def active_position(self) -> int: ...

    @property
    def segments(self) -> Sequence[StoredSegment]: ...

    @property
    def leader_epochs(self) -> Epochs: ...

    def epoch_end_offset(self, epoch: int, leader_epoch: int = -1) -> tuple[int, int]: ...

    def place_of(self, offset: int) -> tuple[int, int]: ...

    def stored(self, start: int, end: int) -> memoryview: ...

    def append_as_follower(self, source: Buffer, now_ms: int, /, *, allow_gap: bool = False) -> None: ...

    def truncate_to(self, offset: int, now_ms: int, /) -> None: ...

    def truncate_fully_and_start_at(self, offset: int, now_ms: int, /) -> None: ...

    def delete_records_before(self, offset: int, now_ms: int, /) -> None: ...
