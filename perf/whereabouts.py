"""Who leads what in a cluster, asked on the raw wire of whoever answers."""

import struct
import time
from contextlib import ExitStack
from typing import NamedTuple

from perf import wire
from perf.peers.peer import Tcp

METADATA, DESCRIBE_QUORUM = (3, 4), (55, 0)
PATIENCE_S = 120.0
LOOK_S = 0.02


class Part(NamedTuple):
    """What Metadata says of a partition; -1 for no leader, and for a partition that is not known."""

    leader: int
    replicas: list[int]
    isr: list[int]


class Quorum(NamedTuple):
    """What DescribeQuorum says; leader -1: nobody knows one."""

    leader: int
    high_watermark: int
    ends: dict[int, int]  # of the voters' logs, -1 for one that the leader has not heard of

    @property
    def whole(self) -> bool:
        """Whether all voters have what is committed."""
        return self.leader >= 0 and all(end >= self.high_watermark for end in self.ends.values())


NO_QUORUM = Quorum(-1, -1, {})


class Cursor:
    """Reads an answer field by field."""

    def __init__(self, answer: memoryview, position: int) -> None:
        self._answer, self._at = answer, position

    def take(self, layout: str) -> int:
        """One integer."""
        (value,) = struct.unpack_from(">" + layout, self._answer, self._at)
        self._at += struct.calcsize(">" + layout)
        return int(value)

    def int32s(self) -> list[int]:
        """An array of them."""
        return [self.take("i") for _ in range(self.take("i"))]

    def text(self) -> str:
        """A string or null, with a 16-bit length."""
        length = max(self.take("h"), 0)
        self._at += length
        return bytes(self._answer[self._at - length : self._at]).decode()

    def uvarint(self) -> int:
        """An unsigned integer, seven bits a byte."""
        value, self._at = wire.read_uvarint(self._answer, self._at)
        return value

    def compact_text(self) -> str:
        """A string whose length + 1 is a varint."""
        length = self.uvarint() - 1
        self._at += length
        return bytes(self._answer[self._at - length : self._at]).decode()


def partition(connection: wire.Connection, topic: str, index: int) -> Part:
    """The partition as this broker knows it."""
    body = struct.pack(">i", 1) + wire.string(topic) + b"\0"
    cursor = Cursor(connection.ask(wire.frame(METADATA, body, False)), 4)
    cursor.take("i")
    for _ in range(cursor.take("i")):
        cursor.take("i")
        cursor.text()
        cursor.take("i")
        cursor.text()
    cursor.text()
    cursor.take("i")
    found = Part(-1, [], [])
    for _ in range(cursor.take("i")):
        cursor.take("h")
        cursor.text()
        cursor.take("b")
        for _ in range(cursor.take("i")):
            cursor.take("h")
            number, leader = cursor.take("i"), cursor.take("i")
            part = Part(leader, cursor.int32s(), cursor.int32s())
            found = part if number == index else found
    return found


def quorum(connection: wire.Connection) -> Quorum:
    """The quorum of the metadata log as this broker hears of it."""
    body = b"\2" + wire.compact("__cluster_metadata") + b"\2" + struct.pack(">i", 0) + b"\0\0\0"
    cursor = Cursor(connection.ask(wire.frame(DESCRIBE_QUORUM, body, True)), 5)
    if cursor.take("h") or cursor.uvarint() != 2:
        return NO_QUORUM
    cursor.compact_text()
    if cursor.uvarint() != 2:
        return NO_QUORUM
    cursor.take("i")
    error, leader = cursor.take("h"), cursor.take("i")
    cursor.take("i")
    high_watermark = cursor.take("q")
    ends: dict[int, int] = {}
    for _ in range(cursor.uvarint() - 1):
        voter = cursor.take("i")
        ends[voter] = cursor.take("q")
        cursor.take("b")
    return NO_QUORUM if error else Quorum(leader, high_watermark, ends)


class Guide:
    """Asks each of some brokers in turn until one answers. A connection that fails is made anew."""

    def __init__(self, brokers: dict[int, Tcp]) -> None:
        self._brokers = brokers
        self._connections: dict[int, wire.Connection] = {}

    def __enter__(self) -> "Guide":
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for connection in self._connections.values():
                stack.callback(connection.socket.close)
        self._connections = {}

    def partition(self, topic: str, index: int) -> Part:
        """As the first broker that answers knows it."""
        for broker_id in self._brokers:
            connection = self._connection(broker_id)
            if connection is None:
                continue
            try:
                return partition(connection, topic, index)
            except OSError:
                self._drop(broker_id)
        return Part(-1, [], [])

    def quorum(self, without: int = -1, patience_s: float = 60.0) -> Quorum:
        """As the first broker says that knows a leader, but for `without`; none is waited for longer than
        `patience_s`.
        """
        for broker_id in self._brokers:
            connection = None if broker_id == without else self._connection(broker_id)
            if connection is None:
                continue
            connection.patience(patience_s)
            try:
                found = quorum(connection)
            except OSError:
                self._drop(broker_id)
                continue
            if found.leader >= 0:
                return found
        return NO_QUORUM

    def _connection(self, broker_id: int) -> wire.Connection | None:
        if broker_id not in self._connections:
            try:
                self._connections[broker_id] = wire.Connection(self._brokers[broker_id])
            except OSError:
                return None
        return self._connections[broker_id]

    def _drop(self, broker_id: int) -> None:
        self._connections.pop(broker_id).socket.close()


def wait_until_whole(guide: Guide, topic: str, replicas: int, partitions: int = 1) -> Part:
    """Wait until each partition has a leader and all replicas in sync, and all voters what is committed. The
    first partition is returned.
    """
    give_up = time.monotonic() + PATIENCE_S
    while True:
        parts = [guide.partition(topic, number) for number in range(partitions)]
        quorum = guide.quorum(patience_s=2.0)
        if quorum.whole and all(part.leader >= 0 and len(part.isr) == replicas for part in parts):
            return parts[0]
        if time.monotonic() > give_up:
            raise wire.WireError(f"{topic}: {parts}, {quorum}")
        time.sleep(LOOK_S)
