"""What consumers of classic groups tell their leader, and the leader them.

It is bytes to the coordinator, which looks inside only to learn what topics a group reads, and when classic
members are part of a KIP-848 group.

Each begins with its version. A version newer than ours is read as our newest, as Kafka does: newer ones only
append fields.
"""

from struct import Struct as Layout
from typing import Annotated, TypeVar

from msgspec import Struct

from tailrace.core.errors import ProtocolError
from tailrace.core.protocol.compile import decoder, encode
from tailrace.core.protocol.schema import (
    FACTS,
    IGNORABLE,
    NEVER,
    Int32,
    NullableBytes,
    NullableString,
    String,
    message,
    since,
)


class ConsumerProtocolTopicPartitions(Struct, gc=False):
    """The partitions of one topic."""

    topic: String = ""
    partitions: list[Int32] = []


@message(versions=(0, 3), flexible=NEVER)
class ConsumerProtocolSubscription(Struct, gc=False):
    """What a member wants to read, and what it has."""

    topics: list[String] = []
    user_data: NullableBytes = None
    owned_partitions: Annotated[list[ConsumerProtocolTopicPartitions], since(1), IGNORABLE] = []
    generation_id: Annotated[Int32, since(2), IGNORABLE] = -1
    rack_id: Annotated[NullableString, since(3), IGNORABLE] = None


@message(versions=(0, 3), flexible=NEVER)
class ConsumerProtocolAssignment(Struct, gc=False):
    """What a member is to read."""

    assigned_partitions: list[ConsumerProtocolTopicPartitions] = []
    user_data: NullableBytes = None


_M = TypeVar("_M", bound=Struct)
_version = Layout(">h")
_NO_VIEW = memoryview(b"")  # no field is of records


def version_of(data: bytes) -> int:
    """The version that a subscription or an assignment is written in; ProtocolError if there is none."""
    if len(data) < _version.size:
        raise ProtocolError(f"{len(data)} bytes are no subscription or assignment")
    (version,) = _version.unpack_from(data)
    if version < 0:
        raise ProtocolError(f"a subscription or an assignment of version {version}")
    return int(version)


def decode_subscription(data: bytes) -> ConsumerProtocolSubscription:
    """The member's subscription (JoinGroup's protocol metadata); ProtocolError if it is none."""
    return _decode(ConsumerProtocolSubscription, data)


def decode_assignment(data: bytes) -> ConsumerProtocolAssignment:
    """The member's assignment (as in SyncGroup); ProtocolError if it is none."""
    return _decode(ConsumerProtocolAssignment, data)


def encode_consumer_protocol(
    message: ConsumerProtocolSubscription | ConsumerProtocolAssignment, version: int
) -> bytes:
    """The bytes of a subscription or an assignment, in our newest version if the one asked for is newer."""
    version = min(version, FACTS[type(message)].last)
    return _version.pack(version) + encode(message, version)


def _decode(cls: type[_M], data: bytes) -> _M:
    version = min(version_of(data), FACTS[cls].last)
    return decoder(cls, version)(data, _version.size, len(data), _NO_VIEW)
