"""A blocking consumer of named partitions: from where each starts is said, groups are not part of it.

Records of a partition come in order and once. Control batches move the position and are not handed out. Of a
batch that begins before the position only the wanted records are.
"""

import time
from collections.abc import Iterator

import msgspec

from tailrace.clients.admin import CONSUMER, Admin
from tailrace.clients.cluster import RETRY_PAUSE_S, Cluster
from tailrace.clients.connection import UnreachableError
from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.apis import FETCH
from tailrace.core.protocol.messages.fetch import (
    FetchRequest,
    FetchRequestPartition,
    FetchRequestTopic,
    FetchResponse,
    FetchResponsePartition,
)
from tailrace.core.protocol.messages.list_offsets import EARLIEST, LATEST
from tailrace.core.records.batch import HEADER_SIZE, LOG_APPEND_TIME, check_stored, parse_header
from tailrace.core.records.columns import RecordReader

MAX_BYTES = 52_428_800
PARTITION_MAX_BYTES = 1_048_576
MAX_WAIT_MS = 500
NO_SESSION, FINAL_EPOCH = 0, -1


class Consumed(msgspec.Struct, kw_only=True, frozen=True):
    """A record and where it was."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    log_append_time: bool  # whether the broker stamped it
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Consumer:
    """Reads partitions of one topic, each from its own position."""

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        partition_max_bytes: int = PARTITION_MAX_BYTES,
        max_wait_ms: int = MAX_WAIT_MS,
        retry_timeout_s: float = 60.0,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._partition_max_bytes = partition_max_bytes
        self._max_wait_ms = max_wait_ms
        self._retry_timeout_s = retry_timeout_s
        self.positions: dict[int, int] = {}
        self.high_watermarks: dict[int, int] = {}
        self._turn = 0
        self._reader = RecordReader()

    def assign(self, partition: int, start: str | int) -> None:
        """Read a partition from `beginning`, `end`, an offset, -N before the end, or `@MS`, a timestamp."""
        self.positions[partition] = self.find(partition, start)

    def pause(self, partition: int) -> None:
        """Read this partition no more."""
        self.positions.pop(partition)

    def find(self, partition: int, place: str | int) -> int:
        """The offset that a start, as `assign` takes it, stands for now."""
        admin = Admin(self._cluster)
        if place == "beginning":
            return admin.find_offset(self._topic, partition, EARLIEST).offset
        if place == "end":
            return admin.find_offset(self._topic, partition, LATEST).offset
        if isinstance(place, str) and place.startswith("@"):
            found = admin.find_offset(self._topic, partition, int(place[1:])).offset
            return found if found >= 0 else self.find(partition, "end")
        offset = int(place)
        if offset >= 0:
            return offset
        return max(self.find(partition, "end") + offset, self.find(partition, "beginning"))

    def at_end(self, partition: int) -> bool:
        """Whether the last fetch showed that nothing more was there."""
        known = self.high_watermarks.get(partition)
        return known is not None and self.positions[partition] >= known

    def poll(self) -> Iterator[Consumed]:
        """What one fetch from every leader brings; waits for it up to `max_wait_ms`.

        The position moves with each record that is taken from the iterator.
        """
        deadline_s = time.monotonic() + self._retry_timeout_s
        while True:
            try:
                answers = list(self._fetch())
                break
            except UnreachableError:
                if time.monotonic() > deadline_s:
                    raise
            except KafkaError as error:
                if not errors.is_retriable(error.code) or time.monotonic() > deadline_s:
                    raise
            self._cluster.forget(self._topic)
            time.sleep(RETRY_PAUSE_S)
        for answer in answers:
            yield from self._records(answer)
            self.high_watermarks[answer.partition_index] = answer.high_watermark

    def _fetch(self) -> Iterator[FetchResponsePartition]:
        for leader, partitions in self._cluster.by_leader(self._topic, self.positions).items():
            self._turn += 1  # as the first partition may fill the answer, each is the first in its turn
            first = self._turn % len(partitions)
            request = self._request(partitions[first:] + partitions[:first])
            timeout_s = self._cluster.timeout_s + self._max_wait_ms / 1000
            response = leader.request(FETCH, request, FetchResponse, timeout_s=timeout_s)
            if response.error_code:
                raise KafkaError(response.error_code, f"fetch of {self._topic}")
            for topic in response.responses:
                for answer in topic.partitions:
                    if self._is_usable(answer):
                        yield answer

    def _request(self, partitions: list[int]) -> FetchRequest:
        wanted = [
            FetchRequestPartition(
                partition,
                fetch_offset=self.positions[partition],
                partition_max_bytes=self._partition_max_bytes,
            )
            for partition in partitions
        ]
        topic_id = self._cluster.topics[self._topic].topic_id
        return FetchRequest(
            replica_id=CONSUMER,
            max_wait_ms=self._max_wait_ms,
            min_bytes=1,
            max_bytes=MAX_BYTES,
            session_id=NO_SESSION,
            session_epoch=FINAL_EPOCH,
            topics=[FetchRequestTopic(self._topic, topic_id, wanted)],
        )

    def _is_usable(self, answer: FetchResponsePartition) -> bool:
        if answer.error_code == errors.OFFSET_OUT_OF_RANGE:
            start = self.find(answer.partition_index, "beginning")
            if self.positions[answer.partition_index] < start:  # retention was faster than we
                self.positions[answer.partition_index] = start
                return False
        if answer.error_code:
            raise KafkaError(answer.error_code, f"{self._topic}-{answer.partition_index}")
        return True

    def _records(self, answer: FetchResponsePartition) -> Iterator[Consumed]:
        partition = answer.partition_index
        data = memoryview(b"" if answer.records is None else answer.records)
        while len(data) >= HEADER_SIZE:
            header = parse_header(data)
            if header.size >= HEADER_SIZE and header.size > len(data):
                return  # cut at the byte limit: the next fetch begins with it
            batch = data[: header.size]
            fault = check_stored(batch, header)
            if fault:
                raise KafkaError(errors.CORRUPT_MESSAGE, f"{self._topic}-{partition}: {fault}")
            data = data[header.size :]
            if not header.is_control:
                for record in self._reader.records(batch):
                    if record.offset < self.positions.get(partition, record.offset + 1):
                        continue
                    self.positions[partition] = record.offset + 1
                    yield Consumed(
                        topic=self._topic,
                        partition=partition,
                        offset=record.offset,
                        timestamp=record.timestamp,
                        log_append_time=bool(header.attributes & LOG_APPEND_TIME),
                        key=record.key,
                        value=record.value,
                        headers=record.headers,
                    )
            if partition not in self.positions:
                return
            self.positions[partition] = max(self.positions[partition], header.last_offset + 1)
