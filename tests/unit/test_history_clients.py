"""What the producer on the raw wire makes of answers: what is acknowledged, sent again, or a fault."""

import socket
import struct
from collections import deque

import pytest

from perf import wire
from tailrace.core.protocol.compile import encode
from tailrace.core.protocol.messages.fetch import FetchResponse, FetchResponsePartition, FetchResponseTopic
from tailrace.core.protocol.messages.produce import (
    ProduceResponse,
    ProduceResponsePartition,
    ProduceResponseTopic,
)
from tailrace.core.records.record import NewRecord, build_batch
from tests.support.history_check import Record
from tests.support.history_clients import Batch, Routes, fetch, record_of, send_all, value_of

OUT_OF_ORDER, NOT_LEADER, DUPLICATE, OUT_OF_RANGE, NOT_AUTHORISED = 45, 6, 46, 1, 29


class Scripted(wire.Connection):
    """A connection whose other end has said all its answers already."""

    def __init__(self, *answers: bytes) -> None:
        self.socket, self.other = socket.socketpair()
        self.view = memoryview(bytearray(1 << 12))
        self.other.sendall(b"".join(struct.pack(">i", len(answer)) + answer for answer in answers))

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.other.close()


def answer(error: int, base_offset: int = -1) -> bytes:
    """To a Produce request of version 9, with a sentence that makes it longer."""
    part = ProduceResponsePartition(0, error, base_offset, error_message="why" if error else None)
    return bytes(5) + encode(ProduceResponse([ProduceResponseTopic("t", partition_responses=[part])]), 9)


def three() -> deque[Batch]:
    """Batches of two records each."""
    return deque(Batch(b"frame %d" % first, range(first, first + 2)) for first in (0, 2, 4))


@pytest.mark.parametrize(
    ("answers", "acknowledged", "error", "left"),
    [
        ([(0, 10), (0, 12), (0, 20)], [(0, 10), (1, 11), (2, 12), (3, 13), (4, 20), (5, 21)], 0, []),
        ([(0, 10), (DUPLICATE, -1), (0, 20)], [(0, 10), (1, 11), (2, -1), (3, -1), (4, 20), (5, 21)], 0, []),
        ([(0, 10), (NOT_LEADER, -1), (OUT_OF_ORDER, -1)], [(0, 10), (1, 11)], NOT_LEADER, [2, 4]),
        ([(OUT_OF_ORDER, -1), (OUT_OF_ORDER, -1)], [], OUT_OF_ORDER, [0, 2, 4]),
    ],
)
def test_answers_up_to_the_first_error_count(
    answers: list[tuple[int, int]], acknowledged: list[tuple[int, int]], error: int, left: list[int]
) -> None:
    told: list[tuple[int, int]] = []
    pending = three()

    def note(number: int, offset: int) -> None:
        told.append((number, offset))

    with Scripted(*(answer(*each) for each in answers)) as connection:
        assert send_all(connection, pending, note) == error
        assert connection.other.recv(100) == b"frame 0frame 2frame 4"
    assert told == acknowledged
    assert [batch.numbers[0] for batch in pending] == left


def test_a_record_says_who_sent_it() -> None:
    assert record_of(value_of(3, 77)) == Record(3, 77)
    for other in (None, b"", b"x", b"1 2 3"):
        with pytest.raises((ValueError, TypeError)):
            record_of(other)


class OneRoute(Routes):
    """To a scripted connection."""

    def __init__(self, connection: wire.Connection) -> None:
        self.connection, self.dropped = connection, False

    def to(self, partition: int) -> wire.Connection | None:
        assert partition == 0
        return self.connection

    def drop(self, partition: int) -> None:
        self.dropped = partition == 0


def fetched(error: int = 0, data: bytes = b"") -> bytes:
    """The answer to a Fetch request of version 12."""
    part = FetchResponsePartition(0, error, 9, records=data)
    return bytes(5) + encode(FetchResponse(responses=[FetchResponseTopic("t", partitions=[part])]), 12)


def test_records_before_the_offset_asked_for_were_read_already() -> None:
    data = bytes(build_batch([NewRecord(value=value_of(1, n)) for n in range(3)], base_offset=5))
    with Scripted(fetched(data=data)) as connection:
        assert fetch(OneRoute(connection), "t", 0, 6) == ([(6, Record(1, 1)), (7, Record(1, 2))], 9)


def test_who_answers_with_an_error_is_looked_for_again_unless_it_is_none_of_a_failover() -> None:
    with Scripted(fetched(NOT_LEADER), fetched(OUT_OF_RANGE), fetched(NOT_AUTHORISED)) as connection:
        for _ in range(2):
            route = OneRoute(connection)
            assert fetch(route, "t", 0, 0) == ([], -1)
            assert route.dropped
        with pytest.raises(wire.WireError, match="error 29"):
            fetch(OneRoute(connection), "t", 0, 0)
