"""Appends of a follower: what the leader accepted, as it is, at the end of the log and nowhere else."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.scan import scan
from tailrace.core.records.batch import HEADER, LENGTH_PREFIX, parse_header, stamp
from tailrace.core.records.crc32c import crc32c
from tests.model.test_log_crashes import CONFIG, check
from tests.support.simulated_directory import SECTOR, SimulatedDirectory
from tests.unit.log.logs import NOW, SMALL, batch, fill, log_bytes, offsets_on_disk, open_log
from tests.unit.log.test_append_rules import watched_log

SIZES = (1, 100, 900, 3000)


def stamped(sent: bytes, base_offset: int, leader_epoch: int = 0) -> bytes:
    """As it lies in a leader's log."""
    copy = bytearray(sent)
    stamp(copy, base_offset, leader_epoch)
    return bytes(copy)


def batches_of(log: Log) -> list[bytes]:
    """All of them, as they are on the disk."""
    found: list[bytes] = []
    for segment in log.segments:
        file = log.directory.open_read(segment.log_name)
        for position, header in scan(file, 0, segment.size, check=True):
            found.append(file.read(position, header.size))
        file.release()
    return found


def refusal(log: Log, sent: bytes, *, allow_gap: bool = False) -> int:
    """The code with which the log refuses it; what it holds has not changed."""
    before, end = log.log_end_offset, log.active_position
    with pytest.raises(KafkaError) as caught:
        log.append_as_follower(sent, NOW, allow_gap=allow_gap)
    assert (log.log_end_offset, log.active_position) == (before, end)
    return caught.value.code


def rich_leader(path: Path) -> Log:
    """Epochs, producers, several segments, batches of several records."""
    leader, sequence = open_log(path), 0
    for number in range(200):
        producer = number % 3 - 1
        text = f"{number}".ljust(SIZES[number % 4], ".")
        one = batch(
            text, producer=producer, sequence=sequence if producer >= 0 else -1, records=1 + number % 2
        )
        if producer == 1:
            sequence += 2 if number % 2 else 1
        if producer <= 0:
            one = batch(text, records=1 + number % 2, timestamp=NOW + number)
        leader.append_as_leader(one, number // 60, NOW + number)
    return leader


def test_a_follower_holds_what_its_leader_holds(tmp_path: Path) -> None:
    leader, follower = rich_leader(tmp_path / "a"), open_log(tmp_path / "b")
    for one in batches_of(leader):
        follower.append_as_follower(one, NOW)
    assert batches_of(follower) == batches_of(leader)
    assert follower.log_end_offset == leader.log_end_offset
    assert follower.leader_epochs.entries == leader.leader_epochs.entries
    assert follower.producers.encode() == leader.producers.encode()
    assert [s.base_offset for s in follower.segments] == [s.base_offset for s in leader.segments]
    assert follower.max_timestamp() == leader.max_timestamp()
    for name in leader.directory.names():
        if name.endswith((".index", ".timeindex")):
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    leader.close()
    follower.close()


def test_a_batch_is_taken_at_the_end_of_the_log_only(tmp_path: Path) -> None:
    """(R) Whoever counts the end of this log would count what it has not."""
    log = open_log(tmp_path)
    fill(log, 3)
    end = log.active_position
    for base_offset in (0, 2, 4, 1000):
        assert refusal(log, stamped(batch("x"), base_offset)) == errors.OFFSET_OUT_OF_RANGE
    assert not any(log_bytes(tmp_path)[end:])
    log.append_as_follower(stamped(batch("x"), 3), NOW)
    assert log.log_end_offset == 4
    log.close()


@pytest.mark.parametrize("large", [False, True])
def test_epochs_never_go_back(tmp_path: Path, large: bool) -> None:
    """(R) Also where the batch needs more room first."""
    log = open_log(tmp_path)
    log.append_as_follower(stamped(batch("x"), 0, 5), NOW)
    text = "x" * (60_000 if large else 10)
    assert refusal(log, stamped(batch(text), 1, 4)) == errors.FENCED_LEADER_EPOCH
    log.append_as_follower(stamped(batch(text), 1, 7), NOW)
    assert log.leader_epochs.entries == [(5, 0), (7, 1)]
    log.close()


def forged(**fields: int) -> bytes:
    """A batch with a sound CRC and these fields at offset 0."""
    sent = bytearray(batch("forged"))
    unchecked = ("base_offset", "length", "leader_epoch", "magic", "crc")
    checked = ("attributes", "delta", "first", "newest", "producer", "epoch", "sequence", "count")
    names = (*unchecked, *checked)
    values = dict(zip(names, HEADER.unpack_from(sent), strict=True)) | fields
    sent[: HEADER.size] = HEADER.pack(*values.values())
    values["crc"] = crc32c(memoryview(sent)[21:])
    sent[: HEADER.size] = HEADER.pack(*values.values())
    return bytes(sent)


UNSOUND = {
    "short": batch("x")[:60],
    "cut": batch("x")[:-1],
    "longer": batch("x") + b"\0",
    "crc": batch("x")[:-1] + b"\1",
    "magic": forged(magic=1),
    "delta": forged(delta=-1, count=0),
    "count": forged(count=3),
    "negative count": forged(count=-1),
    "codec": forged(attributes=5),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_what_is_not_sound_is_refused_and_leaves_zeros(tmp_path: Path, fault: str) -> None:
    """(R) Or recovery would take it in."""
    log = open_log(tmp_path)
    assert refusal(log, UNSOUND[fault]) == errors.CORRUPT_MESSAGE
    assert not any(log_bytes(tmp_path))
    log.close()


@pytest.mark.parametrize("place", [0, 11, 13, 16, 17, 22, 26, 50, 56, 60, -1])
def test_the_copy_is_checked_and_not_the_source(tmp_path: Path, place: int) -> None:
    """(R) A ring is memory that another process writes to."""
    log, file = watched_log(tmp_path)
    sent = bytearray(stamped(batch("steady", producer=1, sequence=0), 3, 2))
    expected, end = bytes(sent), log.active_position

    def change(_position: int) -> None:
        sent[place] ^= 1
        file.after = lambda _: None

    file.after = change
    log.append_as_follower(sent, NOW)
    assert log_bytes(tmp_path)[end : log.active_position] == expected
    log.close(clean=False)


def test_the_first_bytes_are_stored_last(tmp_path: Path) -> None:
    """(R) Before the last store nothing is there."""
    log, file = watched_log(tmp_path)
    for number in range(60):
        end = log.active_position
        seen: list[bytes] = []

        def look(_position: int, end: int = end, seen: list[bytes] = seen) -> None:
            seen.append(log_bytes(tmp_path)[end : end + LENGTH_PREFIX])

        file.after = look
        log.append_as_follower(stamped(batch(f"whole {number}"), 3 + number, 1), NOW)
        assert not any(any(prefix) for prefix in seen[:-1])
        assert any(seen[-1])
    log.close()


def test_sequences_are_taken_as_the_leader_took_them(tmp_path: Path) -> None:
    """Retention or a snapshot may have taken from this log what the leader knew; a successor goes on."""
    log = open_log(tmp_path)
    log.append_as_follower(stamped(batch("a", producer=4, sequence=17), 0, 1), NOW)
    log.append_as_follower(stamped(batch("b", producer=4, sequence=90), 1, 1), NOW)
    assert log.append_as_leader(batch("b", producer=4, sequence=90), 2, NOW).duplicate
    assert log.append_as_leader(batch("c", producer=4, sequence=91), 2, NOW).base_offset == 2
    log.close()


def test_a_batch_larger_than_the_own_limits_is_taken(tmp_path: Path) -> None:
    """The leader's settings may be newer than the follower's."""
    config = LogConfig(segment_bytes=4096, max_message_bytes=1000, index_interval_bytes=256)
    log = open_log(tmp_path, config)
    sizes = [10, 9000, 10, 3000, 3000, 20_000]
    for number, size in enumerate(sizes):
        log.append_as_follower(stamped(batch("x" * size), number), NOW)
    assert log.log_end_offset == len(sizes)
    assert len(log.segments) > 3
    log.close(clean=False)
    log = open_log(tmp_path, config, same_boot=False)
    assert log.log_end_offset == len(sizes)
    log.close()


def test_gaps_are_let_through_only_when_they_may_be_there(tmp_path: Path) -> None:
    """A copy of a compacted log lacks what the log lacks, also after it was read again."""
    log = open_log(tmp_path)
    log.append_as_follower(stamped(batch("a"), 0), NOW)
    gap = stamped(batch("b" * 30_000), 10, 3)
    assert refusal(log, gap) == errors.OFFSET_OUT_OF_RANGE
    log.append_as_follower(gap, NOW, allow_gap=True)
    assert refusal(log, stamped(batch("c"), 5, 3), allow_gap=True) == errors.OFFSET_OUT_OF_RANGE
    for base_offset in (20, 30, 40, 41):
        one = stamped(batch("d" * 20_000), base_offset, 4)
        log.append_as_follower(one, NOW, allow_gap=True)
    assert log.leader_epochs.entries == [(0, 0), (3, 10), (4, 20)]
    # each begins where the one before ends, though the next batch is at 30
    assert [segment.base_offset for segment in log.segments] == [0, 21]
    far = stamped(batch("e"), 1 << 40, 4)
    assert refusal(log, far, allow_gap=True) == errors.CORRUPT_MESSAGE
    log.close(clean=False)
    log = open_log(tmp_path, same_boot=False)
    assert log.log_end_offset == 42
    assert [parse_header(one).base_offset for one in batches_of(log)] == [0, 10, 20, 30, 40, 41]
    log.close()


def test_a_follower_rolls_by_its_own_time(tmp_path: Path) -> None:
    config = LogConfig(segment_bytes=64 * 1024, segment_ms=1000, index_interval_bytes=256)
    log = open_log(tmp_path, config)
    log.append_as_follower(stamped(batch("a", timestamp=NOW), 0), NOW)
    log.append_as_follower(stamped(batch("b", timestamp=NOW + 5000), 1), NOW)
    assert [segment.base_offset for segment in log.segments] == [0, 1]
    log.close()
    assert offsets_on_disk(tmp_path) == [0]


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.close()
    with pytest.raises(KafkaError) as caught:
        log.append_as_follower(stamped(batch("a"), 0), NOW)
    assert caught.value.code == errors.KAFKA_STORAGE_ERROR


def append_some(log: Log, random: Random, possible: list[bytes], on_append: Callable[[], object]) -> None:
    """A batch as from a leader, now and then a sync or one that is refused."""
    number = len(possible)
    producer = random.randint(-1, 1)
    text = f"{number}".ljust(random.choice(SIZES), ".")
    base, epoch = log.log_end_offset, number // 15
    one = stamped(batch(text, producer=producer, sequence=number if producer >= 0 else -1), base, epoch)
    if random.random() < 0.1:
        refusal(log, one[:-1] + bytes([one[-1] ^ 1]))
    possible.append(one[HEADER.size :])
    log.append_as_follower(one, NOW)
    on_append()


@pytest.mark.parametrize("seed", range(12))
def test_a_loss_of_power_takes_the_end_of_a_followers_log_and_no_more(seed: int) -> None:
    """Nothing synced is lost, nothing invented, nothing refused comes back; epochs and producers agree."""
    random, directory = Random(seed), SimulatedDirectory()
    log = Log.open(directory, "t-0", CONFIG, now_ms=NOW)
    possible: list[bytes] = []
    synced = [0, 0]

    def maybe_crash() -> None:
        if random.random() < 0.02:
            after = directory.crash(random, SECTOR)
            check(after, possible, *synced)

    directory.on_event = maybe_crash
    for _ in range(60):
        append_some(log, random, possible, lambda: None)
        if random.random() < 0.1:
            log.flush()
            synced[:] = [len(possible), log.recovery_point]
    log.close(clean=False)
    check(directory.killed(), possible, len(possible), log.recovery_point)


def test_small_segments_take_many(tmp_path: Path) -> None:
    """The index fills up: the follower rolls as the leader would."""
    leader, follower = open_log(tmp_path / "a", SMALL), open_log(tmp_path / "b", SMALL)
    fill(leader, 1500, size=200)
    for one in batches_of(leader):
        follower.append_as_follower(one, NOW)
    assert len(follower.segments) > 4
    assert batches_of(follower) == batches_of(leader)
    leader.close()
    follower.close()


def test_each_offset_has_its_place(tmp_path: Path) -> None:
    leader = rich_leader(tmp_path)
    for segment in leader.segments:
        file = leader.directory.open_read(segment.log_name)
        for position, header in scan(file, 0, segment.size, check=False):
            for offset in {header.base_offset, header.last_offset}:
                assert leader.place_of(offset) == (segment.base_offset, position)
        file.release()
    assert leader.place_of(leader.log_end_offset) == (leader.active_base_offset, leader.active_position)
    for offset in (-1, leader.log_end_offset + 1):
        with pytest.raises(KafkaError) as caught:
            leader.place_of(offset)
        assert caught.value.code == errors.OFFSET_OUT_OF_RANGE
    leader.close()
