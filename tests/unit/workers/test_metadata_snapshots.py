"""Snapshots that a controller takes: when, of what, and what a disk that refuses them costs."""

import os
import time
from collections.abc import Callable
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from tailrace.core.config import load
from tailrace.core.errors import KafkaError
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.metadata.batches import batch_of
from tailrace.core.metadata.image import MetadataImage
from tailrace.core.metadata.records import ProducerIdsBlock
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.snapshot import parse_snapshot_name, snapshot_name
from tailrace.core.raft.stored_log import StoredLog
from tailrace.core.raft.voters import ReplicaKey, Voter, VoterSet
from tailrace.workers import metadata_snapshots
from tailrace.workers.data_dir import METADATA_LOG
from tailrace.workers.metadata_follower import MetadataReader, has_metadata
from tailrace.workers.metadata_snapshots import RETRY_MS, Snapshots, voters_in
from tests.support.waiting import wait_until
from tests.unit.log.logs import SMALL

VOTERS = VoterSet([Voter(ReplicaKey(1, bytes(range(16))))])
BETWEEN = 1000


class Setting:
    """A metadata log with an image, as a controller has them."""

    def __init__(self, path: Path) -> None:
        self.path = path / METADATA_LOG
        log = Log.open(RealDirectory(str(self.path)), METADATA_LOG, SMALL, now_ms=0)
        self.log = StoredLog(log, voters_in, 0)
        self.image, self._metadata_dir = MetadataImage(), str(path)
        bound = {"metadata.log.max.record.bytes.between.snapshots": str(BETWEEN)}
        config, _ = load({"log.dirs": str(path), **bound})
        self.snapshots = Snapshots(config, self.log, lambda: None)

    def decide(self) -> int:
        """A record more; the size of its batch."""
        end_offset = self.image.metadata_offset + 1
        records = [ProducerIdsBlock(next_producer_id=end_offset)]
        batch = batch_of(records, 1)
        self.log.append_as_leader(batch, 3, 0)
        self.image.replay(records, end_offset)
        self.log.log.high_watermark = end_offset
        return len(batch)

    def look(self, new_bytes: int = 0) -> None:
        """What a turn of the controller does."""
        self.snapshots.look(self.image, new_bytes, lambda _offset: VOTERS)

    def taken(self) -> list[OffsetAndEpoch]:
        """The snapshots that there are."""
        return [found for name in sorted(os.listdir(self.path)) if (found := parse_snapshot_name(name))]

    def settle(self, condition: Callable[[], object]) -> None:
        """Turns until it holds."""

        def turn() -> bool:
            self.look()
            return bool(condition())

        wait_until(turn, "a snapshot to be written")

    def read(self) -> MetadataImage:
        """What somebody else makes of the files."""
        found = MetadataImage()
        MetadataReader(self._metadata_dir).advance(found, self.log.log_end_offset)
        return found


def test_one_is_taken_after_so_many_bytes_and_the_log_begins_there(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    written = 0
    while written + (size := setting.decide()) < BETWEEN:
        written += size
        setting.look(size)
        assert setting.taken() == []
    setting.look(size)
    offset = setting.image.metadata_offset
    setting.decide()
    setting.settle(lambda: setting.log.log_start_offset == offset)
    assert setting.taken() == [OffsetAndEpoch(offset, 3)]
    found = setting.log.latest_snapshot()
    assert found is not None
    assert found.voters == VOTERS
    assert found.size == (setting.path / snapshot_name(found.snapshot_id)).stat().st_size
    assert setting.read().next_producer_id == offset + 1
    setting.log.log.close()


def test_a_full_disk_costs_a_minute_and_a_broken_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(tmp_path)
    now_ms, failure = time.monotonic_ns() // 1_000_000, [ENOSPC]
    monkeypatch.setattr(metadata_snapshots, "_monotonic_ms", lambda: now_ms)
    store, tried = setting.log.store_snapshot, [0]

    def refusing(snapshot_id: OffsetAndEpoch, data: bytes) -> None:
        tried[0] += 1
        if failure[0]:
            raise OSError(failure[0], os.strerror(failure[0]))
        store(snapshot_id, data)

    monkeypatch.setattr(setting.log, "store_snapshot", refusing)
    setting.decide()
    setting.look(BETWEEN)
    setting.settle(lambda: not setting.snapshots._background.under_way)  # pyright: ignore[reportPrivateUsage]
    now_ms += RETRY_MS - 1
    setting.look()
    assert (tried[0], setting.log.log_start_offset) == (1, 0)
    now_ms += 1
    failure[0] = 0
    setting.settle(lambda: setting.log.log_start_offset == 1)
    setting.decide()
    failure[0] = EIO
    setting.look(BETWEEN)
    with pytest.raises(KafkaError, match="snapshot of the metadata"):
        setting.settle(lambda: False)
    setting.log.log.close()


def test_a_damaged_snapshot_is_told_by_its_voters() -> None:
    with pytest.raises(OSError, match="snapshot of the metadata"):
        voters_in(b"nothing of ours")


def test_a_metadata_log_has_something_as_soon_as_a_batch_is_in_it(tmp_path: Path) -> None:
    """(R) A controller whose log is empty asks this of the others'."""
    assert not has_metadata(str(tmp_path)), "there is none"
    setting = Setting(tmp_path)
    assert not has_metadata(str(tmp_path)), "it is all zeros"
    setting.decide()
    assert has_metadata(str(tmp_path))
    setting.look(BETWEEN)
    setting.settle(lambda: setting.log.log_start_offset == 1)
    assert has_metadata(str(tmp_path)), "all of it is in a snapshot"
    setting.log.log.close()
    for path in setting.path.glob("*.log"):
        path.unlink()
    assert has_metadata(str(tmp_path)), "there is only that"
