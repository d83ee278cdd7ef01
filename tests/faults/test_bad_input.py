"""What a client may do wrong, with real processes: it is told, or cut off, and nobody else notices.

All of it holds for Apache Kafka too: TAILRACE_COMPAT_AGAINST=kafka runs the same tests there.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from random import Random

import pytest

from perf import wire
from perf.batches import batch_of_size
from perf.peers.tailrace import Tailrace
from perf.processes import tree
from tests.support.bootstrap import against_kafka

GOOD = batch_of_size(61 + 120, 120).data
PATIENCE_S = 20.0
HUGE = struct.pack(">i", 2**31 - 1)
RANDOM = Random(3)


@pytest.fixture(autouse=True)
def nobody_dies(request: pytest.FixtureRequest, bootstrap: str) -> Iterator[None]:
    """The same processes before and after, and they serve."""
    before: list[int] = []
    if not against_kafka():
        broker: Tailrace = request.getfixturevalue("broker")
        write_one(bootstrap, new_topic(bootstrap), 0)  # workers start when first needed
        before = tree(broker.pid)
    yield
    write_one(bootstrap, new_topic(bootstrap), 0)
    if before:
        assert set(before) <= set(tree(request.getfixturevalue("broker").pid)), "a process died"


def new_topic(bootstrap: str) -> str:
    """A topic of one partition."""
    topic = f"bad-input-{time.monotonic_ns()}"
    with wire.Connection(wire.address(bootstrap)) as connection:
        wire.create_topic(connection, topic)
    return topic


def produce(connection: wire.Connection, topic: str, batch: bytes) -> tuple[int, int]:
    """Error code and base offset of the answer."""
    answer = connection.ask(wire.produce_frame(topic, batch, -1, 0))
    before_error = 4 + 1 + 1 + len(wire.compact(topic)) + 1 + 4
    error, base_offset = struct.unpack_from(">hq", answer, before_error)
    return error, base_offset


def write_one(bootstrap: str, topic: str, expected_offset: int) -> None:
    """One good record."""
    with wire.Connection(wire.address(bootstrap)) as connection:
        assert produce(connection, topic, GOOD) == (0, expected_offset)


def dial(bootstrap: str) -> socket.socket:
    """A plain socket."""
    return socket.create_connection(wire.address(bootstrap), PATIENCE_S)


def closed_by_broker(client: socket.socket) -> bool:
    """Whether the broker ends the connection, whatever it says before."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def sized(body: bytes) -> bytes:
    """A frame."""
    return struct.pack(">i", len(body)) + body


HEADER = struct.pack(">hhi", 0, 8, 1) + wire.string("bad")
NOT_KAFKA = {
    "size 0": sized(b""),
    "size -1": struct.pack(">i", -1),
    "size of 2 GiB": HUGE,
    "size above the limit": struct.pack(">i", 104_857_601),
    "3 bytes": sized(b"\0\0\0"),
    "header cut short": sized(HEADER[:9]),
    "client id longer than the frame": sized(struct.pack(">hhih", 0, 8, 1, 32_000)),
    "random": sized(RANDOM.randbytes(64)),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("1603010200010001fc0303") + RANDOM.randbytes(501),
    "unknown api": sized(struct.pack(">hhi", 999, 0, 1) + wire.string("bad")),
    "unknown version": sized(struct.pack(">hhi", 1, 99, 1) + wire.string("bad") + b"\0"),
    "produce of 2^31 topics": sized(HEADER + struct.pack(">hhi", -1, -1, 1000) + HUGE),
    "produce of 2^31 partitions": sized(
        HEADER + struct.pack(">hhii", -1, -1, 1000, 1) + wire.string("topic") + HUGE
    ),
    "records of 2 GiB": sized(
        HEADER + struct.pack(">hhii", -1, -1, 1000, 1) + wire.string("t") + struct.pack(">ii", 1, 0) + HUGE
    ),
    "compact array of 2^32": sized(
        struct.pack(">hhi", 0, 9, 1)
        + wire.string("bad")
        + b"\0\0"
        + struct.pack(">hi", -1, 1000)
        + b"\xff\xff\xff\xff\x0f"
    ),
    "tagged fields without end": sized(
        struct.pack(">hhi", 0, 9, 1) + wire.string("bad") + b"\xff\xff\xff\xff\x07"
    ),
}


@pytest.mark.parametrize("name", NOT_KAFKA)
def test_what_is_no_request_is_cut_off(bootstrap: str, name: str) -> None:
    with dial(bootstrap) as client:
        client.sendall(NOT_KAFKA[name])
        assert closed_by_broker(client)


def test_a_frame_cut_short_ends_with_its_connection(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    with dial(bootstrap) as client:
        client.sendall(wire.produce_frame(topic, GOOD, -1, 0)[:-7])
        client.shutdown(socket.SHUT_WR)
        assert closed_by_broker(client)
    write_one(bootstrap, topic, 0)


def test_an_unknown_version_of_api_versions_is_answered_as_version_0(bootstrap: str) -> None:
    with wire.Connection(wire.address(bootstrap)) as connection:
        answer = connection.ask(sized(struct.pack(">hhi", 18, 99, 7) + wire.string("bad") + b"\0"))
        correlation_id, error, count = struct.unpack_from(">ihi", answer)
        assert (correlation_id, error) == (7, 35)
        assert count == 1 or len(answer) == 10 + 6 * count


def changed(at: int, value: bytes) -> bytes:
    """The good batch with some bytes replaced; its checksum is not mended."""
    return GOOD[:at] + value + GOOD[at + len(value) :]


BAD_BATCHES = {
    "checksum": changed(17, b"\0\0\0\0"),
    "a flipped bit": changed(len(GOOD) - 1, bytes([GOOD[-1] ^ 1])),
    "magic 3": changed(16, b"\3"),
    "magic 1": changed(16, b"\1"),
    "magic -1": changed(16, b"\xff"),
    "length too long": changed(8, struct.pack(">i", len(GOOD))),
    "length 0": changed(8, bytes(4)),
    "length negative": changed(8, struct.pack(">i", -5)),
    "cut short": GOOD[:-3],
    "only a header's half": GOOD[:30],
    "wrong count": changed(57, struct.pack(">i", 1000)),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_bad_batch_is_refused_and_leaves_nothing(bootstrap: str, name: str) -> None:
    topic = new_topic(bootstrap)
    with wire.Connection(wire.address(bootstrap)) as connection:
        try:
            error, _ = produce(connection, topic, BAD_BATCHES[name])
            assert error != 0
        except ConnectionError:
            pass  # Kafka cuts off some of them
    write_one(bootstrap, topic, 0)


def test_topics_nobody_made_are_unknown_to_produce_and_fetch(bootstrap: str) -> None:
    with wire.Connection(wire.address(bootstrap)) as connection:
        assert produce(connection, "never-made", GOOD)[0] == 3
        fetched = wire.fetch_response(connection.ask(wire.fetch_frame("never-made", 0, 1000)))
        assert fetched.error_code == 3


def test_an_offset_that_is_not_there_is_out_of_range(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    with wire.Connection(wire.address(bootstrap)) as connection:
        for offset in (5, 2**62):
            fetched = wire.fetch_response(connection.ask(wire.fetch_frame(topic, offset, 1000)))
            assert fetched.error_code == 1


def test_silent_and_half_sent_clients_hold_nobody_up(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    clients = [dial(bootstrap) for _ in range(60)]
    try:
        for number, client in enumerate(clients):
            client.sendall(wire.produce_frame(topic, GOOD, -1, 0)[:number])
        write_one(bootstrap, topic, 0)
    finally:
        for client in clients:
            client.close()


def test_a_half_closed_client_still_gets_its_answers(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    with dial(bootstrap) as client:
        client.sendall(wire.produce_frame(topic, GOOD, -1, 1))
        answer = client.recv(4, socket.MSG_WAITALL)
        client.shutdown(socket.SHUT_WR)
        assert len(answer) == 4
        assert closed_by_broker(client)
    write_one(bootstrap, topic, 1)


def test_a_client_that_reads_nothing_holds_nobody_up(bootstrap: str) -> None:
    topic = new_topic(bootstrap)
    with wire.Connection(wire.address(bootstrap)) as connection:
        big = batch_of_size(1_000_000, 1000).data
        for _ in range(8):
            assert produce(connection, topic, big)[0] == 0
    with dial(bootstrap) as deaf:
        deaf.setblocking(False)
        send_until_it_blocks(deaf, wire.fetch_frame(topic, 0, 1 << 20) * 2000)
        write_one(bootstrap, new_topic(bootstrap), 0)


def send_until_it_blocks(client: socket.socket, data: bytes) -> None:
    """Send the same again and again, until neither side takes more."""
    left = data
    with contextlib.suppress(BlockingIOError):
        while True:
            left = left[client.send(left) :] or data
