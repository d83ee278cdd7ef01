"""Produce as clients should not send it, and as they should: the same for any broker.

Every case has a partition of its own, so that no answer depends on another case's.
"""

import struct
from typing import Any

from perf import wire
from tailrace.clients.connection import Connection
from tailrace.core.errors import (
    LEADER_NOT_AVAILABLE,
    NONE,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_TOPIC_OR_PARTITION,
)
from tailrace.core.protocol.apis import CREATE_TOPICS, FETCH, LIST_OFFSETS, METADATA, PRODUCE
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
    CreateTopicsResponse,
)
from tailrace.core.protocol.messages.fetch import FetchRequest, FetchRequestPartition, FetchRequestTopic
from tailrace.core.protocol.messages.list_offsets import (
    ListOffsetsRequest,
    ListOffsetsRequestPartition,
    ListOffsetsRequestTopic,
    ListOffsetsResponse,
)
from tailrace.core.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
)
from tailrace.core.records.record import NewRecord, build_batch
from tests.support.batches import (
    HOUR_MS,
    NOW_MS,
    PAST_MS,
    batch,
    by_producer,
    changed,
    message_set,
    records,
)
from tests.support.raw_client import Outcome, RawClient
from tests.support.waiting import wait_until

PARTITIONS = 160
UNKNOWN_ID = bytes(range(16))
MAX_MESSAGE_BYTES = 2000
TOPICS: dict[str, dict[str, str]] = {
    "data": {"max.message.bytes": str(MAX_MESSAGE_BYTES)},
    "append-time": {"message.timestamp.type": "LogAppendTime"},
    "zstd": {"compression.type": "zstd"},
    "recent": {"message.timestamp.before.max.ms": str(HOUR_MS)},
}
_NOT_YET = (LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION)


class Cluster:
    """One broker with the topics of these cases; what it answered, by case."""

    def __init__(self, address: str) -> None:
        self.client = RawClient(address)
        self.found: dict[str, Outcome] = {}
        self._used = dict.fromkeys(TOPICS, 0)
        with Connection(address, timeout_s=20) as connection:
            topics = [
                CreateTopicsRequestTopic(
                    name,
                    PARTITIONS if name == "data" else 8,
                    1,
                    configs=[CreateTopicsRequestConfig(*item) for item in configs.items()],
                )
                for name, configs in TOPICS.items()
            ]
            made = connection.request(
                CREATE_TOPICS, CreateTopicsRequest(topics, 20_000), CreateTopicsResponse
            )
            assert [topic.error_code for topic in made.topics] == [NONE] * len(TOPICS)
            ends = [
                ListOffsetsRequestTopic(
                    topic.name,
                    [ListOffsetsRequestPartition(at, -1, -1) for at in range(topic.num_partitions)],
                )
                for topic in topics
            ]
            wait_until(
                lambda: _served(
                    connection.request(LIST_OFFSETS, ListOffsetsRequest(-1, 0, ends), ListOffsetsResponse)
                ),
                "leaders of all partitions",
            )
            names = [MetadataRequestTopic(name=name) for name in TOPICS]
            known = connection.request(METADATA, MetadataRequest(names), MetadataResponse)
            self.ids = {topic.name or "": topic.topic_id for topic in known.topics}

    def partition(self, topic: str = "data") -> int:
        """One that no case has used."""
        self._used[topic] += 1
        assert self._used[topic] <= (PARTITIONS if topic == "data" else 8)
        return self._used[topic] - 1

    def keep(self, name: str, outcome: Outcome) -> None:
        """What a case found."""
        assert name not in self.found, name
        self.found[name] = outcome


def _served(answer: ListOffsetsResponse) -> bool:
    codes = {part.error_code for topic in answer.topics for part in topic.partitions}
    assert codes <= {NONE, *_NOT_YET}
    return codes == {NONE}


def produce(
    topic: str | bytes,
    partition: int,
    data: bytes,
    *,
    acks: int = -1,
    transactional_id: str | None = None,
) -> ProduceRequest:
    """One partition's records."""
    parts = [ProduceRequestPartition(partition, data)]
    if isinstance(topic, str):
        named = ProduceRequestTopic(topic, partition_data=parts)
    else:
        named = ProduceRequestTopic(topic_id=topic, partition_data=parts)
    return ProduceRequest(transactional_id, acks, 10_000, [named])


class Producing:
    """Produce requests, and what the log holds afterwards."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._client = cluster.client

    def ask(self, what: str, *batches: bytes, version: int = 9, topic: str = "data", **more: Any) -> None:
        """The answer to each of these in turn, then a fetch of the partition."""
        partition = self.cluster.partition(topic)
        target: str | bytes = self.cluster.ids[topic] if version >= 13 else topic
        for number, data in enumerate(batches):
            message = produce(target, partition, data, **more)
            self.cluster.keep(
                f"Produce v{version}: {what} #{number}", self._client.ask(PRODUCE, version, message)
            )
        self.stored(f"v{version}: {what}", topic, partition)

    def stored(self, what: str, topic: str, partition: int) -> None:
        """What a consumer gets of the partition."""
        asked = FetchRequestPartition(partition, partition_max_bytes=1 << 20)
        fetch = FetchRequest(max_wait_ms=0, topics=[FetchRequestTopic(topic, partitions=[asked])])
        outcome = self._client.ask(FETCH, 12, fetch)
        if topic == "append-time" and isinstance(outcome, dict):
            outcome = {"length": outcome["size"]}
        self.cluster.keep(f"stored: {what}", outcome)

    def tell(self, what: str, data: bytes, *, topic: str = "data", partition: int = -1, **more: Any) -> None:
        """The same with acks=0."""
        index = self.cluster.partition(topic) if partition < 0 else partition
        message = produce(topic, index, data, acks=0, **more)
        self.cluster.keep(f"Produce acks=0: {what}", self._client.tell(PRODUCE, 9, message))


def old_produce(data: bytes) -> bytes:
    """The body of Produce 0 to 2."""
    part = struct.pack(">iii", 1, 0, len(data)) + data
    return struct.pack(">hii", -1, 10_000, 1) + wire.string("data") + part


def versions(cluster: Cluster) -> None:
    """Every version, good and with the faults that versions answer in different ways."""
    asker = Producing(cluster)
    for version in range(3):
        body = old_produce(message_set(min(version, 1), b"old"))
        cluster.keep(f"Produce v{version}", cluster.client.ask(PRODUCE, version, body))
    cluster.keep("Produce v14", cluster.client.ask(PRODUCE, 14, old_produce(b"")))
    for version in range(3, 14):
        asker.ask("good", batch(), version=version)
        asker.ask("bad checksum", changed(batch(), crc=1), version=version)
        for name, target in (("topic", "absent"), ("partition", "data"), ("partition -1", "data")):
            index = {"topic": 0, "partition": PARTITIONS, "partition -1": -1}[name]
            to: str | bytes = target
            if version >= 13:
                to = cluster.ids.get(target, UNKNOWN_ID)
            cluster.keep(
                f"Produce v{version}: unknown {name}",
                cluster.client.ask(PRODUCE, version, produce(to, index, batch())),
            )
    for version in (3, 6, 7, 9):
        asker.ask("zstd", batch(codec=4), version=version)
    empty = ProduceRequest(None, -1, 1000, [])
    cluster.keep("Produce v9: no topics", cluster.client.ask(PRODUCE, 9, empty))
    for acks in (-2, 2, 1):
        asker.ask(f"acks {acks}", batch(), acks=acks)
    both = [ProduceRequestPartition(at, batch()) for at in (cluster.partition(), PARTITIONS, -1)]
    topics = [
        ProduceRequestTopic("data", partition_data=both),
        ProduceRequestTopic("absent", partition_data=both[:1]),
    ]
    cluster.keep(
        "Produce v9: some unknown", cluster.client.ask(PRODUCE, 9, ProduceRequest(None, -1, 1000, topics))
    )
    at = cluster.partition()
    twice = [ProduceRequestPartition(at, batch(1)), ProduceRequestPartition(at, batch(2))]
    topics = [ProduceRequestTopic("data", partition_data=twice)]
    cluster.keep(
        "Produce v9: partition twice", cluster.client.ask(PRODUCE, 9, ProduceRequest(None, -1, 1000, topics))
    )
    asker.stored("partition twice", "data", at)


def headers(cluster: Cluster) -> None:
    """Batches whose header says what is not so."""
    ask = Producing(cluster).ask
    ask("base offset 1000", batch(base_offset=1000))
    ask("base offset -5", batch(base_offset=-5))
    ask("leader epoch 99", batch(leader_epoch=99))
    for magic in (0, 1):
        ask(f"message set {magic}", message_set(magic, b"old"))
        ask(f"message set {magic} in v3", message_set(magic, b"old", b"more"), version=3)
    ask("magic 3", changed(batch(), magic=3))
    ask("magic -1", changed(batch(), magic=-1))
    ask("two batches", batch() + batch())
    ask("a batch and a message set", batch() + message_set(1, b"old"))
    ask("a batch and half of one", batch() + batch()[:40])
    ask("a batch and 5 bytes", batch() + bytes(5))
    ask("half of a batch", batch()[:-10])
    ask("half of a header", batch()[:30])
    ask("10 bytes", batch()[:10])
    ask("no bytes", b"")
    ask("length 0", changed(batch(), length=0))
    ask("length -1", changed(batch(), length=-1))
    ask("length 49", changed(batch(), length=49))
    ask("checksum", changed(batch(), crc=12345))
    ask("no records", changed(batch(), record_count=0, last_offset_delta=-1))
    ask("count 0", changed(batch(), record_count=0))
    ask("count -1", changed(batch(), record_count=-1))
    ask("count 2 of 3", changed(batch(), record_count=2))
    ask("count 4 of 3", changed(batch(), record_count=4))
    ask("count and delta of 4 with 3 records", changed(batch(), record_count=4, last_offset_delta=3))
    ask("count and delta of 2 with 3 records", changed(batch(), record_count=2, last_offset_delta=1))
    ask("delta 5", changed(batch(), last_offset_delta=5))
    ask("delta -1", changed(batch(), last_offset_delta=-1))
    ask("header alone", changed(batch()[:61], length=49, record_count=0, last_offset_delta=0))
    ask("control", batch(1, control=True))
    ask("transactional, no id", batch(1, transactional=True))
    ask(
        "transactional, of a producer",
        batch(1, transactional=True, producer_id=5, producer_epoch=0, base_sequence=0),
    )
    ask("transactional id", batch(1, transactional=True, producer_id=5, producer_epoch=0, base_sequence=0),
        transactional_id="t")  # fmt: skip
    ask("transactional id, plain batch", batch(1), transactional_id="t")
    ask("log append time", changed(batch(), attributes=8))
    ask("delete horizon", changed(batch(), attributes=0x40))
    ask("unused attributes", changed(batch(), attributes=0x80))
    for codec in (5, 6, 7):
        ask(f"codec {codec}", changed(batch(), attributes=codec))
    for codec in range(1, 5):
        ask(f"good codec {codec}", batch(codec=codec))
        ask(f"codec {codec} in name only", changed(batch(), attributes=codec))
    ask("null and empty keys and values", bytes(build_batch([
        NewRecord(key=None, value=None, timestamp=PAST_MS), NewRecord(key=b"", value=b"", timestamp=PAST_MS),
        NewRecord(key=b"k", value=b"v", headers=(("h", None), ("", b"x")), timestamp=PAST_MS)])))  # fmt: skip


def sizes_and_times(cluster: Cluster) -> None:
    """max.message.bytes, and the times a topic takes."""
    ask = Producing(cluster).ask
    whole = batch()
    for over in (0, 1):
        value = MAX_MESSAGE_BYTES + over - len(bytes(build_batch([NewRecord(value=bytes(1500))]))) + 1500
        ask(
            f"{over} above max.message.bytes",
            bytes(build_batch([NewRecord(value=bytes(value), timestamp=PAST_MS)])),
        )
    ask("far above max.message.bytes", bytes(build_batch(records(1, 10_000))))
    ask("small when compressed", bytes(build_batch(records(1, 10_000), codec=1)))
    ask("an hour ahead", bytes(build_batch(records(1, at_ms=NOW_MS + HOUR_MS - 60_000))))
    ask("two hours ahead", bytes(build_batch(records(2, at_ms=NOW_MS + 2 * HOUR_MS))))
    ask(
        "one record ahead",
        bytes(build_batch([*records(1, at_ms=NOW_MS), *records(1, at_ms=NOW_MS + 2 * HOUR_MS)])),
    )
    ask("no timestamp", bytes(build_batch(records(1, at_ms=-1))))
    ask("no timestamp, where it must be recent", bytes(build_batch(records(1, at_ms=-1))), topic="recent")
    ask("timestamp 0", bytes(build_batch(records(1, at_ms=0))))
    ask("timestamp -5", bytes(build_batch(records(1, at_ms=-5))))
    ask("max timestamp too small", changed(whole, max_timestamp=PAST_MS - 1))
    ask("max timestamp too large", changed(whole, max_timestamp=PAST_MS + 1000))
    ask("max timestamp far ahead", changed(whole, max_timestamp=NOW_MS + 2 * HOUR_MS))
    ask("recent enough", bytes(build_batch(records(1, at_ms=NOW_MS - 60_000))), topic="recent")
    ask("too old", bytes(build_batch(records(2, at_ms=NOW_MS - 2 * HOUR_MS))), topic="recent")
    old = records(1, at_ms=NOW_MS - 2 * HOUR_MS)
    ask("one too old", bytes(build_batch([*old, *records(1, at_ms=NOW_MS)])), topic="recent")
    ask("append time", batch(), topic="append-time")
    ask("append time, compressed", batch(codec=1), topic="append-time")
    ask("append time, said so", changed(batch(), attributes=8), topic="append-time")
    ask("append time, two hours ahead", bytes(build_batch(records(1, at_ms=NOW_MS + 2 * HOUR_MS))),
        topic="append-time")  # fmt: skip


def producers(cluster: Cluster) -> None:
    """Idempotent producers: each list is one partition's history."""
    ask = Producing(cluster).ask
    for what, history in {
        "in order": [(1, 0, 0), (1, 0, 1), (1, 0, 2)],
        "duplicates": [(1, 0, 0), (1, 0, 1), (1, 0, 0), (1, 0, 1)],
        "old duplicate": [*((1, 0, at) for at in range(7)), (1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 0, 6)],
        "gap": [(1, 0, 0), (1, 0, 2)],
        "older epoch": [(1, 3, 0), (1, 2, 0), (1, 2, 1)],
        "newer epoch": [(1, 3, 0), (1, 4, 0), (1, 4, 1)],
        "newer epoch, sequence not 0": [(1, 3, 0), (1, 4, 1)],
        "unknown, sequence not 0": [(1, 0, 5), (1, 0, 6)],
        "two producers": [(1, 0, 0), (2, 0, 0), (1, 0, 1)],
        "end of the sequence numbers": [(1, 0, 2**31 - 1), (1, 0, 0)],
        "no sequence": [(1, 0, -1)],
        "sequence -2": [(1, 0, -2)],
        "no epoch": [(1, -1, 0)],
        "epoch without id": [(-1, 0, 0)],
        "sequence without id": [(-1, -1, 0)],
        "id -2": [(-2, 0, 0)],
    }.items():
        ask(f"producer: {what}", *(by_producer(*batch_of) for batch_of in history))
    ask(
        "producer: duplicate of another size",
        by_producer(1, 0, 0, 3),
        by_producer(1, 0, 0, 2),
        by_producer(1, 0, 1, 2),
    )
    ask(
        "producer: longer and in order",
        by_producer(1, 0, 0, 3),
        by_producer(1, 0, 3, 2),
        by_producer(1, 0, 0, 3),
    )
    ask("producer: over the end", by_producer(1, 0, 2**31 - 2, 3), by_producer(1, 0, 1, 1))
    twice = [by_producer(1, 0, 0, 2), by_producer(1, 0, 0, 2)]
    ask("producer: append time", *twice, topic="append-time")


def unanswered(cluster: Cluster) -> None:
    """acks=0: nothing, or the end of the connection."""
    tell = Producing(cluster).tell
    tell("good", batch())
    tell("bad checksum", changed(batch(), crc=1))
    tell("control", batch(1, control=True))
    tell("unknown topic", batch(), topic="data", partition=PARTITIONS)
    tell("too large", bytes(build_batch(records(1, 10_000))))
    tell("message set", message_set(1, b"old"))
