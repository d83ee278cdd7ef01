"""A blocking producer: records gather in a batch a partition; `flush` returns once all are acknowledged.

Order holds within a partition: its next batch is sent after the one before was answered. A batch whose
answer was lost is sent again, so a record may be there twice (idempotence is not part of this client
yet), and none is missing unless `flush` raised.
"""

import time
from collections.abc import Sequence

import msgspec

from tailrace.clients.cluster import RETRY_PAUSE_S, Cluster
from tailrace.clients.connection import Connection, UnreachableError
from tailrace.clients.partitioners import StickyPartitioner, partition_of_key
from tailrace.core import errors
from tailrace.core.errors import KafkaError
from tailrace.core.protocol.apis import PRODUCE
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
    ProduceResponse,
)
from tailrace.core.records.compression import CODEC_NAMES
from tailrace.core.records.record import NewRecord, build_batch

BATCH_BYTES = 262_144
RECORD_OVERHEAD_BYTES = 32  # upper bound of what varints and timestamps add to a record, for the batch limit
ALL, LEADER, NONE = -1, 1, 0

Headers = Sequence[tuple[str, bytes | None]]


class Produced(msgspec.Struct, kw_only=True, frozen=True):
    """Where a batch went; base_offset is -1 with acks 0."""

    base_offset: int
    log_append_time_ms: int


class _Batch:
    """Records of one partition that wait to be sent."""

    __slots__ = ("records", "size")

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.size = 0


class Producer:
    """Sends records. KafkaError or UnreachableError says that the batch in hand was not acknowledged."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        acks: int = ALL,
        codec: str = "none",
        batch_bytes: int = BATCH_BYTES,
        delivery_timeout_s: float = 120.0,
    ) -> None:
        if acks not in (ALL, LEADER, NONE):
            raise KafkaError(errors.INVALID_REQUIRED_ACKS, f"acks is -1, 0 or 1, not {acks}")
        self._cluster = cluster
        self._acks = acks
        self._codec = CODEC_NAMES.index(codec)
        self._batch_bytes = batch_bytes
        self._delivery_timeout_s = delivery_timeout_s
        self._sticky = StickyPartitioner()
        self._batches: dict[tuple[str, int], _Batch] = {}
        self.acknowledged = 0  # records

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.flush()

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> int:
        """Put a record into its partition's batch, which is sent when it is full. Returns the partition."""
        count = self._partition_count(topic)
        if partition is None:
            partition = self._sticky.partition(topic, count) if key is None else partition_of_key(key, count)
        elif not 0 <= partition < count:
            raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION, f"topic {topic} has no partition {partition}")
        timestamp = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        record = NewRecord(key=key, value=value, timestamp=timestamp, headers=tuple(headers))
        size = _size(record)
        batch = self._batches.setdefault((topic, partition), _Batch())
        if batch.records and batch.size + size > self._batch_bytes:
            self._send_batch(topic, partition)
            batch = self._batches.setdefault((topic, partition), _Batch())
        batch.records.append(record)
        batch.size += size
        return partition

    def flush(self) -> None:
        """Send every batch; returns once all are acknowledged (with acks 0: sent)."""
        for topic, partition in list(self._batches):
            self._send_batch(topic, partition)

    def produce(self, topic: str, partition: int, records: Sequence[NewRecord]) -> Produced:
        """Send one batch now, again on retriable errors until the delivery timeout."""
        batch = build_batch(records, codec=self._codec)
        deadline_s = time.monotonic() + self._delivery_timeout_s
        while True:
            try:
                return self._produce_once(topic, partition, batch)
            except UnreachableError:
                if time.monotonic() + RETRY_PAUSE_S > deadline_s or self._acks == NONE:
                    raise
            except KafkaError as error:
                if not errors.is_retriable(error.code) or time.monotonic() + RETRY_PAUSE_S > deadline_s:
                    raise
            self._cluster.forget(topic)
            time.sleep(RETRY_PAUSE_S)

    def _send_batch(self, topic: str, partition: int) -> None:
        batch = self._batches.pop((topic, partition))
        self.produce(topic, partition, batch.records)
        self.acknowledged += len(batch.records)
        self._sticky.on_batch(topic, self._partition_count(topic))

    def _partition_count(self, topic: str) -> int:
        known = self._cluster.topics.get(topic)
        if known is None or known.error_code or not known.partitions:
            known = self._cluster.topic(topic, create=True)
        return len(known.partitions)

    def _produce_once(self, topic: str, partition: int, batch: bytearray) -> Produced:
        leader = self._cluster.leader(topic, partition)
        topic_id = self._cluster.topics[topic].topic_id
        data = ProduceRequestTopic(topic, topic_id, [ProduceRequestPartition(partition, memoryview(batch))])
        request = ProduceRequest(None, self._acks, int(self._cluster.timeout_s * 1000), [data])
        leader.send(PRODUCE, request, answered=self._acks != NONE)
        return self._answer(leader, topic, partition)

    def _answer(self, leader: Connection, topic: str, partition: int) -> Produced:
        if self._acks == NONE:
            return Produced(base_offset=-1, log_append_time_ms=-1)
        answer = leader.receive(ProduceResponse).responses[0].partition_responses[0]
        if answer.error_code:
            raise KafkaError(answer.error_code, answer.error_message or f"{topic}-{partition}")
        return Produced(base_offset=answer.base_offset, log_append_time_ms=answer.log_append_time_ms)


def _size(record: NewRecord) -> int:
    size = RECORD_OVERHEAD_BYTES + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"") + 10
    return size
