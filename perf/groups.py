"""Groups: how soon members read, what a commit takes, how soon a coordinator is back.

Members are confluent-kafka, since half of joining is what a client does; commits and their reading are frames
written by hand, as everywhere in perf.
"""

import struct
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from perf import lifecycle, wire
from perf.batches import ONE_RECORD
from perf.measures import Figures, new_topic, quantiles
from perf.peers.peer import Endpoint, Peer, Tcp

FIND_COORDINATOR, OFFSET_COMMIT, OFFSET_FETCH = (10, 0), (8, 7), (9, 5)
COMING = wire.RETRIABLE | {14, 15, 16}  # coordinator loads, is not there yet, is another
PATIENCE_S = 60.0
LOOK_S = 0.002  # how long one member is listened to before the next
GROUPS, PARTITIONS = 1_000, 10


def first_messages(endpoint: Endpoint, protocol: str) -> Figures:
    """Seconds from subscribe() of two members of a new group until each has polled a record."""
    topic = filled_topic(endpoint, 2)
    with members(endpoint, topic, protocol) as join:
        begin = time.perf_counter()
        waiting = {join(): True for _ in range(2)}
        while any(waiting.values()):
            for member in waiting:  # also who has read: what it must give up, it gives up while it polls
                if any(message.error() is None for message in member.consume(10, LOOK_S)):
                    waiting[member] = False
            assert time.perf_counter() - begin < PATIENCE_S, "a member read nothing"
        taken = time.perf_counter() - begin
    return {"s": taken}


def third_member(endpoint: Endpoint, protocol: str) -> Figures:
    """Seconds from subscribe() of a third member until each of the three owns two of six partitions."""
    topic = filled_topic(endpoint, 6)
    with members(endpoint, topic, protocol) as join:
        crew = [join(), join()]
        settle(crew, 3)
        begin = time.perf_counter()
        crew.append(join())
        settle(crew, 2)
        taken = time.perf_counter() - begin
    return {"s": taken}


def filled_topic(endpoint: Endpoint, partitions: int) -> str:
    """A topic with a record in each partition."""
    topic = new_topic()
    with wire.Connection(endpoint) as connection:
        wire.create_topic(connection, topic, partitions)
        for partition in range(partitions):
            frame = wire.produce_frame(topic, ONE_RECORD.data, -1, 0, partition)
            response = wire.ProduceResponse.of(topic)

            until_served(partial(_store, connection, frame, response), f"{topic}-{partition}")
    return topic


@contextmanager
def members(endpoint: Endpoint, topic: str, protocol: str) -> Generator[Callable[[], Any], None, None]:
    """Makes members of one new group, and closes them."""
    assert isinstance(endpoint, Tcp)
    kafka: Any = import_module("confluent_kafka")
    made: list[Any] = []

    def join() -> Any:
        settings = {
            "bootstrap.servers": f"{endpoint.host}:{endpoint.port}",
            "group.id": f"group-of-{topic}",
            "group.protocol": protocol,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        made.append(kafka.Consumer(settings))
        made[-1].subscribe([topic])
        return made[-1]

    try:
        yield join
    finally:
        for member in made:
            member.close()


def settle(crew: list[Any], each: int) -> None:
    """Poll all until each owns so many partitions."""
    give_up = time.perf_counter() + PATIENCE_S
    while any(len(member.assignment()) != each for member in crew):
        for member in crew:
            member.consume(100, LOOK_S)
        assert time.perf_counter() < give_up, "the members never shared equally"


def commit_round_trip(endpoint: Endpoint, seconds: float) -> Figures:
    """Latency of one OffsetCommit of one partition after the other, in microseconds."""
    topic, taken = new_topic(), list[int]()
    with wire.Connection(endpoint) as connection:
        wire.create_topic(connection, topic)
        await_coordinator(connection, topic)
        frame = commit_frame(topic, topic, 1)
        until_served(partial(_commit, connection, frame), "the first commit")
        clock = time.perf_counter_ns
        stop, end = clock() + int(seconds * 1e9), 0
        while end < stop:
            begin = clock()
            answer = connection.ask(frame)
            end = clock()
            if error := commit_error(answer):
                raise wire.WireError(f"a commit failed: error {error}")
            taken.append(end - begin)
    return quantiles(taken, seconds)


def fill(peer: Peer) -> None:
    """Store GROUPS times PARTITIONS offsets."""
    with wire.Connection(peer.endpoints()["tcp"]) as connection:
        wire.create_topic(connection, "loaded", PARTITIONS)
        for number in range(GROUPS):
            group = f"group-{number:04}"
            await_coordinator(connection, group)
            frame = commit_frame(group, "loaded", PARTITIONS)
            until_served(partial(_commit, connection, frame), f"a commit of {group}")


def load(peer: Peer) -> Figures:
    """Start the broker; seconds from its first answer until it gives the offsets of every group."""
    begin = time.perf_counter()
    peer.start()
    lifecycle.wait_until_served(peer)
    served = time.perf_counter()
    with wire.Connection(peer.endpoints()["tcp"]) as connection:
        for number in range(GROUPS):
            frame = fetch_frame(f"group-{number:04}", "loaded", PARTITIONS)
            until_served(partial(_fetch, connection, frame), f"group {number}")
    end = time.perf_counter()
    return {"s": end - served, "s from spawn": end - begin}


def until_served(ask: Callable[[], int], what: str) -> None:
    """Ask again while the coordinator is on its way.

    Raises:
        WireError: another error, or it never came.
    """
    give_up = time.perf_counter() + PATIENCE_S
    while error := ask():
        if error not in COMING or time.perf_counter() > give_up:
            raise wire.WireError(f"{what}: error {error}")
        time.sleep(0.002)


def _store(connection: wire.Connection, frame: bytes, response: wire.ProduceResponse) -> int:
    connection.socket.sendall(frame)
    connection.read_exactly(0, response.size)
    return int(response.fields.unpack(connection.view[: response.size])[2])


def _commit(connection: wire.Connection, frame: bytes) -> int:
    return commit_error(connection.ask(frame))


def _fetch(connection: wire.Connection, frame: bytes) -> int:
    return fetch_error(connection.ask(frame))


def await_coordinator(connection: wire.Connection, group: str) -> None:
    """Wait until the group has one; the topic of offsets is made with the first."""
    frame = wire.frame(FIND_COORDINATOR, wire.string(group), flexible=False)
    until_served(lambda: struct.unpack_from(">h", connection.ask(frame), 4)[0], f"coordinator of {group}")


def commit_frame(group: str, topic: str, partitions: int) -> bytes:
    """Offset 7 of each partition, as one that is no member commits it."""
    body = wire.string(group) + struct.pack(">i", -1) + wire.string("") + struct.pack(">h", -1)
    body += struct.pack(">i", 1) + wire.string(topic) + struct.pack(">i", partitions)
    body += b"".join(struct.pack(">iqih", partition, 7, -1, 0) for partition in range(partitions))
    return wire.frame(OFFSET_COMMIT, body, flexible=False)


def commit_error(answer: memoryview) -> int:
    """The first error of any partition in the answer to commit_frame."""
    position = 4 + 4 + 4
    position += 2 + struct.unpack_from(">h", answer, position)[0]
    errors = [error for _, error in struct.iter_unpack(">ih", answer[position + 4 :])]
    return next((error for error in errors if error), 0)


def fetch_frame(group: str, topic: str, partitions: int) -> bytes:
    """Ask for the offsets of all partitions."""
    body = wire.string(group) + struct.pack(">i", 1) + wire.string(topic) + struct.pack(">i", partitions)
    body += b"".join(struct.pack(">i", partition) for partition in range(partitions))
    return wire.frame(OFFSET_FETCH, body, flexible=False)


def fetch_error(answer: memoryview) -> int:
    """The error in the answer to fetch_frame.

    Raises:
        WireError: an offset is not the one that was committed.
    """
    error: int = struct.unpack_from(">h", answer, len(answer) - 2)[0]
    if error or not struct.unpack_from(">i", answer, 8)[0]:
        return error
    position = 4 + 4 + 4
    position += 2 + struct.unpack_from(">h", answer, position)[0] + 4
    offset_of = struct.Struct(">iqihh")  # partition, offset, leader epoch, metadata of no length, error
    offsets = [row[1] for row in offset_of.iter_unpack(answer[position : len(answer) - 2])]
    if offsets != [7] * PARTITIONS:
        raise wire.WireError(f"offsets after the restart: {offsets}")
    return 0
