"""Files of a log with one bit flipped, cut short, or left over: a start never fails, nothing damaged is taken
for good, and a reader never comes to where it should not.
"""

from random import Random

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.log import checkpoints
from tailrace.core.log.log import Log
from tailrace.core.log.reader import LogReader
from tailrace.core.log.verification import verify
from tailrace.core.records.batch import HEADER_SIZE, check_stored, parse_header
from tests.support.log_history import Held, History, held_in
from tests.support.log_workload import SMALL, Opened, write_checkpoints
from tests.support.simulated_directory import SimulatedDirectory
from tests.support.simulated_disk import Loss, SimulatedDisk
from tests.unit.log.logs import NOW, batch

FLIPS, RUNS = 2000, 8


def made(*, clean: bool) -> tuple[SimulatedDisk, Opened]:
    """A log of several segments, with epochs, producers and all its files; a part of it is synced."""
    disk = SimulatedDisk()
    history = History(topic="a", topic_id=b"0123456789abcdef")
    opened = Opened(disk, history, SMALL, None, NOW)
    log = opened.log
    for number in range(60):
        text = f"{number}".ljust(300 + number * 7 % 500, ".")
        sent = batch(text, producer=number % 3, sequence=number // 3, timestamp=NOW + number)
        log.append_as_leader(sent, number // 20, NOW)
        if number == 50:
            log.flush()
    opened.note(batches=tuple(held_in(log)), end=60, synced=51)
    opened.row[14:] = [0, log.recovery_point]
    opened.publish()
    write_checkpoints(disk, {"a": opened.row})
    log.close(clean=clean)
    return disk, opened


def flipped(disk: SimulatedDisk, random: Random) -> tuple[SimulatedDisk, str]:
    """The same disk after its power was lost, but for one bit of a file, any as likely as any other."""
    after = disk.crash(Loss(Random(0)))
    for number, inode in disk.files.items():
        after.files[number] = inode.clone()
        after.files[number].sync()
    after.folders = {number: folder.clone() for number, folder in disk.folders.items()}
    names = {
        name: number
        for folder in after.folders.values()
        for name, number in folder.seen.items()
        if number in after.files and after.files[number].seen.rstrip(b"\0")
    }
    name = random.choice(list(names))
    inode = after.files[names[name]]
    used = len(inode.seen.rstrip(b"\0"))
    place = random.randrange(min(used, HEADER_SIZE) if random.random() < 0.2 else used)
    inode.seen[place] ^= 1 << random.randrange(8)
    inode.sync()
    return after, name


def read_everywhere(directory: SimulatedDirectory, log: Log, batches: tuple[Held, ...], name: str) -> None:
    """What a gateway would send for any offset is the batch that holds it, or its CRC is wrong."""
    reader = LogReader(directory)
    for one in batches:
        located = reader.locate_in(log, one.base_offset, 1)
        if located is None:
            assert one.base_offset >= log.log_end_offset or name.endswith(".log"), "an index hides a batch"
            continue
        data = located.file.read(located.position, located.length)
        header = parse_header(data)
        if not check_stored(memoryview(data), header) and not name.endswith(".log"):
            assert Held.of(header, data[HEADER_SIZE:]) == one


@pytest.mark.parametrize("run", range(RUNS))
def test_a_flipped_bit_is_mended_or_seen(run: int) -> None:
    """Of any file, after a clean stop and after a loss of power; with another topic's id it is refused."""
    random = Random(run)
    disk, opened = made(clean=run % 2 == 0)
    kinds = set[str]()
    for _ in range(FLIPS // RUNS):
        after, name = flipped(disk, random)
        kinds.add(name.rpartition(".")[2])
        history = opened.history
        seen = verify(SimulatedDirectory(after, "a-0"), records=True).faults
        owner = checkpoints.read_partition_metadata(SimulatedDirectory(after, "a-0"))
        if owner not in (None, history.topic_id):
            with pytest.raises(KafkaError, match="KAFKA_STORAGE_ERROR"):
                Opened(after, history, SMALL, None, NOW)
            continue
        again = Opened(after, history, SMALL, None, NOW)
        found, log = held_in(again.log), again.log
        good = {(one.base_offset, one.body): one for one in history.batches}
        strange = [one for one in found if good.get((one.base_offset, one.body)) != one]
        if strange:  # offset and epoch of a batch are in no CRC
            assert name.endswith(".log"), f"{name}: {strange[0][:5]}"
            assert seen, f"{name}: {strange[0][:5]} is not seen by verify"
        if not name.endswith(".log"):
            assert len(found) == len(history.batches), f"{name} costs batches"
        read_everywhere(again.directory, log, history.batches, name)
        log.append_as_leader(batch("next"), max(log.leader_epochs.latest, 9), NOW)
        log.close()
        assert Opened(after, history, SMALL, None, NOW).log.log_end_offset == log.log_end_offset
    assert {"log", "index", "timeindex", "snapshot", "metadata"} <= kinds


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"."])
def test_the_last_batches_cut_or_overwritten_at_every_byte(fill: bytes) -> None:
    disk = SimulatedDirectory()
    log = Log.open(disk, "t-0", SMALL, now_ms=NOW)
    ends: list[int] = []
    for number in range(5):
        log.append_as_leader(batch(f"{number}" * (9 + 60 * number), producer=1, sequence=number), 0, NOW)
        ends.append(log.active_position)
    name = log.segments[-1].log_name
    before = bytes(disk.contents(name))
    log.close(clean=False)
    for tear in range(ends[1], ends[4] + 1):
        for length in (len(before), tear):
            after = SimulatedDirectory(boot=1)
            for other in disk.names():
                after.put(other, bytes(disk.contents(other)))
            torn = (before[:tear] + fill * (ends[4] - tear)).ljust(len(before), b"\0")[:length]
            after.put(name, torn)
            again = Log.open(after, "t-0", SMALL, now_ms=NOW)
            whole = sum(torn[:end] == before[:end] for end in ends)
            assert again.log_end_offset == whole
            assert again.append_as_leader(batch("next"), 0, NOW).base_offset == whole
            again.close()
            assert verify(after).faults == []


def test_half_written_checkpoints_and_marks_cost_no_batch() -> None:
    """Any first part of each small file, as another writer might leave it; also none, and garbage."""
    disk, opened = made(clean=False)
    for directory in (SimulatedDirectory(disk), opened.directory):
        for name in directory.names():
            if name.endswith(("log", "index", "a-0", "lock")):
                continue
            data = directory.read(name) or b""
            for size in range(len(data) + 1):
                after = disk.killed()
                inode = after.files[directory.inode(name).number]
                inode.resize(size)
                again = Opened(after, opened.history, SMALL, None, NOW)
                assert again.log.log_end_offset == 60, f"{name} cut at {size}"
                again.log.close(clean=False)


@pytest.mark.parametrize("suffix", [".tmp", ".deleted", ".cleaned", ".swap", "", ".unknown"])
def test_leftovers_and_strangers_are_no_part_of_a_log(suffix: str) -> None:
    """Of whatever was being renamed; whoever else's files stay."""
    disk, opened = made(clean=False)
    names = opened.directory.names()
    for name in names:
        if suffix:
            opened.directory.put(name + suffix, opened.directory.read(name) or b"")
    opened.directory.put(f"stranger{suffix}", b"kept")
    again = Opened(disk, opened.history, SMALL, None, NOW)
    assert tuple(held_in(again.log)) == opened.history.batches
    again.log.append_as_leader(batch("next"), 9, NOW)
    again.log.close()
    left = set(again.directory.names())
    assert ("stranger" + suffix in left) == (suffix not in (".tmp", ".deleted", ".cleaned"))
