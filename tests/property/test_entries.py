"""(R) A request holds so many entries and no more, whatever they are: one of a byte may cost microseconds."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.apis import DECLARED, Api
from tailrace.core.protocol.compile import decode, encode
from tailrace.core.protocol.messages.metadata import MetadataResponse, MetadataResponseTopic
from tailrace.core.protocol.messages.produce import (
    ProduceRequest,
    ProduceRequestPartition,
    ProduceRequestTopic,
    decode_produce,
)
from tailrace.core.protocol.primitives import ENTRIES_MAX, TAGS_MAX, uvarint_bytes
from tailrace.core.protocol.schema import Field, fields_of


def arrays_of(cls: type[Struct], version: int) -> Iterator[tuple[Field, ...]]:
    """The way to each array of a message: the fields that lead to it, and itself."""
    for field in fields_of(cls):
        inner = field.struct or (field.item.struct if field.item else None)
        if not field.in_version(version):
            continue
        if field.kind == "array":
            yield (field,)
        if inner is not None:
            for rest in arrays_of(inner, version):
                yield (field, *rest)


def filled(cls: type[Struct], way: tuple[Field, ...], count: int) -> Any:
    """A message with so many entries in one array, and one in each around it."""
    message: Any = cls()
    if cls.__name__ == "OffsetFetchRequest" and way[0].name == "groups":
        message.group_id = ""  # which no version has beside them
    first, *rest = way
    if rest:
        part = first.struct or (first.item.struct if first.item else None)
        assert part is not None
        inner = filled(part, tuple(rest), count - (first.kind == "array"))
        setattr(message, first.name, [inner] if first.kind == "array" else inner)
        return message
    assert first.item is not None
    setattr(message, first.name, [_smallest(first.item)] * count)
    return message


def _smallest(item: Field) -> Any:
    if item.struct is not None:
        return item.struct()
    return {"string": "", "uuid": bytes(16), "bytes": b""}.get(item.kind, 0)


ARRAYS = [
    pytest.param(api, way, id=f"{api.name}-{'.'.join(field.name for field in way)}")
    for api in DECLARED.values()
    for way in arrays_of(api.request, api.max_version)
]


@pytest.mark.parametrize(("api", "way"), ARRAYS)
def test_a_request_of_too_many_entries_is_refused(api: Api, way: tuple[Field, ...]) -> None:
    version = api.max_version
    for count in (ENTRIES_MAX, ENTRIES_MAX + 1):
        data = encode(filled(api.request, way, count), version)
        if count == ENTRIES_MAX:
            decode(api.request, version, data)
            continue
        with pytest.raises(ProtocolError, match=f"{ENTRIES_MAX} entries"):
            decode(api.request, version, data)


@pytest.mark.parametrize("version", [3, 9, 13])
def test_the_walk_of_a_produce_request_counts_as_its_decoder_does(version: int) -> None:
    half = ENTRIES_MAX // 2
    shapes = ((half, 1), (1, ENTRIES_MAX - 1), (half + 1, 1), (1, ENTRIES_MAX), (ENTRIES_MAX, 0))
    for topics, partitions in shapes:
        topic = ProduceRequestTopic(partition_data=[ProduceRequestPartition()] * partitions)
        data = encode(ProduceRequest(topic_data=[topic] * topics), version)
        if topics + topics * partitions <= ENTRIES_MAX:
            decode(ProduceRequest, version, data)
            decode_produce(data, 0, len(data), version)
            continue
        with pytest.raises(ProtocolError, match="entries"):
            decode(ProduceRequest, version, data)
        with pytest.raises(ProtocolError, match="entries"):
            decode_produce(data, 0, len(data), version)


def test_tagged_fields_are_entries_too() -> None:
    """Two bytes each, and there may be some behind every part."""
    tags = bytes((TAGS_MAX,)) + b"\x63\0" * TAGS_MAX
    count = ENTRIES_MAX // TAGS_MAX + 1  # of partitions without records
    head = b"\0" + b"\0\1\0\0\0\1" + b"\x02\x02a" + uvarint_bytes(count + 1)
    data = head + (b"\0\0\0\0\0" + tags) * count + b"\0\0"
    with pytest.raises(ProtocolError, match="entries"):
        decode(ProduceRequest, 9, data)
    with pytest.raises(ProtocolError, match="entries"):
        decode_produce(data, 0, len(data), 9)


def test_an_answer_may_hold_more() -> None:
    """Whoever asks a large cluster wants to be told."""
    many = MetadataResponse(topics=[MetadataResponseTopic()] * (ENTRIES_MAX + 1))
    decoded = decode(MetadataResponse, 12, encode(many, 12))
    assert len(decoded.topics) == ENTRIES_MAX + 1
