"""What was acknowledged against what is read: lost, duplicated, reordered, seen and gone.

Each record names its producer and a number, which counts up from 0 for each producer and partition, in the
order of sending. Producers are idempotent and wait for all replicas (acks=all). Then of each partition holds:

    lost         an acknowledged record is stored
    misplaced    at the offset that the acknowledgement named
    duplicated   nothing is stored twice
    reordered    the numbers of one producer rise with the offsets
    phantom      what is stored was sent, and was not refused for good
    hole         offsets follow each other from 0 on: nothing here is compacted, and there are no transactions
    vanished     what a reader saw once is stored in that place (it was below a high watermark)
    diverged     all readers saw the same there, whichever replica they asked
    backwards    a reader sees offsets rise without a gap

Producers and readers call from threads of their own.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple

FAULTS_MAX = 20  # of one kind that are told apart; of the others only how many
UNKNOWN, REFUSED, NO_OFFSET = -1, -2, -3  # instead of an offset: no answer yet; refused; acknowledged without


class Record(NamedTuple):
    """Who sent it, and which of its records for the partition it is."""

    producer: int
    number: int


class Fault(NamedTuple):
    """A promise that was broken."""

    kind: str
    text: str


class Summary(NamedTuple):
    """What a history amounted to, so that an empty one cannot pass for a good one."""

    sent: int
    acknowledged: int
    read: int
    stored: int


class _Read:
    """What readers saw of a partition, by offset."""

    def __init__(self) -> None:
        self.seen: list[Record | None] = []
        self.last: dict[int, int] = {}  # reader to offset
        self.count = 0


class History:
    """All that producers and readers of one topic know. `producers`: how many; they are numbered from 0."""

    def __init__(self, producers: int, partitions: int) -> None:
        self.partitions = partitions
        self._fates = [[array("q") for _ in range(partitions)] for _ in range(producers)]
        self._reads = [_Read() for _ in range(partitions)]
        self._lock = Lock()
        self._faults: list[Fault] = []
        self._counts: Counter[str] = Counter()
        self._acknowledged = self._stored = 0

    @property
    def acknowledged(self) -> int:
        """Records acknowledged by now."""
        return self._acknowledged

    @property
    def complaints(self) -> list[Fault]:
        """What is known to be wrong before the end."""
        with self._lock:
            return list(self._faults)

    def end(self, partition: int) -> int:
        """The offset after all that was acknowledged or read of a partition."""
        acknowledged = (max(fates[partition], default=UNKNOWN) for fates in self._fates)
        return max(len(self._reads[partition].seen), *(offset + 1 for offset in acknowledged), 0)

    def send(self, producer: int, partition: int) -> int:
        """The number of the record that this producer sends next; note it before it is sent."""
        fates = self._fates[producer][partition]
        fates.append(UNKNOWN)
        return len(fates) - 1

    def acknowledge(self, producer: int, partition: int, number: int, offset: int = NO_OFFSET) -> None:
        """It is stored, says the cluster; without an offset where it was said to be a duplicate."""
        self._settle(producer, partition, number, offset if offset >= 0 else NO_OFFSET)
        with self._lock:
            self._acknowledged += 1

    def refuse(self, producer: int, partition: int, number: int) -> None:
        """It is not stored and never will be, says the cluster. What is merely not known says nothing."""
        self._settle(producer, partition, number, REFUSED)

    def read(self, reader: int, partition: int, offset: int, record: Record) -> None:
        """A reader saw this. A reader starts anew under another number: its offsets rise by one."""
        read = self._reads[partition]
        with self._lock:
            last = read.last.get(reader, offset - 1)
            if offset != last + 1:
                self._fault("backwards", f"reader {reader}, {partition}: offset {offset} after {last}")
            read.last[reader] = offset
            read.count += 1
            read.seen.extend([None] * (offset + 1 - len(read.seen)))
            before = read.seen[offset]
            if before is None:
                read.seen[offset] = record
            elif before != record:
                self._fault("diverged", f"{partition} at {offset}: {record}, others saw {before}")

    def complain(self, kind: str, text: str) -> None:
        """What only a producer or a reader can see, such as an answer that it must never get."""
        with self._lock:
            self._fault(kind, text)

    def faults(self, stored: Sequence[Iterable[tuple[int, Record]]]) -> list[Fault]:
        """All that is wrong, given what each partition holds in the end; nobody writes any more."""
        assert len(stored) == self.partitions, f"{self.partitions} partitions, not {len(stored)}"
        self._stored = 0
        for partition, records in enumerate(stored):
            self._judge(partition, list(records))
        more = {kind: count - FAULTS_MAX for kind, count in self._counts.items() if count > FAULTS_MAX}
        return self._faults + [Fault(kind, f"{count} more") for kind, count in more.items()]

    def summary(self) -> Summary:
        """How much there was; `stored` after `faults`."""
        sent = sum(len(fates) for of_producer in self._fates for fates in of_producer)
        return Summary(sent, self._acknowledged, sum(read.count for read in self._reads), self._stored)

    def _settle(self, producer: int, partition: int, number: int, fate: int) -> None:
        fates = self._fates[producer][partition]
        if fates[number] != UNKNOWN:
            self.complain("answered twice", f"producer {producer}, {partition}, record {number}")
        fates[number] = fate

    def _judge(self, partition: int, records: list[tuple[int, Record]]) -> None:
        places: dict[Record, int] = {}
        newest: dict[int, int] = {}
        by_offset: dict[int, Record] = {}
        expected = 0
        for offset, record in records:
            where = f"{partition} at {offset}: {record}"
            if offset != expected:
                self._fault("hole", f"{partition}: offset {offset} where {expected} was due")
            expected = offset + 1
            by_offset[offset] = record
            if record in places:
                self._fault("duplicated", f"{where}, also at {places[record]}")
            else:
                places[record] = offset
                if record.number < newest.get(record.producer, -1):
                    self._fault("reordered", f"{where} after number {newest[record.producer]}")
                newest[record.producer] = max(newest.get(record.producer, -1), record.number)
            if self._fate(partition, record) in (None, REFUSED):
                self._fault("phantom", f"{where} was never sent, or was refused")
        self._stored += len(records)
        self._judge_acknowledged(partition, places)
        for offset, seen in enumerate(self._reads[partition].seen):
            if seen is not None and by_offset.get(offset) != seen:
                now = by_offset.get(offset)
                self._fault("vanished", f"{partition} at {offset}: {seen} was read, now {now}")

    def _judge_acknowledged(self, partition: int, places: dict[Record, int]) -> None:
        for producer, of_producer in enumerate(self._fates):
            for number, fate in enumerate(of_producer[partition]):
                if fate in (UNKNOWN, REFUSED):
                    continue
                place = places.get(Record(producer, number))
                if place is None:
                    self._fault("lost", f"{partition}: producer {producer}, record {number}, offset {fate}")
                elif fate not in (place, NO_OFFSET):
                    what = f"{partition}: producer {producer}, record {number}"
                    self._fault("misplaced", f"{what} at {place}, acknowledged at {fate}")

    def _fate(self, partition: int, record: Record) -> int | None:
        """None if it was never sent."""
        if not 0 <= record.producer < len(self._fates):
            return None
        fates = self._fates[record.producer][partition]
        return fates[record.number] if 0 <= record.number < len(fates) else None

    def _fault(self, kind: str, text: str) -> None:
        self._counts[kind] += 1
        if self._counts[kind] <= FAULTS_MAX:
            self._faults.append(Fault(kind, text))
