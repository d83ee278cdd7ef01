"""Logs on a simulated disk that loses power: nothing synced is lost, nothing invented, nothing comes back."""

from random import Random

import pytest

from tailrace.core.errors import KafkaError
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.log.producer_state import ProducerState
from tailrace.core.log.scan import scan
from tailrace.core.records.batch import HEADER_SIZE, BatchHeader
from tests.support.simulated_directory import PAGE, SECTOR, Inode, SimulatedDirectory
from tests.unit.log.logs import NOW, batch

CONFIG = LogConfig(
    segment_bytes=16 * 1024, index_interval_bytes=512, segment_index_bytes=1024, snapshot_interval_bytes=8192
)
Stored = tuple[BatchHeader, bytes]


def stored(log: Log) -> list[Stored]:
    """Header and records of each batch, whose CRC is checked."""
    found: list[Stored] = []
    for segment in log.segments:
        file = log.directory.open_read(segment.log_name)
        for position, header in scan(file, 0, segment.size, check=True):
            body = file.read(position + HEADER_SIZE, header.size - HEADER_SIZE)
            found.append((header, body))
    return found


def replayed(batches: list[Stored]) -> ProducerState:
    """The producers by the batches alone."""
    state = ProducerState()
    for header, _ in batches:
        state.update(
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.base_offset,
            header.last_offset,
            header.max_timestamp,
            header.attributes,
        )
    return state


def check(
    directory: SimulatedDirectory,
    possible: list[bytes],
    synced: int,
    recovery_point: int,
    high_watermark: int = 0,
) -> list[bytes]:
    """Recovers a log that may hold any of the first `possible` batches, at least `synced` of them, and
    appends one more. Returns what it holds then.
    """
    log = Log.open(
        directory, "t-0", CONFIG, now_ms=NOW, recovery_point=recovery_point, high_watermark=high_watermark
    )
    found = stored(log)
    bodies = [body for _, body in found]
    assert bodies == possible[: len(bodies)], "nothing is invented, resurrected or out of order"
    assert len(bodies) >= synced, f"{synced} batches were synced, {len(bodies)} are left"
    assert log.log_end_offset == (found[-1][0].last_offset + 1 if found else 0)
    expected, got = replayed(found).producers, log.producers.producers
    assert {i: (p.epoch, p.last_sequence, p.last_timestamp) for i, p in got.items()} == {
        i: (p.epoch, p.last_sequence, p.last_timestamp) for i, p in expected.items()
    }
    epochs: dict[int, int] = {}
    for header, _ in found:
        epochs.setdefault(header.leader_epoch, header.base_offset)
    assert log.leader_epochs.entries == list(epochs.items())
    newest = log.max_timestamp()
    assert (newest[1] if newest else -1) == max((header.max_timestamp for header, _ in found), default=-1)
    assert log.append_as_leader(batch("next"), 99, NOW).base_offset == log.log_end_offset - 1
    held = [body for _, body in stored(log)]
    assert held[:-1] == bodies
    log.close(clean=False)
    return held


class Workload:
    """Seeded work on a log, with crashes tried at random events, also inside of an operation.

    With `publishes` the high watermark follows the end now and then, and what it covers may not change in the
    inodes that gateways send it from.
    """

    def __init__(self, seed: int, *, publishes: bool) -> None:
        self.random = Random(seed)
        self.more_random = Random(
            -seed - 1
        )  # for what came later: a seed stays the work that found something
        self.publishes = publishes
        self.published: dict[int, tuple[Inode, bytes]] = {}
        self.directory = SimulatedDirectory()
        self.log = Log.open(self.directory, "t-0", CONFIG, now_ms=NOW)
        self.possible: list[bytes] = []
        self.ends: list[int] = []  # end offset of each of them
        self.synced = self.recovery_point = self.crashes = self.epoch = 0
        self.sequences = dict.fromkeys(range(3), 0)
        self.directory.on_event = self.on_event

    def on_event(self) -> None:
        """After each store, sync and change of a name."""
        for inode, sent in self.published.values():
            assert inode.seen[: len(sent)] == sent, "bytes below the high watermark have changed"
        self.maybe_crash()

    def publish(self) -> None:
        """All that is there may be sent from the inodes that hold it now."""
        self.log.high_watermark = self.log.log_end_offset
        for segment in self.log.segments:
            inode = self.directory.inode(segment.log_name)
            self.published[inode.number] = (inode, bytes(inode.seen[: segment.size]))

    def maybe_crash(self, chance: float = 0.01) -> None:
        """Tries one loss of power, and now and then a kill, as of now."""
        if self.random.random() >= chance:
            return
        self.crashes += 1
        unit = self.random.choice((SECTOR, PAGE))
        if self.crashes % 8 == 0:
            killed = self.directory.killed()
            check(killed, self.possible, self.synced, self.recovery_point, self.log.high_watermark)
            return
        after = self.directory.crash(self.random, unit)
        held = check(after, self.possible, self.synced, self.recovery_point)
        check(after.crash(self.more_random, unit), held, self.synced, self.recovery_point)

    def append(self) -> None:
        """One batch, of a producer or of nobody."""
        number, records = len(self.directory.events), self.random.randint(1, 3)
        producer = self.random.randint(-1, 2)
        sequence = self.sequences[producer] if producer >= 0 else -1
        text = f"{number}".ljust(self.random.choice((1, 100, 900, 3000)), ".")
        sent = batch(text, producer=producer, sequence=sequence, records=records, timestamp=NOW + number)
        if self.random.random() < 0.05:
            self.epoch += 1
        self.possible.append(sent[HEADER_SIZE:])
        self.log.append_as_leader(sent, self.epoch, NOW)
        self.ends.append(self.log.log_end_offset)
        if producer >= 0:
            self.sequences[producer] += records

    def flush(self) -> None:
        """All that is there lasts."""
        self.log.flush()
        self.synced, self.recovery_point = len(self.possible), self.log.recovery_point

    def close(self) -> None:
        """A clean stop and a start."""
        self.log.close()
        self.synced = len(self.possible)
        self.log = Log.open(
            self.directory,
            "t-0",
            CONFIG,
            now_ms=NOW,
            recovery_point=self.recovery_point,
            high_watermark=self.log.high_watermark,
        )

    def truncate(self) -> None:
        """Takes back some of the last batches."""
        left = max(len(self.possible) - self.random.randint(1, 12), 0)
        offset = self.ends[left - 1] if left else 0
        self.synced = min(self.synced, left)
        self.recovery_point = min(self.recovery_point, offset)
        self.log.truncate_to(offset, NOW)
        del self.possible[left:], self.ends[left:]
        self.synced = left if self.log.recovery_point == offset else self.synced
        self.sequences = {
            i: (self.log.producers.producers[i].last_sequence + 1 if i in self.log.producers.producers else 0)
            for i in self.sequences
        }

    def run(self, steps: int) -> None:
        """Operations at random."""
        for _ in range(steps):
            choice = self.random.random()
            if choice < 0.85:
                self.append()
            elif choice < 0.88:
                self.log.roll(NOW)
            elif choice < 0.94:
                self.flush()
            elif choice < 0.97:
                self.truncate()
            else:
                self.close()
            if self.publishes and self.more_random.random() < 0.5:
                self.publish()
            self.maybe_crash(0.4)


@pytest.mark.parametrize("seed", [*range(24), 522, 826, 1123])  # these three found snapshots that came back
def test_a_log_survives_a_loss_of_power_at_any_moment(seed: int) -> None:
    work = Workload(seed, publishes=False)
    work.run(90)
    assert work.crashes >= 25


@pytest.mark.parametrize("seed", range(8))
def test_bytes_below_the_high_watermark_stay_in_their_inode(seed: int) -> None:
    """(R) Whatever is appended, rolled, truncated or closed meanwhile."""
    work = Workload(seed, publishes=True)
    work.run(90)
    assert len(work.published) > 5


def filled(directory: SimulatedDirectory) -> Log:
    """A log of four segments and a bit."""
    log = Log.open(directory, "t-0", CONFIG, now_ms=NOW)
    number = 0
    while len(log.segments) < 5:
        log.append_as_leader(batch(f"{number:04d}".ljust(900, ".")), 0, NOW)
        number += 1
    log.flush()
    return log


@pytest.mark.parametrize("high_watermark", [0, 40])
def test_later_segments_are_gone_on_disk_before_an_earlier_one_is_cut(high_watermark: int) -> None:
    """(R) Newest first, one by one: at no moment a crash leaves a hole between offsets."""
    directory = SimulatedDirectory()
    log = filled(directory)
    log.high_watermark = high_watermark
    bases = [segment.base_offset for segment in log.segments]
    directory.events.clear()
    log.truncate_to(bases[1] + 3, NOW)
    seen = [(kind, name) for kind, name, *_ in directory.events if kind == "sync" or name.endswith(".log")]
    expected = [("sync", "")]  # of the snapshots
    for base in reversed(bases[2:]):
        expected += [("remove", f"{base:020d}.log"), ("sync", "")]
    assert seen[: len(expected)] == expected
    assert seen[len(expected)] == ("replace" if high_watermark else "cut", f"{bases[1]:020d}.log")
    log.close(clean=False)


def test_a_log_that_was_emptied_starts_where_it_was_told_also_after_a_crash() -> None:
    """(R) Nothing of what it held comes back, and no offset is given twice."""
    directory = SimulatedDirectory()
    log = filled(directory)
    log.truncate_fully_and_start_at(5000, NOW)
    log.close(clean=False)
    for seed in range(100):
        log = Log.open(directory.crash(Random(seed), SECTOR), "t-0", CONFIG, now_ms=NOW)
        assert (log.log_start_offset, log.log_end_offset, log.leader_epochs.entries) == (5000, 5000, [])
        log.close(clean=False)


def test_the_last_batches_torn_at_every_byte() -> None:
    directory = SimulatedDirectory()
    log = Log.open(directory, "t-0", CONFIG, now_ms=NOW)
    sent = [batch(f"{i}" * 9, producer=1, sequence=i) for i in range(4)]
    ends: list[int] = []
    for one in sent:
        log.append_as_leader(one, 0, NOW)
        ends.append(log.active_position)
    bodies = [one[HEADER_SIZE:] for one in sent]
    for tear in range(ends[1], ends[3] + 1):
        after = directory.crash(Random(0), SECTOR)
        for name in directory.names():
            after.put(name, bytes(directory.contents(name)))
        data = after.contents(log.segments[-1].log_name)
        before = bytes(data)
        data[tear:] = bytes(len(data) - tear)
        whole = sum(bytes(data[:end]) == before[:end] for end in ends)  # a batch may end with zeros itself
        check(after, bodies[:whole], whole, 0)


@pytest.mark.parametrize("free", range(0, 400_000, 8_000))
def test_a_disk_that_fills_up_refuses_and_loses_nothing(free: int) -> None:
    directory = SimulatedDirectory()
    log = Log.open(directory, "t-0", CONFIG, now_ms=NOW)
    bodies: list[bytes] = []
    directory.disk.free = free
    for number in range(60):
        sent = batch(f"{number}".ljust(900, "."), producer=1, sequence=len(bodies))
        try:
            log.append_as_leader(sent, 0, NOW)
        except KafkaError:
            continue
        bodies.append(sent[HEADER_SIZE:])
    check(directory.killed(), bodies, len(bodies), 0)
    directory.disk.free = 1 << 40
    log.append_as_leader(batch("again", producer=1, sequence=len(bodies)), 0, NOW)
    log.close()
