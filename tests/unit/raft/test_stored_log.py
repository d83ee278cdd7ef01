"""The log on disk and the one of the simulations answer Raft alike."""

from pathlib import Path
from random import Random

import pytest

from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.log import Log
from tailrace.core.raft.messages import OffsetAndEpoch
from tailrace.core.raft.stored_log import StoredLog, snapshot_name
from tailrace.core.raft.voters import VoterSet, decode_voters, encode_voters
from tests.unit.log.logs import NOW, SMALL
from tests.unit.raft.script import Script, data, new_log, stored_batch, voter_set

VOTERS = voter_set(1, 2)


def voters_in(snapshot: bytes) -> VoterSet | None:
    """These snapshots are nothing but their voters."""
    return decode_voters(snapshot)


def open_stored(path: Path) -> StoredLog:
    """As it was left, or new."""
    log = Log.open(RealDirectory(str(path)), "__cluster_metadata-0", SMALL, now_ms=NOW)
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


def test_a_snapshot_of_its_own_leaves_the_log_and_removes_older_ones(tmp_path: Path) -> None:
    log = open_stored(tmp_path)
    fill(log, 1, 1, 2, 2)
    log.keep_snapshot(OffsetAndEpoch(2, 1), encode_voters(VOTERS))
    log.keep_snapshot(OffsetAndEpoch(3, 2), encode_voters(VOTERS))
    assert [
        name for name in log.log.directory.names() if name.endswith(".checkpoint") and name[0] == "0"
    ] == [snapshot_name(OffsetAndEpoch(3, 2))]
    log.log.close()
    again = open_stored(tmp_path)
    assert (again.log_start_offset, again.log_end_offset) == (0, 4)


def test_a_node_leads_with_a_log_on_disk(tmp_path: Path) -> None:
    stored = open_stored(tmp_path)
    script = Script(log=stored).established()
    assert script.append(2)[0] == "to 2: Fetch e1 #0 [3@1 4@1], hw 3"
    assert script.fetch(3, 4, last_epoch=0) == ["to 3: Fetch e1 #0 diverging at 0@0"]
