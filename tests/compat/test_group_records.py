"""Records of __consumer_offsets: those of a running Kafka are read and written again byte for byte, and its
own tool reads ours."""

import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from msgspec import Struct

from perf import lifecycle
from perf.peers import jars
from perf.peers.kafka import Kafka
from tailrace.core.groups.records import (
    TYPES,
    ConsumerGroupMemberMetadataValue,
    KeyMessage,
    ValueMessage,
    decode_record,
    encode_key,
    encode_value,
)
from tailrace.core.protocol.schema import Field, fields_of
from tailrace.core.records.record import NewRecord, build_batch, iterate_batches
from tests.compat.clients.client import PATIENCE_S
from tests.compat.test_dump_log_segments import dump
from tests.support.bootstrap import AT_ONCE
from tests.support.messages import random_message
from tests.support.peers import require

confluent_kafka: Any = import_module("confluent_kafka")

ONE_PARTITION = AT_ONCE | {"offsets.topic.num.partitions": "1"}
TOPIC = "told"
SEEDS = 20
VERSIONS = {1: 4, 2: 3}  # of values; 0 of the others
Json = dict[str, Any]
WRITTEN = [number for number in TYPES if number not in (0, 4)]  # those that Kafka 4.3 writes values of


class Member:
    """A member of a group, which reads and commits."""

    def __init__(self, address: str, group: str, topic: str, **more: str) -> None:
        settings = {"bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest"}
        self._consumer = confluent_kafka.Consumer(settings | {"enable.auto.commit": False} | more)
        self._consumer.subscribe([topic])
        self.polled = 0

    def poll(self) -> None:
        """Take a message, if there is one soon, and commit."""
        message = self._consumer.poll(0.1)
        if message is not None and message.error() is None:
            self.polled += 1
            self._consumer.commit(message=message, asynchronous=False)

    @property
    def assigned(self) -> int:
        """How many partitions it has."""
        return len(self._consumer.assignment())

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def poll_until_settled(*members: Member) -> None:
    """Until the members share the two partitions."""
    give_up = time.monotonic() + PATIENCE_S
    while sum(member.assigned for member in members) != 2 or not all(member.assigned for member in members):
        assert time.monotonic() < give_up, [member.assigned for member in members]
        for member in members:
            member.poll()


def use_groups(address: str) -> None:
    """A classic group, and a KIP-848 group that a classic member joins."""
    library: Any = import_module("confluent_kafka.admin")
    admin = library.AdminClient({"bootstrap.servers": address})
    admin.create_topics([library.NewTopic(TOPIC, 2, 1)])[TOPIC].result(PATIENCE_S)
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    for partition in (0, 1):
        producer.produce(TOPIC, b"heard", partition=partition)
    assert producer.flush(PATIENCE_S) == 0

    members = [Member(address, "classic", TOPIC, **{"group.instance.id": f"member-{n}"}) for n in (0, 1)]
    poll_until_settled(*members)
    for member in members:
        member.close()
    members = [Member(address, "modern", f"^{TOPIC}.*", **{"group.protocol": "consumer"})]
    poll_until_settled(*members)
    members.append(Member(address, "modern", TOPIC))
    poll_until_settled(*members)
    for member in members:
        member.close()


def stored(data: Path) -> Iterator[tuple[bytes, bytes | None]]:
    """The records of every __consumer_offsets log in a data directory."""
    for path in sorted(data.glob("**/__consumer_offsets-*/*.log")):
        for _, records in iterate_batches(path.read_bytes()):
            for record in records:
                assert record.key is not None
                yield record.key, record.value


def test_what_kafka_wrote_decodes_and_encodes_to_the_same_bytes(tmp_path: Path) -> None:
    require(None if jars.available() else jars.MISSING)
    kafka = Kafka(tmp_path, ONE_PARTITION)
    kafka.start()
    try:
        lifecycle.wait_until_served(kafka)
        use_groups(f"{kafka.address.host}:{kafka.address.port}")
    finally:
        kafka.stop()
    with_values, without, kinds_of_members = set[int](), set[int](), set[bool]()
    for key, value in stored(tmp_path):
        decoded = decode_record(key, value)
        assert decoded is not None
        assert encode_key(decoded[0]) == key
        assert encode_value(decoded[1]) == value, decoded
        (with_values if value else without).add(key[1])
        if isinstance(decoded[1], ConsumerGroupMemberMetadataValue):
            kinds_of_members.add(decoded[1].classic_member_metadata is None)
    assert with_values == set(WRITTEN)
    assert without >= {5, 7, 8}
    assert kinds_of_members == {True, False}


def test_kafkas_tool_shows_what_we_wrote(tmp_path: Path) -> None:
    """DumpLogSegments prints every record as JSON, from Kafka's own classes."""
    require(None if jars.available() else jars.MISSING)
    records: list[NewRecord] = []
    expected: list[tuple[Json, Json]] = []
    for number in WRITTEN:
        for seed in range(SEEDS):
            key, value = random_record(number, Random(seed))
            encoded = encode_value(value)
            assert encoded is not None
            records.append(NewRecord(key=encode_key(key), value=encoded))
            data = as_json(value, encoded[1])
            expected.append(
                ({"type": str(number), "data": as_json(key, 0)}, {"version": str(encoded[1]), "data": data})
            )
    folder = tmp_path / "__consumer_offsets-0"
    folder.mkdir()
    (folder / f"{0:020}.log").write_bytes(build_batch(records))
    shown = dump("--offsets-decoder", "--files", str(folder / f"{0:020}.log"))
    lines = [line for line in shown.splitlines() if line.startswith("| offset:")]
    found = [line.partition(" key: ")[2].split(" payload: ") for line in lines]
    assert [(json.loads(key), json.loads(value)) for key, value in found] == expected


def random_record(number: int, random: Random) -> tuple[KeyMessage, ValueMessage]:
    """A key and a value of this type, in the version we write."""
    key_class, value_class = TYPES[number]
    key = random_message(key_class, 0, random)
    return key, random_message(value_class, VERSIONS.get(number, 0), random)


def as_json(message: Struct, version: int) -> Json:
    """The message as Kafka shows it: its own names, bytes in base64, and no tagged field that is absent."""
    shown: Json = {}
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        if field.in_version(version) and not (field.tag >= 0 and value == field.default):
            first, *others = field.name.split("_")
            shown[first + "".join(map(str.capitalize, others))] = _shown(field, value, version)
    return shown


def _shown(field: Field, value: Any, version: int) -> Any:
    if value is None:
        return None
    if field.kind == "uuid":
        return urlsafe_b64encode(value).decode().rstrip("=")
    if field.kind == "bytes":
        return b64encode(value).decode()
    if field.kind == "struct":
        return as_json(value, version)
    if field.item is not None:
        return [_shown(field.item, item, version) for item in value]
    return value
