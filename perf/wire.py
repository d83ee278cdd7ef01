"""Requests written by hand, so that a client costs next to nothing and shares no code with what it measures.

Produce 9 and Fetch 12 carry topic names: nobody has to ask for a topic id first. The others are the newest
whose encoding is not flexible.
"""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from perf.peers.peer import Endpoint, Tcp

PRODUCE, FETCH, CREATE_TOPICS, DELETE_TOPICS = (0, 9), (1, 12), (19, 4), (20, 3)
FETCH_OFFSET_FROM_END = 29  # where fetch_frame's offset begins, counted from the end of the frame
RETRIABLE = {3, 5, 6, 7}  # unknown topic, leader not available, not leader, request timed out
CREATE_PATIENCE_S = 30.0


class WireError(Exception):
    """The broker answered something else than success."""


def string(text: str) -> bytes:
    """A string with a 16-bit length."""
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def uvarint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_uvarint(view: memoryview, position: int) -> tuple[int, int]:
    """The unsigned integer at `position` and where it ends."""
    value = shift = 0
    while True:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def compact(text: str) -> bytes:
    """A string with its length + 1 as an unsigned varint."""
    raw = text.encode()
    return uvarint(len(raw) + 1) + raw


def frame(api: tuple[int, int], body: bytes, flexible: bool, correlation_id: int = 0) -> bytes:
    """Size, header, body."""
    header = struct.pack(">hhi", *api, correlation_id) + string("perf") + (b"\0" if flexible else b"")
    return struct.pack(">i", len(header) + len(body)) + header + body


def produce_frame(topic: str, batch: bytes, acks: int, correlation_id: int, index: int = 0) -> bytes:
    """One batch for one partition."""
    partition = struct.pack(">i", index) + uvarint(len(batch) + 1) + batch + b"\0"
    topics = b"\2" + compact(topic) + b"\2" + partition + b"\0"
    return frame(PRODUCE, b"\0" + struct.pack(">hi", acks, 30_000) + topics + b"\0", True, correlation_id)


class ProduceResponse(NamedTuple):
    """How the answers to produce_frame look when they succeed: all have one size."""

    size: int
    fields: struct.Struct  # frame size, correlation id, error code, base offset

    @classmethod
    def of(cls, topic: str) -> "ProduceResponse":
        """The layout for this topic's name."""
        before_error = 1 + 1 + len(compact(topic)) + 1 + 4  # tags, topics, name, partitions, index
        after_offset = 8 + 8 + 1 + 1 + 1 + 1 + 4 + 1  # times, log start, errors, message, tags, throttle
        fields = struct.Struct(f">ii{before_error}xhq{after_offset}x")
        return cls(fields.size, fields)


def fetch_frame(
    topic: str,
    offset: int,
    partition_max_bytes: int,
    correlation_id: int = 0,
    index: int = 0,
    wait_ms: int = 500,
) -> bytes:
    """One partition from `offset` on, without a session."""
    partition = struct.pack(">iiqiqi", index, -1, offset, -1, -1, partition_max_bytes) + b"\0"
    topics = b"\2" + compact(topic) + b"\2" + partition + b"\0"
    head = struct.pack(">iiiibii", -1, wait_ms, 1, 52_428_800, 0, 0, -1)
    return frame(FETCH, head + topics + b"\1" + b"\1" + b"\0", True, correlation_id)


class Fetched(NamedTuple):
    """One partition's answer: where its record bytes lie in the frame that was read."""

    error_code: int
    high_watermark: int
    start: int
    length: int


def fetch_response(view: memoryview) -> Fetched:
    """Read a Fetch 12 answer of one partition, given without its size."""
    position = 4 + 1
    error = struct.unpack_from(">h", view, position + 4)[0]
    if error:
        return Fetched(error, -1, 0, 0)
    position += 4 + 2 + 4 + 1
    name, position = read_uvarint(view, position)
    position += name - 1 + 1
    error, high_watermark = struct.unpack_from(">hq", view, position + 4)
    position += 4 + 2 + 8 + 8 + 8
    aborted, position = read_uvarint(view, position)
    if aborted > 1:
        raise WireError("aborted transactions where nobody made any")
    length, position = read_uvarint(view, position + 4)
    return Fetched(error, high_watermark, position, max(length - 1, 0))


def next_offset(view: memoryview, start: int, length: int) -> int:
    """The offset after the last whole batch; -1 when there is none."""
    end, offset = start + length, -1
    while start + 61 <= end:
        base, size = struct.unpack_from(">qi", view, start)
        if start + 12 + size > end:
            break
        offset = base + struct.unpack_from(">i", view, start + 23)[0] + 1
        start += 12 + size
    return offset


def address(bootstrap: str) -> Tcp:
    """HOST:PORT as an endpoint."""
    host, _, port = bootstrap.rpartition(":")
    return Tcp(host.strip("[]"), int(port))


class Connection:
    """A blocking connection that reads whole frames into one buffer."""

    def __init__(self, endpoint: Endpoint, buffer_bytes: int = 1 << 16) -> None:
        if isinstance(endpoint, Path):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            address: str | tuple[str, int] = str(endpoint)
        else:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address = (endpoint.host, endpoint.port)
        self.socket.settimeout(60)
        try:
            self.socket.connect(address)
            if self.socket.getsockname() == address:  # nobody listens: TCP may connect a port with itself
                raise ConnectionRefusedError("connected with itself")
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(None)  # a blocking call costs one system call, one with a time-out two
        self.patience(60)
        self.view = memoryview(bytearray(buffer_bytes))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def patience(self, seconds: float) -> None:
        """How long a call waits before it is an OSError; after one the connection is of no more use."""
        deadline = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, deadline)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, deadline)

    def read_exactly(self, start: int, end: int) -> None:
        """Fill the buffer from `start` to `end`."""
        while start < end:
            got = self.socket.recv_into(self.view[start:end])
            if not got:
                raise ConnectionError("the broker closed the connection")
            start += got

    def read_frame(self) -> memoryview:
        """The next answer, without its size; valid until the next read."""
        self.read_exactly(0, 4)
        size = int.from_bytes(self.view[:4])
        if size > len(self.view):
            self.view = memoryview(bytearray(size))
        self.read_exactly(0, size)
        return self.view[:size]

    def ask(self, request: bytes | bytearray) -> memoryview:
        """Send one request, wait for its answer."""
        self.socket.sendall(request)
        return self.read_frame()


def topic_errors(answer: memoryview, with_message: bool) -> Iterator[int]:
    """The error code of each topic in a CreateTopics 4 or DeleteTopics 3 answer."""
    count, position = struct.unpack_from(">i", answer, 8)[0], 12
    for _ in range(count):
        position += 2 + struct.unpack_from(">h", answer, position)[0]
        yield struct.unpack_from(">h", answer, position)[0]
        position += 2
        if with_message:
            position += 2 + max(0, struct.unpack_from(">h", answer, position)[0])


def create_topic(
    connection: Connection, topic: str, partitions: int = 1, replicas: Sequence[int] = ()
) -> None:
    """Create a topic and wait until its partition 0 takes a fetch. Without `replicas` there is one of each
    partition; with them each has these, and the first, which is to be the broker of the connection, leads.
    """
    placed = b"".join(
        struct.pack(f">ii{len(replicas)}i", number, len(replicas), *replicas)
        for number in range(partitions if replicas else 0)
    )
    sizes = (-1, -1, partitions) if replicas else (partitions, 1, 0)
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">ihi", *sizes) + placed + struct.pack(">i", 0)
    answer = connection.ask(frame(CREATE_TOPICS, body + struct.pack(">ib", 30_000, 0), False))
    for error in topic_errors(answer, with_message=True):
        if error:
            raise WireError(f"creating {topic}: error {error}")
    give_up = time.monotonic() + CREATE_PATIENCE_S
    probe = fetch_frame(topic, 0, 1, wait_ms=0)
    while error := fetch_response(connection.ask(probe)).error_code:
        if error not in RETRIABLE or time.monotonic() > give_up:
            raise WireError(f"{topic} cannot be read: error {error}")
        time.sleep(0.002)


def delete_topic(connection: Connection, topic: str) -> None:
    """Delete a topic."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">i", 30_000)
    for error in topic_errors(connection.ask(frame(DELETE_TOPICS, body, False)), with_message=False):
        if error:
            raise WireError(f"deleting {topic}: error {error}")
