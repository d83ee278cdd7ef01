"""The records of the metadata log, whose sum is the cluster's state.

Each is the value of one Kafka record in `__cluster_metadata-0`: a msgpack array that starts with its tag.
Tags are never reused and fields are only appended, with defaults: so a newer program reads what an older one
wrote.
"""

import msgspec

RESOURCE_TOPIC = 2  # Kafka's ConfigResource types
RESOURCE_BROKER = 4
RESOURCE_GROUP = 32
NO_LEADER = -1


class Listener(msgspec.Struct, kw_only=True, frozen=True, array_like=True):
    """Where clients reach a broker; `security_protocol` is Kafka's number, 0 for PLAINTEXT."""

    name: str
    host: str
    port: int
    security_protocol: int = 0


class BrokerRegistered(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=1):
    """A broker has started; `broker_epoch` is the offset of this record, and so grows at each start.

    Replaces what was known of that id. In the image it is the broker as later records have changed it.
    """

    broker_id: int
    broker_epoch: int
    rack: str | None = None
    incarnation_id: bytes = b""  # empty in old records
    listeners: tuple[Listener, ...] = ()
    log_dirs: tuple[str, ...] = ()  # ids of those that serve; none in old records: not said
    fenced: bool = False
    in_controlled_shutdown: bool = False


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
    leader: int  # NO_LEADER: none
    leader_epoch: int
    partition_epoch: int
    directories: tuple[str, ...] = ()  # ids of the log directories, one a replica; none in old records
    adding: tuple[int, ...] = ()  # of `replicas`, those that a reassignment brings
    removing: tuple[int, ...] = ()  # of `replicas`, those that go with its end
    lineage: int = -1  # leader epoch of the last unclean election; -1: never


class PartitionChange(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=4):
    """What changes about a partition; None stays as it is. Every change raises partition_epoch by one."""

    topic_id: bytes
    partition: int
    leader: int | None = None
    leader_epoch: int | None = None
    isr: tuple[int, ...] | None = None
    directory: str | None = None  # that of the first replica; `directories` says it of all
    replicas: tuple[int, ...] | None = None
    adding: tuple[int, ...] | None = None
    removing: tuple[int, ...] | None = None
    directories: tuple[str, ...] | None = None  # one a replica
    lineage: int | None = None


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


class BrokerChange(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=9):
    """What changes about the broker that registered with this epoch; None stays as it is."""

    broker_id: int
    broker_epoch: int
    fenced: bool | None = None
    in_controlled_shutdown: bool | None = None
    log_dirs: tuple[str, ...] | None = None


class BrokerUnregistered(msgspec.Struct, kw_only=True, frozen=True, array_like=True, tag=10):
    """The broker of this epoch will not come back."""

    broker_id: int
    broker_epoch: int


Record = (
    BrokerRegistered
    | TopicRecord
    | PartitionRecord
    | PartitionChange
    | ConfigRecord
    | TopicRemoved
    | ProducerIdsBlock
    | FeatureLevel
    | BrokerChange
    | BrokerUnregistered
)

encode_record = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(Record).decode
