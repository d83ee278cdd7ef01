"""The log on disk and the one of the simulations answer Raft alike."""

from errno import ENOSPC
from pathlib import Path
from random import Random

import pytest

from tailrace.core.errors import KAFKA_STORAGE_ERROR
from tailrace.core.log.directory import Directory, DiskFullError, RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.raft_log import Snapshot, split_batches
from tailrace.core.raft.snapshot import snapshot_name
from tailrace.core.raft.stored_log import StoredLog
from tailrace.core.raft.voters import VoterSet, decode_voters, encode_voters
from tests.support.simulated_directory import PAGE, SECTOR, SimulatedDirectory
from tests.unit.log.logs import NOW, SMALL
from tests.unit.raft.script import Script, data, new_log, stored_batch, voter_set

VOTERS = voter_set(1, 2)


def voters_in(snapshot: bytes) -> VoterSet | None:
    """These snapshots are nothing but their voters."""
    return decode_voters(snapshot)


def open_stored(path: Path) -> StoredLog:
    """As it was left, or new."""
    return open_on(RealDirectory(str(path)))


def open_on(directory: Directory) -> StoredLog:
    """As it was left there, or new."""
    log = Log.open(directory, "__cluster_metadata-0", SMALL, now_ms=NOW)
    return StoredLog(log, voters_in, NOW)


def fill(log: StoredLog, *epochs: int) -> None:
    """A batch each."""
    for epoch in epochs:
        log.append_as_leader(data(), epoch, NOW)


@pytest.mark.parametrize("seed", range(5))
def test_both_logs_answer_alike(tmp_path: Path, seed: int) -> None:
    random, memory, stored = Random(seed), new_log(), open_stored(tmp_path)
    epoch = 1
    for _ in range(120):
        match random.randrange(4):
            case 0:
                epoch += random.randrange(3)
                for log in (memory, stored):
                    log.append_as_leader(data(b"l" * 200), epoch, NOW)
            case 1:
                batch = stored_batch(memory.log_end_offset, epoch, data(b"f"))
                for log in (memory, stored):
                    log.append_as_follower(memoryview(batch), NOW)
            case 2 if random.random() < 0.3:
                offset = random.randint(0, memory.log_end_offset)
                for log in (memory, stored):
                    log.truncate_to(offset, NOW)
                epoch = max(epoch, memory.last_epoch)
            case _:
                offset = random.randint(0, memory.log_end_offset)
                assert stored.read(offset, 500) == memory.read(offset, 500)
        assert stored.log_end_offset == memory.log_end_offset
        assert stored.last_epoch == memory.last_epoch
        for asked in range(epoch + 2):
            assert stored.end_offset_for(asked) == memory.end_offset_for(asked)
    stored.close()
    stored.log.close()


def test_a_snapshot_takes_the_place_of_the_log_and_is_there_after_a_restart(tmp_path: Path) -> None:
    log = open_stored(tmp_path)
    fill(log, 1, 1)
    whole, snapshot_id = encode_voters(VOTERS), OffsetAndEpoch(40, 3)
    log.write_snapshot(snapshot_id, 0, b"an older one that was not finished")
    log.write_snapshot(snapshot_id, 0, whole[:10])
    log.write_snapshot(snapshot_id, 10, whole[10:])
    log.install_snapshot(snapshot_id, NOW)
    for opened in (log, None):
        if opened is None:
            log.log.close()
            opened = open_stored(tmp_path)
        assert (opened.log_start_offset, opened.log_end_offset, opened.last_epoch) == (40, 40, 3)
        assert opened.end_offset_for(3) == (3, 40)
        found = opened.latest_snapshot()
        assert found is not None
        assert (found.snapshot_id, found.size, found.voters) == (snapshot_id, len(whole), VOTERS)
        assert opened.read_snapshot(snapshot_id, 5, 7) == whole[5:12]
        assert opened.read_snapshot(OffsetAndEpoch(1, 1), 0, 7) is None


@pytest.mark.parametrize(
    "epochs", [(1, 1), (1,) * 60, (1, 2, *(2,) * 50)], ids=["shorter", "older", "longer"]
)
def test_a_crash_between_snapshot_and_log_is_mended(tmp_path: Path, epochs: tuple[int, ...]) -> None:
    """(R) The log is of another history, whether it is shorter or longer; at the end it is not."""
    log = open_stored(tmp_path)
    fill(log, *epochs)
    log.log.directory.replace(snapshot_name(OffsetAndEpoch(40, 3)), encode_voters(VOTERS))
    log.log.close()
    again = open_stored(tmp_path)
    assert (again.log_start_offset, again.log_end_offset, again.last_epoch) == (40, 40, 3)


def take_snapshot(log: StoredLog, end_offset: int) -> OffsetAndEpoch:
    """What the owner of a log does with what is committed."""
    taken = OffsetAndEpoch(end_offset, log.epoch_before(end_offset))
    log.store_snapshot(taken, encode_voters(VOTERS))
    log.keep_snapshot(Snapshot(taken, 1, VOTERS), NOW)
    return taken


def snapshots(log: StoredLog) -> list[str]:
    """The files of them."""
    return [name for name in log.log.directory.names() if name.endswith(".checkpoint") and name[0] == "0"]


def test_a_snapshot_of_its_own_cuts_the_log_below_it_and_removes_older_ones(tmp_path: Path) -> None:
    log = open_stored(tmp_path)
    fill(log, 1, 1, 2, 2)
    assert take_snapshot(log, 2) == OffsetAndEpoch(2, 1)
    newest = take_snapshot(log, 3)
    assert newest == OffsetAndEpoch(3, 2)
    assert snapshots(log) == [snapshot_name(newest)]
    assert (log.log_start_offset, log.log_end_offset, log.last_epoch) == (3, 4, 2)
    log.log.close()
    again = open_stored(tmp_path)
    assert (again.log_start_offset, again.log_end_offset, again.end_offset_for(2)) == (3, 4, (2, 4))


def test_a_log_that_ends_with_its_snapshot_goes_on_there(tmp_path: Path) -> None:
    log = open_stored(tmp_path)
    fill(log, 1, 2)
    take_snapshot(log, 2)
    assert [name for name in log.log.directory.names() if name.endswith(".log")] == [f"{2:020d}.log"]
    for opened in (log, None):
        if opened is None:
            log.log.close()
            opened = open_stored(tmp_path)
        assert (opened.log_start_offset, opened.log_end_offset, opened.last_epoch) == (2, 2, 2)
        assert opened.end_offset_for(2) == (2, 2)


def test_a_full_disk_leaves_the_log_as_it_is_and_the_next_open_cuts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_stored(tmp_path)
    fill(log, 1, 1, 1)

    def refuse(_offset: int, _now_ms: int) -> None:
        raise DiskFullError(KAFKA_STORAGE_ERROR, "full")

    with monkeypatch.context() as patched:
        patched.setattr(log.log, "delete_records_before", refuse)
        taken = take_snapshot(log, 2)
    assert (log.log_start_offset, log.log_end_offset, snapshots(log)) == (0, 3, [snapshot_name(taken)])
    log.log.close()
    again = open_stored(tmp_path)
    assert (again.log_start_offset, again.log_end_offset) == (2, 3)


def test_a_full_disk_keeps_what_came_from_the_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed once there is room."""
    log, snapshot_id, whole = open_stored(tmp_path), OffsetAndEpoch(40, 3), encode_voters(VOTERS)
    log.write_snapshot(snapshot_id, 0, whole)

    def refuse(_snapshot_id: OffsetAndEpoch, _data: bytes) -> None:
        raise OSError(ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(log, "store_snapshot", refuse)
        with pytest.raises(OSError, match="full"):
            log.install_snapshot(snapshot_id, NOW)
    assert (log.log_end_offset, log.latest_snapshot()) == (0, None)
    log.install_snapshot(snapshot_id, NOW)
    assert log.log_end_offset == 40
    assert log.read_snapshot(snapshot_id, 0, 1000) == whole


def test_one_that_is_older_than_what_came_from_the_leader_goes(tmp_path: Path) -> None:
    """It was being written when that came."""
    log = open_stored(tmp_path)
    fill(log, 1, 1)
    own, newer = OffsetAndEpoch(2, 1), OffsetAndEpoch(40, 3)
    log.store_snapshot(own, encode_voters(VOTERS))
    log.write_snapshot(newer, 0, encode_voters(VOTERS))
    log.install_snapshot(newer, NOW)
    log.store_snapshot(own, encode_voters(VOTERS))
    log.keep_snapshot(Snapshot(own, 1, VOTERS), NOW)
    assert snapshots(log) == [snapshot_name(newer)]
    assert (log.log_start_offset, log.log_end_offset) == (40, 40)


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_of_power_while_snapshots_are_taken_and_installed_loses_nothing(seed: int) -> None:
    """(R) What was synced is in the log or in the newest snapshot that is left, and they fit."""
    random = Random(seed)
    disk = SimulatedDirectory()
    log = open_on(disk)
    synced = 0

    def lose_power() -> None:
        if random.random() < 0.1:
            left = open_on(disk.crash(random, random.choice((SECTOR, PAGE))))
            assert left.log_start_offset <= left.log_end_offset >= synced
            found = left.latest_snapshot()
            assert (found.snapshot_id.offset if found else 0) == left.log_start_offset
            offset = left.log_start_offset
            while offset < left.log_end_offset:
                batches = list(split_batches(left.read(offset, 500)))
                assert batches[0].base_offset == offset
                offset = batches[-1].next_offset

    disk.on_event = lose_power
    for _ in range(30):
        match random.randrange(4):
            case 0 if synced > log.log_start_offset:
                take_snapshot(log, random.randint(log.log_start_offset + 1, synced))
            case 1 if random.random() < 0.3:
                newer = OffsetAndEpoch(log.log_end_offset + random.randint(1, 5), log.last_epoch + 1)
                log.write_snapshot(newer, 0, encode_voters(VOTERS))
                log.install_snapshot(newer, NOW)
                synced = newer.offset
            case _:
                fill(log, max(log.last_epoch, 1) + (random.random() < 0.1))
                if random.random() < 0.5:
                    log.log.flush()
                    synced = log.log_end_offset


def test_a_node_leads_with_a_log_on_disk(tmp_path: Path) -> None:
    stored = open_stored(tmp_path)
    script = Script(log=stored).established()
    assert script.append(2)[0] == "to 2: Fetch e1 #0 [3@1 4@1], hw 3"
    assert script.fetch(3, 4, last_epoch=0) == ["to 3: Fetch e1 #0 diverging at 0@0"]
