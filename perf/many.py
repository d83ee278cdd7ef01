"""Requests about many partitions at once: made, written to, filled. Written by hand, as all of perf."""

import struct
import time
from collections.abc import Iterable, Iterator, Sequence

import crc32c

from perf import wire
from perf.batches import Batch
from perf.measures import Figures
from perf.peers.peer import Endpoint

INIT_PRODUCER_ID = (22, 0)
PATIENCE_S = 120.0
LOOK_S = 0.01  # before those that were not there yet are asked again
BATCHES_A_REQUEST = 8
IN_FLIGHT = 5
AFTER_CRC = 21  # the checksum of a batch covers it from here on
PRODUCER_AT = 43  # where a batch header holds producer id, epoch and base sequence
COMING = wire.RETRIABLE | {9}  # 9: no replica yet

Part = tuple[str, int]
"""A topic's name and a partition."""


def create(connection: wire.Connection, topics: Sequence[tuple[str, int]]) -> None:
    """Topics with so many partitions each, in one request; returns with its answer."""
    named = b"".join(
        wire.string(name) + struct.pack(">ihii", partitions, 1, 0, 0) for name, partitions in topics
    )
    body = struct.pack(">i", len(topics)) + named + struct.pack(">ib", 60_000, 0)
    answer = connection.ask(wire.frame(wire.CREATE_TOPICS, body, False))
    codes = list(wire.topic_errors(answer, with_message=True))
    if codes != [0] * len(topics):
        raise wire.WireError(f"creating {len(topics)} topics: errors {set(codes)}")


def produce_frame(batches: Iterable[tuple[Part, bytes]], correlation_id: int = 0) -> bytes:
    """One batch for each of many partitions, acks=all; those of a topic follow each other."""
    topics: dict[str, list[bytes]] = {}
    for (topic, index), batch in batches:
        entry = struct.pack(">i", index) + wire.uvarint(len(batch) + 1) + batch + b"\0"
        topics.setdefault(topic, []).append(entry)
    body = [b"\0" + struct.pack(">hi", -1, 30_000) + wire.uvarint(len(topics) + 1)]
    for topic, entries in topics.items():
        body += [wire.compact(topic), wire.uvarint(len(entries) + 1), *entries, b"\0"]
    return wire.frame(wire.PRODUCE, b"".join(body) + b"\0", True, correlation_id)


def produce_errors(answer: memoryview) -> Iterator[tuple[Part, int]]:
    """The error code of each partition in the answer to `produce_frame`."""
    topics, position = wire.read_uvarint(answer, 4 + 1)
    for _ in range(topics - 1):
        length, position = wire.read_uvarint(answer, position)
        topic = bytes(answer[position : position + length - 1]).decode()
        partitions, position = wire.read_uvarint(answer, position + length - 1)
        for _ in range(partitions - 1):
            index, code = struct.unpack_from(">ih", answer, position)
            records, position = wire.read_uvarint(answer, position + 6 + 3 * 8)
            message, position = wire.read_uvarint(answer, position)
            if records > 1:
                raise wire.WireError(f"{topic}-{index}: single records are refused")
            position += max(message - 1, 0) + 1
            yield (topic, index), code
        position += 1


def write_to_all(connection: wire.Connection, parts: Sequence[Part], batch: Batch) -> None:
    """Returns when a batch is acknowledged for each; those that are not there yet are asked again."""
    give_up = time.monotonic() + PATIENCE_S
    left = list(parts)
    while left:
        answer = connection.ask(produce_frame((part, batch.data) for part in left))
        errors = [(part, code) for part, code in produce_errors(answer) if code]
        fatal = {code for _, code in errors} - COMING
        if fatal or time.monotonic() > give_up:
            raise wire.WireError(f"{len(errors)} partitions cannot be written to: {fatal or 'too late'}")
        left = [part for part, _ in errors]
        if left:
            time.sleep(LOOK_S)


class Stream:
    """Requests one after the other, IN_FLIGHT of them on the way at any time; each answer is checked."""

    def __init__(self, connection: wire.Connection) -> None:
        self._connection = connection
        self._sent = self._done = 0

    def send(self, batches: Iterable[tuple[Part, bytes]]) -> None:
        """Send one more; first wait until there is room on the way."""
        if self._sent - self._done == IN_FLIGHT:
            self._take()
        self._connection.socket.sendall(produce_frame(batches, self._sent))
        self._sent += 1

    def finish(self) -> None:
        """Wait for what is on the way."""
        while self._done < self._sent:
            self._take()

    def _take(self) -> None:
        answer = self._connection.read_frame()
        (correlation_id,) = struct.unpack_from(">i", answer)
        codes = {code for _, code in produce_errors(answer)} - {0}
        if codes or correlation_id != self._done:
            raise wire.WireError(f"answer {correlation_id} instead of {self._done}, errors {codes}")
        self._done += 1


def throughput(endpoint: Endpoint, topic: str, partitions: int, batch: Batch, seconds: float) -> Figures:
    """Bytes a second of one client whose requests carry BATCHES_A_REQUEST batches each, the partitions in
    turn: however many there are, the requests look the same.
    """
    runs = [
        [((topic, (first + number) % partitions), batch.data) for number in range(BATCHES_A_REQUEST)]
        for first in range(0, partitions, BATCHES_A_REQUEST)
    ]
    with wire.Connection(endpoint) as connection:
        stream, requests = Stream(connection), 0
        begin = time.perf_counter()
        while requests < len(runs) or time.perf_counter() - begin < seconds:
            stream.send(runs[requests % len(runs)])
            requests += 1
        stream.finish()
        taken = time.perf_counter() - begin
    return {"MB/s": requests * BATCHES_A_REQUEST * len(batch.data) / taken / 1e6}


class Filler:
    """One idempotent producer that writes to all partitions of a topic in turn."""

    def __init__(self, endpoint: Endpoint, topic: str, partitions: int, batch: Batch) -> None:
        self._endpoint, self._topic, self._partitions = endpoint, topic, partitions
        self._records, self._sequence = batch.records, 0
        self._batch = bytearray(batch.data)

    def fill(self, size: int) -> None:
        """Write so many bytes, as many batches to each partition."""
        rounds = max(1, size // len(self._batch) // self._partitions)
        with wire.Connection(self._endpoint) as connection:
            producer_id, epoch = new_producer_id(connection)
            stream = Stream(connection)
            for number in range(rounds):
                batch = self._stamped(producer_id, epoch, number * self._records)
                for first in range(0, self._partitions, BATCHES_A_REQUEST):
                    last = min(first + BATCHES_A_REQUEST, self._partitions)
                    stream.send(((self._topic, index), batch) for index in range(first, last))
            stream.finish()

    def _stamped(self, producer_id: int, epoch: int, sequence: int) -> bytes:
        batch = self._batch
        struct.pack_into(">qhi", batch, PRODUCER_AT, producer_id, epoch, sequence)
        struct.pack_into(">I", batch, AFTER_CRC - 4, crc32c.crc32c(memoryview(batch)[AFTER_CRC:]))
        return bytes(batch)


def new_producer_id(connection: wire.Connection) -> tuple[int, int]:
    """A producer id and its epoch; waits while the broker has none to give yet."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        answer = connection.ask(wire.frame(INIT_PRODUCER_ID, struct.pack(">hi", -1, 60_000), False))
        code, producer_id, epoch = struct.unpack_from(">hqh", answer, 8)
        if not code:
            return producer_id, epoch
        if time.monotonic() > give_up:
            raise wire.WireError(f"no producer id: error {code}")
        time.sleep(LOOK_S)
