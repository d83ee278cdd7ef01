"""Verification finds every kind of damage in a log's files, once, and none in files that are sound."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.core.log import offset_index, time_index
from tailrace.core.log.directory import RealDirectory
from tailrace.core.log.verification import Fault, verify
from tailrace.core.records.crc32c import crc32c
from tailrace.core.records.record import NewRecord, build_batch
from tests.unit.log.logs import NOW, SMALL, batch, fill, open_log

FIRST, SECOND = f"{0:020d}", f"{385:020d}"
SIZE = 170  # of each batch


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """Two segments and a third, 805 batches, an idempotent producer in the last five, two epochs."""
    log = open_log(tmp_path)
    fill(log, 800)
    for number in range(5):
        log.append_as_leader(batch("p", producer=77, sequence=number, timestamp=NOW + 900 + number), 1, NOW)
    log.close()
    return tmp_path


def faults(path: Path, *, records: bool = False) -> list[Fault]:
    """What is wrong with the files of a directory."""
    return verify(RealDirectory(str(path), make=False), records=records).faults


def overwrite(path: Path, position: int, data: bytes) -> None:
    """Other bytes in a file."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)


def test_a_sound_log_has_no_fault(partition: Path) -> None:
    found = verify(RealDirectory(str(partition)), records=True)
    assert (found.segments, found.batches, found.records, found.end_offset) == (3, 805, 805, 805)
    assert found.size == sum(path.stat().st_size for path in partition.glob("*.log"))
    assert not found.faults


def test_a_log_that_was_not_closed_ends_in_zeros(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    fill(log, 500)
    found = verify(RealDirectory(str(tmp_path)))
    assert (found.end_offset, found.faults) == (500, [])
    log.close()


def swap_first_batches(path: Path) -> None:
    """Two batches change places; each alone is sound."""
    data = (path / f"{FIRST}.log").read_bytes()
    overwrite(path / f"{FIRST}.log", 0, data[SIZE : 2 * SIZE] + data[:SIZE])


def give_epoch(path: Path) -> None:
    """The third batch of the log, which no CRC covers, says an epoch that was not yet."""
    overwrite(path / f"{FIRST}.log", 2 * SIZE + 12, (5).to_bytes(4, "big"))


def repeat_time(path: Path) -> None:
    """The second entry of the time index becomes the first once more."""
    entry = (path / f"{FIRST}.timeindex").read_bytes()[: time_index.ENTRY_SIZE]
    overwrite(path / f"{FIRST}.timeindex", time_index.ENTRY_SIZE, entry)


Damage = Callable[[Path], object]


def writing(name: str, position: int, data: bytes) -> Damage:
    """Bytes written into a file of the partition, which may be new."""

    def damage(path: Path) -> None:
        (path / name).touch()
        overwrite(path / name, position, data)

    return damage


@pytest.mark.parametrize(
    ("damage", "file", "position", "what"),
    [
        (writing(f"{FIRST}.log", 5000, b"X"), f"{FIRST}.log", 4930, "CRC"),
        (writing(f"{FIRST}.log", SIZE + 8, b"\0\0\0\1"), f"{FIRST}.log", SIZE, "13 bytes"),
        (writing(f"{FIRST}.log", SIZE + 16, b"\1"), f"{FIRST}.log", SIZE, "magic 1"),
        (swap_first_batches, f"{FIRST}.log", SIZE, "offset 0 comes after 1"),
        (give_epoch, f"{FIRST}.log", 2 * SIZE, "leader-epoch-checkpoint says epoch 0"),
        (writing(f"{FIRST}.index", 0, offset_index.ENTRY.pack(2, 341)), f"{FIRST}.index", 0, "byte 341"),
        (writing(f"{FIRST}.index", 0, offset_index.ENTRY.pack(1, 340)), f"{FIRST}.index", 0, "says offset 1"),
        (
            writing(f"{FIRST}.timeindex", 0, time_index.ENTRY.pack(NOW + 5, 2)),
            *(f"{FIRST}.timeindex", 0, f"timestamp {NOW + 5} of offset 2"),
        ),
        (repeat_time, f"{FIRST}.timeindex", 12, "comes after"),
        (writing(f"{SECOND}.snapshot", 3, b"X"), f"{SECOND}.snapshot", -1, "CRC"),
        (writing(f"{7:020d}.index", 0, b""), f"{7:020d}.index", -1, "there is no"),
        (writing("leader-epoch-checkpoint", 0, b"?"), "leader-epoch-checkpoint", -1, "cannot be read"),
    ],
)
def test_damage_is_found_where_it_is(
    partition: Path, damage: Damage, file: str, position: int, what: str
) -> None:
    damage(partition)
    (found,) = faults(partition)
    assert (found.file, found.position) == (file, position)
    assert what in found.what


def test_what_follows_the_last_batch_is_told_apart(partition: Path) -> None:
    """Zeros are the reserved part of an active segment, and nothing else may follow the batches of any."""
    last = max(partition.glob("*.log"))
    end = last.stat().st_size
    with last.open("ab") as file:
        file.write(bytes(5000))
    assert not faults(partition)
    overwrite(last, end + 4000, b"X")
    assert [(fault.position, "not zero" in fault.what) for fault in faults(partition)] == [(end, True)]
    with (partition / f"{FIRST}.log").open("ab") as file:
        file.write(bytes(10))
    assert "10 zeros" in faults(partition)[0].what


def test_an_index_that_outlives_its_log_is_found(partition: Path) -> None:
    last = max(partition.glob("*.log"))
    index = last.with_suffix(".index")
    index.write_bytes(index.read_bytes() + offset_index.ENTRY.pack(5000, 1_000_000))
    times = last.with_suffix(".timeindex")
    times.write_bytes(times.read_bytes() + time_index.ENTRY.pack(NOW * 2, 5000))
    assert [fault.file for fault in faults(partition)] == [index.name, times.name]


def test_records_are_opened_only_when_asked(tmp_path: Path) -> None:
    """A batch with a right CRC around what is no record."""
    log = open_log(tmp_path, SMALL)
    wrong = build_batch([NewRecord(value=b"x")], codec=0)
    wrong[61] = 0x7F  # the record says that it is 63 bytes long
    wrong[17:21] = crc32c(memoryview(wrong)[21:]).to_bytes(4, "big")
    log.append_as_leader(bytes(wrong), 0, NOW)
    log.close()
    assert not faults(tmp_path)
    (found,) = faults(tmp_path, records=True)
    assert "records cannot be read" in found.what


def test_segments_that_overlap_are_found(partition: Path) -> None:
    for suffix in (".log", ".index", ".timeindex"):
        (partition / f"{SECOND}{suffix}").rename(partition / f"{384:020d}{suffix}")
    found = faults(partition)
    assert "begins at offset 384" in found[0].what
