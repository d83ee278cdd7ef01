"""Seeded work on logs that share a log directory, on a simulated disk whose journal also says what must last.

It does what a worker, its flusher and the housekeeper do with a log, in any order that they may do it in.
"""

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from tailrace.core.errors import KafkaError
from tailrace.core.log import checkpoints
from tailrace.core.log.checkpoints import HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS, Offsets
from tailrace.core.log.flush import Flush
from tailrace.core.log.log import Log
from tailrace.core.log.log_config import LogConfig
from tailrace.core.records.batch import HEADER_SIZE, LENGTH_PREFIX
from tailrace.core.records.record import NewRecord, build_batch
from tailrace.shm.state_table import HIGH_WATERMARK, LOG_START_OFFSET, RECOVERY_POINT, WORDS
from tailrace.workers.starting_points import StartingPoints
from tests.support.log_history import Held, History
from tests.support.simulated_directory import SimulatedDirectory
from tests.support.simulated_disk import SECTOR, Inode, SimulatedDisk
from tests.unit.log.logs import NOW

SMALL = LogConfig(
    segment_bytes=16 * 1024, index_interval_bytes=512, segment_index_bytes=1024, snapshot_interval_bytes=8192
)
LARGE = LogConfig(
    segment_bytes=1 << 20,
    index_interval_bytes=4096,
    segment_index_bytes=8192,
    snapshot_interval_bytes=1 << 18,
)
PRODUCERS = 3
WORD_OF = {RECOVERY_POINTS: RECOVERY_POINT, HIGH_WATERMARKS: HIGH_WATERMARK, LOG_STARTS: LOG_START_OFFSET}


class _Points(StartingPoints):
    """Those of a simulated log directory, read once."""

    def __init__(self, directory: SimulatedDirectory) -> None:
        self._directory: checkpoints.LogDirectory = directory
        self._known = {}

    def _stamp(self, name: str) -> None:
        del name


class Opened:
    """A log, its row, and what its worker does when it is cut or begins elsewhere."""

    def __init__(
        self, disk: SimulatedDisk, history: History, config: LogConfig, row: list[int] | None, now_ms: int
    ) -> None:
        self.disk, self.history = disk, history
        self.points = _Points(SimulatedDirectory(disk))
        self.directory = SimulatedDirectory(disk, f"{history.topic}-0")
        self.start = self.points.find(self.directory, history.topic, 0, history.topic_id, row)
        self.row = row or [0] * WORDS
        self.log = Log.open(
            self.directory,
            history.topic,
            config,
            now_ms=now_ms,
            recovery_point=self.start.recovery_point,
            high_watermark=self.start.high_watermark,
            log_start_offset=self.start.log_start_offset,
            has_readers=self.start.has_readers,
            topic_id=history.topic_id,
        )
        self.log.on_lowered = self.take_back
        self.log.on_start_moved = self.move_start
        if self.log.recovery_point < self.start.recovery_point:
            self.take_back(self.log.recovery_point)
        self.row[RECOVERY_POINT] = self.log.recovery_point
        self.publish()

    def note(self, **changes: object) -> None:
        """From now on this must, or may, be found."""
        self.history = replace(self.history, row=tuple(self.row), **changes)
        self.disk.note(self.history)

    def publish(self) -> None:
        """What it has appended is shown."""
        self.row[LOG_START_OFFSET] = self.log.log_start_offset
        self.row[HIGH_WATERMARK] = self.log.high_watermark = self.log.log_end_offset
        self.note()

    def take_back(self, recovery_point: int) -> None:
        """As a worker does."""
        self.row[RECOVERY_POINT] = recovery_point
        self.note()
        _Points(SimulatedDirectory(self.disk)).take_back(self.history.topic, 0, recovery_point)

    def move_start(self, offset: int) -> None:
        """As a worker does."""
        low, high = self.history.starts
        self.note(starts=(min(low, offset), max(high, offset)))

        def publish() -> None:
            self.row[LOG_START_OFFSET] = offset
            self.note(starts=(offset, offset))

        _Points(SimulatedDirectory(self.disk)).write_log_start(self.history.topic, 0, offset, publish)


def write_checkpoints(disk: SimulatedDisk, rows: dict[str, list[int]]) -> None:
    """As the housekeeper does."""
    root = SimulatedDirectory(disk)
    there = set(root.names())
    for name, word in WORD_OF.items():
        old = checkpoints.read_offsets(root, name)
        new: Offsets = {key: offset for key, offset in old.items() if f"{key[0]}-{key[1]}" in there}
        new.update(((topic, 0), row[word]) for topic, row in rows.items())
        if name == LOG_STARTS:
            new = {key: offset for key, offset in new.items() if offset > 0}
        if new != old:
            checkpoints.write_offsets(root, name, new)


class Partition:
    """One log at work."""

    def __init__(self, work: "Workload", topic: str) -> None:
        self.work, self.random, self.topic = work, work.random, topic
        self.incarnation = self.epoch = self.number = 0
        self.config = LARGE if work.random.random() < 0.05 else SMALL
        self.aligned = work.random.random() < 0.4  # every batch ends where a sector does, or a bit before
        self.edge = work.random.choice((0, 0, 4, 12, 14, 18))
        self.hidden = work.hidden
        self.flush: Flush | None = None
        self.published: dict[int, tuple[Inode, bytes]] = {}
        self.make()

    @property
    def log(self) -> Log:
        """The log."""
        return self.opened.log

    def make(self) -> None:
        """A new log of this name."""
        self.incarnation += 1
        topic_id = f"{self.topic}{self.incarnation}".encode().rjust(16, b"-")
        history = History(topic=self.topic, topic_id=topic_id)
        self.work.disk.note(history)
        self.opened = Opened(self.work.disk, history, self.config, None, NOW)

    def reopen(self, *, row: bool) -> None:
        """The same log after its worker ended, or all did."""
        self.flush = None
        words = self.opened.row if row else None
        self.opened = Opened(self.work.disk, self.opened.history, self.config, words, NOW)
        self.take_row()

    def take_row(self) -> None:
        """What was published is in the inodes it may be sent from now."""
        self.published.clear()

    def _batch(self) -> tuple[bytes, int, int, int]:
        """A batch, its producer, its sequence and how many records it has."""
        random, self.number = self.random, self.number + 1
        records = random.randint(1, 3)
        producer = random.randint(-1, PRODUCERS - 1)
        known = self.log.producers.producers.get(producer)
        sequence = -1 if producer < 0 else known.last_sequence + 1 if known else 0
        size = random.choice((1, 100, 350, 900, 2500))
        if self.config is LARGE:
            size = random.choice((size, 20_000, 300_000))
        text = f"{self.topic}{self.incarnation}/{self.number}/".encode().ljust(size, b".")
        codec = random.choice((0, 0, 0, 4)) if not self.aligned else 0
        timestamp = NOW - random.choice((0, 0, 5, 3000)) + self.number

        def build(last: int) -> bytes:
            values = [text] * (records - 1) + [text.ljust(last, b"+")]
            items = [NewRecord(value=value, timestamp=timestamp) for value in values]
            epoch = 0 if producer >= 0 else -1
            return bytes(
                build_batch(
                    items, producer_id=producer, producer_epoch=epoch, base_sequence=sequence, codec=codec
                )
            )

        sent = build(0)
        if self.aligned:
            for more in range(SECTOR + 8):
                sent = build(len(text) + more)
                if (self.log.active_position + len(sent) + self.edge) % SECTOR == 0:
                    break
        return sent, producer, sequence, records

    def append(self) -> None:
        """One batch, of a producer or of nobody."""
        opened, log = self.opened, self.log
        sent, producer, sequence, records = self._batch()
        if self.random.random() < 0.04:
            self.epoch += 1
        base, now = log.log_end_offset, NOW + self.number
        timestamp = int.from_bytes(sent[35:43], "big")
        held = Held(base, base + records - 1, self.epoch, producer, sequence, timestamp, sent[HEADER_SIZE:])
        opened.note(batches=(*opened.history.batches, held))
        log.append_as_leader(sent, self.epoch, now)
        opened.note(end=log.log_end_offset)
        if log.config.flush_messages < 1000:
            self.synced()
        if self.random.random() < 0.7:
            opened.publish()

    def append_some(self) -> None:
        """As many as come at once."""
        for _ in range(self.random.choice((1, 2, 8))):
            self.append()

    def repeat(self) -> None:
        """A producer did not hear that its last batch was appended."""
        held = next((one for one in reversed(self.opened.history.batches) if one.producer_id >= 0), None)
        known = self.log.producers.producers.get(held.producer_id) if held else None
        if held is not None and known and known.batches and known.batches[-1].base_offset == held.base_offset:
            count = held.last_offset - held.base_offset + 1
            items = [NewRecord(value=b"again", timestamp=NOW)] * count
            sent = build_batch(
                items, producer_id=held.producer_id, producer_epoch=0, base_sequence=held.base_sequence
            )
            assert self.log.append_as_leader(sent, self.epoch, NOW).duplicate

    def refuse(self) -> None:
        """A batch that may never be found, and at once one of its size, or less, that may."""
        size = self.random.choice((100, 600, 5000))
        sequence = 0 if self.random.random() < 0.5 else 1 << 30
        if sequence and self.log.producers.producers.get(0) is None:
            return
        records = [NewRecord(value=b"!" * size, timestamp=NOW)]
        bad = build_batch(records, producer_id=0, producer_epoch=0, base_sequence=sequence)
        if not sequence:
            bad[-1] ^= 1
        if self.hidden:  # right where the next one ends
            inner = build_batch(
                [NewRecord(value=b"hidden", timestamp=NOW)],
                base_offset=self.log.log_end_offset + 1,
                leader_epoch=self.epoch,
            )
            at = self._plain(b"?" * size)
            bad[len(at) :] = inner
            bad[8:12] = (len(bad) - LENGTH_PREFIX).to_bytes(4, "big")
        try:
            self.log.append_as_leader(bad, self.epoch, NOW)
        except KafkaError:
            self._append_plain(b"?" * size)
        else:
            raise AssertionError("it was to be refused")

    @staticmethod
    def _plain(value: bytes) -> bytes:
        return bytes(build_batch([NewRecord(value=value, timestamp=NOW)]))

    def _append_plain(self, value: bytes) -> None:
        opened, log = self.opened, self.log
        sent, base = self._plain(value), log.log_end_offset
        held = Held(base, base, self.epoch, -1, -1, NOW, sent[HEADER_SIZE:])
        opened.note(batches=(*opened.history.batches, held))
        log.append_as_leader(sent, self.epoch, NOW)
        opened.note(end=log.log_end_offset)

    def synced(self) -> None:
        """What the log calls synced must last."""
        opened = self.opened
        opened.row[RECOVERY_POINT] = self.log.recovery_point
        opened.note(synced=max(opened.history.synced, self.log.recovery_point))

    def roll(self) -> None:
        """See Log."""
        self.log.roll(NOW)

    def sync(self) -> None:
        """All that is there lasts."""
        self.log.flush()
        self.synced()

    def sync_beside(self) -> None:
        """One step of a flusher's sync, with whatever happens in between."""
        if self.flush is None:
            due = self.random.random() < 0.6
            self.flush = self.log.begin_due_flush(NOW) if due else self.log.begin_flush()
            return
        self.flush.run()
        if self.random.random() < 0.5:
            self.append()
        self.log.flushed(self.flush)
        self.flush = None
        self.synced()

    def publish(self) -> None:
        """All that is there may be sent from the inodes that hold it now."""
        self.opened.publish()
        for segment in self.log.segments:
            inode = self.opened.directory.inode(segment.log_name)
            self.published[inode.number] = (inode, bytes(inode.seen[: segment.size]))

    def look(self) -> None:
        """What is being sent stays as it is."""
        for inode, sent in self.published.values():
            assert inode.seen.startswith(sent), "bytes below the high watermark have changed"

    def truncate(self) -> None:
        """Takes back some of the last batches."""
        history = self.opened.history
        left = max(len(history.batches) - self.random.randint(1, 12), 0)
        offset = history.batches[left - 1].last_offset + 1 if left else history.begins
        if self.random.random() < 0.2:
            offset += 1
        kept = history.below(offset)
        end = kept[-1].last_offset + 1 if kept else history.begins
        self.work.finish_checkpoints()
        first = self.log.segments[0].base_offset
        if offset < first:
            kept = ()
        self.opened.note(
            synced=min(history.synced, end), end=min(history.end, end), is_emptied=end <= first or not kept
        )
        self.log.truncate_to(offset, NOW)
        end = self.log.log_end_offset
        begins = history.begins if kept else end
        self.opened.note(batches=kept, end=end, begins=begins, is_emptied=False)
        self.opened.publish()
        if self.random.random() < 0.5:  # of the size of the first one that was cut
            cut = history.batches[len(kept) :]
            self._append_plain(b"#" * max(len(cut[0].body) - 9, 1) if cut else b"#")

    def empty(self) -> None:
        """A follower that begins anew."""
        history = self.opened.history
        offset = self.random.choice((0, history.end + 100, self.random.randint(0, history.end)))
        self.work.finish_checkpoints()
        low, high = history.starts
        self.opened.note(synced=0, end=0, is_emptied=True, starts=(min(low, offset), max(high, offset)))
        self.log.truncate_fully_and_start_at(offset, NOW)
        self.opened.note(
            batches=(),
            begins=offset,
            end=offset,
            synced=offset,
            is_emptied=False,
            starts=(min(low, offset), offset),
        )
        self.opened.publish()

    def delete(self) -> None:
        """Records up to any offset, or all there is."""
        self.publish()
        start, end = self.log.log_start_offset, self.log.log_end_offset
        self.work.finish_checkpoints()
        self.log.delete_records_before(self.random.choice((end, self.random.randint(start, end))), NOW)
        self.opened.publish()

    def stop(self) -> None:
        """A clean stop and a start."""
        self.log.close()
        opened = self.opened
        opened.row[RECOVERY_POINT] = self.log.recovery_point
        opened.note(synced=opened.history.end)
        if self.random.random() < 0.8:
            self.work.write_checkpoints()
        self.reopen(row=False)

    def die(self) -> None:
        """The worker ends in the middle of nothing, and another takes over."""
        self.log.close(clean=False)
        self.reopen(row=True)

    def change_config(self) -> None:
        """Any of those that matter here."""
        if self.config is LARGE:
            return
        random = self.random
        self.config = LogConfig(
            segment_bytes=random.choice((8, 16, 24)) * 1024,
            index_interval_bytes=random.choice((64, 512, 4096)),
            segment_index_bytes=random.choice((256, 1024)),
            snapshot_interval_bytes=random.choice((2048, 8192)),
            flush_messages=random.choice((1, 4, 1 << 62, 1 << 62)),
            flush_ms=random.choice((0, 1 << 62)),
        )
        self.log.config = self.config

    def tick(self) -> None:
        """See Log."""
        self.log.tick(NOW)

    def recreate(self) -> None:
        """The topic is deleted, and a new one has its name."""
        self.work.finish_checkpoints()
        self.opened.note(exists=False, batches=(), end=0, synced=0, begins=0, starts=(0, 0), is_emptied=True)
        _Points(SimulatedDirectory(self.work.disk)).take_back(self.topic, 0)
        self.flush = None
        self.log.delete()
        self.published.clear()
        self.epoch = 0
        self.make()


class Workload:
    """Some partitions, and what was written down of them. `hidden`: what is refused holds other batches; only
    a loss of power may bring them to light, if the kernel had written a page before it was zeroed.
    """

    def __init__(self, seed: int, *, hidden: bool = False) -> None:
        self.random, self.hidden = Random(seed), hidden
        self.disk = SimulatedDisk()
        self.rows: dict[str, list[int]] | None = None
        topics = "abc"[: self.random.choice((1, 1, 2, 3))]
        self.partitions = {topic: Partition(self, topic) for topic in topics}
        operations: list[tuple[int, Callable[[Partition], None]]] = [
            (60, Partition.append_some), (6, Partition.refuse), (4, Partition.repeat), (3, Partition.roll),
            (4, Partition.sync), (12, Partition.sync_beside), (5, Partition.publish), (3, Partition.truncate),
            (1, Partition.empty), (3, Partition.delete), (2, Partition.stop), (3, Partition.die),
            (2, Partition.change_config), (2, Partition.tick), (1, Partition.recreate),
        ]  # fmt: skip
        tilt = [weight * self.random.choice((0, 1, 1, 3)) for weight, _ in operations[1:]]
        self.weights = [operations[0][0], *tilt]
        self.calls = [call for _, call in operations]

    def begin_checkpoints(self) -> None:
        """The housekeeper reads the rows."""
        self.rows = {topic: list(partition.opened.row) for topic, partition in self.partitions.items()}

    def finish_checkpoints(self) -> None:
        """And has written the files, before anybody else gets their lock."""
        if self.rows is not None:
            write_checkpoints(self.disk, self.rows)
        self.rows = None

    def write_checkpoints(self) -> None:
        """Both at once."""
        self.finish_checkpoints()
        self.begin_checkpoints()
        self.finish_checkpoints()

    def run(self, steps: int) -> SimulatedDisk:
        """The disk, with the journal of all that was done."""
        for call in self.random.choices(self.calls, self.weights, k=steps):
            call(self.random.choice(list(self.partitions.values())))
            for partition in self.partitions.values():
                partition.look()
            if self.random.random() < 0.1:
                if self.rows is None:
                    self.begin_checkpoints()
                else:
                    self.finish_checkpoints()
        return self.disk
