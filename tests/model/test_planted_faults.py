"""The search through crash states finds what breaks when a rule of the log is not kept: each rule is broken
in turn, and the search has to fail.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.log import checkpoints, flush, producer_recovery, recovery, truncation
from tailrace.core.log.directory import Buffer
from tailrace.core.log.log import Appended, Log
from tailrace.core.records.batch import ATTRIBUTES_AT, UNCHECKED
from tests.support.crash_run import explore
from tests.support.simulated_directory import SimulatedDirectory, SimulatedMappedFile

SEEDS = 60
Plant = Callable[[pytest.MonkeyPatch], None]


def nothing(*_args: object, **_more: object) -> None:
    """Done instead of what had to be."""


def published_before_it_is_checked(patch: pytest.MonkeyPatch) -> None:
    """The first 21 bytes come with the rest."""
    right = Log.append_as_leader

    def wrong(self: Log, source: Buffer, epoch: int, now_ms: int, *, from_client: bool = True) -> Appended:
        active, data = self._active, bytes(source)  # pyright: ignore[reportPrivateUsage]
        if active.end + len(data) <= active.limit:
            _, length, _, magic, crc = UNCHECKED.unpack(data[:ATTRIBUTES_AT])
            head = UNCHECKED.pack(self.log_end_offset, length, epoch, magic, crc)
            active.file.store(active.end, head + data[ATTRIBUTES_AT:])
        return right(self, source, epoch, now_ms, from_client=from_client)

    patch.setattr(Log, "append_as_leader", wrong)


def refused_bytes_stay(patch: pytest.MonkeyPatch) -> None:
    """Nothing is zeroed."""
    patch.setattr(SimulatedMappedFile, "zero", nothing)


def nothing_is_synced_before_the_recovery_point_moves(patch: pytest.MonkeyPatch) -> None:
    """A flush that only says that it has run."""
    patch.setattr(flush.Flush, "run", nothing)


def the_recovery_point_moves_after_a_truncation(patch: pytest.MonkeyPatch) -> None:
    """Of a flush that had begun before it."""

    def wrong(self: flush.FlushedLog, done: flush.Flush) -> None:
        self.recovery_point = max(self.recovery_point, done.end_offset)

    patch.setattr(flush.FlushedLog, "flushed", wrong)


def renamed_before_the_data_is_synced(patch: pytest.MonkeyPatch) -> None:
    """A replacement whose name is on the disk, and its contents may not be."""
    right = SimulatedDirectory.replace

    def wrong(self: SimulatedDirectory, name: str, data: Buffer, *, durable: bool = True) -> None:
        right(self, name, data, durable=False)
        if durable:
            self.sync()

    patch.setattr(SimulatedDirectory, "replace", wrong)


def names_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    """What was created or removed may be so or not."""
    patch.setattr(SimulatedDirectory, "sync", nothing)


def the_tail_stays_after_a_truncation(patch: pytest.MonkeyPatch) -> None:
    """The file is not cut, and so nothing becomes zero."""
    patch.setattr(SimulatedDirectory, "cut", nothing)


def cut_in_place_below_the_high_watermark(patch: pytest.MonkeyPatch) -> None:
    """What may be being sent."""
    right = recovery.cut_log_file

    def wrong(directory: Any, name: str, size: int, *, new_inode: bool) -> None:
        del new_inode
        right(directory, name, size, new_inode=False)

    patch.setattr(truncation, "cut_log_file", wrong)


def nothing_is_taken_back(patch: pytest.MonkeyPatch) -> None:
    """Neither before a log is cut nor when it is deleted."""
    patch.setattr(checkpoints, "take_back", nothing)


def later_segments_go_without_a_sync(patch: pytest.MonkeyPatch) -> None:
    """And oldest first."""

    def wrong(directory: Any, segments: list[Any]) -> None:
        for segment in segments:
            recovery.remove_segment(directory, segment.base_offset)

    patch.setattr(truncation, "remove_segments", wrong)


def snapshots_stay_after_a_truncation(patch: pytest.MonkeyPatch) -> None:
    """Those that know of more than is there."""
    patch.setattr(truncation, "remove_snapshots_above", nothing)
    right = recovery.remove_snapshots_above

    def wrong(directory: Any, end_offset: int) -> list[int]:
        del end_offset
        return right(directory, 1 << 60)

    patch.setattr(recovery, "remove_snapshots_above", wrong)
    patch.setattr(producer_recovery, "remove_snapshots_above", wrong)


def epochs_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    """Below the recovery point nobody reads them from batches."""
    right = checkpoints.write_leader_epochs

    def wrong(directory: Any, entries: Any, *, durable: bool) -> None:
        del durable
        right(directory, entries, durable=False)

    patch.setattr("tailrace.core.log.leader_epochs.write_leader_epochs", wrong)


def the_last_index_entry_is_trusted(patch: pytest.MonkeyPatch) -> None:
    """Which its writer may not have finished."""

    def wrong(offsets: bytes, times: bytes) -> tuple[bytes, bytes]:
        return offsets, times

    patch.setattr(recovery, "_without_last", wrong)


def the_start_is_written_down_after_the_removal(patch: pytest.MonkeyPatch) -> None:
    """Of what was below it."""
    right = recovery.remove_deleted

    def wrong(self: Log, offset: int) -> None:
        right(self.directory, offset)
        assert self.on_start_moved is not None
        self.on_start_moved(offset)
        self.log_start_offset = offset

    patch.setattr(Log, "_start_at", wrong)


PLANTS: dict[Plant, dict[str, Any]] = {
    published_before_it_is_checked: {},
    refused_bytes_stay: {"power": 0.0, "hidden": True},
    nothing_is_synced_before_the_recovery_point_moves: {},
    the_recovery_point_moves_after_a_truncation: {},
    renamed_before_the_data_is_synced: {},
    names_are_not_synced: {},
    the_tail_stays_after_a_truncation: {},
    cut_in_place_below_the_high_watermark: {},
    nothing_is_taken_back: {},
    later_segments_go_without_a_sync: {},
    snapshots_stay_after_a_truncation: {},
    epochs_are_not_synced: {},
    the_last_index_entry_is_trusted: {"power": 0.0},
    the_start_is_written_down_after_the_removal: {},
}


def search(**options: Any) -> None:
    """A few thousand states."""
    for seed in range(SEEDS):
        explore(seed, **options)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_broken_rule_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, KafkaError)):
        search(**PLANTS[plant])
