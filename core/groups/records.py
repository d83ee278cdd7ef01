"""The records of __consumer_offsets: what survives a coordinator.

A key is its type (int16) and a body, a value its version (int16) and a body; no value is a tombstone. Keys
have one version: a new layout would be a new type. Values are written in the version that Kafka 4.3 writes,
so that either reads what the other wrote, and read in every version that Kafka reads.
"""

from struct import Struct as Layout
from typing import Annotated

from msgspec import Struct, field

from tailrace.core.errors import UNSUPPORTED_VERSION, KafkaError, ProtocolError
from tailrace.core.protocol.compile import decoder, encode
from tailrace.core.protocol.schema import (
    FACTS,
    IGNORABLE,
    NEVER,
    NO_ID,
    Bytes,
    Int8,
    Int32,
    Int64,
    NullableString,
    String,
    Uuid,
    between,
    message,
    nullable,
    since,
    tag,
)


@message(versions=(0, 0), flexible=NEVER)
class OffsetCommitKey(Struct, gc=False):
    """Type 1: whose offset, and of which partition."""

    group: String = ""
    topic: String = ""
    partition: Int32 = 0


@message(versions=(0, 4), flexible=4)
class OffsetCommitValue(Struct, gc=False):
    """A committed offset. Only version 1 has a time to expire, given by old clients; 4 has the topic's id."""

    offset: Int64 = 0
    leader_epoch: Annotated[Int32, since(3), IGNORABLE] = -1
    metadata: String = ""
    commit_timestamp: Int64 = 0
    expire_timestamp: Annotated[Int64, between(1, 1), IGNORABLE] = -1
    topic_id: Annotated[Uuid, since(4), tag(0), IGNORABLE] = NO_ID


@message(versions=(0, 0), flexible=NEVER)
class GroupMetadataKey(Struct, gc=False):
    """Type 2: a classic group."""

    group: String = ""


class GroupMetadataMember(Struct, gc=False):
    """A member of a classic group."""

    member_id: String = ""
    group_instance_id: Annotated[NullableString, since(3), IGNORABLE] = None
    client_id: String = ""
    client_host: String = ""
    rebalance_timeout: Annotated[Int32, since(1), IGNORABLE] = -1
    session_timeout: Int32 = 0
    subscription: Bytes = b""
    assignment: Bytes = b""


@message(versions=(0, 4), flexible=4)
class GroupMetadataValue(Struct, gc=False):
    """A generation of a classic group, with the assignment of every member."""

    protocol_type: String = ""
    generation: Int32 = 0
    protocol: NullableString = None
    leader: NullableString = None
    current_state_timestamp: Annotated[Int64, since(2), IGNORABLE] = -1
    members: list[GroupMetadataMember] = []


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupMetadataKey(Struct, gc=False):
    """Type 3: a KIP-848 group."""

    group_id: String = ""


@message(versions=(0, 0), flexible=0)
class ConsumerGroupMetadataValue(Struct, gc=False):
    """The group's epoch, and a hash of the topics it was computed for."""

    epoch: Int32 = 0
    metadata_hash: Annotated[Int64, tag(0)] = 0


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupPartitionMetadataKey(Struct, gc=False):
    """Type 4: a KIP-848 group's topics, written by Kafka before 4.1."""

    group_id: String = ""


class PartitionRacks(Struct, gc=False):
    """The racks of one partition's replicas."""

    partition: Int32 = 0
    racks: list[String] = []


class SubscribedTopic(Struct, gc=False):
    """A topic as the group last saw it."""

    topic_id: Uuid = NO_ID
    topic_name: String = ""
    num_partitions: Int32 = 0
    partition_metadata: list[PartitionRacks] = []


@message(versions=(0, 0), flexible=0)
class ConsumerGroupPartitionMetadataValue(Struct, gc=False):
    """The topics that the group subscribes to."""

    topics: list[SubscribedTopic] = []


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupMemberMetadataKey(Struct, gc=False):
    """Type 5: a member of a KIP-848 group."""

    group_id: String = ""
    member_id: String = ""


class ClassicProtocol(Struct, gc=False):
    """An assignor that a member of the classic protocol can follow."""

    name: String = ""
    metadata: Bytes = b""


class ClassicMemberMetadata(Struct, gc=False):
    """What is known of a member that speaks the classic protocol in a KIP-848 group."""

    session_timeout_ms: Int32 = 0
    supported_protocols: list[ClassicProtocol] = []


@message(versions=(0, 0), flexible=0)
class ConsumerGroupMemberMetadataValue(Struct, gc=False):
    """A member and what it subscribes to.

    `classic_member_metadata` must be set: None is a member of the consumer protocol. Absent on the wire means
    a classic one without protocols, in Kafka too, which therefore always writes the None.
    """

    instance_id: NullableString = None
    rack_id: NullableString = None
    client_id: String = ""
    client_host: String = ""
    subscribed_topic_names: list[String] = []
    subscribed_topic_regex: NullableString = None
    rebalance_timeout_ms: Int32 = -1
    server_assignor: NullableString = None
    classic_member_metadata: Annotated[ClassicMemberMetadata | None, tag(0), nullable(0)] = field(
        default_factory=ClassicMemberMetadata
    )


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupTargetAssignmentMetadataKey(Struct, gc=False):
    """Type 6: a KIP-848 group's target assignment as a whole."""

    group_id: String = ""


@message(versions=(0, 0), flexible=0)
class ConsumerGroupTargetAssignmentMetadataValue(Struct, gc=False):
    """The group epoch that the target was computed for, and when, in ms."""

    assignment_epoch: Int32 = 0
    assignment_timestamp: Annotated[Int64, tag(0), IGNORABLE] = 0


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupTargetAssignmentMemberKey(Struct, gc=False):
    """Type 7: one member's target."""

    group_id: String = ""
    member_id: String = ""


class TargetAssignmentTopicPartitions(Struct, gc=False):
    """Partitions of one topic that a member shall have."""

    topic_id: Uuid = NO_ID
    partitions: list[Int32] = []


@message(versions=(0, 0), flexible=0)
class ConsumerGroupTargetAssignmentMemberValue(Struct, gc=False):
    """What the member shall have."""

    topic_partitions: list[TargetAssignmentTopicPartitions] = []


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupCurrentMemberAssignmentKey(Struct, gc=False):
    """Type 8: one member's assignment."""

    group_id: String = ""
    member_id: String = ""


class CurrentAssignmentTopicPartitions(Struct, gc=False):
    """Partitions of one topic that a member has.

    `assignment_epochs` must be set: the epoch that each partition was given at, or None if it is not known.
    Empty is what is read where they are absent, in Kafka too.
    """

    topic_id: Uuid = NO_ID
    partitions: list[Int32] = []
    assignment_epochs: Annotated[list[Int32] | None, tag(0)] = []


@message(versions=(0, 0), flexible=0)
class ConsumerGroupCurrentMemberAssignmentValue(Struct, gc=False):
    """What the member has, and what it must give up before its epoch moves on."""

    member_epoch: Int32 = 0
    previous_member_epoch: Int32 = 0
    state: Int8 = 0
    assigned_partitions: list[CurrentAssignmentTopicPartitions] = []
    partitions_pending_revocation: list[CurrentAssignmentTopicPartitions] = []


@message(versions=(0, 0), flexible=NEVER)
class ConsumerGroupRegularExpressionKey(Struct, gc=False):
    """Type 16: a regular expression that members subscribe to."""

    group_id: String = ""
    regular_expression: String = ""


@message(versions=(0, 0), flexible=0)
class ConsumerGroupRegularExpressionValue(Struct, gc=False):
    """The topics it matched, in the metadata of this version, at this time in ms."""

    topics: list[String] = []
    version: Int64 = 0
    timestamp: Int64 = 0


KeyMessage = (
    OffsetCommitKey
    | GroupMetadataKey
    | ConsumerGroupMetadataKey
    | ConsumerGroupPartitionMetadataKey
    | ConsumerGroupMemberMetadataKey
    | ConsumerGroupTargetAssignmentMetadataKey
    | ConsumerGroupTargetAssignmentMemberKey
    | ConsumerGroupCurrentMemberAssignmentKey
    | ConsumerGroupRegularExpressionKey
)
ValueMessage = (
    OffsetCommitValue
    | GroupMetadataValue
    | ConsumerGroupMetadataValue
    | ConsumerGroupPartitionMetadataValue
    | ConsumerGroupMemberMetadataValue
    | ConsumerGroupTargetAssignmentMetadataValue
    | ConsumerGroupTargetAssignmentMemberValue
    | ConsumerGroupCurrentMemberAssignmentValue
    | ConsumerGroupRegularExpressionValue
)

# Type 0 is an offset of Kafka before 0.9, laid out as version 0 of type 1; 10 to 15 are share groups, 17 and
# above streams groups.
TYPES: dict[int, tuple[type[KeyMessage], type[ValueMessage]]] = {
    0: (OffsetCommitKey, OffsetCommitValue),
    1: (OffsetCommitKey, OffsetCommitValue),
    2: (GroupMetadataKey, GroupMetadataValue),
    3: (ConsumerGroupMetadataKey, ConsumerGroupMetadataValue),
    4: (ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue),
    5: (ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue),
    6: (ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue),
    7: (ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue),
    8: (ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue),
    16: (ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue),
}
_TYPE_OF: dict[type[KeyMessage], int] = {key: number for number, (key, _value) in TYPES.items()}

_number = Layout(">h")
_NO_VIEW = memoryview(b"")  # no field is of records


def encode_key(key: KeyMessage) -> bytes:
    """The key's bytes; ProtocolError for a value of a wrong type or size."""
    return _number.pack(_TYPE_OF[type(key)]) + encode(key, 0)


def encode_value(value: ValueMessage | None) -> bytes | None:
    """The value's bytes in the version that Kafka 4.3 writes; None, a tombstone, stays None.

    ProtocolError for a value of a wrong type or size.
    """
    if value is None:
        return None
    version = _written_version(value)
    return _number.pack(version) + encode(value, version)


def decode_record(key: bytes, value: bytes | None) -> tuple[KeyMessage, ValueMessage | None] | None:
    """What a record says; value None: a tombstone. None: a type that is not ours, which a coordinator passes
    over.

    Raises KafkaError (UNSUPPORTED_VERSION) for a version newer than we know, ProtocolError for bytes that are
    no record.
    """
    number = _first_number(key, "key")
    known = TYPES.get(number)
    if known is None:
        return None
    key_class, value_class = known
    decoded_key = decoder(key_class, 0)(key, _number.size, len(key), _NO_VIEW)
    if value is None:
        return decoded_key, None
    version = _first_number(value, "value")
    last = FACTS[value_class].last if number else 0
    if not 0 <= version <= last:
        raise KafkaError(
            UNSUPPORTED_VERSION, f"a {value_class.__name__} of version {version}: known are 0 to {last}"
        )
    return decoded_key, decoder(value_class, version)(value, _number.size, len(value), _NO_VIEW)


def _written_version(value: ValueMessage) -> int:
    if isinstance(value, OffsetCommitValue):
        return 4 if value.expire_timestamp == -1 else 1
    return 3 if isinstance(value, GroupMetadataValue) else 0


def _first_number(data: bytes, name: str) -> int:
    if len(data) < _number.size:
        raise ProtocolError(f"a record's {name} of {len(data)} bytes")
    (number,) = _number.unpack_from(data)
    return int(number)
