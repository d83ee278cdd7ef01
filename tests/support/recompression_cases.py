"""Batches of one codec to topics of another: the same for any broker, and what a consumer gets of them."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from tailrace.core.errors import (
    LEADER_NOT_AVAILABLE,
    NOT_LEADER_OR_FOLLOWER,
    UNKNOWN_TOPIC_OR_PARTITION,
    KafkaError,
)
from tailrace.core.protocol.apis import CREATE_TOPICS, FETCH, PRODUCE
from tailrace.core.protocol.compile import decoder
from tailrace.core.protocol.messages.create_topics import (
    CreateTopicsRequest,
    CreateTopicsRequestConfig,
    CreateTopicsRequestTopic,
)
from tailrace.core.protocol.messages.fetch import (
    FetchRequest,
    FetchRequestPartition,
    FetchRequestTopic,
    FetchResponse,
)
from tailrace.core.records.batch import HEADER_SIZE, Buffer, parse_header
from tailrace.core.records.compression import CODEC_NAMES, GZIP, LZ4, NONE, SNAPPY, ZSTD, compress, decompress
from tailrace.core.records.record import NewRecord, build_batch, encode_record, write_varint
from tests.support.batches import HOUR_MS, NOW_MS, PAST_MS, batch, by_producer, changed
from tests.support.data_cases import Cluster, produce
from tests.support.raw_client import Outcome
from tests.support.waiting import wait_until

TARGETS = ("uncompressed", "gzip", "snappy", "lz4", "zstd")
LEVELS = {
    "gzip": ("1", "9", "-1"),
    "lz4": ("1", "9", "12", "17"),
    "zstd": ("-5", "1", "19"),
}
SMALL = 2000
TOPICS: dict[str, dict[str, str]] = {
    **{f"to-{target}": {"compression.type": target} for target in TARGETS},
    **{
        f"to-{target}.{level}": {"compression.type": target, f"compression.{target}.level": level}
        for target, levels in LEVELS.items()
        for level in levels
    },
    "to-lz4-append-time": {"compression.type": "lz4", "message.timestamp.type": "LogAppendTime"},
    "to-gzip-recent": {"compression.type": "gzip", "message.timestamp.before.max.ms": str(HOUR_MS)},
    "to-uncompressed-small": {"compression.type": "uncompressed", "max.message.bytes": str(SMALL)},
    "to-gzip-small": {"compression.type": "gzip", "max.message.bytes": str(SMALL)},
}
PARTITIONS = {"to-gzip": 72}
FEW_PARTITIONS = 20
_NOT_YET = (LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION)
VARIED = [
    NewRecord(key=b"k%d" % at if at % 3 else None, value=b"value" * (at % 7) if at % 5 else None,
              timestamp=PAST_MS + at * (-1) ** at, headers=(("h", b"1"), ("n", None)) if at % 4 == 0 else ())
    for at in range(40)
]  # fmt: skip


def partitions(topic: str) -> int:
    """So many that each case has its own."""
    return PARTITIONS.get(topic, FEW_PARTITIONS)


class Recompressing:
    """Produce requests to those topics, and what the log holds afterwards."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._used = dict.fromkeys(TOPICS, 0)
        topics: list[CreateTopicsRequestTopic] = []
        for name, items in TOPICS.items():
            configs = [CreateTopicsRequestConfig(*item) for item in items.items()]
            topics.append(CreateTopicsRequestTopic(name, partitions(name), 1, configs=configs))
        cluster.client.ask(CREATE_TOPICS, 7, CreateTopicsRequest(topics, 20_000))
        wait_until(self._are_led, "leaders of all partitions")

    def _are_led(self) -> bool:
        topics = [
            FetchRequestTopic(name, partitions=[FetchRequestPartition(at) for at in range(partitions(name))])
            for name in TOPICS
        ]
        request = FetchRequest(max_wait_ms=0, topics=topics)
        answer = str(self._cluster.client.ask(FETCH, 12, request))
        return not any(f"'error_code': {code}" in answer for code in _NOT_YET)

    def ask(self, what: str, topic: str, *batches: bytes, version: int = 9) -> None:
        """The answer to each of these in turn, then what a consumer gets."""
        partition = self._used[topic]
        self._used[topic] += 1
        assert partition < partitions(topic)
        for number, data in enumerate(batches):
            asked = produce(topic, partition, data)
            self._cluster.keep(
                f"Produce v{version} {topic}: {what} #{number}",
                self._cluster.client.ask(PRODUCE, version, asked),
            )
        self._cluster.keep(f"stored {topic}: {what}", self._stored(topic, partition))

    def _stored(self, topic: str, partition: int) -> Outcome:
        """Each batch with its header and the plain bytes of its records."""
        asked = FetchRequestPartition(partition, partition_max_bytes=1 << 20)
        message = FetchRequest(max_wait_ms=0, topics=[FetchRequestTopic(topic, partitions=[asked])])
        self._cluster.client.ask(FETCH, 12, message)
        answer = self._cluster.client.last
        found = decoder(FetchResponse, 12)(answer, 5, len(answer), memoryview(answer))
        records = found.responses[0].partitions[0].records
        return {"batches": [shown(each, topic) for each in split(records or b"")]}


def split(data: Buffer) -> Iterator[bytes]:
    """The whole batches of a fetch."""
    while data:
        size = parse_header(data).size
        yield bytes(data[:size])
        data = data[size:]


def shown(stored: bytes, topic: str) -> dict[str, Any]:
    """A batch without what differs between two compressors, or between two moments."""
    header = parse_header(stored)
    try:
        body = decompress(header.codec, stored[HEADER_SIZE:], 1 << 24).hex()
    except KafkaError as error:
        body = f"{error}: {stored[HEADER_SIZE:].hex()}"
    return {
        "base_offset": header.base_offset,
        "attributes": header.attributes,
        "codec": CODEC_NAMES[header.codec],
        "last_offset_delta": header.last_offset_delta,
        "base_timestamp": header.base_timestamp - NOW_MS
        if header.base_timestamp > PAST_MS + HOUR_MS
        else header.base_timestamp,
        "max_timestamp": "now" if "append-time" in topic else header.max_timestamp,
        "producer": [header.producer_id, header.producer_epoch, header.base_sequence],
        "count": header.record_count,
        "records": body,
    }


def forged(body: bytes, *, count: int = 3, codec: int = NONE, **fields: int) -> bytes:
    """A batch with any record bytes, its length and checksum right."""
    payload = compress(codec, body)
    head = batch(3, codec=codec)[:HEADER_SIZE]
    fields = {"length": HEADER_SIZE - 12 + len(payload), "record_count": count,
              "last_offset_delta": count - 1, "max_timestamp": PAST_MS, **fields}  # fmt: skip
    return changed(head + payload, **fields)


def encoded(*deltas: tuple[int, int], headers: tuple[tuple[str, bytes | None], ...] = ()) -> bytes:
    """Records with these offset and timestamp deltas."""
    out = bytearray()
    for offset, time in deltas:
        encode_record(out, offset, time, NewRecord(key=b"k", value=b"v" * 20, headers=headers))
    return bytes(out)


def raw_record(fields: bytes) -> bytes:
    """Fields as a record, behind their length."""
    out = bytearray()
    write_varint(out, len(fields))
    return bytes(out) + fields


def codecs(cluster: Cluster) -> None:
    """Every codec to every target and level."""
    ask = Recompressing(cluster).ask
    for topic in TOPICS:
        if not topic.endswith("small"):
            for codec in range(5):
                at_ms = NOW_MS if topic.endswith("recent") else PAST_MS
                records = [
                    NewRecord(key=each.key, value=each.value, headers=each.headers,
                              timestamp=each.timestamp - PAST_MS + at_ms)
                    for each in VARIED
                ]  # fmt: skip
                sent = bytes(build_batch(records, codec=codec))
                ask(f"codec {codec}", topic, sent, sent)
    _faults(ask)
    _limits(ask)


Ask = Callable[..., None]

THREE = ((0, 0), (1, 1), (2, 2))
AHEAD = NOW_MS - PAST_MS + 2 * HOUR_MS


def _faults(ask: Ask) -> None:
    """What is only found in the records."""
    for codec in (NONE, SNAPPY):
        for what, body in odd_records().items():
            ask(f"codec {codec}: {what}", "to-gzip", forged(body, codec=codec, max_timestamp=PAST_MS + 2))
        for what, (body, fields) in odd_headers().items():
            attributes = fields.pop("attributes", 0) | codec
            ask(
                f"codec {codec}: {what}",
                "to-gzip",
                forged(body, codec=codec, attributes=attributes, **fields),
            )
    for codec in (GZIP, SNAPPY, LZ4, ZSTD):
        ask(f"said to be codec {codec}", "to-uncompressed", changed(batch(), attributes=codec))
    ask("codec 5", "to-uncompressed", changed(batch(), attributes=5))
    ask("checksum", "to-gzip", changed(batch(), crc=1))
    ask("control", "to-gzip", batch(1, control=True))
    ask("zstd in v6", "to-gzip", batch(codec=ZSTD), version=6)
    ask("lz4 in v6", "to-zstd", batch(codec=LZ4), version=6)


def odd_records() -> dict[str, bytes]:
    """Three records, or what is said to be three, with sound headers of the batch."""
    two = encoded(*THREE[1:])
    return {
        "offsets of 1, 2, 3": encoded((1, 0), (2, 1), (3, 2)),
        "offsets all 0": encoded((0, 0), (0, 1), (0, 2)),
        "offsets descend": encoded((2, 0), (1, 1), (0, 2)),
        "one too few": two,
        "one too many": encoded(*THREE, (3, 3)),
        "a byte more": encoded(*THREE) + b"\0",
        "a byte less": encoded(*THREE)[:-1],
        "nothing": b"",
        "zeros": bytes(30),
        "key past the record": raw_record(b"\0\0\0\x7e" + b"k" * 5) + two,
        "a record too long": raw_record(encoded((0, 0))[1:] + b"\0") + two,
        "negative header count": raw_record(b"\0\0\0\1\1\1") + two,
        "header without key": raw_record(b"\0\0\0\1\1\2\1\1") + two,
        "many headers claimed": raw_record(b"\0\0\0\1\1\x7e") + two,
        "attributes of a record": raw_record(b"\x05\0\0\1\1\0") + two,
        "wide varints": raw_record(b"\0\x80\0\x80\0\x81\0\x81\0\x80\0") + two,
        "length -2 of a key": raw_record(b"\0\0\0\3\1\0") + two,
        "one far ahead, unsaid": encoded((0, 0), (1, AHEAD), (2, 0)),
    }


def odd_headers() -> dict[str, tuple[bytes, dict[str, int]]]:
    """Sound records, and fields of the batch's header that are not theirs."""
    good = encoded(*THREE)
    return {
        "first timestamp is not the base": (encoded((0, 5), (1, 3), (2, 4)), {"max_timestamp": PAST_MS + 5}),
        "a maximum that is wrong": (good, {"max_timestamp": PAST_MS + 77}),
        "a maximum far ahead, unfounded": (good, {"max_timestamp": NOW_MS + 2 * HOUR_MS}),
        "timestamp -5": (good, {"base_timestamp": -5, "max_timestamp": -3}),
        "no timestamp": (encoded((0, 0), (1, 0), (2, 0)), {"base_timestamp": -1, "max_timestamp": -1}),
        "one far ahead": (encoded((0, 0), (1, AHEAD), (2, 0)), {"max_timestamp": NOW_MS + 2 * HOUR_MS}),
        "log append time": (good, {"attributes": 8, "max_timestamp": PAST_MS + 2}),
        "delete horizon": (good, {"attributes": 0x40, "max_timestamp": PAST_MS + 2}),
        "unused attributes": (good, {"attributes": 0x80, "max_timestamp": PAST_MS + 2}),
    }


def _limits(ask: Ask) -> None:
    """Sizes before and after, times, producers."""
    random = Random(3).randbytes(SMALL)
    large = [NewRecord(value=b"v" * 10_000, timestamp=PAST_MS)]
    for codec in (NONE, GZIP, ZSTD):
        ask(f"10 KB, codec {codec}", "to-uncompressed-small", bytes(build_batch(large, codec=codec)))
        ask(f"10 KB, codec {codec}", "to-gzip-small", bytes(build_batch(large, codec=codec)))
    for size in (SMALL - 71, SMALL - 150):
        noise = [NewRecord(value=random[:size], timestamp=PAST_MS)]
        ask(f"{size} bytes of noise", "to-gzip-small", bytes(build_batch(noise)))
    old = NewRecord(value=b"v", timestamp=NOW_MS - 2 * HOUR_MS)
    new = NewRecord(value=b"v", timestamp=NOW_MS)
    for codec in (NONE, LZ4):
        ask(f"an old one, codec {codec}", "to-gzip-recent", bytes(build_batch([old, new], codec=codec)))
        ask(f"log append time said, codec {codec}", "to-lz4-append-time",
            changed(batch(codec=codec), attributes=8 | codec))  # fmt: skip
    history = [
        by_producer(1, 0, 0, 3),
        by_producer(1, 0, 3, 2),
        by_producer(1, 0, 0, 3),
        by_producer(1, 0, 9),
    ]
    for topic in ("to-zstd", "to-lz4-append-time", "to-uncompressed"):
        ask("idempotent", topic, *history)
