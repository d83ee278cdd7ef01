"""The records of the metadata log, whose sum is the cluster's state.

Each is the value of one Kafka record in `__cluster_metadata-0`: a msgpack array that starts with its tag.
Tags are never reused and fields are only appended, with defaults: so a newer program reads what an older one
wrote.
"""

import msgspec

RESOURCE_TOPIC = 2  # Kafka's ConfigResource types
RESOURCE_BROKER = 4
RESOURCE_GROUP = 32


class BrokerRegistered(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=1):
    """A broker has started; `broker_epoch` is the offset of this record's predecessor end, and grows at each
    start.
    """

    broker_id: int
    broker_epoch: int
    rack: str | None = None


class TopicRecord(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=2):
    """A topic exists. Its partitions follow in the same batch, in order of their index."""

    name: str
    topic_id: bytes


class PartitionRecord(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=3):
    """A partition of an existing topic, the next one by index."""

    topic_id: bytes
    partition: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int
    directories: tuple[str, ...] = ()  # ids of the log directories, one a replica; none in old records


class PartitionChange(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=4):
    """What changes about a partition; None stays as it is. Every change raises partition_epoch by one."""

    topic_id: bytes
    partition: int
    leader: int | None = None
    leader_epoch: int | None = None
    isr: tuple[int, ...] | None = None
    directory: str | None = None  # id of the log directory in which its log was found


class ConfigRecord(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=5):
    """A dynamic config is set, or removed (value None)."""

    resource_type: int
    name: str
    key: str
    value: str | None


class TopicRemoved(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=6):
    """A topic is gone, with its partitions and configs."""

    topic_id: bytes


class ProducerIdsBlock(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=7):
    """Every producer id below this one has been given away."""

    next_producer_id: int


class FeatureLevel(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=8):
    """The cluster works at this level of a feature."""

    name: str
    level: int


Record = (
    BrokerRegistered
    | TopicRecord
    | PartitionRecord
    | PartitionChange
    | ConfigRecord
    | TopicRemoved
    | ProducerIdsBlock
    | FeatureLevel
)

encode_record = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(Record).decode
