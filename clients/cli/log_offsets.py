"""Records of __consumer_offsets in words, for `tailrace log dump --offsets`."""

from typing import Any, cast

from msgspec import Struct

from tailrace.clients.cli.log_dump import Entry, show_as_text
from tailrace.core.errors import KafkaError, ProtocolError
from tailrace.core.groups.consumer_protocol import decode_assignment, decode_subscription
from tailrace.core.groups.records import GroupMetadataMember, decode_record
from tailrace.core.ids import uuid_text
from tailrace.core.records.record import DecodedRecord


def show_as_offset(record: DecodedRecord) -> Entry:
    """A record of a group coordinator; as text, with why, when it is none that we know."""
    try:
        found = None if record.key is None else decode_record(record.key, record.value)
    except (KafkaError, ProtocolError) as error:
        return {"error": str(error), **show_as_text(record)}
    if found is None:
        return {"error": "a record of an unknown type", **show_as_text(record)}
    key, value = found
    kind = type(key).__name__.removesuffix("Key")
    return {"type": kind, **_plain(key), "value": None if value is None else _plain(value)}


def _plain(value: object, name: str = "") -> Any:
    if isinstance(value, GroupMetadataMember):
        shown = {field: _plain(getattr(value, field), field) for field in value.__struct_fields__}
        return {**shown, **_member(value)}
    if isinstance(value, Struct):
        return {field: _plain(getattr(value, field), field) for field in value.__struct_fields__}
    if isinstance(value, list):
        items = cast(list[object], value)
        return [_plain(item, name) for item in items]
    if isinstance(value, bytes):
        return uuid_text(value) if name == "topic_id" else value.hex()
    return value


def _member(member: GroupMetadataMember) -> Entry:
    """What a consumer subscribed to and was given; of other kinds of members the bytes stay."""
    shown: Entry = {}
    try:
        shown["subscription"] = decode_subscription(member.subscription).topics
        assigned = decode_assignment(member.assignment).assigned_partitions if member.assignment else []
        shown["assignment"] = {topic.topic: topic.partitions for topic in assigned}
    except ProtocolError:
        pass
    return shown
