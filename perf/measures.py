"""One measurement each: a client that costs little, a broker, a figure.

Every answer's correlation id and error code are checked; a wrong one ends the run.
"""

import struct
import time
from collections.abc import Sequence
from itertools import count

from perf import wire
from perf.batches import Batch
from perf.peers.peer import Endpoint

FETCH_BUFFER = 4 << 20
TOPIC_NUMBERS = count()


Figures = dict[str, float]


def new_topic() -> str:
    """A name not used before in this run; all have one length."""
    return f"perf-{next(TOPIC_NUMBERS):06}"


class Pipeline:
    """Produce requests of one batch to one topic, `in_flight` of them on the way at any time."""

    def __init__(
        self, connection: wire.Connection, topic: str, batch: Batch, acks: int, in_flight: int
    ) -> None:
        self._connection, self._in_flight, self._batch = connection, in_flight, batch
        self._frames = [wire.produce_frame(topic, batch.data, acks, number) for number in range(in_flight)]
        self._response = wire.ProduceResponse.of(topic)
        self._next_answer = 0  # the frames go round: their number is their correlation id
        self._held = 0  # bytes of an answer that has not come whole
        self.records = 0  # acknowledged so far

    def run(self, seconds: float, bytes_max: int) -> tuple[int, float]:
        """Send until the time or the bytes are used up; returns acknowledged requests and seconds taken."""
        send = self._connection.socket.sendall
        stride = self._in_flight + 1
        runs = [
            self._run_of_frames(first, many) for first in range(self._in_flight) for many in range(stride)
        ]
        requests_max = max(self._in_flight + 1, bytes_max // len(self._batch.data))
        begin = time.perf_counter()
        stop = begin + seconds
        first = self._next_answer
        send(runs[first * stride + self._in_flight])
        sent, done = self._in_flight, 0
        while sent < requests_max and time.perf_counter() < stop:
            first = self._next_answer
            answers = self._take_answers()
            done += answers
            send(runs[first * stride + answers])
            sent += answers
        while done < sent:
            done += self._take_answers()
        return done, time.perf_counter() - begin

    def _run_of_frames(self, first: int, many: int) -> bytes:
        return b"".join(self._frames[(first + number) % self._in_flight] for number in range(many))

    def _take_answers(self) -> int:
        """Read what is there, at least one answer; check each. Returns how many."""
        size, view = self._response.size, self._connection.view
        self._held += self._connection.socket.recv_into(view[self._held :])
        while self._held < size:
            got = self._connection.socket.recv_into(view[self._held :])
            if not got:
                raise ConnectionError("the broker closed the connection")
            self._held += got
        whole = self._held // size
        for _, correlation_id, error, base_offset in self._response.fields.iter_unpack(view[: whole * size]):
            if error or correlation_id != self._next_answer or base_offset != self.records:
                expected = f"answer {self._next_answer} at {self.records}"
                raise wire.WireError(
                    f"{correlation_id} at {base_offset}, error {error}, instead of {expected}"
                )
            self._next_answer = (correlation_id + 1) % self._in_flight
            self.records += self._batch.records
        rest = self._held - whole * size
        if rest:
            view[:rest] = bytes(view[whole * size : self._held])
        self._held = rest
        return whole


def produce(
    endpoint: Endpoint,
    batch: Batch,
    acks: int,
    in_flight: int,
    seconds: float,
    bytes_max: int,
    replicas: Sequence[int] = (),
) -> Figures:
    """Requests and bytes a second."""
    topic = new_topic()
    with wire.Connection(endpoint) as connection:
        wire.create_topic(connection, topic, replicas=replicas)
        pipeline = Pipeline(connection, topic, batch, acks, in_flight)
        pipeline.run(seconds, max(bytes_max // 16, len(batch.data)))
        requests, taken = pipeline.run(seconds, bytes_max)
        wire.delete_topic(connection, topic)
    return {"requests/s": requests / taken, "MB/s": requests * len(batch.data) / taken / 1e6}


def round_trip(
    endpoint: Endpoint, batch: Batch, acks: int, seconds: float, replicas: Sequence[int] = ()
) -> Figures:
    """Latency of one request after the other, in microseconds."""
    topic, taken = new_topic(), list[int]()
    with wire.Connection(endpoint) as connection:
        wire.create_topic(connection, topic, replicas=replicas)
        frame = wire.produce_frame(topic, batch.data, acks, 0)
        response = wire.ProduceResponse.of(topic)
        send, clock = connection.socket.sendall, time.perf_counter_ns
        stop = clock() + int(seconds * 1e9)
        end, offset = 0, 0
        while end < stop:
            begin = clock()
            send(frame)
            connection.read_exactly(0, response.size)
            end = clock()
            _, correlation_id, error, base_offset = response.fields.unpack(connection.view[: response.size])
            if error or correlation_id or base_offset != offset:
                raise wire.WireError(f"error {error}, base offset {base_offset} for {offset}")
            offset += batch.records
            taken.append(end - begin)
        wire.delete_topic(connection, topic)
    return quantiles(taken, seconds)


def quantiles(taken_ns: list[int], seconds: float) -> Figures:
    """The figures of a run of single requests."""
    taken_ns.sort()
    p50, p99 = taken_ns[len(taken_ns) // 2] / 1000, taken_ns[len(taken_ns) * 99 // 100] / 1000
    return {"p50 us": p50, "p99 us": p99, "requests/s": len(taken_ns) / seconds}


def fetch(
    endpoint: Endpoint, batch: Batch, log_bytes: int, partition_max_bytes: int, seconds: float
) -> Figures:
    """Bytes a second read from the page cache, one request after the other, over and over."""
    topic = new_topic()
    with wire.Connection(endpoint, FETCH_BUFFER) as connection:
        wire.create_topic(connection, topic)
        pipeline = Pipeline(connection, topic, batch, 1, 5)
        pipeline.run(60, log_bytes)
        read_log(connection, topic, pipeline.records, partition_max_bytes, 0)
        figures = read_log(connection, topic, pipeline.records, partition_max_bytes, seconds)
        wire.delete_topic(connection, topic)
    return figures


def read_log(
    connection: wire.Connection, topic: str, end_offset: int, partition_max_bytes: int, seconds: float
) -> Figures:
    """Read the whole log again and again until the time is over; at least once."""
    frame = bytearray(wire.fetch_frame(topic, 0, partition_max_bytes))
    offset_at = len(frame) - wire.FETCH_OFFSET_FROM_END
    offset = read = requests = passes = 0
    begin = time.perf_counter()
    while not passes or time.perf_counter() - begin < seconds:
        struct.pack_into(">q", frame, offset_at, offset)
        answer = connection.ask(frame)
        fetched = wire.fetch_response(answer)
        after = wire.next_offset(answer, fetched.start, fetched.length)
        if fetched.error_code or after <= offset:
            raise wire.WireError(
                f"fetch at {offset}: error {fetched.error_code}, {fetched.length} bytes up to {after}"
            )
        read += fetched.length
        requests += 1
        offset = after
        if offset == end_offset:
            offset, passes = 0, passes + 1
    taken = time.perf_counter() - begin
    return {"MB/s": read / taken / 1e6, "requests/s": requests / taken}
